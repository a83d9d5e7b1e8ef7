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

/* If a copy is under way just then. */
static const uint64_t linger_again_ns = 3 * NS_PER_MS;

#ifdef SLUICE_FAULTS
uint64_t bridge_test_linger_ns;
#endif

struct bridge {
	struct loop *loop;
	struct capture *capture;
	struct stream *stream;
	struct gpu *gpu;     /* NULL: none, or lost */
	struct lane *native; /* into each view */
	struct lane *mirror; /* NULL: the stream has no mirror */
	struct watch *linger;
	struct backoff native_backoff; /* of each view: its memory, and what brings frames there */
	struct backoff mirror_backoff;
	struct watch *retry;
	struct video_format format;     /* of the pictures; fourcc 0: not known yet */
	struct capture_buffer *waiting; /* came while its lane was busy: the newest one */
	bool is_stopping;
	char last_refusal[STREAM_TEXT_MAX]; /* empty after a good frame; each is logged once */
	struct log_limit log;
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

/* --- Why a view runs as it does ---------------------------------------------------------------- */

static const char resting[] =
	"rests: nobody wants it, and captured pictures go straight to the GPU";
static const char unwanted[] = "not made: nobody wants it";

/* For `sluice ls`; a change is logged. */
static void set_reason(struct bridge *b, struct view *view, const char *reason)
{
	if (strcmp(view->reason, reason) == 0)
		return;
	snprintf(view->reason, sizeof(view->reason), "%s", reason);
	log_limited(&b->log, LOG_LEVEL_INFO, "stream=%s view=%u %s memory: %s", b->stream->name,
		view->id, view->source.ops->kind == MEMORY_HOST ? "host" : "GPU", reason);
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
		      is_wanted(&stream->mirror) && backoff_allows(&b->mirror_backoff, clock_ns());
	return direct ? b->mirror : b->native;
}

static struct backoff *backoff_of(struct bridge *b, const struct lane *lane)
{
	return lane == b->native ? &b->native_backoff : &b->mirror_backoff;
}

/* Of the stream's own view nothing is left to be made of, either. */
static void give_up(struct bridge *b, const char *reason)
{
	if (b->mirror)
		give_back(b, lane_cancel(b->mirror));
	stream_give_up(b->stream, reason);
}

/* What makes the frames of a view has failed: not for each frame anew, and not after the third time. */
static void fail_view(struct bridge *b, struct lane *lane, const char *why)
{
	struct view *view = view_of(b, lane);
	struct backoff *backoff = backoff_of(b, lane);
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
		watch_arm(b->retry, backoff->retry_ns - now);
	else if (lane == b->mirror)
		view_end(view, reason);
	else
		give_up(b, reason);
}

static void fail_on_gpu(struct bridge *b, struct lane *lane)
{
	b->stream->native.counts.refused++;
	fail_view(b, lane, gpu_error(b->gpu));
}

static void begin(struct bridge *b, struct lane *lane, struct capture_buffer *buffer)
{
	bool is_ready =
		view_of(b, lane)->generation && backoff_allows(backoff_of(b, lane), clock_ns());
	int r = is_ready ? lane_take_buffer(lane, buffer) : POOL_FULL;
	if (r == 0 && lane == b->mirror)
		set_reason(b, &b->stream->native, resting);
	if (r == 0)
		return;
	give_back(b, buffer);
	if (r < 0)
		fail_on_gpu(b, lane);
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
	if (!lane || !b->gpu || gpu_is_lost(b->gpu) || !is_wanted(view) || lane_is_busy(lane) ||
		!backoff_allows(&b->mirror_backoff, clock_ns()))
		return;
	/* whichever way: without it there is no mirror */
	if (lane_take_other(lane) < 0)
		fail_view(b, b->mirror, gpu_error(b->gpu));
}

static void fail(struct bridge *b, struct lane *lane, int result)
{
	if (result == -ECANCELED || (b->gpu && gpu_is_lost(b->gpu)))
		return;
	if (lane_was_on_gpu(lane))
		fail_on_gpu(b, lane);
	else
		refuse(b,
			result == -ESTALE ? "its memory is gone or too short" : strerror(-result));
}

static void succeed(struct bridge *b, struct lane *lane, const struct capture_buffer *buffer)
{
	if (b->stream->state != STREAM_LIVE)
		stream_set_state(b->stream, STREAM_LIVE, "");
	if (b->last_refusal[0] && buffer)
		forgive(b);
	backoff_reset(backoff_of(b, lane));
	set_reason(b, view_of(b, lane), lane_way(lane));
}

static void on_done(void *data, struct lane *lane, struct capture_buffer *buffer, int result)
{
	struct bridge *b = data;
	if (b->is_stopping)
		return;
	give_back(b, buffer);
	if (result < 0)
		fail(b, lane, result);
	else
		succeed(b, lane, buffer);
	refresh(b, &b->stream->mirror);
	refresh(b, &b->stream->native);
	begin_waiting(b);
	if (result == 0 && lane == b->native)
		view_settled(&b->stream->native);
}

static const struct lane_listener lane_listener = { .done = on_done };

/* --- The GPU goes and comes back ---------------------------------------------------------------- */

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
	give_back(b, lane_set_gpu(b->native, NULL));
	b->gpu = NULL;
	begin_waiting(b);
}

