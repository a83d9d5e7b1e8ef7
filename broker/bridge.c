#include "broker/bridge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/due.h"
#include "broker/way.h"
#include "common/clock.h"

static const uint64_t again_after_ns = 5 * NS_PER_MS;

static struct lane *native_lane(const struct bridge *b)
{
	return b->way[WAY_NATIVE].lane;
}

static void give_back(struct bridge *b, struct capture_buffer *buffer)
{
	if (buffer)
		b->capture->ops->give_back(b->capture, buffer);
}

static const char resting[] =
	"rests: nobody wants it, and captured pictures go straight to the GPU";

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
}

/* --- Pictures into lanes ---------------------------------------------------------------------- */

/* Are frames to be made for it? */
static bool is_active(const struct view *view)
{
	return view->generation && view_is_wanted(view);
}

/* Which view is a captured picture for? */
static struct way *way_for_capture(struct bridge *b)
{
	const struct stream *stream = b->stream;
	struct way *native = &b->way[WAY_NATIVE], *mirror = &b->way[WAY_MIRROR];
	bool is_host = stream->native.source.ops->kind == MEMORY_HOST;
	bool direct = is_host && mirror->lane && !view_is_wanted(&stream->native) &&
		      is_active(&stream->mirror) && backoff_allows(&mirror->backoff, clock_ns());
	return direct ? mirror : native;
}

/* One timer for all: for what is due first. What is due already was tried, and nobody wants it now. */
static void arm_retry(struct bridge *b)
{
	uint64_t now = clock_ns(), next = b->again_ns ? b->again_ns : UINT64_MAX;
	for (unsigned i = 0; i < WAYS_MAX; i++) {
		const struct backoff *backoff = &b->way[i].backoff;
		bool is_pending = b->way[i].view && backoff->failures > 0 &&
				  !backoff_is_latched(backoff) && backoff->retry_ns > now;
		if (is_pending && backoff->retry_ns < next)
			next = backoff->retry_ns;
	}
	if (next != UINT64_MAX)
		watch_arm(b->retry, next > now ? next - now : 0);
}

/* It was no failure, and may have passed by then, though no lane's end tells. */
static void try_again(struct bridge *b)
{
	if (!b->again_ns)
		b->again_ns = clock_ns() + again_after_ns;
	arm_retry(b);
}

/* Of the stream's own view nothing is left to be made of, either. */
static void give_up(struct bridge *b, const char *reason)
{
	struct way *way;
	ways_cancel_all_but_native(b);
	ways_for_each(way, b) lane_forget_memory(way->lane);
	stream_give_up(b->stream, reason);
}

/* What makes the frames of a view has failed: not for each frame anew, and not after the third time. */
static void fail_view(struct bridge *b, struct way *way, const char *why)
{
	struct view *view = way->view;
	struct backoff *backoff = &way->backoff;
	char reason[STREAM_TEXT_MAX + 1];
	uint64_t now = clock_ns();
	if (b->gpu && gpu_is_lost(b->gpu))
		return; /* whoever owns it hears of that */
	backoff_fail(backoff, now);
	bool is_over = backoff_is_latched(backoff);
	snprintf(reason, sizeof(reason), "no frames can be made: %.400s%s", why,
		is_over ? "; it was tried three times" : "; tried again soon");
	log_warning("stream=%s view=%u %s", b->stream->name, view->id, reason);
	snprintf(view->reason, sizeof(view->reason), "%s", reason);
	if (!is_over)
		arm_retry(b);
	else if (way == &b->way[WAY_NATIVE])
		give_up(b, reason);
	else
		way_end(b, view, reason);
}

static void fail_on_gpu(struct bridge *b, struct way *way)
{
	b->stream->native.counts.refused++;
	fail_view(b, way, gpu_error(b->gpu));
}

