#include "broker/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/due.h"
#include "common/clock.h"
#include "common/fd.h"
#include "proto/control.h"

static uint32_t last_view_id;

static void view_init(struct view *view, struct stream *stream, unsigned n_slots)
{
	*view = (struct view){ .id = ++last_view_id, .stream = stream, .n_slots = n_slots };
	list_init(&view->link);
	list_init(&view->subscribers);
}

void stream_init(struct stream *stream, const char *name, const char *source, unsigned n_slots,
	struct memory_budget *budget)
{
	*stream = (struct stream){ .state = STREAM_WAITING, .next_seq = 1 };
	snprintf(stream->name, sizeof(stream->name), "%s", name);
	snprintf(stream->source, sizeof(stream->source), "%s", source);
	snprintf(stream->text, sizeof(stream->text), "its source has not started yet");
	view_init(&stream->native, stream, n_slots);
	view_init(&stream->mirror, stream, n_slots);
	list_init(&stream->converted);
	stream->native.source = slots_host(budget);
}

void stream_set_memory(
	struct stream *stream, const struct slot_source *native, const struct slot_source *mirror)
{
	assert(!stream->native.generation);
	stream->native.source = *native;
	stream->is_over = false;
	stream_set_mirror(stream, mirror);
}

void stream_set_mirror(struct stream *stream, const struct slot_source *mirror)
{
	assert(!stream->mirror.generation);
	stream->mirror.source = *mirror;
	stream->mirror.reason[0] = 0;
}

void stream_set_listener(
	struct stream *stream, const struct stream_listener *listener, void *listener_data)
{
	stream->listener = listener;
	stream->listener_data = listener_data;
}

void stream_set_supply(struct stream *stream, const struct stream_supply *supply, void *supply_data)
{
	stream->supply = supply;
	stream->supply_data = supply_data;
}

struct view *stream_view(struct stream *stream, enum memory_kind kind)
{
	struct view *views[] = { &stream->native, &stream->mirror };
	for (unsigned i = 0; i < 2; i++)
		if (views[i]->source.ops && views[i]->source.ops->kind == kind)
			return views[i];
	return NULL;
}

static struct view *other(struct view *view)
{
	struct stream *stream = view->stream;
	struct view *found = view == &stream->native ? &stream->mirror : &stream->native;
	return found->source.ops ? found : NULL;
}

bool view_is_converted(const struct view *view)
{
	return view != &view->stream->native && view != &view->stream->mirror;
}

struct view *view_from(struct view *view)
{
	return view_is_converted(view) ? view->from : other(view);
}

bool view_is_wanted(const struct view *view)
{
	return view->n_subscribers > 0 || view->n_dependents > 0;
}

static void free_converted(struct view *view)
{
	view_undepend(view);
	assert(!view_is_wanted(view));
	view_release(view);
	view->stream->n_converted--;
	list_remove(&view->link);
	free(view);
}

void stream_finish(struct stream *stream)
{
	struct view *view, *next;
	/* whoever made them is gone, and what each was made from may come before it */
	list_for_each(view, &stream->converted, link)
		view_undepend(view);
	list_for_each_safe(view, next, &stream->converted, link)
		free_converted(view);
	assert(list_empty(&stream->native.subscribers));
	assert(list_empty(&stream->mirror.subscribers));
	view_release(&stream->native);
	view_release(&stream->mirror);
}

static void notify(struct stream *stream)
{
	if (stream->listener)
		stream->listener->changed(stream->listener_data, stream);
}

void stream_set_state(struct stream *stream, enum stream_state state, const char *text)
{
	if (stream->state == state && strcmp(stream->text, text) == 0)
		return;
	stream->state = state;
	snprintf(stream->text, sizeof(stream->text), "%s", text);
	notify(stream);
}

static void explain(
	struct view *view, const struct video_format *format, int error, const char *why)
{
	char what[64];
	const struct slot_source *source = &view->source;
	bool is_gpu = source->ops->kind != MEMORY_HOST;
	format_describe(format, what, sizeof(what));
	if (error == -EDQUOT)
		snprintf(view->reason, sizeof(view->reason),
			"no %smemory for %s: %u slots take %llu MiB, and %llu of %llu MiB are used "
			"(--%smemory)",
			is_gpu ? "GPU " : "", what, view->n_slots,
			(unsigned long long)(generation_bytes(format, view->n_slots) >> 20),
			(unsigned long long)(source->budget->used_bytes >> 20),
			(unsigned long long)(source->budget->limit_bytes >> 20),
			is_gpu ? "gpu-" : "");
	else
		snprintf(view->reason, sizeof(view->reason), "no %smemory for %s: %s",
			is_gpu ? "GPU " : "", what, why ? why : strerror(-error));
}

