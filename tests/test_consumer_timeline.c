/*
 * libsluice's timelines: streams that wait for pixels, and what becomes of them when the broker dies
 * or never signals. The test plays the GPU: it raises the memory's timeline.
 */
#include <errno.h>
#include <string.h>

#include "tests/cuda_session.h"
#include "tests/fake_timeline.h"

static struct fake_memory memory, newer;

/* What a caller of ours may wait at most when its broker dies. */
enum { FREED_MS = 100 };

static void init(struct fake_memory *m, uint32_t generation)
{
	fake_gpu_memory_init(m, &gpu, generation, 30, timeline);
}

static void script_timeline(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	CHECK_EQ(fake_timeline_raise(memory.timeline_fd, 5), 0);
	fake_released(fake, &memory, 0, 5);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_stream_goes_on_when_the_frame_is_there)
{
	struct session s;
	uint8_t byte = 0;
	begin(&s, script_timeline, &cuda_timeline, 0);
	CHECK(sluice_view_readiness(s.view) == SLUICE_TIMELINE);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	CUstream stream = cuda_stream(frame->cuda.context);
	CHECK_EQ(sluice_frame_wait_in(frame, stream), 0);
	cuda_read(frame, stream, &byte);
	CHECK_EQ(sluice_view_sync(s.view, stream, SHORT_MS), -ETIMEDOUT);
	CHECK(!cuda_has_ended(frame->cuda.context, stream) && sluice_frame_valid(frame));
	fake_go(&s.fake);
	CHECK_EQ(sluice_view_sync(s.view, stream, LONG_MS), 0);
	CHECK(byte == 30 && sluice_frame_valid(frame));
	cuda_stream_end(frame->cuda.context, stream);
	sluice_frame_release(frame);
	end(&s);
}

