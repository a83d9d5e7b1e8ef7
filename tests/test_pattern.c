/* The synthetic source. */
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/capture/capture.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/stamp.h"

struct told {
	struct loop *loop;
	struct capture *capture;
	struct video_format format;
	unsigned formats;
	unsigned buffers;
	unsigned superseded;
	unsigned revoked;
	unsigned stop_after;
	bool keep; /* do not give back */
	uint64_t last_pts_ns;
};

static void on_format(void *data, const struct video_format *format)
{
	struct told *t = data;
	t->format = *format;
	t->formats++;
}

static void on_buffer(void *data, struct capture_buffer *buffer)
{
	struct told *t = data;
	uint32_t number = 0;
	t->buffers++;
	CHECK(buffer->info.captured_ns <= clock_ns());
	CHECK(buffer->info.pts_ns > t->last_pts_ns && buffer->info.pts_ns <= clock_ns());
	t->last_pts_ns = buffer->info.pts_ns;
	uint8_t *pixels = malloc(t->format.size_bytes);
	CHECK(pixels != NULL);
	CHECK_EQ(buffer->read(buffer, pixels, &t->format, 1000 + t->buffers), 0);
	if (stamp_fits(&t->format)) {
		CHECK_EQ(stamp_read(pixels, &t->format, &number), STAMP_OK);
		CHECK_EQ(number, 1000 + t->buffers);
	}
	free(pixels);
	if (!t->keep)
		t->capture->ops->give_back(t->capture, buffer);
	if (t->buffers == t->stop_after)
		loop_stop(t->loop);
}

static void on_revoke(void *data, struct capture_buffer *buffer)
{
	struct told *t = data;
	t->revoked++;
	t->capture->ops->give_back(t->capture, buffer);
}

static void on_sentence(void *data, const char *reason)
{
	(void)data;
	test_fail(__FILE__, __LINE__, "%s", reason);
}

static void on_superseded(void *data, unsigned count)
{
	((struct told *)data)->superseded += count;
}

static const struct capture_listener listener = { on_format, on_buffer, on_revoke, on_sentence,
	on_sentence, on_superseded };

static int create(struct told *t, const char *spec, char *error)
{
	*t = (struct told){ 0 };
	error[0] = 0;
	CHECK_EQ(loop_create(&t->loop), 0);
	struct capture_place place = { .loop = t->loop, .name = "test" };
	int r = capture_create(&t->capture, &place, spec, error, 256);
	if (r < 0) {
		CHECK(t->capture == NULL && error[0] != 0);
		loop_destroy(t->loop);
		return r;
	}
	t->capture->listener = &listener;
	t->capture->listener_data = t;
	return 0;
}

static void destroy(struct told *t)
{
	t->capture = t->capture->ops->destroy(t->capture);
	t->loop = loop_destroy(t->loop);
}

static void on_stop(void *data)
{
	loop_stop(data);
}

static void run_for_ms(struct loop *loop, unsigned ms)
{
	struct watch *timer;
	CHECK_EQ(loop_timer(loop, &timer, on_stop, loop), 0);
	CHECK_EQ(watch_arm(timer, ms * NS_PER_MS), 0);
	CHECK_EQ(loop_run(loop), 0);
	watch_destroy(timer);
}

TEST(every_format_is_drawn_with_its_number)
{
	static const char *const specs[] = { "pattern:640x480@1000", "pattern:64x64@1000:BGRA",
		"pattern:65x47@1000:RGBx", "pattern:64x64@1000:rgba", "pattern:641x481@1000:YUY2",
		"pattern:99x99@1000:NV12", "pattern:99x99@1000:I420", "pattern:99x99@1000:P010",
		"pattern:65x47@1000:xRGB_210LE", "pattern:65x47@1000:abgr_210le",
		"pattern:65x47@1000:RGBA_F16", "pattern:65x47@1000:XR24" };
	char error[256];
	struct told t;
	for (unsigned i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		CHECK_ROW(create(&t, specs[i], error) == 0, specs[i]);
		CHECK_EQ(t.formats, 0);
		t.stop_after = 5;
		CHECK_EQ(t.capture->ops->start(t.capture), 0);
		CHECK_EQ(loop_run(t.loop), 0);
		CHECK_ROW(t.formats == 1 && t.buffers == 5, specs[i]);
		destroy(&t);
	}
}

