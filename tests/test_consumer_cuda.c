/* libsluice's frames in CUDA memory: whose device, which pointers, and when they are given back. */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "tests/cuda_session.h"

static struct fake_memory memory, newer;

static void script_two_frames(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 40, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	fake_frame(fake, &memory, 3, 2);
	fake_released(fake, &memory, 3, 2);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_frame_is_a_pointer_in_the_primary_context)
{
	struct session s;
	begin(&s, script_two_frames, &cuda, 0);
	cuda_load();
	CHECK(sluice_view_memory(s.view) == SLUICE_MEMORY_CUDA);
	CHECK(sluice_view_readiness(s.view) == SLUICE_COMPLETE);
	CHECK_STR(sluice_view_note(s.view), "");
	struct sluice_frame *frame = next(&s);
	CHECK(frame->memory == SLUICE_MEMORY_CUDA && !frame->data[0] && frame->sync_fd == -1);
	CHECK(frame->vulkan.buffer == 0 && frame->vulkan.semaphore == 0);
	CHECK(frame->offset[0] == 0 && frame->stride[0] == FAKE_WIDTH * 4);
	CHECK_EQ(cuda_byte(frame), 40);
	CHECK(sluice_frame_valid(frame));
	unsigned flags;
	int is_active = 0;
	CUcontext primary;
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &is_active), CUDA_SUCCESS);
	CHECK(is_active);
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&primary, 0), CUDA_SUCCESS);
	CHECK(frame->cuda.context == primary);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	sluice_frame_release(frame);
	frame = next(&s);
	CHECK_EQ(cuda_byte(frame), 43);
	sluice_frame_release(frame);
	end(&s);
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &is_active), CUDA_SUCCESS);
	CHECK(!is_active);
}

CUDA_TEST(wait_and_sync_of_complete_frames_do_nothing)
{
	struct session s;
	begin(&s, script_two_frames, &cuda, 0);
	for (int i = 0; i < 2; i++) {
		struct sluice_frame *frame = next(&s);
		CHECK_EQ(sluice_frame_wait_in(frame, NULL), 0);
		CHECK_EQ(sluice_view_sync(s.view, NULL, 0), 0);
		sluice_frame_release(frame);
	}
	end(&s);
}

static void script_host(struct fake *fake)
{
	fake_memory_init(&memory, 1, 7);
	fake_begin(fake, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(host_frames_have_no_streams)
{
	struct session s;
	struct sluice_view_request request = { .readiness = SLUICE_TIMELINE };
	begin(&s, script_host, &request, 0);
	CHECK(sluice_view_memory(s.view) == SLUICE_MEMORY_HOST);
	CHECK(has_text(sluice_view_note(s.view), "always complete"));
	struct sluice_frame *frame = next(&s);
	CHECK(frame->memory == SLUICE_MEMORY_HOST && frame->data[0] && frame->cuda.ptr == 0);
	CHECK_EQ(sluice_frame_wait_in(frame, NULL), -EOPNOTSUPP);
	CHECK_EQ(sluice_frame_release_after(frame, NULL), -EOPNOTSUPP);
	CHECK_EQ(sluice_view_sync(s.view, NULL, 0), -EOPNOTSUPP);
	sluice_frame_release(frame);
	end(&s);
}

/* --- Devices and contexts ---------------------------------------------------------------------*/

static unsigned n_uuids_expected;

static void script_uuids(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 1, complete);
	fake_welcome(fake, 1);
	const Sluice__Subscribe *ask = fake_gpu_granted(fake, &gpu, 2, complete);
	CHECK_EQ(ask->memory, SLUICE__MEMORY__MEMORY_OPAQUE_FD);
	CHECK_EQ(ask->n_device_uuids, n_uuids_expected);
	const ProtobufCBinaryData *last = &ask->device_uuids[n_uuids_expected - 1];
	CHECK_EQ(last->len, 16);
	CHECK(memcmp(last->data, gpu.device.uuid.data, 16) == 0);
	fake_bind(fake, &memory);
	fake_frame(fake, &memory, 2, 1);
	fake_released(fake, &memory, 2, 1);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

/* The double names its devices by number. */
static void add_other_device_first(void)
{
	char list[128];
	const uint8_t *u = gpu.device.uuid.data;
	int n = snprintf(list, sizeof(list), "00112233-4455-6677-8899-aabbccddeeff,");
	for (int i = 0; i < 16; i++)
		n += snprintf(list + n, sizeof(list) - (size_t)n, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
	CHECK(setenv("FAKE_CUDA_DEVICES", list, 1) == 0);
}

CUDA_TEST(the_broker_hears_which_devices_there_are)
{
	struct session s;
	n_uuids_expected = 1;
	begin(&s, script_uuids, &cuda, 0);
	sluice_frame_release(next(&s));
	end(&s);
}

CUDA_TEST(the_device_is_found_by_uuid_where_device_0_is_another)
{
	struct session s;
	n_uuids_expected = 2;
	add_other_device_first();
	begin(&s, script_uuids, &cuda, 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	unsigned flags;
	int is_active = 1;
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &is_active), CUDA_SUCCESS);
	CHECK(!is_active);
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(1, &flags, &is_active), CUDA_SUCCESS);
	CHECK(is_active);
	CHECK_EQ(cuda_byte(frame), 3);
	sluice_frame_release(frame);
	end(&s);
}

CUDA_TEST(a_context_that_is_given_is_used)
{
	struct session s;
	cuda_load();
	CUcontext context = cuda_context();
	struct sluice_view_request request = cuda;
	request.cuda_context = context;
	n_uuids_expected = 1;
	begin(&s, script_uuids, &request, 0);
	struct sluice_frame *frame = next(&s);
	CHECK(frame->cuda.context == context);
	CHECK_EQ(cuda_byte(frame), 3);
	int is_active = 1;
	unsigned flags;
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &is_active), CUDA_SUCCESS);
	CHECK(!is_active);
	sluice_frame_release(frame);
	end(&s);
	CHECK_EQ(cu->cuCtxDestroy(context), CUDA_SUCCESS);
}