static void begin(struct bridge *b, struct way *way, struct capture_buffer *buffer)
{
	bool is_ready = way->view->generation && backoff_allows(&way->backoff, clock_ns());
	int r = is_ready ? lane_take_buffer(way->lane, buffer) : POOL_FULL;
	if (r == 0 && way == &b->way[WAY_MIRROR])
		way_set_reason(b, &b->stream->native, resting);
	if (r == 0)
		return;
	if (r == -EBUSY) {
		/* converted views must not cost the stream its frames */
		b->waiting = buffer;
		try_again(b);
		return;
	}
	give_back(b, buffer);
	if (r < 0)
		fail_on_gpu(b, way);
}

/* Both have one source at a time: the newest picture, which waits until its lane is idle. */
static void begin_waiting(struct bridge *b)
{
	struct capture_buffer *next = b->waiting;
	struct way *way = way_for_capture(b);
	if (!next || lane_is_busy(way->lane))
		return;
	b->waiting = NULL;
	begin(b, way, next);
}

static bool needs_gpu(const struct view *view)
{
	return view->source.ops->kind != MEMORY_HOST;
}

/* The next frame of another view that somebody would have: what is made for nobody costs nothing. */
static struct slot *find_due(struct way *way, struct view *from)
{
	struct slot *next = lane_next(way->lane, from);
	while (next && way->view != &from->stream->native && !view_is_due(way->view, next)) {
		view_pass(way->view, next);
		next = lane_next(way->lane, from);
	}
	return next;
}

/* Bring a view that somebody wants up to date from the one that it is made from. */
static void refresh(struct bridge *b, struct way *way)
{
	struct view *from = view_from(way->view);
	if (!from || !is_active(way->view))
		return;
	lane_expect(way->lane, from);
	if (lane_is_busy(way->lane))
		return;
	if ((needs_gpu(way->view) || needs_gpu(from)) && (!b->gpu || gpu_is_lost(b->gpu)))
		return;
	/* whichever way between those two: without it there is no mirror */
	struct way *blamed = view_is_converted(way->view) ? way : &b->way[WAY_MIRROR];
	if (!backoff_allows(&blamed->backoff, clock_ns()))
		return;
	struct slot *next = find_due(way, from);
	if (!next || !way_may_read(way, from, next))
		return;
	int r = lane_take_from(way->lane, from);
	if (r == POOL_FULL || r == -EBUSY)
		try_again(b);
	else if (r < 0)
		fail_view(b, blamed, gpu_error(b->gpu));
	if (lane_is_busy(way->lane))
		way->turn = ++b->turns;
}

/* The one that began longest ago is first: where there is room for few at a time, each has its turn. */
static void refresh_converted(struct bridge *b)
{
	struct way *order[WAYS_MAX], *way;
	unsigned n = 0;
	ways_for_each(way, b)
	{
		unsigned i = n;
		if (!view_is_converted(way->view))
			continue;
		for (; i > 0 && order[i - 1]->turn > way->turn; i--)
			order[i] = order[i - 1];
		order[i] = way;
		n++;
	}
	for (unsigned i = 0; i < n; i++)
		if (order[i]->view && order[i]->lane) /* one that failed may have ended others */
			refresh(b, order[i]);
}

static void refresh_all(struct bridge *b)
{
	if (b->way[WAY_MIRROR].lane)
		refresh(b, &b->way[WAY_MIRROR]);
	refresh(b, &b->way[WAY_NATIVE]);
	refresh_converted(b);
}

static void fail_converted(struct bridge *b, struct way *way, int result)
{
	if (lane_was_on_gpu(way->lane))
		fail_view(b, way, gpu_error(b->gpu));
	else
		fail_view(b, way,
			result == -EOPNOTSUPP ? "libswscale refuses this conversion"
					      : strerror(-result));
}

static void fail(struct bridge *b, struct way *way, int result)
{
	if (result == -EBUSY)
		try_again(b);
	if (result == -EBUSY || result == -ECANCELED || (b->gpu && gpu_is_lost(b->gpu)))
		return;
	if (view_is_converted(way->view))
		fail_converted(b, way, result);
	else if (lane_was_on_gpu(way->lane))
		fail_on_gpu(b, way);
	else
		refuse(b,
			result == -ESTALE ? "its memory is gone or too short" : strerror(-result));
}

