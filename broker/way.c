#include "broker/way.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/bridge.h"
#include "broker/scale.h"
#include "common/clock.h"

/* A view that nobody wants any more keeps its memory for a while: a client that comes back, or a
 * restarted one, has its first frame at once. */
static const uint64_t usual_linger_ns = 10 * NS_PER_S;

/* If a copy is under way just then. */
static const uint64_t linger_again_ns = 3 * NS_PER_MS;

static const char unwanted[] = "not made: nobody wants it";

#ifdef SLUICE_FAULTS
uint64_t bridge_test_linger_ns;
#endif

static uint64_t linger_ns(void)
{
#ifdef SLUICE_FAULTS
	if (bridge_test_linger_ns)
		return bridge_test_linger_ns;
#endif
	return usual_linger_ns;
}

static bool is_host(const struct view *view)
{
	return view->source.ops->kind == MEMORY_HOST;
}

/* --- Ways ------------------------------------------------------------------------------------- */

static struct way *used_from(struct bridge *b, unsigned i)
{
	for (; i < WAYS_MAX; i++)
		if (b->way[i].view && b->way[i].lane)
			return &b->way[i];
	return NULL;
}

struct way *way_first(struct bridge *b)
{
	return used_from(b, 0);
}

struct way *way_next(struct way *way)
{
	return used_from(way->bridge, (unsigned)(way - way->bridge->way) + 1);
}

struct way *way_of(struct bridge *b, const struct view *view)
{
	for (unsigned i = 0; i < WAYS_MAX; i++)
		if (b->way[i].view == view)
			return &b->way[i];
	return NULL;
}

struct way *way_of_lane(struct bridge *b, const struct lane *lane)
{
	struct way *way;
	ways_for_each(way, b) if (way->lane == lane) return way;
	return NULL;
}

/* Of converted views: none of their pictures is a captured one, which would be to be given back. */
static void cancel(struct way *way)
{
	struct bridge *b = way->bridge;
	struct capture_buffer *buffer = lane_cancel(way->lane);
	if (buffer)
		b->capture->ops->give_back(b->capture, buffer);
}

static int open_parts(struct way *way)
{
	struct bridge *b = way->bridge;
	int r = lane_create(&way->lane, b->loop, way->view, b->gpu, b->lane_listener, b);
	return r < 0 ? r : loop_timer(b->loop, &way->linger, way_on_linger, way);
}

int way_open(struct bridge *b, struct view *view, struct way **way_out)
{
	struct way *way = way_of(b, view);
	if (!way)
		way = way_of(b, NULL); /* as many as the stream may have views */
	if (!way->view) {
		*way = (struct way){ .bridge = b, .view = view };
		int r = open_parts(way);
		if (r < 0) {
			way_close(way);
			return r;
		}
	}
	*way_out = way;
	return 0;
}

void way_close(struct way *way)
{
	if (way->lane)
		cancel(way);
	way->lane = lane_destroy(way->lane);
	way->linger = watch_destroy(way->linger);
	way->view = NULL;
}

void way_set_reason(struct bridge *b, struct view *view, const char *reason)
{
	if (strcmp(view->reason, reason) == 0)
		return;
	snprintf(view->reason, sizeof(view->reason), "%s", reason);
	log_limited(&b->log, LOG_LEVEL_INFO, "stream=%s view=%u %s memory: %s", b->stream->name,
		view->id, is_host(view) ? "host" : "GPU", reason);
}

/* Slots of the view that are read for other views, without this one. */
static unsigned count_read(struct bridge *b, const struct view *from, const struct slot *without)
{
	const struct slot *read[WAYS_MAX];
	struct way *way;
	unsigned n = 0;
	ways_for_each(way, b)
	{
		const struct slot *slot =
			lane_source(way->lane) == from ? lane_reads(way->lane) : NULL;
		unsigned i = 0;
		while (i < n && read[i] != slot)
			i++;
		if (slot && slot != without && i == n)
			read[n++] = slot;
	}
	return n;
}

/* What the writer and reserved holds leave of the slots; admission sees to the least. */
static unsigned readable(const struct view *from)
{
	unsigned kept = POOL_UNRESERVED_MIN + from->reserved;
	unsigned left = from->n_slots > kept ? from->n_slots - kept : 0;
	return left > VIEW_READ_MIN ? left : VIEW_READ_MIN;
}