static CUcontext current(void)
{
	typedef CUresult get_current_fn(CUcontext * context_out);
	CUcontext context = NULL;
	get_current_fn *get = (get_current_fn *)dlsym(cu->lib, "cuCtxGetCurrent");
	CHECK(get && get(&context) == CUDA_SUCCESS);
	return context;
}

CUDA_TEST(the_callers_current_context_stays_current)
{
	struct session s;
	cuda_load();
	CUcontext context = cuda_context();
	CHECK_EQ(cu->cuCtxPushCurrent(context), CUDA_SUCCESS);
	begin(&s, script_two_frames, &cuda, 0);
	CHECK(current() == context);
	struct sluice_frame *frame = next(&s);
	CHECK(current() == context && frame->cuda.context != context);
	CHECK_EQ(sluice_frame_wait_in(frame, NULL), 0);
	CHECK_EQ(sluice_frame_release_after(frame, NULL), 0);
	CHECK_EQ(sluice_view_sync(s.view, NULL, LONG_MS), 0);
	CHECK(current() == context);
	sluice_frame_release(next(&s));
	end(&s);
	CHECK(current() == context);
	CHECK_EQ(cu->cuCtxDestroy(context), CUDA_SUCCESS);
}

/* --- Releasing after a stream's work ----------------------------------------------------------*/