static void succeed(struct bridge *b, struct way *way, const struct capture_buffer *buffer)
{
	if (b->stream->state != STREAM_LIVE)
		stream_set_state(b->stream, STREAM_LIVE, "");
	if (b->last_refusal[0] && buffer)
		forgive(b);
	backoff_reset(&way->backoff);
	way_set_reason(b, way->view, lane_way(way->lane));
}

/* A source that goes by its readers: have all given the newest frame back, in whatever form? */
static bool is_given_back(const struct view *view, uint64_t seq)
{
	const struct slot *newest = view->generation ? view->generation->pool.newest : NULL;
	return !newest || newest->seq != seq || (newest->complete && list_empty(&newest->holds));
}

static void ask_for_next(struct bridge *b)
{
	struct way *way;
	uint64_t seq = view_newest_seq(&b->stream->native);
	if (!b->capture->ops->next || seq == 0)
		return;
	ways_for_each(way, b)
	{
		bool is_making = way != &b->way[WAY_NATIVE] && lane_is_busy(way->lane);
		if (view_is_wanted(way->view) && is_making)
			return;
		if (!is_given_back(way->view, seq))
			return;
	}
	b->capture->ops->next(b->capture);
}

static void on_done(void *data, struct lane *lane, struct capture_buffer *buffer, int result)
{
	struct bridge *b = data;
	if (b->is_stopping)
		return;
	struct way *way = way_of_lane(b, lane);
	give_back(b, buffer);
	if (result < 0)
		fail(b, way, result);
	else
		succeed(b, way, buffer);
	refresh_all(b);
	begin_waiting(b);
	if (result == 0)
		view_settled(way->view);
	/* until now it held the frame that it was made of */
	if (way != &b->way[WAY_NATIVE])
		ask_for_next(b);
}

static const struct lane_listener lane_listener = { .done = on_done };

/* --- The GPU goes and comes back ---------------------------------------------------------------- */

static void set_gpu(struct bridge *b, struct gpu *gpu)
{
	struct way *way;
	b->gpu = gpu;
	ways_for_each(way, b) if (way != &b->way[WAY_MIRROR])
		give_back(b, lane_set_gpu(way->lane, gpu));
}

void bridge_drop_gpu(struct bridge *b, const char *reason)
{
	if (!b->gpu)
		return;
	ways_end_gpu(b, reason);
	set_gpu(b, NULL);
	begin_waiting(b);
}

int bridge_regain_gpu(struct bridge *b, struct gpu *gpu)
{
	struct way *mirror = &b->way[WAY_MIRROR];
	int r = lane_create(&mirror->lane, b->loop, mirror->view, gpu, &lane_listener, b);
	if (r < 0)
		return r;
	set_gpu(b, gpu);
	backoff_reset(&mirror->backoff);
	return 0;
}

/* --- Who wants what --------------------------------------------------------------------------- */

static void on_attached(void *data, struct view *view)
{
	(void)view;
	refresh_all(data);
}

static void on_returned(void *data, struct view *view)
{
	(void)view;
	ask_for_next(data);
}

static const struct stream_supply supply = {
	.wanted = way_on_wanted,
	.unwanted = way_on_unwanted,
	.forget = way_on_forget,
	.is_busy = way_on_is_busy,
	.attached = on_attached,
	.returned = on_returned,
};

/* --- What the capture says -------------------------------------------------------------------- */

static void drop_waiting(struct bridge *b)
{
	struct capture_buffer *waiting = b->waiting;
	b->waiting = NULL;
	give_back(b, waiting);
}

static void cancel_all(struct bridge *b)
{
	give_back(b, lane_cancel(native_lane(b)));
	ways_cancel_all_but_native(b);
	drop_waiting(b);
}

static void renew_native(struct bridge *b)
{
	struct view *native = &b->stream->native;
	char reason[STREAM_TEXT_MAX + 1];
	int r = way_configure(b, native, &b->format);
	if (r == 0 || r == -EDQUOT)
		return;
	snprintf(reason, sizeof(reason), "%s", native->reason);
	fail_view(b, &b->way[WAY_NATIVE], reason);
}

