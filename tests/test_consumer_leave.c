/*
 * Streams that wait while a view, a generation or a context goes. The driver may finish all work of a
 * context before it gives up memory: that must hold up no call of libsluice.
 */
#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "tests/cuda_session.h"
#include "tests/fake_timeline.h"

static struct fake_memory memory, newer;

static void init(struct fake_memory *m, uint32_t generation)
{
	fake_gpu_memory_init(m, &gpu, generation, 30, timeline);
}

static void finish(void)
{
	fake_gpu_memory_finish(&memory);
	fake_gpu_memory_finish(&newer);
}

static void check_at_once(uint64_t begun)
{
	CHECK(now_ms() - begun < AT_ONCE_MS * test_slowness());
}

/* --- Two views of one connection --------------------------------------------------------------*/

static void script_two_views(struct fake *fake)
{
	init(&memory, 1);
	init(&newer, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake->view = FAKE_VIEW + 1;
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 0, 6);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_tell(fake);
	fake_pause(fake);
	finish();
}

struct two {
	struct session s;
	struct sluice_view *other;
	struct sluice_frame *a, *b; /* of the two views */
	struct caller c;
};

static void begin_two(struct two *t, fake_script script, const struct sluice_view_request *request)
{
	*t = (struct two){ 0 };
	begin(&t->s, script, request, 0);
	begin_caller(&t->c);
	t->a = next(&t->s);
	CHECK_EQ(sluice_subscribe(t->s.conn, "other", request, &t->other), 0);
	while (sluice_view_next(t->other, &t->b) == 0)
		CHECK(sluice_wait(t->s.conn, LONG_MS) >= 0);
}

/* The broker dies, of which nobody but the test knows, or signals. */
static void script_goes_on(struct two *t)
{
	fake_go(&t->s.fake);
	fake_await(&t->s.fake);
}

static void end_two(struct two *t)
{
	end_paused(&t->s);
	end_caller(&t->c);
}

static void wait_for_both(struct two *t)
{
	CHECK_EQ(sluice_frame_wait_in(t->a, t->c.stream), 0);
	CHECK_EQ(sluice_frame_wait_in(t->b, t->c.stream), 0);
}

CUDA_TEST(close_lets_go_on_what_waits_for_two_views)
{
	struct two t;
	begin_two(&t, script_two_views, &cuda_timeline);
	wait_for_both(&t);
	script_goes_on(&t);
	uint64_t begun = now_ms();
	end_two(&t);
	check_at_once(begun);
}

CUDA_TEST(close_lets_go_on_what_was_handed_over_with_two_views)
{
	struct two t;
	begin_two(&t, script_two_views, &cuda_timeline);
	wait_for_both(&t);
	CHECK_EQ(sluice_frame_release_after(t.a, t.c.stream), 0);
	CHECK_EQ(sluice_frame_release_after(t.b, t.c.stream), 0);
	script_goes_on(&t);
	uint64_t begun = now_ms();
	end_two(&t);
	check_at_once(begun);
}

CUDA_TEST(unsubscribe_lets_go_on_what_waits_for_another_view)
{
	struct two t;
	begin_two(&t, script_two_views, &cuda_timeline);
	wait_for_both(&t);
	CHECK_EQ(sluice_frame_release_after(t.a, t.c.stream), 0);
	script_goes_on(&t);
	uint64_t begun = now_ms();
	sluice_unsubscribe(t.s.view);
	check_at_once(begun);
	CHECK(cuda_has_ended(t.c.context, t.c.stream));
	end_two(&t);
}

/* The driver frees memory when all work of the context has ended. */
CUDA_TEST(dispatch_gives_up_one_views_memory_while_a_stream_waits_for_another)
{
	struct two t;
	begin_two(&t, script_two_views, &cuda_timeline);
	sluice_frame_release(t.a);
	CHECK_EQ(sluice_frame_wait_in(t.b, t.c.stream), 0);
	script_goes_on(&t);
	uint64_t begun = now_ms();
	CHECK_EQ(sluice_dispatch(t.s.conn), -ECONNRESET);
	check_at_once(begun);
	CHECK_EQ(sluice_view_sync(t.other, t.c.stream, LONG_MS), -ECONNRESET);
	end_two(&t);
}

static void script_silent(struct fake *fake)
{
	init(&memory, 1);
	init(&newer, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake->view = FAKE_VIEW + 1;
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 0, 6);
	fake_pause(fake);
	finish();
}

