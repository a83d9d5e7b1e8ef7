/*
 * The synthetic source: a moving picture with the frame number stamped into the pixels, for tests,
 * benchmarks and machines without a desktop.
 */
#include "broker/capture/capture.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/pixel.h"
#include "common/stamp.h"

enum { FPS_MAX = 10000, BAR_STEP = 4 /* pixels that the bar moves in a frame */ };

struct pattern {
	struct capture base;
	struct loop *loop;
	struct video_format format;
	unsigned fps;
	int timer_fd;
	struct watch *watch;
	bool busy; /* the bridge has the buffer */
	struct capture_buffer buffer;
};

/* What the user wrote. */
struct wanted {
	struct video_format format;
	const struct format_info *info;
	unsigned fps;
	bool on_gpu;
};

static void put_p010(uint8_t *px, uint8_t value)
{
	px[0] = 0;
	px[1] = value;
}

/* Eight slanted colour stripes that wander to the left. */
static void draw_row(uint8_t *row, const struct video_format *f, unsigned plane, uint32_t shift)
{
	static const uint8_t luma[8] = { 180, 162, 131, 112, 84, 65, 35, 16 };
	static const uint8_t cb[8] = { 128, 44, 156, 72, 184, 100, 212, 128 };
	static const uint8_t cr[8] = { 128, 142, 44, 58, 198, 212, 114, 128 };
	uint32_t stripe = f->width / 8 ? f->width / 8 : 1;
	/* the last pair of chroma samples is whole even where the width is odd */
	bool pairs = f->fourcc == DRM_FORMAT_YUYV || (f->n_planes == 2 && plane == 1);
	unsigned step = stamp_step(f->fourcc);
	uint32_t end = pairs ? (f->width + 1) & ~1u : f->width;
	for (uint32_t x = 0; x < end; x++) {
		unsigned c = (x + shift) / stripe % 8;
		if (f->fourcc == DRM_FORMAT_P010)
			put_p010(row + (size_t)2 * x, plane == 0 ? luma[c] : x & 1 ? cr[c] : cb[c]);
		else if (f->fourcc == DRM_FORMAT_NV12 && plane == 1)
			row[x] = x & 1 ? cr[c] : cb[c];
		else if (f->fourcc == DRM_FORMAT_YUV420 && plane > 0 && !(x & 1))
			row[x / 2] = plane == 1 ? cb[c] : cr[c];
		else if (f->fourcc == DRM_FORMAT_YUYV) {
			row[(size_t)2 * x] = luma[c];
			row[(size_t)2 * x + 1] = x & 1 ? cr[c] : cb[c];
		} else if (f->n_planes > 1 && plane == 0)
			row[x] = luma[c];
		else if (f->n_planes == 1)
			pixel_put_rgb(row + (size_t)step * x, f->fourcc, c & 1 ? 40 : 200,
				c & 2 ? 60 : 180, c & 4 ? 80 : 220);
	}
}

/* One row is drawn, the others are copied from it: as fast as a copy. */
static int pattern_read(struct capture_buffer *buffer, uint8_t *pixels,
	const struct video_format *format, uint64_t seq)
{
	(void)buffer;
	for (unsigned p = 0; p < format->n_planes; p++) {
		uint8_t *first = pixels + format->offset[p];
		draw_row(first, format, p, (uint32_t)seq * BAR_STEP);
		for (uint32_t y = 1; y < format_rows(format, p); y++)
			memcpy(first + (size_t)y * format->stride[p], first,
				format_row_bytes(format, p));
	}
	if (stamp_fits(format))
		stamp_draw(pixels, format, (uint32_t)seq);
	return 0;
}