/* All views get memory for the format; all but the native one only if somebody wants it. */
static void renew_views(struct bridge *b)
{
	struct way *way;
	ways_for_each(way, b) lane_forget_memory(way->lane);
	renew_native(b);
	ways_renew(b);
}

static void apply_format(struct bridge *b)
{
	const struct view *native = &b->stream->native;
	cancel_all(b);
	bool is_same = native->generation && format_equal(&native->generation->format, &b->format);
	if (is_same)
		refresh_all(b); /* what was cancelled is made anew */
	else
		renew_views(b);
	if (native->generation)
		stream_set_state(b->stream, STREAM_LIVE, "");
	else
		stream_set_state(b->stream, STREAM_WAITING, native->reason);
}

static void on_format(void *data, const struct video_format *format)
{
	struct bridge *b = data;
	b->format = *format;
	b->stream->is_over = false;
	for (unsigned i = 0; i < WAYS_MAX; i++)
		backoff_reset(&b->way[i].backoff);
	apply_format(b);
}

/* What has failed is due again. */
static void on_retry(void *data)
{
	struct bridge *b = data;
	const struct backoff *native = &b->way[WAY_NATIVE].backoff;
	uint64_t now = clock_ns();
	if (b->again_ns <= now)
		b->again_ns = 0;
	if (!b->stream->native.generation && native->failures > 0 && backoff_allows(native, now))
		apply_format(b);
	refresh_all(b);
	begin_waiting(b);
	arm_retry(b);
}

static void on_buffer(void *data, struct capture_buffer *buffer)
{
	struct bridge *b = data;
	struct way *way = way_for_capture(b);
	if (!b->waiting && !lane_is_busy(way->lane)) {
		begin(b, way, buffer);
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
	revoke_from(b, native_lane(b), buffer);
	revoke_from(b, b->way[WAY_MIRROR].lane, buffer);
	if (b->waiting && (!buffer || b->waiting == buffer))
		drop_waiting(b);
}

static void on_gone(void *data, const char *reason)
{
	struct bridge *b = data;
	cancel_all(b);
	if (strcmp(b->stream->text, reason) != 0)
		log_warning("stream=%s waits: %s", b->stream->name, reason);
	stream_forget_newest(b->stream);
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

static int create_lanes(struct bridge *b)
{
	struct stream *stream = b->stream;
	struct way *native = &b->way[WAY_NATIVE], *mirror = &b->way[WAY_MIRROR];
	native->view = &stream->native;
	mirror->view = &stream->mirror;
	int r = lane_create(&native->lane, b->loop, native->view, b->gpu, &lane_listener, b);
	if (r < 0)
		return r;
	if (stream->mirror.source.ops)
		r = lane_create(&mirror->lane, b->loop, mirror->view, b->gpu, &lane_listener, b);
	if (r == 0)
		r = loop_timer(b->loop, &b->retry, on_retry, b);
	return r < 0 ? r : loop_timer(b->loop, &mirror->linger, way_on_linger, mirror);
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
		.loop = loop,
		.capture = capture,
		.stream = stream,
		.gpu = gpu,
		.log = { .burst = 3, .interval_ns = NS_PER_S },
		.lane_listener = &lane_listener,
	};
	for (unsigned i = 0; i < WAYS_MAX; i++)
		b->way[i].bridge = b;
	capture->listener = &listener;
	capture->listener_data = b;
	int r = create_lanes(b);
	if (r < 0)
		return r;
	stream_set_supply(stream, &supply, b);
	r = capture->ops->start(capture);
	if (r < 0)
		return r;
	*bridge_out = TAKE_PTR(b);
	return 0;
}

/* The capture may give up buffers as it goes: lanes after it. */
struct bridge *bridge_destroy(struct bridge *b)
{
	if (!b)
		return NULL;
	b->is_stopping = true;
	stream_set_supply(b->stream, NULL, NULL);
	if (native_lane(b))
		cancel_all(b);
	b->capture = b->capture->ops->destroy(b->capture);
	for (unsigned i = 0; i < WAYS_MAX; i++)
		way_close(&b->way[i]);
	b->retry = watch_destroy(b->retry);
	free(b);
	return NULL;
}
