/*
 * A stream is waited for, and its view gets other memory meanwhile, or another session; and when
 * libsluice signals in the broker's place.
 */
#include <errno.h>
#include <string.h>

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

/* --- The view gets other memory ---------------------------------------------------------------*/

static void script_falls_back(struct fake *fake)
{
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_ended(fake, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "the GPU is lost");
	fake_subscribed(fake, 2);
	fake_tell(fake);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

static void script_timeline_falls_back(struct fake *fake)
{
	init(&memory, 1);
	script_falls_back(fake);
}

static void script_complete_falls_back(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 30, complete);
	script_falls_back(fake);
}

static void sync_falls_back(fake_script script, enum sluice_readiness readiness)
{
	struct session s;
	struct caller c;
	struct sluice_view_request request = cuda_or_host;
	request.readiness = readiness;
	slow_down_copies();
	begin(&s, script, &request, 0);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(sluice_frame_wait_in(frame, c.stream), 0);
	cuda_read(frame, c.stream, &c.byte);
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -ECONNRESET);
	CHECK_EQ(c.byte, 30);
	sync_with(&s);
	CHECK(sluice_view_memory(s.view) == SLUICE_MEMORY_HOST);
	/* the frame is still held, and what is done with it can be waited for */
	c.byte = 0;
	cuda_read(frame, c.stream, &c.byte);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, 1), -ETIMEDOUT);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), 0);
	CHECK_EQ(c.byte, 30);
	sluice_frame_release(frame);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -EOPNOTSUPP);
	end_paused(&s);
	end_caller(&c);
}

CUDA_TEST(sync_goes_on_when_its_view_falls_back_to_host_memory)
{
	sync_falls_back(script_timeline_falls_back, SLUICE_TIMELINE);
}

CUDA_TEST(sync_of_complete_frames_does_too)
{
	sync_falls_back(script_complete_falls_back, SLUICE_COMPLETE);
}

static const uint8_t other_uuid[16] = { 0x12, 0x34 };

static void script_moves(struct fake *fake)
{
	Sluice__Device device = gpu.device;
	device.uuid.data = (uint8_t *)other_uuid;
	struct fake_grant grant = {
		.max_holds = 2,
		.memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
		.device = &device,
	};
	fake_gpu_memory_init(&memory, &gpu, 1, 30, complete);
	fake_gpu_memory_init(&newer, &gpu, 1, 30, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_welcome(fake, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_grant(fake, &grant);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 1, 1);
	fake_pause(fake);
	finish();
}

/* The double reads digits alone, too. */
static void add_other_device(void)
{
	char list[128];
	int n = 0;
	for (int i = 0; i < 16; i++)
		n += snprintf(list + n, sizeof(list) - (size_t)n, "%02x", gpu.device.uuid.data[i]);
	list[n++] = ',';
	for (int i = 0; i < 16; i++)
		n += snprintf(list + n, sizeof(list) - (size_t)n, "%02x", other_uuid[i]);
	CHECK(setenv("FAKE_CUDA_DEVICES", list, 1) == 0);
}

CUDA_TEST(sync_goes_on_when_its_view_moves_to_another_gpu)
{
	struct session s;
	struct caller c;
	slow_down_copies();
	add_other_device();
	begin(&s, script_moves, &cuda, SLUICE_RECONNECT);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s);
	cuda_read(frame, c.stream, &c.byte);
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -ECONNRESET);
	CHECK_EQ(c.byte, 30);
	while (stats_of(&s).received < 2)
		CHECK(sluice_wait(s.conn, SHORT_MS) >= 0);
	/* of the new GPU nothing is held yet */
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), 0);
	struct sluice_frame *other = next(&s);
	CHECK(other->cuda.context != c.context);
	CUstream stream = cuda_stream(other->cuda.context);
	CHECK_EQ(sluice_view_sync(s.view, stream, LONG_MS), 0);
	cuda_stream_end(other->cuda.context, stream);
	sluice_frame_release(other);
	sluice_frame_release(frame);
	end_paused(&s);
	end_caller(&c);
}

static void script_not_imported(struct fake *fake)
{
	init(&memory, 1);
	init(&newer, 2);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_offer(fake, &newer);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	fake_ended(fake, bound->error, "the client cannot map it");
	fake_pause(fake);
	finish();
}

