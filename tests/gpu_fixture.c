#include "tests/gpu_fixture.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"

enum { LIMIT_S = 20 };

/* ThreadSanitizer asks for this: it does not see the locks of libraries that it was not built into. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
	return "race:libVkLayer_khronos_validation.so\n"
	       "race:libvulkan_lvp.so\n"
	       "called_from_lib:libVkLayer_khronos_validation.so\n"
	       "called_from_lib:libvulkan_lvp.so\n";
}

void fixture_open(struct gpu_fixture *f)
{
	char error[GPU_TEXT_MAX];
	CHECK_EQ(loop_create(&f->loop), 0);
	f->options.validation = true;
	int r = gpu_create(&f->gpu, f->loop, &f->options, error, sizeof(error));
	if (r == -ENOENT)
		test_skip(error); /* no Vulkan, no device, or no validation layer */
	if (r < 0)
		test_fail(__FILE__, __LINE__, "gpu_create: %s", error);
}

void fixture_close(struct gpu_fixture *f)
{
	f->gpu = gpu_destroy(f->gpu);
	f->loop = loop_destroy(f->loop);
}

void fixture_done(void *fixture, int result)
{
	struct gpu_fixture *f = fixture;
	f->n_done++;
	f->result = result;
	if (f->n_done == f->stop_after)
		loop_stop(f->loop);
}

static void on_limit(void *data)
{
	(void)data;
	test_fail(__FILE__, __LINE__, "the end of the work was not heard within %d s", LIMIT_S);
}

void fixture_run_until(struct gpu_fixture *f, unsigned n_done)
{
	struct watch *limit;
	if (f->n_done >= n_done)
		return;
	f->stop_after = n_done;
	CHECK_EQ(loop_timer(f->loop, &limit, on_limit, NULL), 0);
	CHECK_EQ(watch_arm(limit, LIMIT_S * NS_PER_S * test_slowness()), 0);
	CHECK_EQ(loop_run(f->loop), 0);
	f->stop_after = 0;
	watch_destroy(limit);
}

static void on_time(void *data)
{
	loop_stop(data);
}

void fixture_run_for_ms(struct gpu_fixture *f, unsigned ms)
{
	struct watch *timer;
	CHECK_EQ(loop_timer(f->loop, &timer, on_time, f->loop), 0);
	CHECK_EQ(watch_arm(timer, ms * NS_PER_MS), 0);
	CHECK_EQ(loop_run(f->loop), 0);
	watch_destroy(timer);
}

int fixture_work(struct gpu_fixture *f, struct gpu_work work)
{
	work.done = fixture_done;
	work.data = f;
	int r = gpu_submit(f->gpu, &work, NULL, NULL);
	if (r < 0)
		return r;
	fixture_run_until(f, f->n_done + 1);
	return f->result;
}

int fixture_draw(struct gpu_fixture *f, const struct video_format *format, struct gpu_picture to,
	uint32_t number)
{
	struct gpu_draw draw = { .to = to, .number = number, .shift = 4 * number };
	return fixture_work(f, (struct gpu_work){ .format = format, .draw = &draw });
}

int fixture_copy(struct gpu_fixture *f, const struct video_format *format, struct gpu_picture from,
	struct gpu_picture to)
{
	struct gpu_copy copy = { .from = from, .to = to };
	return fixture_work(f, (struct gpu_work){ .format = format, .copy = &copy });
}

struct gpu_buffer *fixture_buffer(
	struct gpu_fixture *f, enum gpu_memory_kind kind, uint64_t size_bytes)
{
	struct gpu_buffer *buffer;
	if (gpu_buffer_create(f->gpu, kind, size_bytes, &buffer) < 0)
		test_fail(__FILE__, __LINE__, "gpu_buffer_create: %s", gpu_error(f->gpu));
	return buffer;
}

struct video_format fixture_format(const char *name, uint32_t width, uint32_t height)
{
	struct video_format format;
	const struct format_info *info = format_info_by_name(name);
	CHECK(info && format_layout(info->fourcc, width, height, &format) == 0);
	return format;
}