static void on_timer(void *data)
{
	struct pattern *p = data;
	uint64_t ticks;
	if (read(p->timer_fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	if (ticks > 1)
		p->base.listener->superseded(p->base.listener_data, (unsigned)(ticks - 1));
	if (p->busy) {
		p->base.listener->superseded(p->base.listener_data, 1);
		return;
	}
	uint64_t now = clock_ns();
	p->buffer.info = (struct frame_info){ .pts_ns = now, .captured_ns = now };
	p->busy = true;
	p->base.listener->buffer(p->base.listener_data, &p->buffer);
}

static int pattern_start(struct capture *capture)
{
	struct pattern *p = container_of(capture, struct pattern, base);
	p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (p->timer_fd < 0)
		return -errno;
	int r = loop_watch(p->loop, &p->watch, p->timer_fd, LOOP_READ, on_timer, p);
	if (r < 0)
		return r;
	struct timespec period = clock_timespec(NS_PER_S / p->fps);
	struct itimerspec spec = { .it_interval = period, .it_value = period };
	if (timerfd_settime(p->timer_fd, 0, &spec, NULL) < 0)
		return -errno;
	p->base.listener->format(p->base.listener_data, &p->format);
	return 0;
}

static void pattern_give_back(struct capture *capture, struct capture_buffer *buffer)
{
	(void)buffer;
	container_of(capture, struct pattern, base)->busy = false;
}

static struct capture *pattern_destroy(struct capture *capture)
{
	struct pattern *p = container_of(capture, struct pattern, base);
	if (p->busy)
		p->base.listener->revoke(p->base.listener_data, &p->buffer);
	p->watch = watch_destroy(p->watch);
	fd_closep(&p->timer_fd);
	free(p);
	return NULL;
}

static const struct capture_ops pattern_ops = {
	.start = pattern_start,
	.give_back = pattern_give_back,
	.destroy = pattern_destroy,
};

/* "BGRx", "BGRx:gpu", "gpu" or "": what comes after the rate. False: something else. */
static bool parse_form(const char *form, struct wanted *wanted_out)
{
	char text[64], *rest = text;
	snprintf(text, sizeof(text), "%s", form);
	const char *first = strsep(&rest, ":");
	bool is_gpu_alone = !rest && strcmp(first, "gpu") == 0;
	if (rest && strcmp(rest, "gpu") != 0)
		return false;
	wanted_out->on_gpu = rest || is_gpu_alone;
	wanted_out->info = format_info_by_name(is_gpu_alone ? "BGRx" : first);
	return wanted_out->info;
}

static int parse(struct wanted *p, const char *rest, char *error, size_t error_size)
{
	unsigned width = 0, height = 0, fps = 0;
	int end = 0;
	if (strlen(rest) > 64 || sscanf(rest, "%5ux%5u@%5u%n", &width, &height, &fps, &end) != 3 ||
		(rest[end] != 0 && rest[end] != ':')) {
		snprintf(error, error_size,
			"\"%.64s\" is no pattern; write WIDTHxHEIGHT@FPS[:FORMAT][:gpu], as in "
			"1280x720@60:NV12",
			rest);
		return -EINVAL;
	}
	const char *form = rest[end] == ':' ? rest + end + 1 : "BGRx";
	if (!parse_form(form, p)) {
		char names[FORMAT_NAMES_MAX];
		snprintf(error, error_size,
			"\"%.32s\" is no format of a pattern; take %s, and :gpu for one in GPU memory",
			form, format_names(names, sizeof(names)));
		return -EINVAL;
	}
	if (format_layout(p->info->fourcc, width, height, &p->format) < 0 || fps > FPS_MAX ||
		(fps == 0 && !p->on_gpu)) {
		snprintf(error, error_size,
			"pattern %.64s: width and height go from 1 to %d, frames per second from 1 "
			"to %d (on a GPU also 0: the next when every reader has given the last back)",
			rest, FORMAT_SIDE_MAX, FPS_MAX);
		return -EINVAL;
	}
	p->fps = fps;
	return 0;
}

int capture_pattern_create(struct capture **capture_out, const struct capture_place *place,
	const char *rest, char *error, size_t error_size)
{
	struct wanted wanted;
	int r = parse(&wanted, rest, error, error_size);
	if (r < 0)
		return r;
	if (wanted.on_gpu)
		return capture_gpu_pattern_create(capture_out, place, &wanted.format, wanted.fps);
	_cleanup_free_ struct pattern *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct pattern){
		.base.ops = &pattern_ops,
		.loop = place->loop,
		.format = wanted.format,
		.fps = wanted.fps,
		.timer_fd = -EBADF,
	};
	p->buffer.read = pattern_read;
	*capture_out = &p->base;
	(void)TAKE_PTR(p);
	return 0;
}