/*
 * The mirror is the stream itself for half of its clients, and is never shut out by conversions. Of those
 * one that has just taken long leaves one slot for the fast ones.
 */
bool way_may_read(struct way *way, const struct view *from, const struct slot *next)
{
	struct bridge *b = way->bridge;
	if (!view_is_converted(way->view))
		return true;
	unsigned spare = lane_is_slow(way->lane) ? 1 : 0;
	unsigned n = count_read(b, from, next);
	bool is_read_already = n < count_read(b, from, NULL);
	return is_read_already || n + spare < readable(from);
}

static bool is_read(struct bridge *b, const struct view *view)
{
	struct way *way;
	ways_for_each(way, b) if (lane_source(way->lane) == view) return true;
	return false;
}

static void cancel_readers(struct bridge *b, const struct view *view)
{
	struct way *way;
	ways_for_each(way, b) if (lane_source(way->lane) == view) cancel(way);
}

void ways_cancel_all_but_native(struct bridge *b)
{
	struct way *way;
	ways_for_each(way, b) if (way != &b->way[WAY_NATIVE]) cancel(way);
}

/* --- Memory ----------------------------------------------------------------------------------- */

static void log_generation(struct bridge *b, const struct view *view)
{
	char what[64];
	const struct generation *g = view->generation;
	log_info("stream=%s view=%u generation=%u %s in %s memory, %u slots of %llu bytes",
		b->stream->name, view->id, g->id, format_describe(&g->format, what, sizeof(what)),
		is_host(view) ? "host" : "GPU", view->n_slots,
		(unsigned long long)g->format.size_bytes);
}

int way_configure(struct bridge *b, struct view *view, const struct video_format *format)
{
	if (view->generation && format_equal(&view->generation->format, format))
		return 0;
	int r = view_configure(view, format);
	if (r == -EDQUOT && stream_forget_all_idle(b->stream))
		r = view_configure(view, format);
	if (r < 0)
		log_error("stream=%s view=%u %s", b->stream->name, view->id, view->reason);
	else
		log_generation(b, view);
	return r;
}

/* ..., of a view that stays for what it is if that cannot be done. */
static int configure(struct way *way, const struct video_format *format)
{
	int r = way_configure(way->bridge, way->view, format);
	if (r == 0)
		backoff_reset(&way->backoff);
	else if (r != -EDQUOT)
		backoff_fail(&way->backoff, clock_ns());
	return r;
}

/* The mirror has the native view's format. */
static int configure_mirror(struct bridge *b)
{
	const struct generation *native = b->stream->native.generation;
	struct way *way = &b->way[WAY_MIRROR];
	if (!native || way->view->generation)
		return 0;
	if (!backoff_allows(&way->backoff, clock_ns()))
		return -EAGAIN; /* the reason is still that of the last try */
	return configure(way, &native->format);
}

/* --- What a converted view is made from --------------------------------------------------------- */

static const char *name_of(uint32_t fourcc)
{
	const struct format_info *info = format_info(fourcc);
	return info ? info->name : "?";
}

static bool gpu_can(
	const struct video_format *from, const struct video_format *to, const char **why)
{
	return format_equal(from, to) || gpu_can_convert(from, to, why);
}

static bool cpu_can(
	const struct video_format *from, const struct video_format *to, const char **why)
{
	return format_equal(from, to) || scale_can(from, to, why);
}

/* Are the stream's pictures on a GPU? */
static bool has_gpu_pictures(const struct bridge *b)
{
	return b->gpu && !is_host(&b->stream->native);
}

static bool can_make(const struct bridge *b, const struct view *view,
	const struct video_format *own, const struct video_format *made, const char **why_out)
{
	if (!is_host(view))
		return gpu_can(own, made, why_out);
	return (has_gpu_pictures(b) && gpu_can(own, made, NULL)) || cpu_can(own, made, why_out);
}

