/* libsluice where GPU memory cannot be had: why not, what then, and brokers that lie about it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/cuda_session.h"

static struct fake_memory memory, host;

/* sluice_subscribe()'s result; the connection stays. */
static int try_begin(struct session *s, fake_script script, const void *row,
	const struct sluice_view_request *request)
{
	fake_start(&s->fake, script, row);
	struct sluice_options options = { .socket = s->fake.address.sun_path };
	CHECK_EQ(sluice_connect(&s->conn, &options), 0);
	return sluice_subscribe(s->conn, "desktop", request, &s->view);
}

static void expect_no_word(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect_end(fake);
}

static const char no_device[] = "cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)";

CUDA_FAIL_TEST(without_a_device_the_broker_hears_nothing, "cuInit=100")
{
	struct session s;
	CHECK_EQ(try_begin(&s, expect_no_word, NULL, &cuda), -EOPNOTSUPP);
	CHECK_STR(sluice_error(s.conn), no_device);
	end(&s);
}

CUDA_FAIL_TEST(a_context_that_cannot_be_used_is_the_callers_fault, "cuCtxPushCurrent=201")
{
	struct session s;
	struct sluice_view_request request = cuda_or_host;
	request.cuda_context = &request;
	CHECK_EQ(try_begin(&s, expect_no_word, NULL, &request), -EINVAL);
	CHECK(has_text(sluice_error(s.conn), "cuCtxPushCurrent: CUDA_ERROR_INVALID_CONTEXT"));
	end(&s);
}

/* --- Another GPU ------------------------------------------------------------------------------*/

static void script_elsewhere(struct fake *fake)
{
	static uint8_t uuid[16] = { 0xab, 0xcd };
	Sluice__Device device = gpu.device;
	device.uuid.data = uuid;
	struct fake_grant grant = {
		.max_holds = 2,
		.memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
		.device = &device,
	};
	fake_welcome(fake, 1);
	fake_grant(fake, &grant);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	/* what was on its way */
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	fake_offer(fake, &memory);
	fake_gpu_memory_finish(&memory);
	fake_expect_end(fake);
}

static void check_names(struct session *s)
{
	const char *text = sluice_error(s->conn);
	CHECK(has_text(text, "the broker's GPU (abcd0000-0000-0000-0000-000000000000)"));
	CHECK(has_text(text, "6d657361-"));
}

CUDA_TEST(a_gpu_that_cuda_does_not_have_is_refused_by_name)
{
	struct session s;
	CHECK_EQ(try_begin(&s, script_elsewhere, NULL, &cuda), -EOPNOTSUPP);
	check_names(&s);
	end(&s);
}

CUDA_TEST(a_context_of_another_gpu_is_refused_by_name)
{
	struct session s;
	cuda_load();
	CUcontext context = cuda_context();
	struct sluice_view_request request = cuda;
	request.cuda_context = context;
	CHECK_EQ(try_begin(&s, script_elsewhere, NULL, &request), -ENODEV);
	check_names(&s);
	end(&s);
	CHECK_EQ(cu->cuCtxDestroy(context), CUDA_SUCCESS);
}

/* --- Host memory instead ----------------------------------------------------------------------*/

static void serve_host(struct fake *fake)
{
	fake_memory_init(&host, 9, 90);
	fake_subscribed(fake, 2);
	fake_bind(fake, &host);
	fake_frame(fake, &host, 1, 1);
	fake_released(fake, &host, 1, 1);
	fake_expect_end(fake);
	fake_memory_finish(&host);
}

static void script_host_only(struct fake *fake)
{
	fake_welcome(fake, 1);
	serve_host(fake);
}

static void script_refused(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_refuse(fake, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "there is no GPU");
	serve_host(fake);
}

static void script_forbidden(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_refuse(fake, SLUICE__ERROR_CODE__ERROR_PERMISSION, "not for you");
	serve_host(fake);
}