static void detach_all(struct view *view)
{
	struct subscriber *s;
	list_for_each(s, &view->subscribers, link)
		if (s->pool)
			subscriber_detach(s);
}

static void rebind_all(struct view *view)
{
	struct stream *stream = view->stream;
	struct subscriber *s, *next;
	list_for_each_safe(s, next, &view->subscribers, link)
		if (stream->listener)
			stream->listener->rebind(stream->listener_data, view, s);
}

int view_configure(struct view *view, const struct video_format *format)
{
	if (view->generation && format_equal(&view->generation->format, format))
		return 0;
	detach_all(view);
	view->generation = generation_destroy(view->generation);
	const char *why = NULL;
	int r = generation_create(&view->generation, format, view->n_slots, &view->source, &why);
	if (r < 0) {
		explain(view, format, r, why);
		return r;
	}
	view->reason[0] = 0;
	rebind_all(view);
	notify(view->stream);
	return 0;
}

void view_release(struct view *view)
{
	detach_all(view);
	view->generation = generation_destroy(view->generation);
}

void view_end(struct view *view, const char *reason)
{
	struct stream *stream = view->stream;
	struct subscriber *s, *next;
	if (reason != view->reason)
		snprintf(view->reason, sizeof(view->reason), "%s", reason);
	view_release(view);
	list_for_each_safe(s, next, &view->subscribers, link)
		if (stream->listener)
			stream->listener->end(stream->listener_data, view, s, view->reason);
}

void stream_end_views(struct stream *stream, const char *reason)
{
	struct view *view, *next;
	list_for_each(view, &stream->converted, link)
		view_end(view, reason);
	view_end(&stream->native, reason);
	view_end(&stream->mirror, reason);
	/* without a supply nobody else has said so */
	list_for_each(view, &stream->converted, link)
		view_undepend(view);
	list_for_each_safe(view, next, &stream->converted, link)
		stream_forget_converted(view);
}

void stream_give_up(struct stream *stream, const char *reason)
{
	stream->is_over = true;
	stream_end_views(stream, reason);
	stream_set_state(stream, STREAM_WAITING, reason);
}

enum pool_result view_begin(struct view *view, struct slot **slot_out)
{
	struct generation *g = view->generation;
	enum pool_result r = pool_acquire(&g->pool, slot_out);
	if (r != POOL_OK) {
		view->counts.no_slot++;
		return r;
	}
#ifdef SLUICE_FAULTS
	if (!pool_fault_early_reuse)
#endif
		control_begin_write(generation_control(g), (*slot_out)->index);
	return POOL_OK;
}

uint64_t stream_take_seq(struct stream *stream)
{
	return stream->next_seq++;
}

void stream_return_seq(struct stream *stream, uint64_t seq)
{
	if (stream->next_seq == seq + 1)
		stream->next_seq = seq;
}

static void announce(struct view *view, struct slot *slot, uint64_t seq, struct frame_info *info)
{
	info->published_ns = clock_ns();
	control_end_write(generation_control(view->generation), slot->index, seq);
	pool_publish(&view->generation->pool, slot, seq, info);
}

/* To all, or only to those who wait for the pixels themselves. */
static void offer(struct view *view, struct slot *slot, bool only_early)
{
	struct subscriber *s;
	list_for_each(s, &view->subscribers, link)
		if (s->pool && (s->early || !only_early))
			subscriber_offer(s, slot);
}

void view_submit(
	struct view *view, struct slot *slot, uint64_t seq, struct frame_info *info, int *sync_fd)
{
	slot->sync_fd = fd_take(sync_fd);
	view->was_returned = false;
	announce(view, slot, seq, info);
	offer(view, slot, true);
}

void view_publish(struct view *view, struct slot *slot, uint64_t seq, struct frame_info *info)
{
	bool is_submitted = slot->state != SLOT_WRITING;
	histogram_add(&view->copy,
		info->copied_ns - (info->begun_ns ? info->begun_ns : info->captured_ns));
	slot->complete = true;
	fd_closep(&slot->sync_fd);
	view->counts.published++;
	if (!is_submitted) {
		announce(view, slot, seq, info);
	} else {
		info->published_ns = clock_ns();
		slot->info = *info;
	}
	offer(view, slot, false);
}

