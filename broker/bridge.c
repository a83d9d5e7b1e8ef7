#include "broker/bridge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/lane.h"
#include "common/backoff.h"
#include "common/clock.h"
#include "common/log.h"

/* A mirror that nobody wants any more keeps its memory for a while: a client that comes back, or a
 * restarted one, has its first frame at once. */
static const uint64_t mirror_linger_ns = 10 * NS_PER_S;

struct bridge {
	struct capture *capture;
	struct stream *stream;
	struct gpu *gpu;     /* NULL: none, or lost */
	struct lane *native; /* into each view */
	struct lane *mirror; /* NULL: the stream has no mirror */
	struct watch *linger;
	struct backoff backoff;         /* of the mirror's memory */
	struct capture_buffer *waiting; /* came while its lane was busy: the newest one */
	bool is_stopping;
	char last_refusal[STREAM_TEXT_MAX]; /* empty after a good frame; each is logged once */
	struct log_limit log;
	const struct bridge_listener *listener;
	void *listener_data;
};

static struct lane *lane_of(struct bridge *b, const struct view *view)
{
	return view == &b->stream->native ? b->native : b->mirror;
}

static struct view *view_of(struct bridge *b, const struct lane *lane)
{
	return lane == b->native ? &b->stream->native : &b->stream->mirror;
}

static void give_back(struct bridge *b, struct capture_buffer *buffer)
{
	if (buffer)
		b->capture->ops->give_back(b->capture, buffer);
}

/* --- Frames that were not fit ----------------------------------------------------------------- */

static void refuse(struct bridge *b, const char *reason)
{
	b->stream->native.counts.refused++;
	if (strcmp(b->last_refusal, reason) == 0)
		return;
	snprintf(b->last_refusal, sizeof(b->last_refusal), "%s", reason);
	log_limited(&b->log, LOG_LEVEL_WARNING, "stream=%s frames refused: %s", b->stream->name,
		reason);
	snprintf(b->stream->native.reason, sizeof(b->stream->native.reason), "frames refused: %s",
		reason);
}

/* A good one again. */
static void forgive(struct bridge *b)
{
	b->last_refusal[0] = 0;
	b->stream->native.reason[0] = 0;
}

/* --- The GPU is lost -------------------------------------------------------------------------- */

static void end_mirror(struct bridge *b, const char *reason)
{
	struct view *mirror = &b->stream->mirror;
	if (b->mirror)
		give_back(b, lane_cancel(b->mirror));
	b->mirror = lane_destroy(b->mirror);
	view_end(mirror, reason);
	mirror->source.ops = NULL;
}

void bridge_drop_gpu(struct bridge *b, const char *reason)
{
	if (!b->gpu)
		return;
	end_mirror(b, reason);
	b->gpu = NULL;
}

/* Whoever owns it sees to all streams that it has. */
static void lose_gpu(struct bridge *b)
{
	if (b->gpu && gpu_is_lost(b->gpu) && b->listener)
		b->listener->gpu_lost(b->listener_data, b->gpu);
}

/* --- Pictures into lanes ---------------------------------------------------------------------- */

static bool is_wanted(const struct view *view)
{
	return view->generation && view->n_subscribers > 0;
}

/* Which view is a captured picture for? */
static struct lane *lane_for_capture(struct bridge *b)
{
	const struct stream *stream = b->stream;
	bool is_host = stream->native.source.ops->kind == MEMORY_HOST;
	bool direct = is_host && b->mirror && stream->native.n_subscribers == 0 &&
		      is_wanted(&stream->mirror);
	return direct ? b->mirror : b->native;
}

static void begin(struct bridge *b, struct lane *lane, struct capture_buffer *buffer)
{
	int r = view_of(b, lane)->generation ? lane_take_buffer(lane, buffer) : POOL_FULL;
	if (r == 0)
		return;
	give_back(b, buffer);
	if (r < 0)
		refuse(b, b->gpu ? gpu_error(b->gpu) : strerror(-r));
	if (r == -ENODEV)
		lose_gpu(b);
}

/* Both have one source at a time: the newest picture, which waits until its lane is idle. */
static void begin_waiting(struct bridge *b)
{
	struct capture_buffer *next = b->waiting;
	struct lane *lane = lane_for_capture(b);
	if (!next || lane_is_busy(lane))
		return;
	b->waiting = NULL;
	begin(b, lane, next);
}

/* Bring a view that somebody wants up to date from the other one. */
static void refresh(struct bridge *b, struct view *view)
{
	struct lane *lane = lane_of(b, view);
	if (!lane || !b->gpu || !is_wanted(view) || lane_is_busy(lane))
		return;
	int r = lane_take_other(lane);
	if (r == -ENODEV)
		lose_gpu(b);
}

