/* The whole broker: clients that want other formats and sizes of one stream, and lower frame rates. */
#include <drm_fourcc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/stamp.h"
#include "tests/e2e.h"
#include "tests/test.h"
#ifdef HAVE_REFERENCE
#include "tests/convert_reference.h"
#endif

enum { FRAMES = 12, WAIT_MS = 10000 };

static const char *const options[] = { "--source", "test=pattern:640x360@30", "--slots", "12",
	NULL };

static struct broker_process broker;

struct viewer {
	struct sluice *conn;
	struct sluice_view *view;
};

static void open_viewer(struct viewer *v, uint32_t fourcc, uint32_t width, uint64_t interval_ns)
{
	struct sluice_options how = { .socket = broker.socket, .name = "viewer" };
	struct sluice_view_request request = {
		.delivery = SLUICE_FIFO,
		.fifo_depth = 4,
		.fourcc = fourcc,
		.width = width,
		.min_interval_ns = interval_ns,
	};
	CHECK_EQ(sluice_connect(&v->conn, &how), 0);
	if (sluice_subscribe(v->conn, "test", &request, &v->view) < 0)
		test_fail(__FILE__, __LINE__, "%s", sluice_error(v->conn));
}

static void close_viewer(struct viewer *v)
{
	sluice_close(v->conn);
}

static struct sluice_frame *next_frame(struct viewer *v)
{
	struct sluice_frame *frame;
	uint64_t limit = clock_ns() + WAIT_MS * NS_PER_MS;
	while (sluice_view_next(v->view, &frame) == 0) {
		CHECK(clock_ns() < limit);
		CHECK(sluice_wait(v->conn, WAIT_MS) >= 0);
	}
	return frame;
}

static struct video_format format_of(const struct sluice_frame *frame)
{
	struct video_format format;
	CHECK_EQ(format_layout(frame->fourcc, frame->width, frame->height, &format), 0);
	for (unsigned p = 0; p < format.n_planes; p++)
		CHECK(format.stride[p] == frame->stride[p] && format.offset[p] == frame->offset[p]);
	format.colour.matrix = frame->matrix;
	format.colour.full_range = frame->full_range;
	return format;
}

/* False: it was taken back meanwhile. */
static bool check_stamp(const struct sluice_frame *frame)
{
	struct video_format format = format_of(frame);
	uint32_t number = 0;
	enum stamp_result r = stamp_read(frame->data[0], &format, &number);
	if (!sluice_frame_valid(frame))
		return false;
	CHECK_EQ(r, STAMP_OK);
	CHECK_EQ(number, (uint32_t)frame->seq);
	return true;
}

static void view_frames(struct viewer *v, uint32_t width, uint32_t height)
{
	for (unsigned good = 0; good < FRAMES;) {
		struct sluice_frame *frame = next_frame(v);
		CHECK(frame->fourcc == DRM_FORMAT_NV12 && frame->width == width);
		CHECK(frame->height == height && frame->matrix == 1 && !frame->full_range);
		good += check_stamp(frame);
		sluice_frame_release(frame);
	}
}

/* The number behind this key of the n-th converted view in the status, from 1. */
static uint64_t status_of_view(const char *json, unsigned nth, const char *key)
{
	char quoted[64];
	const char *at = strstr(json, "\"views\":");
	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	while (at && nth-- > 0)
		at = strstr(at + 1, "\"format\":\"NV12\"");
	at = at ? strstr(at, quoted) : NULL;
	return at ? strtoull(at + strlen(quoted), NULL, 10) : UINT64_MAX;
}

static char *status(struct viewer *v)
{
	char *json;
	CHECK_EQ(sluice_status_json(v->conn, &json), 0);
	return json;
}