void view_abandon(struct view *view, struct slot *slot)
{
	fd_closep(&slot->sync_fd);
	if (slot->state == SLOT_WRITING)
		pool_abandon(slot);
	else if (view->generation->pool.newest == slot)
		pool_forget_newest(&view->generation->pool);
}

static bool has_fifo(const struct view *view)
{
	const struct subscriber *s;
	list_for_each(s, &view->subscribers, link)
		if (s->options.delivery == FANOUT_FIFO)
			return true;
	return false;
}

bool view_wants_every(const struct view *view)
{
	const struct view *made;
	if (has_fifo(view))
		return true;
	list_for_each(made, &view->stream->converted, link)
		if (made->from == view && view_wants_every(made))
			return true;
	return false;
}

uint64_t view_newest_seq(const struct view *view)
{
	const struct generation *g = view->generation;
	return g && g->pool.newest ? g->pool.newest->seq : 0;
}

bool view_is_current(const struct view *view)
{
	const struct stream *stream = view->stream;
	uint64_t seq = view_newest_seq(view);
	return seq >= view_newest_seq(&stream->native) && seq >= view_newest_seq(&stream->mirror);
}

static unsigned reserved_of(const struct subscriber *s)
{
	return s->options.reserved ? s->options.max_holds : 0;
}

/*
 * Slots that readers may have for certain. The writer needs its own, and what other views are made
 * of must not be revoked meanwhile.
 */
static unsigned room_of(struct view *view, unsigned n_dependents)
{
	unsigned n_read = n_dependents + (!view_is_converted(view) && other(view) ? 1 : 0);
	unsigned kept = POOL_UNRESERVED_MIN + (n_read < VIEW_READ_MIN ? n_read : VIEW_READ_MIN);
	return view->n_slots > kept ? view->n_slots - kept : 0;
}

/* Nobody wanted the view for a while: its newest frame may be an old one. */
static void forget_old(struct view *view)
{
	if (!view_is_current(view))
		view_forget_newest(view);
}

/* One more is about to want it. */
static int want(struct view *view)
{
	const struct stream *stream = view->stream;
	if (view_is_wanted(view) || !stream->supply)
		return 0;
	/* others may be made for it, and those that nobody wants are freed for them */
	view->is_in_making = true;
	int r = stream->supply->wanted(stream->supply_data, view);
	view->is_in_making = false;
	if (r == 0)
		forget_old(view);
	return r;
}

/* One has gone. */
static void unwant(struct view *view)
{
	const struct stream *stream = view->stream;
	if (!view_is_wanted(view) && stream->supply)
		stream->supply->unwanted(stream->supply_data, view);
}

int view_depend(struct view *view, struct view *from)
{
	assert(!view->from && view != from);
	unsigned room = room_of(from, from->n_dependents + 1);
	if (from->reserved > room) {
		snprintf(view->reason, sizeof(view->reason),
			"of the stream's %u slots %u are reserved, and a conversion needs one more: start "
			"the broker with --slots %u",
			from->n_slots, from->reserved, from->n_slots + from->reserved - room);
		return -EBUSY;
	}
	int r = want(from);
	if (r < 0) {
		snprintf(view->reason, sizeof(view->reason), "%s", from->reason);
		return r;
	}
	from->n_dependents++;
	view->from = from;
	return 0;
}

void view_undepend(struct view *view)
{
	struct view *from = view->from;
	if (!from)
		return;
	view->from = NULL;
	from->n_dependents--;
	unwant(from);
}

int view_join(struct view *view, struct subscriber *s, char *text, size_t text_size)
{
	unsigned room = room_of(view, view->n_dependents);
	unsigned queue = view->n_slots - POOL_UNRESERVED_MIN; /* what waits there may be revoked */
	if (s->options.delivery == FANOUT_FIFO && s->options.fifo_depth > queue) {
		snprintf(text, text_size,
			"a queue of %u frames needs %u slots and the stream has %u: ask for "
			"fifo:%u or "
			"less, or start the broker with --slots %u",
			s->options.fifo_depth, s->options.fifo_depth + POOL_UNRESERVED_MIN,
			view->n_slots, queue, s->options.fifo_depth + POOL_UNRESERVED_MIN);
		return -EBUSY;
	}
	if (view->reserved + reserved_of(s) > room) {
		snprintf(text, text_size,
			"%u reserved holds do not fit: of the stream's %u slots %u may be reserved "
			"and %u "
			"are; ask for fewer or for shared holds, or start the broker with --slots "
			"%u",
			reserved_of(s), view->n_slots, room, view->reserved,
			view->reserved + reserved_of(s) + view->n_slots - room);
		return -EBUSY;
	}
	int r = want(view);
	if (r < 0) {
		snprintf(text, text_size, "%s", view->reason);
		return r;
	}
	list_insert(&view->subscribers, &s->link);
	view->n_subscribers++;
	view->reserved += reserved_of(s);
	return 0;
}

