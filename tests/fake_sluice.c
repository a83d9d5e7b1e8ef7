#include "tests/fake_sluice.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/format.h"
#include "common/stamp.h"
#include "consumer/sluice_consumer.h"
#include "tests/test.h"

enum { PAST_S = 1000, TRAVEL_NS = 2000000 };

static struct sluice {
	const struct fake_step *steps;
	unsigned n_steps, step, done; /* done: of the step */
	struct video_format format;
	uint64_t generation, seq, pts_ns, still_until_ns, late_ns;
	struct sluice_frame frame;
	uint8_t *pixels;
	unsigned held;
	bool is_open, is_whole, was_told;
	int end; /* what sluice_view_next() says from now on */
	sluice_stream_fn watch;
	void *watch_data;
	struct sluice_view_stats stats;
} fake;

void fake_play(const struct fake_step *steps, unsigned n_steps)
{
	fake.steps = steps;
	fake.n_steps = n_steps;
	fake.step = fake.done = 0;
	fake.generation = 1;
	fake.pts_ns = clock_ns() - PAST_S * NS_PER_S;
	CHECK(format_layout(DRM_FORMAT_XRGB8888, 320, 240, &fake.format) == 0);
}

unsigned fake_held(void)
{
	return fake.held;
}

int sluice_connect(struct sluice **conn_out, const struct sluice_options *options)
{
	if (!fake.steps)
		return -ENOENT;
	fake.is_open = true;
	*conn_out = &fake;
	return 0;
}

struct sluice *sluice_close(struct sluice *conn)
{
	if (!conn)
		return NULL;
	CHECK(conn->held == 0);
	free(conn->pixels);
	conn->pixels = NULL;
	conn->is_open = false;
	conn->end = 0;
	return NULL;
}

const char *sluice_error(const struct sluice *conn)
{
	return conn ? "the fake broker is gone" : "no fake broker listens";
}

static void tell(struct sluice *conn, enum sluice_stream_state state, const char *text)
{
	struct sluice_stream_info info = { .name = "fake", .state = state };
	snprintf(info.text, sizeof(info.text), "%s", text);
	if (conn->watch)
		conn->watch(conn->watch_data, &info);
}

int sluice_watch(struct sluice *conn, sluice_stream_fn fn, void *data)
{
	conn->watch = fn;
	conn->watch_data = data;
	return 0;
}

int sluice_streams(struct sluice *conn, struct sluice_stream_info **infos_out)
{
	*infos_out = calloc(1, sizeof(**infos_out));
	CHECK(*infos_out);
	snprintf((*infos_out)->name, sizeof((*infos_out)->name), "fake");
	return 1;
}

enum sluice_memory sluice_view_memory(const struct sluice_view *view)
{
	return SLUICE_MEMORY_HOST;
}

const char *sluice_view_note(const struct sluice_view *view)
{
	return "";
}

int sluice_subscribe(struct sluice *conn, const char *stream,
	const struct sluice_view_request *request, struct sluice_view **view_out)
{
	if (strcmp(stream, "fake") != 0)
		return -ENOENT;
	conn->end = 0;
	*view_out = (struct sluice_view *)conn;
	return 0;
}

struct sluice_view *sluice_unsubscribe(struct sluice_view *view)
{
	return NULL;
}

static void draw(struct sluice *c)
{
	free(c->pixels);
	c->pixels = malloc(c->format.size_bytes);
	CHECK(c->pixels);
	memset(c->pixels, 100, c->format.size_bytes);
	stamp_draw(c->pixels, &c->format, (uint32_t)c->seq);
}

static void fill_frame(struct sluice *c)
{
	struct sluice_frame *f = &c->frame;
	*f = (struct sluice_frame){
		.n_planes = c->format.n_planes,
		.fourcc = c->format.fourcc,
		.width = c->format.width,
		.height = c->format.height,
		.size_bytes = c->format.size_bytes,
		.seq = c->seq,
		.generation = c->generation,
		.pts_ns = c->pts_ns,
		.captured_ns = c->pts_ns,
		.copied_ns = c->pts_ns,
		.published_ns = c->pts_ns,
		.received_ns = c->pts_ns + TRAVEL_NS + c->late_ns,
		.primaries = c->format.colour.primaries,
		.transfer = c->format.colour.transfer,
		.matrix = c->format.colour.matrix,
		.full_range = c->format.colour.full_range,
	};
	for (unsigned i = 0; i < f->n_planes; i++) {
		f->data[i] = c->pixels + c->format.offset[i];
		f->stride[i] = c->format.stride[i];
	}
}