/* Every size from one pixel on, each in memory of exactly its size: AddressSanitizer looks. */
TEST(no_size_is_drawn_past_its_bytes)
{
	char spec[64], error[256];
	for (unsigned i = 0; format_info_at(i); i++)
		for (unsigned side = 1; side < 50; side += 3) {
			struct told t;
			snprintf(spec, sizeof(spec), "pattern:%ux%u@10000:%s", side, 51 - side,
				format_info_at(i)->name);
			CHECK_ROW(create(&t, spec, error) == 0, spec);
			t.stop_after = 1;
			CHECK_EQ(t.capture->ops->start(t.capture), 0);
			CHECK_EQ(loop_run(t.loop), 0);
			destroy(&t);
		}
}

TEST(frames_come_at_the_rate_that_was_asked_for)
{
	char error[256];
	struct told t;
	CHECK_EQ(create(&t, "pattern:64x64@100", error), 0);
	uint64_t before = clock_ns();
	CHECK_EQ(t.capture->ops->start(t.capture), 0);
	run_for_ms(t.loop, 205);
	uint64_t periods = (clock_ns() - before) / (10 * NS_PER_MS);
	CHECK(t.buffers + t.superseded >= 19 && t.buffers + t.superseded <= periods);
	destroy(&t);
}

TEST(a_frame_that_nobody_can_take_is_superseded_and_revoked_at_the_end)
{
	char error[256];
	struct told t;
	CHECK_EQ(create(&t, "pattern:64x64@1000", error), 0);
	t.keep = true;
	CHECK_EQ(t.capture->ops->start(t.capture), 0);
	run_for_ms(t.loop, 50);
	CHECK_EQ(t.buffers, 1);
	CHECK(t.superseded >= 40);
	destroy(&t);
	CHECK_EQ(t.revoked, 1);
}

TEST(a_pattern_that_was_never_started_is_destroyed)
{
	char error[256];
	struct told t;
	CHECK_EQ(create(&t, "pattern:64x64@30", error), 0);
	destroy(&t);
	CHECK(t.formats == 0 && t.revoked == 0);
}

TEST(what_is_no_source_is_explained)
{
	static const struct {
		const char *spec;
		const char *says;
	} rows[] = {
		{ "", "is no source; write pattern:WIDTHxHEIGHT@FPS[:FORMAT]" },
		{ "picture:640x480@30", "is no source" },
		{ "patter", "is no source" },
		{ "patterns:640x480@30", "is no source" },
		{ "pattern", "is no pattern; write WIDTHxHEIGHT@FPS[:FORMAT]" },
		{ "pattern:", "is no pattern" },
		{ "pattern:640x480", "is no pattern" },
		{ "pattern:640x480@", "is no pattern" },
		{ "pattern:640x480@30x", "is no pattern" },
		{ "pattern:640,480@30", "is no pattern" },
		{ "pattern:100000x480@30", "is no pattern" },
		{ "pattern:640x480@30:", "is no format of a pattern" },
		{ "pattern:640x480@30:P016", "\"P016\" is no format of a pattern" },
		{ "pattern:640x480@30:x", "NV12, I420, P010, xRGB_210LE, ARGB_210LE" },
		{ "pattern:640x480@30:x", " or RGBA_F16, and :gpu" },
		{ "pattern:640x480@30:NV12:x", "is no format of a pattern" },
		{ "pattern:0x480@30", "width and height go from 1 to 16384" },
		{ "pattern:640x0@30", "width and height go from 1 to 16384" },
		{ "pattern:16385x480@30", "width and height go from 1 to 16384" },
		{ "pattern:640x16385@30", "width and height go from 1 to 16384" },
		{ "pattern:-640x480@30", "width and height go from 1 to 16384" },
		{ "pattern:640x480@0", "frames per second from 1 to 10000" },
		{ "pattern:640x480@10001", "frames per second from 1 to 10000" },
		{ "pattern:640x480@30:NV1200000000000000000000000000000000000000000000000000000",
			"is no pattern" },
	};
	char error[256];
	struct told t;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_ROW(create(&t, rows[i].spec, error) == -EINVAL, rows[i].spec);
		CHECK_ROW(strstr(error, rows[i].says), error);
	}
	CHECK_EQ(create(&t, "pattern:16384x16384@10000", error), 0);
	destroy(&t);
}