CUDA_TEST(unsubscribe_gives_up_one_views_memory_while_a_stream_waits_for_another)
{
	struct two t;
	begin_two(&t, script_silent, &cuda_timeline);
	sluice_frame_release(t.a);
	CHECK_EQ(sluice_frame_wait_in(t.b, t.c.stream), 0);
	uint64_t begun = now_ms();
	sluice_unsubscribe(t.s.view);
	check_at_once(begun);
	CHECK(sluice_frame_valid(t.b) && timeline_value(&newer) == 0);
	end_two(&t);
}

static void script_other_ticket(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 30, complete);
	fake_gpu_memory_init(&newer, &gpu, 1, 30, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake->view = FAKE_VIEW + 1;
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 0, 6);
	fake->view = FAKE_VIEW;
	fake_released(fake, &memory, 0, 5);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake->view = FAKE_VIEW + 1;
	fake_released(fake, &newer, 0, 6);
	fake_pause(fake);
	finish();
}

CUDA_TEST(a_release_that_is_due_while_another_view_is_left_is_not_forgotten)
{
	struct two t;
	slow_down_copies();
	begin_two(&t, script_other_ticket, &cuda);
	CUstream idle = cuda_stream(t.c.context);
	cuda_read(t.a, t.c.stream, &t.c.byte);
	CHECK_EQ(sluice_dispatch(t.s.conn), 0);
	CHECK_EQ(sluice_frame_release_after(t.b, idle), 0);
	CHECK_EQ(sluice_frame_release_after(t.a, t.c.stream), 0);
	sluice_unsubscribe(t.s.view);
	struct pollfd p = { .fd = sluice_fd(t.s.conn), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, AT_ONCE_MS), 1);
	CHECK_EQ(sluice_dispatch(t.s.conn), 0);
	cuda_stream_end(t.c.context, idle);
	end_two(&t);
}

/* --- Generations ------------------------------------------------------------------------------*/

static void script_resize(struct fake *fake)
{
	init(&memory, 1);
	init(&newer, 2);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 0, 6);
	fake_released(fake, &memory, 0, 5);
	fake_tell(fake);
	fake_pause(fake);
	if (fake->row)
		fake_hang_up(fake);
	else
		CHECK_EQ(fake_timeline_raise(newer.timeline_fd, 6), 0);
	fake_tell(fake);
	fake_pause(fake);
	finish();
}