static void note_way(struct bridge *b, struct lane *lane)
{
	struct view *view = view_of(b, lane);
	const char *way = lane_way(lane);
	if (view != &b->stream->mirror || strcmp(view->reason, way) == 0)
		return;
	snprintf(view->reason, sizeof(view->reason), "%s", way);
	log_info("stream=%s view=%u %s", b->stream->name, view->id, way);
}

static void fail(struct bridge *b, int result)
{
	if (result == -ECANCELED)
		return;
	if (result == -ENODEV)
		lose_gpu(b);
	else
		refuse(b,
			result == -ESTALE ? "its memory is gone or too short" : strerror(-result));
}

static void on_done(void *data, struct lane *lane, struct capture_buffer *buffer, int result)
{
	struct bridge *b = data;
	if (b->is_stopping)
		return;
	give_back(b, buffer);
	if (result < 0) {
		fail(b, result);
	} else {
		if (b->stream->state != STREAM_LIVE)
			stream_set_state(b->stream, STREAM_LIVE, "");
		if (b->last_refusal[0] && buffer)
			forgive(b);
		note_way(b, lane);
	}
	refresh(b, &b->stream->mirror);
	refresh(b, &b->stream->native);
	begin_waiting(b);
}

static const struct lane_listener lane_listener = { .done = on_done };

/* --- Who wants what --------------------------------------------------------------------------- */

static void log_generation(struct bridge *b, const struct view *view)
{
	char what[64];
	const struct generation *g = view->generation;
	log_info("stream=%s view=%u generation=%u %s in %s memory, %u slots of %llu bytes",
		b->stream->name, view->id, g->id, format_describe(&g->format, what, sizeof(what)),
		view->source.ops->kind == MEMORY_HOST ? "host" : "GPU", view->n_slots,
		(unsigned long long)g->format.size_bytes);
}

static int configure(struct bridge *b, struct view *view, const struct video_format *format)
{
	int r = view_configure(view, format);
	if (r < 0)
		log_error("stream=%s view=%u %s", b->stream->name, view->id, view->reason);
	else
		log_generation(b, view);
	return r;
}

/* The mirror has the native view's format. */
static int configure_mirror(struct bridge *b)
{
	const struct generation *native = b->stream->native.generation;
	struct view *mirror = &b->stream->mirror;
	if (!native || mirror->generation)
		return 0;
	if (!backoff_allows(&b->backoff, clock_ns()))
		return -EAGAIN; /* the reason is still that of the last try */
	int r = configure(b, mirror, &native->format);
	if (r == 0)
		backoff_reset(&b->backoff);
	else if (r != -EDQUOT)
		backoff_fail(&b->backoff, clock_ns());
	return r;
}

static int on_wanted(void *data, struct view *view)
{
	struct bridge *b = data;
	if (view != &b->stream->mirror)
		return 0;
	watch_disarm(b->linger);
	return configure_mirror(b);
}

static void on_unwanted(void *data, struct view *view)
{
	struct bridge *b = data;
	if (view != &b->stream->mirror || !b->mirror)
		return;
	view->reason[0] = 0;
	watch_arm(b->linger, mirror_linger_ns);
}

static void on_attached(void *data, struct view *view)
{
	refresh(data, view);
}

static void on_returned(void *data, struct view *view)
{
	struct bridge *b = data;
	if (b->capture->ops->next && view == &b->stream->native)
		b->capture->ops->next(b->capture);
}

static const struct stream_supply supply = {
	.wanted = on_wanted,
	.unwanted = on_unwanted,
	.attached = on_attached,
	.returned = on_returned,
};

static void release_mirror(struct bridge *b)
{
	if (!b->mirror)
		return;
	give_back(b, lane_cancel(b->mirror));
	lane_forget_memory(b->mirror);
	lane_forget_memory(b->native);
	view_release(&b->stream->mirror);
}

static void on_linger(void *data)
{
	struct bridge *b = data;
	struct view *mirror = &b->stream->mirror;
	if (mirror->n_subscribers > 0 || !mirror->generation || lane_is_busy(b->native))
		return;
	log_info("stream=%s view=%u nobody wants it any more: its memory is freed", b->stream->name,
		mirror->id);
	release_mirror(b);
}

/* --- What the capture says -------------------------------------------------------------------- */

static void drop_waiting(struct bridge *b)
{
	struct capture_buffer *waiting = b->waiting;
	b->waiting = NULL;
	give_back(b, waiting);
}

static void cancel_all(struct bridge *b)
{
	give_back(b, lane_cancel(b->native));
	if (b->mirror)
		give_back(b, lane_cancel(b->mirror));
	drop_waiting(b);
}

static void forget_memory(struct bridge *b)
{
	lane_forget_memory(b->native);
	if (b->mirror)
		lane_forget_memory(b->mirror);
}