/* The names of the formats that can be made of the stream's own: "NV12, I420". */
static const char *list_formats(const struct bridge *b, const struct view *view,
	const struct video_format *own, char *buf, size_t size)
{
	const struct format_info *info;
	buf[0] = 0;
	for (unsigned i = 0; (info = format_info_at(i)); i++) {
		struct form form = { .fourcc = info->fourcc };
		struct video_format made;
		size_t len = strlen(buf);
		if (form_resolve(&form, own, &made) == 0 && can_make(b, view, own, &made, NULL))
			snprintf(buf + len, size - len, "%s%s", len ? ", " : "", info->name);
	}
	return buf[0] ? buf : "nothing else";
}

static int refuse(const struct bridge *b, struct view *view, const struct video_format *own,
	const struct video_format *made, const char *why)
{
	char names[160], has[64], wants[64];
	snprintf(view->reason, sizeof(view->reason),
		"the stream is %s, of which %s cannot be made in %s memory: %s; formats that can: %s",
		format_describe(own, has, sizeof(has)), format_describe(made, wants, sizeof(wants)),
		is_host(view) ? "host" : "GPU", why,
		list_formats(b, view, own, names, sizeof(names)));
	return -EOPNOTSUPP;
}

static int make_from(struct way *way, struct view *from, const struct video_format *made)
{
	int r = view_depend(way->view, from);
	if (r < 0)
		return r;
	r = configure(way, made);
	if (r == 0)
		return 0;
	view_undepend(way->view);
	stream_forget_idle(from); /* it may have been made for this alone */
	return r;
}

/* From the converted view in GPU memory, which may have to be made for this. */
static int make_from_gpu(struct way *way, const struct video_format *made)
{
	struct bridge *b = way->bridge;
	struct view *view = way->view;
	const struct form form = view->form;
	struct view *via = stream_find_converted(b->stream, &form, MEMORY_OPAQUE_FD);
	if (!via)
		via = stream_add_converted(b->stream, &form, MEMORY_OPAQUE_FD);
	if (!via) {
		snprintf(view->reason, sizeof(view->reason),
			"stream \"%s\" has %d converted views already", b->stream->name,
			STREAM_CONVERTED_MAX);
		return -EBUSY;
	}
	return make_from(way, via, made);
}

static int make_in_host_memory(
	struct way *way, const struct video_format *own, const struct video_format *made)
{
	struct bridge *b = way->bridge;
	bool by_gpu = has_gpu_pictures(b) && gpu_can(own, made, NULL);
	int r = by_gpu ? make_from_gpu(way, made) : -EOPNOTSUPP;
	if (r < 0 && cpu_can(own, made, NULL))
		r = make_from(way, stream_view(b->stream, MEMORY_HOST), made);
	return r;
}

/* What it is to be made from, and its memory. */
static int make(struct way *way)
{
	struct bridge *b = way->bridge;
	struct view *view = way->view;
	const struct generation *native = b->stream->native.generation;
	struct video_format made;
	const char *why = "";
	if (!native)
		return 0; /* when there is a format */
	if (!backoff_allows(&way->backoff, clock_ns()))
		return -EAGAIN; /* the reason is still that of the last try */
	if (form_resolve(&view->form, &native->format, &made) < 0) {
		snprintf(view->reason, sizeof(view->reason),
			"there is no picture of the format %s and that size",
			name_of(view->form.fourcc));
		return -EOPNOTSUPP;
	}
	if (!can_make(b, view, &native->format, &made, &why))
		return refuse(b, view, &native->format, &made, why);
	if (!is_host(view))
		return make_from(way, stream_view(b->stream, MEMORY_OPAQUE_FD), &made);
	return make_in_host_memory(way, &native->format, &made);
}

/* What it was made from is not there any more, or is another. */
static void make_again(struct bridge *b, struct view *view)
{
	struct way *way;
	view_undepend(view);
	int r = way_open(b, view, &way);
	if (r < 0)
		snprintf(view->reason, sizeof(view->reason), "%s", strerror(-r));
	else
		r = make(way);
	if (r < 0)
		way_end(b, view, view->reason);
}

void way_end(struct bridge *b, struct view *view, const char *reason)
{
	struct way *way = way_of(b, view);
	struct view *dependent;
	cancel_readers(b, view);
	if (way && way->lane) {
		cancel(way);
		lane_forget_memory(way->lane);
	}
	view_end(view, reason);
	list_for_each(dependent, &b->stream->converted, link)
		if (dependent->from == view)
			make_again(b, dependent);
}

/* --- Another format --------------------------------------------------------------------------- */