/* The double leaves no access to what was freed. */
static bool is_there(uint64_t ptr)
{
	uint8_t byte;
	union {
		uint64_t number;
		void *pointer;
	} at = { .number = ptr };
	struct iovec to = { &byte, 1 }, from = { at.pointer, 1 };
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

/* A frame of a generation is held while a stream waits for one of the next. */
static void begin_resize(struct two *t, bool dies)
{
	*t = (struct two){ 0 };
	fake_start(&t->s.fake, script_resize, dies ? "" : NULL);
	struct sluice_options options = { .socket = t->s.fake.address.sun_path };
	CHECK_EQ(sluice_connect(&t->s.conn, &options), 0);
	CHECK_EQ(sluice_subscribe(t->s.conn, "desktop", &cuda_timeline, &t->s.view), 0);
	begin_caller(&t->c);
	t->a = next(&t->s);
	fake_go(&t->s.fake);
	t->b = next(&t->s);
	CHECK_EQ(sluice_frame_wait_in(t->b, t->c.stream), 0);
}

CUDA_TEST(sync_signals_nothing_while_the_broker_lives)
{
	struct two t;
	begin_resize(&t, false);
	CHECK_EQ(sluice_view_sync(t.s.view, t.c.stream, SHORT_MS), -ETIMEDOUT);
	CHECK(sluice_frame_valid(t.a) && timeline_value(&memory) == 0);
	CHECK(sluice_frame_valid(t.b) && timeline_value(&newer) == 0);
	sluice_frame_release(t.a);
	fake_await(&t.s.fake);
	script_goes_on(&t);
	CHECK_EQ(sluice_view_sync(t.s.view, t.c.stream, LONG_MS), 0);
	sluice_frame_release(t.b);
	end_two(&t);
}

/* It is the last of its generation. */
static void release_last(struct two *t, bool dies)
{
	begin_resize(t, dies);
	uint64_t ptr = t->a->cuda.ptr, begun = now_ms();
	struct sluice_frame *none;
	sluice_frame_release(t->a);
	CHECK_EQ(sluice_view_next(t->s.view, &none),
		0); /* until then it stays for those who registered it */
	check_at_once(begun);
	CHECK(is_there(ptr));
	fake_await(&t->s.fake);
	script_goes_on(t);
	if (dies)
		return;
	/* and goes as soon as it can: the descriptor that users poll tells of it */
	struct pollfd p = { .fd = sluice_fd(t->s.conn), .events = POLLIN };
	CHECK_EQ(sluice_dispatch(t->s.conn), 0);
	for (begun = now_ms(); is_there(ptr) && now_ms() - begun < LONG_MS;) {
		CHECK_EQ(poll(&p, 1, LONG_MS), 1);
		CHECK_EQ(sluice_dispatch(t->s.conn), 0);
	}
	CHECK(!is_there(ptr) && sluice_frame_valid(t->b));
}

CUDA_TEST(memory_that_goes_while_a_stream_waits_goes_later)
{
	struct two t;
	release_last(&t, false);
	CHECK_EQ(sluice_view_sync(t.s.view, t.c.stream, LONG_MS), 0);
	sluice_frame_release(t.b);
	end_two(&t);
}

CUDA_TEST(memory_that_goes_while_the_broker_is_dead_holds_up_nothing)
{
	struct two t;
	release_last(&t, true);
	uint64_t begun = now_ms();
	end_two(&t);
	check_at_once(begun);
}

/* --- What was handed over ---------------------------------------------------------------------*/

static void script_two_frames(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 60, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_frame(fake, &memory, 1, 2);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_tell(fake);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

static void begin_two_frames(struct two *t)
{
	struct sluice_view_request request = fifo;
	request.memory = SLUICE_MEMORY_CUDA;
	slow_down_copies();
	*t = (struct two){ 0 };
	begin(&t->s, script_two_frames, &request, 0);
	t->a = next(&t->s);
	t->b = next(&t->s);
	t->c.context = t->a->cuda.context;
	cuda_load();
	t->c.stream = cuda_stream(t->c.context);
}

static uint64_t processor_ms(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

/* One frame's work has ended long before the other's. */
static void wait_quietly(bool dies)
{
	struct two t;
	begin_two_frames(&t);
	CUstream idle = cuda_stream(t.c.context);
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&t.c.context, 0), CUDA_SUCCESS);
	cuda_read(t.b, t.c.stream, &t.c.byte);
	CHECK_EQ(sluice_frame_release_after(t.a, idle), 0);
	CHECK_EQ(sluice_frame_release_after(t.b, t.c.stream), 0);
	if (dies)
		script_goes_on(&t);
	uint64_t begun = now_ms(), used = processor_ms();
	sluice_unsubscribe(t.s.view);
	CHECK(now_ms() - begun >= WORK_MS / 2);
	CHECK(processor_ms() - used < WORK_MS / 4);
	CHECK_EQ(t.c.byte, 61);
	if (!dies)
		script_goes_on(&t);
	cuda_stream_end(t.c.context, idle);
	end_two(&t);
}

CUDA_TEST(who_waits_for_work_sleeps)
{
	wait_quietly(false);
}

CUDA_TEST(who_waits_for_work_without_a_broker_sleeps_too)
{
	wait_quietly(true);
}

/* Unsubscribe with a frame whose work the driver says nothing more of, and one that is held. */
static uint64_t leave_with_ticket(struct two *t)
{
	begin_two_frames(t);
	cuda_read(t->a, t->c.stream, &t->c.byte);
	uint64_t begun = now_ms();
	CHECK_EQ(sluice_frame_release_after(t->a, t->c.stream), 0);
	sluice_unsubscribe(t->s.view);
	return now_ms() - begun;
}

static void end_ticket(struct two *t)
{
	unsigned flags;
	int is_active = 1;
	cuda_stream_end(t->c.context, t->c.stream);
	/* the view goes with its last frame, and what it had with it */
	sluice_frame_release(t->b);
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &is_active), CUDA_SUCCESS);
	CHECK(!is_active);
	script_goes_on(t);
	end_paused(&t->s);
}

CUDA_FAIL_TEST(a_context_that_is_dead_is_not_waited_for, "cuStreamQuery=709")
{
	struct two t;
	CHECK(leave_with_ticket(&t) < WORK_MS - 100);
	end_ticket(&t);
}

CUDA_FAIL_TEST(an_error_of_the_callers_work_is_no_death, "cuStreamQuery=700")
{
	struct two t;
	CHECK(leave_with_ticket(&t) >= WORK_MS - 100);
	CHECK_EQ(t.c.byte, 60);
	end_ticket(&t);
}

static void script_released(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 60, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	fake_tell(fake);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

/* The double tells of a context that goes while a callback of it is under way. */
CUDA_TEST(the_driver_has_returned_from_us_before_its_context_goes)
{
	struct session s;
	CHECK(setenv("FAKE_CUDA_LATE_US", "100000", 1) == 0);
	begin(&s, script_released, &cuda, 0);
	CHECK_EQ(sluice_frame_release_after(next(&s), NULL), 0);
	sync_with(&s);
	end(&s);
}