static void script_one_hold(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 60, complete);
	fake_gpu_begin(fake, &gpu, 1, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	fake_tell(fake);
	fake_frame(fake, &memory, 1, 2);
	fake_released(fake, &memory, 1, 2);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

enum { COPY_MS = 100 };

static void slow_copies(void)
{
	CHECK(setenv("FAKE_CUDA_COPY_US", "100000", 1) == 0);
}

CUDA_TEST(a_frame_is_released_when_the_streams_work_has_ended)
{
	struct session s;
	uint8_t byte = 0;
	slow_copies();
	begin(&s, script_one_hold, &cuda, 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	void *context = frame->cuda.context;
	CUstream stream = cuda_stream(context);
	cuda_read(frame, stream, &byte);
	uint64_t begun = now_ms();
	CHECK_EQ(sluice_frame_release_after(frame, stream), 0);
	CHECK(now_ms() - begun < COPY_MS / 2);
	/* not before, however often we look */
	while (sluice_wait(s.conn, 1) == 0)
		CHECK(now_ms() - begun >= COPY_MS || !fake_has_told(&s.fake));
	CHECK(now_ms() - begun >= COPY_MS);
	CHECK_EQ(byte, 60);
	sluice_frame_release(next(&s));
	cuda_stream_end(context, stream);
	end(&s);
}

/* A callback that is still between its two steps makes it readable once more, not for ever. */
static void check_falls_quiet(struct session *s, struct pollfd *p)
{
	uint64_t deadline = now_ms() + LONG_MS;
	do
		CHECK_EQ(sluice_dispatch(s->conn), 0);
	while (poll(p, 1, 0) != 0 && now_ms() < deadline);
	CHECK_EQ(poll(p, 1, 0), 0);
}

/* The descriptor that users poll tells of it. */
CUDA_TEST(the_end_of_work_makes_the_descriptor_readable)
{
	struct session s;
	uint8_t byte = 0;
	slow_copies();
	begin(&s, script_one_hold, &cuda, 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	void *context = frame->cuda.context;
	CUstream stream = cuda_stream(context);
	CHECK_EQ(sluice_dispatch(s.conn), 0);
	struct pollfd p = { .fd = sluice_fd(s.conn), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, 0), 0);
	cuda_read(frame, stream, &byte);
	CHECK_EQ(sluice_frame_release_after(frame, stream), 0);
	CHECK_EQ(poll(&p, 1, COPY_MS / 2), 0);
	CHECK_EQ(poll(&p, 1, LONG_MS), 1);
	CHECK(sluice_dispatch(s.conn) >= 0);
	fake_await(&s.fake);
	sluice_frame_release(next(&s));
	check_falls_quiet(&s, &p);
	cuda_stream_end(context, stream);
	end(&s);
}

static void script_late_release(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 60, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	if (fake->row)
		fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

/* Its memory must not go while the work reads it: the double would call that a misuse. */
static void leave_with_work_queued(bool unsubscribes)
{
	struct session s;
	uint8_t byte = 0;
	slow_copies();
	fake_start(&s.fake, script_late_release, unsubscribes ? "" : NULL);
	struct sluice_options options = { .socket = s.fake.address.sun_path };
	CHECK_EQ(sluice_connect(&s.conn, &options), 0);
	CHECK_EQ(sluice_subscribe(s.conn, "desktop", &cuda, &s.view), 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	CUcontext context;
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	CUstream stream = cuda_stream(context);
	uint64_t begun = now_ms();
	cuda_read(frame, stream, &byte);
	CHECK_EQ(sluice_frame_release_after(frame, stream), 0);
	if (unsubscribes) {
		sluice_unsubscribe(s.view);
		CHECK(now_ms() - begun >= COPY_MS);
	}
	end(&s);
	CHECK(now_ms() - begun >= COPY_MS);
	CHECK_EQ(byte, 60);
	cuda_stream_end(context, stream);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
}

CUDA_TEST(close_waits_for_work_that_was_handed_over)
{
	leave_with_work_queued(false);
}

CUDA_TEST(unsubscribe_waits_for_work_that_was_handed_over)
{
	leave_with_work_queued(true);
}

static void release_fails(const char *sentence)
{
	struct session s;
	begin(&s, script_two_frames, &cuda, 0);
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_frame_release_after(frame, NULL) < 0);
	CHECK(has_text(sluice_error(s.conn), sentence));
	CHECK(sluice_frame_valid(frame));
	CHECK_EQ(sluice_view_sync(s.view, NULL, LONG_MS), 0);
	sluice_frame_release(frame);
	sluice_frame_release(next(&s));
	end(&s);
}

CUDA_FAIL_TEST(a_stream_that_cannot_call_back_leaves_the_frame, "cuStreamAddCallback=400")
{
	release_fails("cuStreamAddCallback: CUDA_ERROR_INVALID_HANDLE");
}

CUDA_FAIL_TEST(a_stream_that_cannot_be_waited_for_leaves_the_frame, "cuStreamWaitEvent=2")
{
	release_fails("cuStreamWaitEvent: CUDA_ERROR_OUT_OF_MEMORY");
}

CUDA_FAIL_TEST(a_stream_that_does_not_exist_leaves_the_frame, "cuEventRecord=400")
{
	release_fails("cuEventRecord: CUDA_ERROR_INVALID_HANDLE");
}

/* --- Generations and sessions -----------------------------------------------------------------*/

enum { GENERATIONS = 200 };

static void script_generations(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, complete);
	for (unsigned i = 1; i <= GENERATIONS; i++) {
		struct fake_memory *m = i % 2 ? &memory : &newer;
		fake_gpu_memory_init(m, &gpu, i, i % 100, complete);
		fake_bind(fake, m);
		fake_frame(fake, m, 0, i);
		fake_tell(fake);
		fake_pause(fake);
		if (i > 1)
			fake_released(fake, i % 2 ? &newer : &memory, 0, i - 1);
		if (i > 1)
			fake_gpu_memory_finish(i % 2 ? &newer : &memory);
	}
	fake_released(fake, &newer, 0, GENERATIONS);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&newer);
}

CUDA_TEST(two_hundred_generations_leave_nothing)
{
	struct session s;
	struct sluice_frame *held = NULL;
	unsigned n_fds = 0;
	begin(&s, script_generations, &cuda, 0);
	for (unsigned i = 1; i <= GENERATIONS; i++) {
		struct sluice_frame *frame = next(&s);
		fake_await(&s.fake);
		CHECK(frame->seq == i);
		if (held)
			CHECK(sluice_frame_valid(held) && held->generation != frame->generation);
		sluice_frame_release(held);
		held = frame;
		CHECK(sluice_dispatch(s.conn) >= 0);
		if (i == 3)
			n_fds = test_count_fds();
		if (i > 3)
			CHECK_EQ(test_count_fds(), n_fds);
		fake_go(&s.fake);
	}
	sluice_frame_release(held);
	end(&s);
}

static void script_restart(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 10, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame(fake, &memory, 0, 7);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_gpu_memory_init(&newer, &gpu, 1, 20, complete);
	fake_welcome(fake, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 1, 1);
	fake_released(fake, &newer, 1, 1);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
	fake_gpu_memory_finish(&newer);
}

CUDA_TEST(frames_outlive_the_broker_that_is_restarted)
{
	struct session s;
	begin(&s, script_restart, &cuda, SLUICE_RECONNECT);
	cuda_load();
	struct sluice_frame *held = next(&s);
	fake_go(&s.fake);
	struct sluice_frame *frame = next(&s);
	CHECK(frame->cuda.ptr != held->cuda.ptr);
	CHECK(frame->cuda.context == held->cuda.context);
	CHECK_EQ(cuda_byte(frame), 21);
	CHECK(sluice_frame_valid(held) && stats_of(&s).reconnects == 1);
	sluice_frame_release(frame);
	sluice_frame_release(held);
	end(&s);
}

/* --- Sync files -------------------------------------------------------------------------------*/

static void script_sync_fds(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 1, sync_file);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	struct fdset fds = { .n = 1, .fd = { eventfd(1, EFD_CLOEXEC) } };
	control_end_write(memory.control, 0, 1);
	fake_announce_with(fake, &memory, 0, 1, &fds);
	fake_frame(fake, &memory, 1, 2);
	fake_released(fake, &memory, 0, 1);
	fake_released(fake, &memory, 1, 2);
	/* one that nobody takes */
	fds = (struct fdset){ .n = 1, .fd = { eventfd(1, EFD_CLOEXEC) } };
	control_end_write(memory.control, 2, 3);
	fake_announce_with(fake, &memory, 2, 3, &fds);
	fake_tell(fake);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_sync_file_belongs_to_its_frame)
{
	struct session s;
	struct sluice_view_request request = fifo;
	request.memory = SLUICE_MEMORY_CUDA;
	request.readiness = SLUICE_SYNC_FD;
	begin(&s, script_sync_fds, &request, 0);
	CHECK(sluice_view_readiness(s.view) == SLUICE_SYNC_FD);
	struct sluice_frame *first = next(&s);
	struct sluice_frame *second = next(&s);
	CHECK(first->sync_fd >= 0 && second->sync_fd == -1);
	struct pollfd p = { .fd = first->sync_fd, .events = POLLIN };
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(sluice_frame_wait_in(first, NULL), -EOPNOTSUPP);
	CHECK_EQ(sluice_frame_wait_in(second, NULL), 0);
	unsigned n_fds = test_count_fds();
	sluice_frame_release(first);
	CHECK_EQ(test_count_fds(), n_fds - 1);
	sluice_frame_release(second);
	CHECK_EQ(sync_with(&s), 1);
	end(&s);
}