static int give_frame(struct sluice *c, bool is_whole, struct sluice_frame **frame_out)
{
	CHECK(c->held == 0); /* one is released before the next is asked for */
	c->seq++;
	c->pts_ns += FAKE_FRAME_NS;
	draw(c);
	fill_frame(c);
	c->pts_ns += c->late_ns;
	c->late_ns = 0;
	c->is_whole = is_whole;
	c->held++;
	c->done++;
	*frame_out = &c->frame;
	return 1;
}

/* A step that gives no frame. 1: it is done. */
static int play(struct sluice *c, const struct fake_step *s)
{
	switch (s->kind) {
	case FAKE_FORMAT:
		CHECK(format_layout(s->fourcc, s->width, s->height, &c->format) == 0);
		c->generation++;
		break;
	case FAKE_SKIP:
		c->seq += s->n;
		c->stats.missed += s->n;
		break;
	case FAKE_PACED:
		c->seq += s->n;
		c->stats.paced += s->n;
		break;
	case FAKE_BACK:
		c->pts_ns -= FAKE_FRAME_NS + s->n * NS_PER_MS;
		break;
	case FAKE_LEAP:
		c->pts_ns += s->n * NS_PER_MS;
		break;
	case FAKE_OLD:
		c->late_ns = s->n * NS_PER_MS;
		break;
	case FAKE_AGAIN:
		c->seq--;
		c->pts_ns -= FAKE_FRAME_NS;
		break;
	case FAKE_STILL:
		if (c->still_until_ns == 0)
			c->still_until_ns = clock_ns() + s->n * NS_PER_MS;
		if (clock_ns() < c->still_until_ns)
			return 0;
		c->pts_ns += s->n * NS_PER_MS;
		c->still_until_ns = 0;
		break;
	case FAKE_WAITING:
		tell(c, SLUICE_STREAM_WAITING, "the window was closed");
		break;
	case FAKE_LIVE:
		tell(c, SLUICE_STREAM_LIVE, "");
		break;
	case FAKE_REMOVED:
		tell(c, SLUICE_STREAM_REMOVED, "");
		c->end = -ENODEV;
		break;
	case FAKE_GONE:
		c->end = -ECONNRESET;
		break;
	default:
		for (unsigned i = 0; i <= s->n; i++)
			raise(SIGINT);
	}
	return 1;
}

int sluice_view_next(struct sluice_view *view, struct sluice_frame **frame_out)
{
	struct sluice *c = (struct sluice *)view;
	if (c->end || c->step >= c->n_steps)
		return c->end;
	const struct fake_step *s = &c->steps[c->step];
	bool gives_frames =
		s->kind == FAKE_FRAMES || s->kind == FAKE_LIVE_FRAMES || s->kind == FAKE_TORN;
	if (gives_frames && c->done < s->n) {
		if (s->kind == FAKE_LIVE_FRAMES)
			usleep(FAKE_FRAME_NS / 1000);
		return give_frame(c, s->kind != FAKE_TORN, frame_out);
	}
	return 0;
}

/* The script goes on here, so that a view that has ended does not stop it. */
int sluice_wait(struct sluice *conn, int timeout_ms)
{
	if (conn->step >= conn->n_steps) {
		usleep((useconds_t)timeout_ms * 1000);
		return conn->end == -ECONNRESET ? conn->end : 0;
	}
	const struct fake_step *s = &conn->steps[conn->step];
	bool gives_frames =
		s->kind == FAKE_FRAMES || s->kind == FAKE_LIVE_FRAMES || s->kind == FAKE_TORN;
	if (gives_frames ? conn->done >= s->n : play(conn, s)) {
		conn->step++;
		conn->done = 0;
	} else if (s->kind == FAKE_STILL) {
		usleep(10000);
	}
	return conn->end == -ECONNRESET ? conn->end : 0;
}

bool sluice_frame_valid(const struct sluice_frame *frame)
{
	return fake.is_whole;
}

void sluice_frame_release(struct sluice_frame *frame)
{
	CHECK(frame == &fake.frame && fake.held == 1);
	fake.held--;
	/* whoever reads it now reads rubbish */
	memset(fake.pixels, 0x55, fake.format.size_bytes);
}

void sluice_view_get_stats(const struct sluice_view *view, struct sluice_view_stats *stats_out)
{
	*stats_out = ((const struct sluice *)view)->stats;
}

char *sluice_fourcc_name(uint32_t fourcc, char buf[8])
{
	memcpy(buf, &fourcc, 4);
	buf[4] = 0;
	return buf;
}