void view_leave(struct view *view, struct subscriber *s)
{
	view->reserved -= reserved_of(s);
	view->n_subscribers--;
	subscriber_finish(s);
	view_returned(view);
	unwant(view);
}

void view_bound(struct view *view, struct subscriber *s, uint32_t generation)
{
	struct generation *g = view->generation;
	if (s->pool || !g || g->id != generation)
		return;
	forget_old(view);
	subscriber_attach(s, &g->pool, g->id);
	view_look_again(view);
}

bool view_is_running(const struct view *view)
{
	const struct stream *stream = view->stream;
	if (stream->state != STREAM_LIVE || !view->generation)
		return false;
	if (view != &stream->native)
		return view_is_wanted(view);
	return stream->native.source.ops->kind != MEMORY_HOST || view_is_wanted(view) ||
	       !view_is_wanted(&stream->mirror);
}

void view_returned(struct view *view)
{
	struct stream *stream = view->stream;
	const struct generation *g = view->generation;
	const struct slot *newest = g ? g->pool.newest : NULL;
	if (!stream->supply || !newest || !list_empty(&newest->holds))
		return;
	if (newest->complete)
		stream->supply->returned(stream->supply_data, view);
	else
		view->was_returned = true;
}

void view_settled(struct view *view)
{
	if (!view->was_returned)
		return;
	view->was_returned = false;
	view_returned(view);
}

void view_forget_newest(struct view *view)
{
	const struct slot *newest = view->generation ? view->generation->pool.newest : NULL;
	if (newest && newest->complete)
		pool_forget_newest(&view->generation->pool);
}

/* No other will come: who left it out for a while has it now. */
static void end_with_newest(struct view *view)
{
	struct subscriber *s;
	list_for_each(s, &view->subscribers, link)
		subscriber_catch_up(s);
	view_forget_newest(view);
}

void stream_forget_newest(struct stream *stream)
{
	struct view *view;
	end_with_newest(&stream->native);
	end_with_newest(&stream->mirror);
	list_for_each(view, &stream->converted, link)
		end_with_newest(view);
}

/* --- Converted views -------------------------------------------------------------------------- */

struct view *stream_find_converted(
	struct stream *stream, const struct form *form, enum memory_kind kind)
{
	struct view *view;
	list_for_each(view, &stream->converted, link)
		if (view->source.ops->kind == kind && form_equal(&view->form, form))
			return view;
	return NULL;
}

void stream_forget_converted(struct view *view)
{
	const struct stream *stream = view->stream;
	if (!view_is_converted(view) || view_is_wanted(view) || view->is_in_making)
		return;
	if (stream->supply)
		stream->supply->forget(stream->supply_data, view);
	free_converted(view);
}

bool stream_forget_idle(struct view *view)
{
	const struct stream *stream = view->stream;
	if (!view_is_converted(view) || view_is_wanted(view) || view->is_in_making ||
		(stream->supply && stream->supply->is_busy(stream->supply_data, view)))
		return false;
	stream_forget_converted(view);
	return true;
}

bool stream_forget_all_idle(struct stream *stream)
{
	struct view *view, *next;
	bool any = false;
	list_for_each_safe(view, next, &stream->converted, link)
		any |= stream_forget_idle(view);
	return any;
}

static void make_place(struct stream *stream)
{
	struct view *view;
	list_for_each(view, &stream->converted, link)
		if (stream_forget_idle(view))
			return;
}

struct view *stream_add_converted(
	struct stream *stream, const struct form *form, enum memory_kind kind)
{
	const struct view *like = stream_view(stream, kind);
	if (stream->n_converted == STREAM_CONVERTED_MAX)
		make_place(stream);
	if (stream->n_converted == STREAM_CONVERTED_MAX)
		return NULL;
	struct view *view = malloc(sizeof(*view));
	if (!view)
		return NULL;
	view_init(view, stream, like->n_slots);
	view->source = like->source;
	view->form = *form;
	list_insert(&stream->converted, &view->link);
	stream->n_converted++;
	return view;
}