/* --- Streams ----------------------------------------------------------------------------------*/

static void script_list(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	Sluice__StreamInfo with = SLUICE__STREAM_INFO__INIT, without = SLUICE__STREAM_INFO__INIT;
	Sluice__StreamInfo *list[] = { &with, &without };
	with.name = (char *)"with";
	with.device = &gpu.device;
	without.name = (char *)"without";
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	streams.n_streams = 2;
	streams.streams = list;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STREAMS;
	packet.streams = &streams;
	fake_send(fake, &packet, NULL);
	fake_expect_end(fake);
}

CUDA_TEST(a_stream_says_which_gpu_it_is_on)
{
	struct fake fake;
	struct sluice *conn;
	struct sluice_stream_info *infos;
	fake_start(&fake, script_list, NULL);
	struct sluice_options options = { .socket = fake.address.sun_path };
	CHECK_EQ(sluice_connect(&conn, &options), 0);
	CHECK_EQ(sluice_streams(conn, &infos), 2);
	CHECK(infos[0].has_device && !infos[1].has_device);
	CHECK(memcmp(infos[0].device_uuid, gpu.device.uuid.data, 16) == 0);
	CHECK(memcmp(infos[0].driver_uuid, gpu.device.driver_uuid.data, 16) == 0);
	CHECK_STR(infos[0].device_name, "the broker's GPU");
	free(infos);
	sluice_close(conn);
	fake_stop(&fake);
}