static void script_other_gpu(struct fake *fake)
{
	static uint8_t uuid[16] = { 0xab, 0xcd };
	Sluice__Device device = gpu.device;
	device.uuid.data = uuid;
	struct fake_grant grant = {
		.max_holds = 2,
		.memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
		.device = &device,
	};
	fake_welcome(fake, 1);
	fake_grant(fake, &grant);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	serve_host(fake);
}

static void script_left(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	serve_host(fake);
}

static void script_not_imported(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_offer(fake, &memory);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	CHECK_EQ(bound->error, SLUICE__ERROR_CODE__ERROR_INTERNAL);
	fake_ended(fake, bound->error, "the client cannot map it");
	serve_host(fake);
	fake_gpu_memory_finish(&memory);
}

static void script_gpu_lost(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_ended(fake, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "the GPU is lost");
	serve_host(fake);
	fake_gpu_memory_finish(&memory);
}

/* What fails is the row's: the driver reads FAKE_CUDA_FAIL once, so each has a process. */
static void fall_back(fake_script script, const char *why)
{
	struct session s;
	CHECK_EQ(try_begin(&s, script, NULL, &cuda_or_host), 0);
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_view_memory(s.view) == SLUICE_MEMORY_HOST);
	CHECK(has_text(sluice_view_note(s.view), "host memory instead of CUDA memory: "));
	CHECK(has_text(sluice_view_note(s.view), why));
	CHECK(frame->memory == SLUICE_MEMORY_HOST && frame->cuda.ptr == 0);
	CHECK_EQ(frame->data[0][0], 91);
	CHECK_EQ(stats_of(&s).reconnects, 0);
	sluice_frame_release(frame);
	end(&s);
}

CUDA_FAIL_TEST(no_device_falls_back, "cuInit=100")
{
	fall_back(script_host_only, no_device);
}

CUDA_TEST(a_refusal_falls_back)
{
	fall_back(script_refused, "there is no GPU");
}

CUDA_TEST(a_lack_of_permission_falls_back)
{
	fall_back(script_forbidden, "not for you");
}

CUDA_TEST(another_gpu_falls_back)
{
	fall_back(script_other_gpu, "abcd0000-0000-");
}

CUDA_FAIL_TEST(a_failed_retain_falls_back, "cuDevicePrimaryCtxRetain=2")
{
	fall_back(script_left, "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY");
}

CUDA_FAIL_TEST(a_failed_import_falls_back, "cuImportExternalMemory=2@4")
{
	fall_back(script_not_imported, "cuImportExternalMemory: CUDA_ERROR_OUT_OF_MEMORY");
}

CUDA_FAIL_TEST(a_failed_mapping_falls_back, "cuExternalMemoryGetMappedBuffer=1@2")
{
	fall_back(script_not_imported, "cuExternalMemoryGetMappedBuffer: CUDA_ERROR_INVALID_VALUE");
}

CUDA_TEST(a_gpu_that_is_lost_falls_back)
{
	fall_back(script_gpu_lost, "the GPU is lost");
}

/* --- Failures that stay -----------------------------------------------------------------------*/

static void script_refused_for_good(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_refuse(fake, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "there is no GPU");
	fake_expect_end(fake);
}

CUDA_TEST(who_wants_cuda_alone_is_told_of_the_refusal)
{
	struct session s;
	CHECK_EQ(try_begin(&s, script_refused_for_good, NULL, &cuda), -EOPNOTSUPP);
	CHECK_STR(sluice_error(s.conn), "there is no GPU");
	CHECK(sluice_error_code(s.conn) == SLUICE_ERROR_NO_VIEW);
	end(&s);
}

static void fail_once(struct fake *fake)
{
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_offer(fake, &memory);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	CHECK(has_text(bound->text, "cuImportExternalMemory"));
	fake_ended(fake, bound->error, "the client cannot map it");
}