/* Both views get memory of the new format, the mirror only if somebody wants it. */
static void renew_views(struct bridge *b, const struct video_format *format)
{
	struct view *mirror = &b->stream->mirror;
	forget_memory(b);
	backoff_reset(&b->backoff);
	int r = configure(b, &b->stream->native, format);
	if (r < 0 || mirror->n_subscribers == 0)
		view_release(mirror);
	else if (configure(b, mirror, format) < 0)
		view_end(mirror, mirror->reason);
}

static void on_format(void *data, const struct video_format *format)
{
	struct bridge *b = data;
	const struct view *native = &b->stream->native;
	cancel_all(b);
	bool is_same = native->generation && format_equal(&native->generation->format, format);
	if (!is_same)
		renew_views(b, format);
	if (native->generation)
		stream_set_state(b->stream, STREAM_LIVE, "");
	else
		stream_set_state(b->stream, STREAM_WAITING, native->reason);
}

static void on_buffer(void *data, struct capture_buffer *buffer)
{
	struct bridge *b = data;
	struct lane *lane = lane_for_capture(b);
	if (!b->waiting && !lane_is_busy(lane)) {
		begin(b, lane, buffer);
		return;
	}
	if (b->waiting) {
		drop_waiting(b);
		b->stream->native.counts.superseded++;
	}
	b->waiting = buffer;
}

static void revoke_from(struct bridge *b, struct lane *lane, const struct capture_buffer *buffer)
{
	const struct capture_buffer *reading = lane ? lane_buffer(lane) : NULL;
	if (reading && (!buffer || reading == buffer))
		give_back(b, lane_cancel(lane));
	if (lane && buffer && buffer->mapping)
		lane_forget_mapping(lane, buffer->mapping);
}

static void on_revoke(void *data, struct capture_buffer *buffer)
{
	struct bridge *b = data;
	revoke_from(b, b->native, buffer);
	revoke_from(b, b->mirror, buffer);
	if (b->waiting && (!buffer || b->waiting == buffer))
		drop_waiting(b);
}

static void on_gone(void *data, const char *reason)
{
	struct bridge *b = data;
	cancel_all(b);
	if (strcmp(b->stream->text, reason) != 0)
		log_warning("stream=%s waits: %s", b->stream->name, reason);
	view_forget_newest(&b->stream->native);
	view_forget_newest(&b->stream->mirror);
	stream_set_state(b->stream, STREAM_WAITING, reason);
}

static void on_refused(void *data, const char *reason)
{
	refuse(data, reason);
}

static void on_superseded(void *data, unsigned count)
{
	struct bridge *b = data;
	b->stream->native.counts.superseded += count;
}

static const struct capture_listener listener = {
	.format = on_format,
	.buffer = on_buffer,
	.revoke = on_revoke,
	.gone = on_gone,
	.refused = on_refused,
	.superseded = on_superseded,
};

/* --- Life ------------------------------------------------------------------------------------- */

static int create_lanes(struct bridge *b, struct loop *loop)
{
	struct stream *stream = b->stream;
	int r = lane_create(&b->native, loop, &stream->native, b->gpu, &lane_listener, b);
	if (r < 0)
		return r;
	if (stream->mirror.source.ops)
		r = lane_create(&b->mirror, loop, &stream->mirror, b->gpu, &lane_listener, b);
	return r < 0 ? r : loop_timer(loop, &b->linger, on_linger, b);
}

int bridge_create(struct bridge **bridge_out, struct loop *loop, struct capture *capture,
	struct stream *stream, struct gpu *gpu)
{
	_cleanup_(bridge_destroyp) struct bridge *b = calloc(1, sizeof(*b));
	if (!b) {
		capture->ops->destroy(capture);
		return -ENOMEM;
	}
	*b = (struct bridge){
		.capture = capture,
		.stream = stream,
		.gpu = gpu,
		.log = { .burst = 3, .interval_ns = NS_PER_S },
	};
	capture->listener = &listener;
	capture->listener_data = b;
	int r = create_lanes(b, loop);
	if (r < 0)
		return r;
	stream_set_supply(stream, &supply, b);
	r = capture->ops->start(capture);
	if (r < 0)
		return r;
	*bridge_out = TAKE_PTR(b);
	return 0;
}

void bridge_set_listener(
	struct bridge *b, const struct bridge_listener *bridge_listener, void *listener_data)
{
	b->listener = bridge_listener;
	b->listener_data = listener_data;
}

/* The capture may give up buffers as it goes: lanes after it. */
struct bridge *bridge_destroy(struct bridge *b)
{
	if (!b)
		return NULL;
	b->is_stopping = true;
	stream_set_supply(b->stream, NULL, NULL);
	if (b->native)
		cancel_all(b);
	b->capture = b->capture->ops->destroy(b->capture);
	b->native = lane_destroy(b->native);
	b->mirror = lane_destroy(b->mirror);
	b->linger = watch_destroy(b->linger);
	free(b);
	return NULL;
}