int bridge_regain_gpu(struct bridge *b, struct gpu *gpu)
{
	int r = lane_create(&b->mirror, b->loop, &b->stream->mirror, gpu, &lane_listener, b);
	if (r < 0)
		return r;
	give_back(b, lane_set_gpu(b->native, gpu));
	b->gpu = gpu;
	backoff_reset(&b->mirror_backoff);
	return 0;
}

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
	if (!backoff_allows(&b->mirror_backoff, clock_ns()))
		return -EAGAIN; /* the reason is still that of the last try */
	int r = configure(b, mirror, &native->format);
	if (r == 0)
		backoff_reset(&b->mirror_backoff);
	else if (r != -EDQUOT)
		backoff_fail(&b->mirror_backoff, clock_ns());
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

static uint64_t linger_ns(void)
{
#ifdef SLUICE_FAULTS
	if (bridge_test_linger_ns)
		return bridge_test_linger_ns;
#endif
	return mirror_linger_ns;
}

static void on_unwanted(void *data, struct view *view)
{
	struct bridge *b = data;
	if (view != &b->stream->mirror || !b->mirror || !view->generation)
		return;
	set_reason(b, view, unwanted);
	watch_arm(b->linger, linger_ns());
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
	if (mirror->n_subscribers > 0 || !mirror->generation)
		return;
	if (lane_is_busy(b->native)) {
		watch_arm(b->linger, linger_again_ns);
		return;
	}
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

static void renew_native(struct bridge *b)
{
	struct view *native = &b->stream->native;
	char reason[STREAM_TEXT_MAX + 1];
	int r = configure(b, native, &b->format);
	if (r == 0 || r == -EDQUOT)
		return;
	snprintf(reason, sizeof(reason), "%s", native->reason);
	fail_view(b, b->native, reason);
}

/* Both views get memory of the format, the mirror only if somebody wants it. */
static void renew_views(struct bridge *b)
{
	const struct view *native = &b->stream->native;
	struct view *mirror = &b->stream->mirror;
	forget_memory(b);
	renew_native(b);
	if (!native->generation)
		snprintf(mirror->reason, sizeof(mirror->reason), "%s", native->reason);
	if (!native->generation || mirror->n_subscribers == 0)
		view_release(mirror);
	else if (configure(b, mirror, &b->format) < 0)
		view_end(mirror, mirror->reason);
}

static void apply_format(struct bridge *b)
{
	const struct view *native = &b->stream->native;
	cancel_all(b);
	bool is_same = native->generation && format_equal(&native->generation->format, &b->format);
	if (!is_same)
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
	backoff_reset(&b->native_backoff);
	backoff_reset(&b->mirror_backoff);
	apply_format(b);
}

/* What has failed is due again. */
static void on_retry(void *data)
{
	struct bridge *b = data;
	if (!b->stream->native.generation)
		apply_format(b);
	refresh(b, &b->stream->mirror);
	refresh(b, &b->stream->native);
	begin_waiting(b);
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

static int create_lanes(struct bridge *b)
{
	struct stream *stream = b->stream;
	int r = lane_create(&b->native, b->loop, &stream->native, b->gpu, &lane_listener, b);
	if (r < 0)
		return r;
	if (stream->mirror.source.ops)
		r = lane_create(&b->mirror, b->loop, &stream->mirror, b->gpu, &lane_listener, b);
	if (r == 0)
		r = loop_timer(b->loop, &b->retry, on_retry, b);
	return r < 0 ? r : loop_timer(b->loop, &b->linger, on_linger, b);
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
	};
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
	if (b->native)
		cancel_all(b);
	b->capture = b->capture->ops->destroy(b->capture);
	b->native = lane_destroy(b->native);
	b->mirror = lane_destroy(b->mirror);
	b->linger = watch_destroy(b->linger);
	b->retry = watch_destroy(b->retry);
	free(b);
	return NULL;
}