static int wait_for_view(struct session *s)
{
	struct sluice_frame *frame;
	int r = 0;
	while (r == 0) {
		CHECK(sluice_wait(s->conn, LONG_MS) >= 0);
		r = sluice_view_next(s->view, &frame);
	}
	return r;
}

static void fail_thrice(struct fake *fake)
{
	fake_welcome(fake, 1);
	for (int i = 0; i < 3; i++)
		fail_once(fake);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

static void script_three_failures(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	fail_thrice(fake);
}

CUDA_FAIL_TEST(three_failed_imports_are_enough, "cuImportExternalMemory=2")
{
	struct session s;
	uint64_t begun = now_ms();
	begin(&s, script_three_failures, &cuda, 0);
	CHECK_EQ(wait_for_view(&s), -EIO);
	CHECK(now_ms() - begun >= 2900);
	CHECK(has_text(sluice_error(s.conn), "tried 3 times: cuImportExternalMemory"));
	end(&s);
}

static void script_second_try(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 5, complete);
	fake_welcome(fake, 1);
	fail_once(fake);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_bind(fake, &memory);
	fake_frame(fake, &memory, 1, 1);
	fake_released(fake, &memory, 1, 1);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_FAIL_TEST(what_failed_once_is_tried_again, "cuImportExternalMemory=2@3")
{
	struct session s;
	begin(&s, script_second_try, &cuda, 0);
	cuda_load();
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(cuda_byte(frame), 6);
	CHECK_EQ(stats_of(&s).reconnects, 0);
	sluice_frame_release(frame);
	end(&s);
}

/* The reason of a failure is that of this one alone. */
static void script_ended_later(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 5, complete);
	fake_welcome(fake, 1);
	fail_once(fake);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_ended(fake, SLUICE__ERROR_CODE__ERROR_INTERNAL, "its GPU is lost");
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_FAIL_TEST(a_view_that_ends_after_a_second_try_says_why, "cuImportExternalMemory=2@1")
{
	struct session s;
	begin(&s, script_ended_later, &cuda, 0);
	CHECK_EQ(wait_for_view(&s), -EIO);
	CHECK_STR(sluice_error(s.conn), "its GPU is lost");
	end(&s);
}

static void script_removed(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 5, complete);
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_offer(fake, &memory);
	CHECK(fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound->error != 0);
	fake_ended(fake, SLUICE__ERROR_CODE__ERROR_STREAM_GONE, "the stream was removed");
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_FAIL_TEST(a_stream_that_is_removed_meanwhile_is_not_tried_again, "cuImportExternalMemory=2")
{
	struct session s;
	begin(&s, script_removed, &cuda, 0);
	CHECK_EQ(wait_for_view(&s), -ENODEV);
	CHECK_STR(sluice_error(s.conn), "the stream was removed");
	end(&s);
}

/* --- Memory that is not what the broker says --------------------------------------------------*/

/* The driver refuses: the broker hears of it, the connection stays. */
static void script_wrong_size(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	memory.allocation_bytes += 64;
	fail_thrice(fake);
}

static void script_wrong_file(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	fd_closep(&memory.slot_fd[FAKE_SLOTS - 1]);
	memory.slot_fd[FAKE_SLOTS - 1] = memfd_create("other", MFD_CLOEXEC);
	CHECK(ftruncate(memory.slot_fd[FAKE_SLOTS - 1], 1 << 20) == 0);
	fail_thrice(fake);
}

static void import_wrong(fake_script script)
{
	struct session s;
	CHECK_EQ(try_begin(&s, script, NULL, &cuda), 0);
	CHECK_EQ(wait_for_view(&s), -EIO);
	CHECK_EQ(sluice_dispatch(s.conn), 0);
	end(&s);
}

CUDA_TEST(an_allocation_of_another_size_is_not_imported)
{
	import_wrong(script_wrong_size);
}

CUDA_TEST(a_descriptor_that_is_no_gpu_memory_is_not_imported)
{
	import_wrong(script_wrong_file);
}