static void renew_mirror(struct bridge *b)
{
	const struct view *native = &b->stream->native;
	struct view *mirror = &b->stream->mirror;
	if (!native->generation)
		snprintf(mirror->reason, sizeof(mirror->reason), "%s", native->reason);
	if (!native->generation || !view_is_wanted(mirror))
		view_release(mirror);
	else if (way_configure(b, mirror, &native->generation->format) < 0)
		way_end(b, mirror, mirror->reason);
}

static void renew_converted(struct bridge *b, struct view *view)
{
	const struct view *native = &b->stream->native;
	struct way *way = way_of(b, view);
	if (way)
		backoff_reset(&way->backoff);
	if (!native->generation)
		snprintf(view->reason, sizeof(view->reason), "%s", native->reason);
	if (!native->generation || !view_is_wanted(view))
		view_release(view);
	if (native->generation && view_is_wanted(view))
		make_again(b, view);
}

void ways_renew(struct bridge *b)
{
	struct view *view;
	renew_mirror(b);
	/* one that is made for another is appended, and met */
	list_for_each(view, &b->stream->converted, link)
		renew_converted(b, view);
}

/* --- The GPU goes ----------------------------------------------------------------------------- */

void ways_end_gpu(struct bridge *b, const char *reason)
{
	struct way *mirror = &b->way[WAY_MIRROR];
	struct view *view, *next;
	list_for_each_safe(view, next, &b->stream->converted, link) {
		if (is_host(view))
			continue;
		way_end(b, view, reason);
		stream_forget_converted(view);
	}
	if (mirror->lane)
		cancel(mirror);
	mirror->lane = lane_destroy(mirror->lane);
	view_end(mirror->view, reason);
	mirror->view->source.ops = NULL;
}

/* --- Who wants what --------------------------------------------------------------------------- */

int way_on_wanted(void *data, struct view *view)
{
	struct bridge *b = data;
	struct way *way = way_of(b, view);
	if (way == &b->way[WAY_NATIVE])
		return 0;
	if (way == &b->way[WAY_MIRROR]) {
		watch_disarm(way->linger);
		return configure_mirror(b);
	}
	int r = way_open(b, view, &way);
	if (r < 0) {
		snprintf(view->reason, sizeof(view->reason), "it cannot be made: %s", strerror(-r));
		return r;
	}
	watch_disarm(way->linger);
	r = make(way);
	if (r < 0)
		watch_arm(way->linger, linger_ns());
	return r;
}

void way_on_unwanted(void *data, struct view *view)
{
	struct bridge *b = data;
	struct way *way = way_of(b, view);
	view_undepend(view);
	if (!way || !way->lane || way == &b->way[WAY_NATIVE])
		return;
	if (view->generation)
		way_set_reason(b, view, unwanted);
	if (view->generation || view_is_converted(view))
		watch_arm(way->linger, linger_ns());
}

void way_on_forget(void *data, struct view *view)
{
	struct bridge *b = data;
	struct way *way = way_of(b, view);
	cancel_readers(b, view);
	if (way)
		way_close(way);
}

bool way_on_is_busy(void *data, const struct view *view)
{
	struct bridge *b = data;
	const struct way *way = way_of(b, view);
	return (way && way->lane && lane_source(way->lane)) || is_read(b, view);
}

static void release_mirror(struct bridge *b)
{
	cancel(&b->way[WAY_MIRROR]);
	lane_forget_memory(b->way[WAY_MIRROR].lane);
	lane_forget_memory(b->way[WAY_NATIVE].lane);
	view_release(&b->stream->mirror);
}

void way_on_linger(void *data)
{
	struct way *way = data;
	struct bridge *b = way->bridge;
	struct view *view = way->view;
	bool is_mirror = view == &b->stream->mirror;
	if (view_is_wanted(view) || (is_mirror && (!view->generation || !way->lane)))
		return;
	if (way_on_is_busy(b, view) || (is_mirror && lane_is_busy(b->way[WAY_NATIVE].lane))) {
		watch_arm(way->linger, linger_again_ns);
		return;
	}
	if (view->generation)
		log_info("stream=%s view=%u nobody wants it any more: its memory is freed",
			b->stream->name, view->id);
	if (is_mirror)
		release_mirror(b);
	else
		stream_forget_converted(view);
}