static void script_unsubscribed(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	CHECK_EQ(fake_timeline_raise(memory.timeline_fd, 5), 0);
	fake_released(fake, &memory, 0, 5);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

/* A release may be handed over before the frame is there. */
CUDA_TEST(a_release_waits_for_the_timeline_too)
{
	struct session s;
	uint8_t byte = 0;
	begin(&s, script_unsubscribed, &cuda_timeline, 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	CUcontext context;
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	CUstream stream = cuda_stream(context);
	CHECK_EQ(sluice_frame_wait_in(frame, stream), 0);
	cuda_read(frame, stream, &byte);
	CHECK_EQ(sluice_frame_release_after(frame, stream), 0);
	CHECK_EQ(sluice_wait(s.conn, SHORT_MS), 0);
	CHECK(!cuda_has_ended(context, stream));
	fake_go(&s.fake);
	/* the broker that lives is waited for */
	sluice_unsubscribe(s.view);
	CHECK_EQ(byte, 30);
	cuda_stream_end(context, stream);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	end(&s);
}

/* --- Brokers that die -------------------------------------------------------------------------*/

static void script_death(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_frame(fake, &memory, 1, 9);
	fake_tell(fake);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_tell(fake);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

struct waiting {
	struct session s;
	struct sluice_frame *first, *frame; /* held, and waited for by the stream */
	CUstream stream;
	CUcontext context;
	uint8_t byte;
};

static void begin_waiting(struct waiting *w, fake_script script, unsigned flags)
{
	struct sluice_view_request request = fifo;
	request.memory = SLUICE_MEMORY_CUDA;
	request.readiness = SLUICE_TIMELINE;
	*w = (struct waiting){ 0 };
	begin(&w->s, script, &request, flags);
	cuda_load();
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&w->context, 0), CUDA_SUCCESS);
	CHECK_EQ(sync_with(&w->s), 2);
	w->stream = cuda_stream(w->context);
	w->first = next(&w->s);
	w->frame = next(&w->s);
	CHECK_EQ(sluice_frame_wait_in(w->first, w->stream), 0);
	CHECK_EQ(sluice_frame_wait_in(w->frame, w->stream), 0);
	cuda_read(w->frame, w->stream, &w->byte);
	CHECK(!cuda_has_ended(w->context, w->stream));
}

static void end_waiting(struct waiting *w)
{
	fake_go(&w->s.fake);
	end(&w->s);
	cuda_stream_end(w->context, w->stream);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
}

static uint64_t value_of_timeline(void)
{
	uint64_t value = 0;
	CHECK_EQ(fake_timeline_read(memory.timeline_fd, &value), 0);
	return value;
}

CUDA_TEST(sync_frees_itself_from_a_broker_that_died)
{
	struct waiting w;
	begin_waiting(&w, script_death, 0);
	fake_go(&w.s.fake);
	uint64_t begun = now_ms();
	CHECK_EQ(sluice_view_sync(w.s.view, w.stream, LONG_MS), -ECONNRESET);
	CHECK(now_ms() - begun < FREED_MS * test_slowness());
	CHECK_EQ(w.byte, 31);
	CHECK(!sluice_frame_valid(w.frame));
	CHECK(value_of_timeline() >= 9); /* more if it was given again */
	fake_await(&w.s.fake);
	end_waiting(&w);
}

CUDA_TEST(dispatch_frees_the_streams_of_a_broker_that_died)
{
	struct waiting w;
	begin_waiting(&w, script_death, 0);
	fake_go(&w.s.fake);
	uint64_t begun = now_ms();
	CHECK_EQ(wait_for_end(w.s.conn), -ECONNRESET);
	while (!cuda_has_ended(w.context, w.stream))
		CHECK(now_ms() - begun < FREED_MS * test_slowness());
	CHECK_EQ(w.byte, 31);
	CHECK_EQ(sluice_view_sync(w.s.view, w.stream, LONG_MS), -ECONNRESET);
	CHECK(value_of_timeline() >= 9);
	fake_await(&w.s.fake);
	end_waiting(&w);
}

CUDA_TEST(a_release_that_waits_is_freed_too)
{
	struct waiting w;
	begin_waiting(&w, script_death, 0);
	CHECK_EQ(sluice_frame_release_after(w.frame, w.stream), 0);
	fake_go(&w.s.fake);
	fake_await(&w.s.fake);
	uint64_t begun = now_ms();
	end_waiting(&w);
	CHECK(now_ms() - begun < FREED_MS * test_slowness());
	CHECK_EQ(w.byte, 31);
}

/* Nothing but close() has seen that the broker is gone. */
CUDA_TEST(close_frees_streams_and_waits_for_them)
{
	struct waiting w;
	begin_waiting(&w, script_death, 0);
	fake_go(&w.s.fake);
	fake_await(&w.s.fake);
	end_waiting(&w);
	CHECK_EQ(w.byte, 31);
}

static void script_silence(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_frame(fake, &memory, 1, 9);
	fake_tell(fake);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_broker_that_never_signals_holds_up_close_for_a_second)
{
	struct waiting w;
	begin_waiting(&w, script_silence, 0);
	CHECK_EQ(sluice_frame_release_after(w.frame, w.stream), 0);
	uint64_t begun = now_ms();
	sluice_close(w.s.conn);
	CHECK(now_ms() - begun >= 900 && now_ms() - begun < 3000 * test_slowness());
	CHECK_EQ(w.byte, 31);
	fake_go(&w.s.fake);
	fake_stop(&w.s.fake);
	cuda_stream_end(w.context, w.stream);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
}

static void script_ended(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_frame(fake, &memory, 1, 9);
	fake_tell(fake);
	fake_pause(fake);
	fake_ended(fake, SLUICE__ERROR_CODE__ERROR_INTERNAL, "its GPU is lost");
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_view_that_ends_frees_its_streams)
{
	struct waiting w;
	struct sluice_frame *none;
	begin_waiting(&w, script_ended, 0);
	fake_go(&w.s.fake);
	CHECK_EQ(sluice_view_sync(w.s.view, w.stream, LONG_MS), -ECONNRESET);
	CHECK(w.byte == 31 && !sluice_frame_valid(w.frame));
	CHECK_EQ(sluice_view_next(w.s.view, &none), -EIO);
	CHECK_STR(sluice_error(w.s.conn), "its GPU is lost");
	end_waiting(&w);
}

static void script_restart(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 5);
	fake_frame(fake, &memory, 1, 9);
	fake_tell(fake);
	fake_pause(fake);
	fake_hang_up(fake);
	init(&newer, 1);
	fake_welcome(fake, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_bind(fake, &newer);
	CHECK_EQ(fake_timeline_raise(newer.timeline_fd, 1), 0);
	fake_frame(fake, &newer, 2, 1);
	fake_released(fake, &newer, 2, 1);
	fake_pause(fake);
	fake_gpu_memory_finish(&memory);
	fake_gpu_memory_finish(&newer);
}

CUDA_TEST(streams_are_freed_and_the_view_comes_back)
{
	struct waiting w;
	begin_waiting(&w, script_restart, SLUICE_RECONNECT);
	fake_go(&w.s.fake);
	CHECK_EQ(sluice_view_sync(w.s.view, w.stream, LONG_MS), -ECONNRESET);
	CHECK(!sluice_frame_valid(w.frame));
	sluice_frame_release(w.first);
	sluice_frame_release(w.frame);
	struct sluice_frame *frame = next(&w.s);
	CHECK_EQ(sluice_frame_wait_in(frame, w.stream), 0);
	CHECK_EQ(sluice_view_sync(w.s.view, w.stream, LONG_MS), 0);
	CHECK(sluice_frame_valid(frame));
	sluice_frame_release(frame);
	end_waiting(&w);
}

/* --- Timelines that cannot be had -------------------------------------------------------------*/

static void script_import_again(struct fake *fake)
{
	init(&memory, 1);
	fake_gpu_memory_init(&newer, &gpu, 2, 70, complete);
	fake_welcome(fake, 1);
	CHECK_EQ(fake_gpu_granted(fake, &gpu, 2, timeline)->readiness, timeline);
	fake_offer(fake, &memory);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	CHECK(bound->error && strstr(bound->text, "cuImportExternalSemaphore"));
	fake_ended(fake, bound->error, "the client cannot map it");
	CHECK_EQ(fake_gpu_granted(fake, &gpu, 2, complete)->readiness, complete);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 2, 1);
	fake_released(fake, &newer, 2, 1);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
	fake_gpu_memory_finish(&newer);
}

CUDA_FAIL_TEST(a_timeline_that_cannot_be_imported_is_done_without, "cuImportExternalSemaphore=999")
{
	struct session s;
	begin(&s, script_import_again, &cuda_timeline, 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_view_readiness(s.view) == SLUICE_COMPLETE);
	CHECK(strstr(sluice_view_note(s.view), "frames come complete: cuImportExternalSemaphore"));
	CHECK_EQ(cuda_byte(frame), 72);
	sluice_frame_release(frame);
	end(&s);
}

static void script_less(struct fake *fake)
{
	struct fake_grant grant = {
		.max_holds = 2,
		.memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
		.note = "frames come complete: it\ncannot",
		.device = &gpu.device,
	};
	fake_welcome(fake, 1);
	fake_grant(fake, &grant);
	fake_expect_end(fake);
}

CUDA_TEST(the_broker_may_grant_complete_frames_instead)
{
	struct session s;
	begin(&s, script_less, &cuda_timeline, 0);
	CHECK(sluice_view_readiness(s.view) == SLUICE_COMPLETE);
	CHECK_STR(sluice_view_note(s.view), "frames come complete: it?cannot");
	end(&s);
}
