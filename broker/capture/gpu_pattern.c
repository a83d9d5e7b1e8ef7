/*
 * The synthetic source in GPU memory. The next picture is drawn as soon as the last one was copied, as
 * a renderer would, so that a frame costs one copy when its time has come. The queue keeps the order:
 * the drawing is submitted right behind the copy, while that runs.
 *
 * Without a rate the stripes stand still, and only the number is drawn anew: it is there to measure what a
 * frame costs Sluice, beside which a GPU that draws 33 MB would be heard.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "broker/capture/capture.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/list.h"

enum { BAR_STEP = 4 /* pixels that the bar moves in a frame: as pattern.c */ };

/* A reader that keeps its frames must not stop a source that goes by them. */
static const uint64_t unpaced_limit_ns = NS_PER_S;

struct gpu_pattern {
	struct capture base;
	struct loop *loop;
	struct gpu *gpu;
	struct video_format format;
	unsigned fps; /* 0: when everybody has given back */
	int timer_fd;
	struct watch *watch;
	struct gpu_buffer *picture;
	uint64_t drawn; /* number of the frame that is in the picture; 0: none */
	uint64_t taken; /* number of the last frame whose copy was recorded */
	bool has_stripes;
	bool busy; /* the bridge has the buffer */
	struct gpu_draw draw;
	struct gpu_copy copy;
	struct capture_buffer buffer;
};

static void set_draw(struct gpu_pattern *p, uint64_t seq)
{
	p->draw = (struct gpu_draw){
		.to = gpu_picture_of(p->picture, &p->format),
		.number = (uint32_t)seq,
		.shift = p->fps > 0 ? (uint32_t)seq * BAR_STEP : 0,
		.only_number = p->fps == 0 && p->has_stripes,
	};
	p->drawn = seq;
}

/* The next picture, if the one that is there was taken. */
static void draw_ahead(struct gpu_pattern *p)
{
	if (p->drawn != p->taken)
		return;
	set_draw(p, p->drawn + 1);
	struct gpu_work work = { .format = &p->format, .draw = &p->draw };
	p->has_stripes = gpu_submit(p->gpu, &work, NULL, NULL) == 0;
	if (!p->has_stripes)
		p->drawn = 0;
}

/* One copy, and before it the picture if another frame was expected. */
static void record(struct capture_buffer *buffer, const struct gpu_picture *to, uint64_t seq,
	struct gpu_work *work)
{
	struct gpu_pattern *p = container_of(buffer, struct gpu_pattern, buffer);
	if (p->drawn != seq) {
		set_draw(p, seq);
		work->draw = &p->draw;
	}
	p->taken = seq;
	p->copy = (struct gpu_copy){
		.from = gpu_picture_of(p->picture, &p->format),
		.to = *to,
	};
	work->copy = &p->copy;
}

static void offer(struct gpu_pattern *p)
{
	uint64_t now = clock_ns();
	p->buffer.info = (struct frame_info){ .pts_ns = now, .captured_ns = now };
	p->busy = true;
	p->base.listener->buffer(p->base.listener_data, &p->buffer);
	draw_ahead(p);
}

static void arm(struct gpu_pattern *p)
{
	struct timespec period = clock_timespec(p->fps ? NS_PER_S / p->fps : unpaced_limit_ns);
	struct timespec soon = clock_timespec(NS_PER_MS);
	struct itimerspec spec = { .it_interval = period, .it_value = p->fps ? period : soon };
	timerfd_settime(p->timer_fd, 0, &spec, NULL);
}

static void on_timer(void *data)
{
	struct gpu_pattern *p = data;
	uint64_t ticks;
	if (read(p->timer_fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	unsigned missed = (unsigned)(ticks - 1) + p->busy;
	if (missed > 0 && p->fps > 0)
		p->base.listener->superseded(p->base.listener_data, missed);
	if (!p->busy)
		offer(p);
}

static void gpu_pattern_next(struct capture *capture)
{
	struct gpu_pattern *p = container_of(capture, struct gpu_pattern, base);
	if (p->fps == 0 && !p->busy)
		offer(p);
}

static int gpu_pattern_start(struct capture *capture)
{
	struct gpu_pattern *p = container_of(capture, struct gpu_pattern, base);
	int r = gpu_buffer_create(p->gpu, GPU_PRIVATE, p->format.size_bytes, &p->picture);
	if (r < 0)
		return r;
	p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (p->timer_fd < 0)
		return -errno;
	r = loop_watch(p->loop, &p->watch, p->timer_fd, LOOP_READ, on_timer, p);
	if (r < 0)
		return r;
	draw_ahead(p);
	arm(p);
	p->base.listener->format(p->base.listener_data, &p->format);
	return 0;
}

static void gpu_pattern_give_back(struct capture *capture, struct capture_buffer *buffer)
{
	(void)buffer;
	struct gpu_pattern *p = container_of(capture, struct gpu_pattern, base);
	p->busy = false;
	draw_ahead(p);
}

static struct capture *gpu_pattern_destroy(struct capture *capture)
{
	struct gpu_pattern *p = container_of(capture, struct gpu_pattern, base);
	if (p->busy)
		p->base.listener->revoke(p->base.listener_data, &p->buffer);
	p->watch = watch_destroy(p->watch);
	fd_closep(&p->timer_fd);
	p->picture = gpu_buffer_destroy(p->picture);
	free(p);
	return NULL;
}

static const struct capture_ops gpu_pattern_ops = {
	.start = gpu_pattern_start,
	.give_back = gpu_pattern_give_back,
	.next = gpu_pattern_next,
	.destroy = gpu_pattern_destroy,
};

int capture_gpu_pattern_create(struct capture **capture_out, const struct capture_place *place,
	const struct video_format *format, unsigned fps)
{
	struct gpu_pattern *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct gpu_pattern){
		.base.ops = &gpu_pattern_ops,
		.loop = place->loop,
		.gpu = place->gpu,
		.format = *format,
		.fps = fps,
		.timer_fd = -EBADF,
	};
	p->buffer.record = record;
	*capture_out = &p->base;
	return 0;
}