/* It will be tried again: the view has not ended. */
CUDA_FAIL_TEST(sync_tells_of_a_subscription_that_was_lost, "cuImportExternalMemory=2@7")
{
	struct session s;
	struct caller c;
	struct sluice_frame *none;
	begin(&s, script_not_imported, &cuda_timeline, 0);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(sluice_frame_wait_in(frame, c.stream), 0);
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -ECONNRESET);
	CHECK(!sluice_frame_valid(frame));
	CHECK_EQ(sluice_view_next(s.view, &none), 0);
	sluice_frame_release(frame);
	end_paused(&s);
	end_caller(&c);
}

/* --- Signals in the broker's place ------------------------------------------------------------*/

static void script_late_signal(struct fake *fake)
{
	static const uint64_t late = 3;
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_hang_up(fake);
	/* a copy of the broker's was under way: its signal comes behind ours */
	CHECK_EQ(fake_timeline_wait(memory.timeline_fd, 5, LONG_MS), 0);
	CHECK(pwrite(memory.timeline_fd, &late, sizeof(late), 0) == sizeof(late));
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_signal_that_the_broker_sets_back_is_given_again)
{
	struct session s;
	struct caller c;
	slow_down_copies();
	begin(&s, script_late_signal, &cuda_timeline, 0);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s);
	cuda_read(frame, c.stream, &c.byte); /* until then it is set back */
	CHECK_EQ(sluice_frame_wait_in(frame, c.stream), 0);
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -ECONNRESET);
	CHECK(timeline_value(&memory) > 5);
	sluice_frame_release(frame);
	end_paused(&s);
	end_caller(&c);
}

static void script_restart(struct fake *fake)
{
	init(&memory, 1);
	init(&newer, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_welcome(fake, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 2, 1);
	fake_pause(fake);
	finish();
}

CUDA_TEST(a_new_sessions_timeline_is_left_to_its_broker)
{
	struct session s;
	struct caller c;
	slow_down_copies();
	begin(&s, script_restart, &cuda_timeline, SLUICE_RECONNECT);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(sluice_frame_wait_in(frame, c.stream), 0);
	cuda_read(frame, c.stream, &c.byte);
	cuda_read(frame, c.stream, &c.byte);
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -ECONNRESET);
	sluice_frame_release(frame);
	frame = next(&s);
	CHECK(frame->seq == 1 && sluice_frame_valid(frame));
	CHECK_EQ(timeline_value(&newer), 0);
	sluice_frame_release(frame);
	end_paused(&s);
	end_caller(&c);
}

static void script_death(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

static void sync_after_death(void)
{
	struct session s;
	struct caller c;
	begin(&s, script_death, &cuda_timeline, 0);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(sluice_frame_wait_in(frame, c.stream), 0);
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), -ECONNRESET);
	sluice_frame_release(frame);
	end_paused(&s);
	end_caller(&c);
}

/* As with CUDA_DEVICE_MAX_CONNECTIONS=1, or with more streams than there are queues. */
CUDA_TEST(a_signal_is_not_queued_behind_what_waits_for_it)
{
	CHECK(setenv("CUDA_DEVICE_MAX_CONNECTIONS", "1", 1) == 0);
	sync_after_death();
}

/* The double tells of a semaphore that goes while a signal of it is queued. */
CUDA_TEST(signals_have_ended_before_their_timeline_goes)
{
	CHECK(setenv("FAKE_CUDA_LATE_US", "30000", 1) == 0);
	sync_after_death();
}

static void script_copied(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame_copied(fake, &memory, 0, 5);
	fake_frame(fake, &memory, 1, 6);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

/* A consumer that came late gets such frames: nobody signals their numbers. */
CUDA_TEST(a_frame_whose_pixels_are_there_needs_no_wait)
{
	struct session s;
	struct caller c;
	struct sluice_view_request request = cuda_timeline;
	request.delivery = SLUICE_FIFO;
	begin(&s, script_copied, &request, 0);
	begin_caller(&c);
	struct sluice_frame *frame = next(&s), *early = next(&s);
	CHECK(frame->copied_ns == 1 && early->copied_ns == 0);
	CHECK_EQ(sluice_frame_wait_in(frame, c.stream), 0);
	cuda_read(frame, c.stream, &c.byte);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, LONG_MS), 0);
	CHECK_EQ(c.byte, 30);
	CHECK_EQ(sluice_frame_wait_in(early, c.stream), 0);
	CHECK_EQ(sluice_view_sync(s.view, c.stream, SHORT_MS), -ETIMEDOUT);
	fake_go(&s.fake);
	CHECK_EQ(wait_for_end(s.conn), -ECONNRESET);
	/* of the other it is not known */
	CHECK(sluice_frame_valid(frame) && !sluice_frame_valid(early));
	end_paused(&s);
	end_caller(&c);
}