TEST(clients_of_one_form_share_its_frames_and_a_killed_one_takes_nothing_with_it)
{
	struct viewer a, b, small;
	broker_start(&broker, options);
	open_viewer(&a, DRM_FORMAT_NV12, 0, 0);
	open_viewer(&b, DRM_FORMAT_NV12, 0, 0);
	open_viewer(&small, DRM_FORMAT_NV12, 320, 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		struct viewer victim;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		open_viewer(&victim, DRM_FORMAT_NV12, 0, 0);
		for (;;)
			(void)next_frame(&victim); /* and keeps them */
	}
	view_frames(&a, 640, 360);
	view_frames(&b, 640, 360);
	view_frames(&small, 320, 180);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	view_frames(&a, 640, 360);
	view_frames(&small, 320, 180);
	char *json = status(&a);
	/* each frame was converted once, whoever got it */
	uint64_t captured = strtoull(strstr(json, "\"published\":") + 12, NULL, 10);
	CHECK(status_of_view(json, 1, "published") <= captured);
	CHECK_EQ(status_of_view(json, 1, "subscribers"), 2);
	CHECK_EQ(status_of_view(json, 2, "subscribers"), 1);
	CHECK_EQ(status_of_view(json, 2, "width"), 320);
	CHECK(strstr(json, "\"reason\":\"converted by the CPU (libswscale)\""));
	CHECK_EQ(strstr(json, "\"clients\":") > json, 1);
	free(json);
	close_viewer(&a);
	close_viewer(&b);
	close_viewer(&small);
	CHECK_EQ(broker_stop(&broker), 0);
}

#ifdef HAVE_REFERENCE
/* The same frame in both forms. */
static void take_pair(struct viewer *own, struct viewer *made, struct sluice_frame **own_out,
	struct sluice_frame **made_out)
{
	struct sluice_frame *a = next_frame(own), *b = next_frame(made);
	while (a->seq != b->seq) {
		bool is_behind = a->seq < b->seq;
		sluice_frame_release(is_behind ? a : b);
		if (is_behind)
			a = next_frame(own);
		else
			b = next_frame(made);
	}
	*own_out = a;
	*made_out = b;
}

TEST(a_converted_picture_is_that_of_the_stream)
{
	static const char *const hd[] = { "--source", "test=pattern:1280x720@10", NULL };
	struct viewer own, made;
	struct sluice_frame *a, *b;
	broker_start(&broker, hd);
	open_viewer(&own, 0, 0, 0);
	open_viewer(&made, DRM_FORMAT_NV12, 0, 0);
	take_pair(&own, &made, &a, &b);
	struct video_format from = format_of(a), to = format_of(b);
	struct planes picture = planes_of(&from, a->data[0]);
	struct planes expected = reference_convert(&picture, &to);
	struct score score = reference_score(&expected, &to, b->data[0]);
	CHECK(sluice_frame_valid(a) && sluice_frame_valid(b));
	CHECK(a->pts_ns == b->pts_ns && a->captured_ns == b->captured_ns);
	if (score.psnr < 50)
		test_fail(__FILE__, __LINE__, "%.1f dB", score.psnr);
	planes_finish(&picture);
	planes_finish(&expected);
	close_viewer(&own);
	close_viewer(&made);
	CHECK_EQ(broker_stop(&broker), 0);
}
#endif

TEST(a_client_that_wants_a_third_of_the_frames_gets_that_and_misses_none)
{
	struct viewer v;
	struct sluice_view_stats stats;
	uint64_t first = 0, last = 0;
	broker_start(&broker, options);
	open_viewer(&v, DRM_FORMAT_NV12, 320, NS_PER_S / 10);
	for (unsigned i = 0; i < FRAMES; i++) {
		struct sluice_frame *frame = next_frame(&v);
		first = first ? first : frame->pts_ns;
		last = frame->pts_ns;
		sluice_frame_release(frame);
	}
	/* by the pictures' own times, so a busy machine changes nothing of it */
	CHECK(last - first >= (FRAMES - 1) * NS_PER_S / 10 - NS_PER_S / 20);
	sluice_view_get_stats(v.view, &stats);
	CHECK(stats.paced >= FRAMES);
	char *json = status(&v);
	CHECK(strstr(json, "\"min_interval_ns\":100000000"));
	CHECK(strtoull(strstr(json, "\"paced\":") + 8, NULL, 10) >= FRAMES);
	free(json);
	close_viewer(&v);
	CHECK_EQ(broker_stop(&broker), 0);
}
