/*
 * The ways into the views of a stream: which are wanted, what each is made from, and its memory. For
 * bridge.c, which brings pictures along them.
 *
 * A converted view in GPU memory is made from the stream's GPU view. One in host memory is read back
 * from the converted GPU view of the same form if the stream's pictures are on a GPU: then only what
 * was made crosses the bus. Else, and where the GPU cannot make it, the CPU makes it from the
 * stream's host view.
 */
#pragma once

#include "broker/capture/capture.h"
#include "broker/lane.h"
#include "broker/stream.h"
#include "common/backoff.h"
#include "common/log.h"

struct way {
	struct bridge *bridge;
	struct view *view;      /* NULL: this one is not used */
	struct lane *lane;      /* into the view; NULL: the stream has no mirror */
	struct watch *linger;   /* NULL: the native view, which keeps its memory */
	struct backoff backoff; /* its memory, and what brings frames there */
	uint64_t turn;          /* bridge::turns when its lane began last */
};

enum { WAY_NATIVE, WAY_MIRROR, WAY_CONVERTED, WAYS_MAX = WAY_CONVERTED + STREAM_CONVERTED_MAX };

struct bridge {
	struct loop *loop;
	struct capture *capture;
	struct stream *stream;
	struct gpu *gpu; /* NULL: none, or lost */
	struct way way[WAYS_MAX];
	uint64_t turns;
	struct watch *retry;
	uint64_t
		again_ns; /* what found no slot, or a GPU with too much to do, is due again; 0: nothing is */
	struct video_format format;     /* of the pictures; fourcc 0: not known yet */
	struct capture_buffer *waiting; /* came while its lane was busy: the newest one */
	bool is_stopping;
	char last_refusal[STREAM_TEXT_MAX]; /* empty after a good frame; each is logged once */
	struct log_limit log;
	const struct lane_listener *lane_listener;
};

/* NULL: there is none. */
struct way *way_of(struct bridge *b, const struct view *view);
struct way *way_of_lane(struct bridge *b, const struct lane *lane);

/* Make one for a converted view. way_out [lend] until way_close(). 0 or negative errno. */
int way_open(struct bridge *b, struct view *view, struct way **way_out);

/* What was under way is lost. */
void way_close(struct way *way);

/* Every way that is in use, with its lane. */
struct way *way_first(struct bridge *b);
struct way *way_next(struct way *way);

#define ways_for_each(w, b) for ((w) = way_first(b); (w); (w) = way_next(w))

/* For `sluice ls`; a change is logged. */
void way_set_reason(struct bridge *b, struct view *view, const char *reason);

/* May it read this slot of that view now? The view's slots are for its writer and its readers too. */
bool way_may_read(struct way *way, const struct view *from, const struct slot *next);

/* Nobody can have the view any more; what was made from it is made from something else, or ends too. */
void way_end(struct bridge *b, struct view *view, const char *reason);

/* Give the view memory of this format; logged. What view_configure() returns. */
int way_configure(struct bridge *b, struct view *view, const struct video_format *format);

/* The native view has another format or none: all others get memory that is right for it, those that
 * nobody wants none. No lane is busy. */
void ways_renew(struct bridge *b);

/* The views in GPU memory of a host stream end. */
void ways_end_gpu(struct bridge *b, const char *reason);

/* What is under way into a view is lost; the lane of the native view may go on. */
void ways_cancel_all_but_native(struct bridge *b);

/* As struct stream_supply says. */
int way_on_wanted(void *data, struct view *view);
void way_on_unwanted(void *data, struct view *view);
void way_on_forget(void *data, struct view *view);
bool way_on_is_busy(void *data, const struct view *view);

/* What loop_timer() takes; data is a struct way. */
void way_on_linger(void *data);
