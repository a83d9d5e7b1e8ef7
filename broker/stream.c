#include "broker/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "proto/control.h"

static uint32_t last_view_id;

void stream_init(struct stream *stream, const char *name, const char *source, unsigned n_slots,
	struct memory_budget *budget)
{
	*stream = (struct stream){ .state = STREAM_WAITING };
	snprintf(stream->name, sizeof(stream->name), "%s", name);
	snprintf(stream->source, sizeof(stream->source), "%s", source);
	snprintf(stream->text, sizeof(stream->text), "its source has not started yet");
	stream->native = (struct view){
		.id = ++last_view_id,
		.stream = stream,
		.n_slots = n_slots,
		.budget = budget,
		.next_seq = 1,
	};
	list_init(&stream->native.subscribers);
}

void stream_set_listener(
	struct stream *stream, const struct stream_listener *listener, void *listener_data)
{
	stream->listener = listener;
	stream->listener_data = listener_data;
}

void stream_finish(struct stream *stream)
{
	assert(list_empty(&stream->native.subscribers));
	stream->native.generation = generation_destroy(stream->native.generation);
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

static void explain(struct view *view, const struct video_format *format, int error)
{
	char what[64];
	format_describe(format, what, sizeof(what));
	if (error == -EDQUOT)
		snprintf(view->reason, sizeof(view->reason),
			"no memory for %s: %u slots take %llu MiB, and %llu of %llu MiB are used "
			"(--memory)",
			what, view->n_slots,
			(unsigned long long)(generation_bytes(format, view->n_slots) >> 20),
			(unsigned long long)(view->budget->used_bytes >> 20),
			(unsigned long long)(view->budget->limit_bytes >> 20));
	else
		snprintf(view->reason, sizeof(view->reason), "no memory for %s: %s", what,
			strerror(-error));
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
	int r = generation_create(&view->generation, format, view->n_slots, view->budget);
	if (r < 0) {
		explain(view, format, r);
		return r;
	}
	view->reason[0] = 0;
	rebind_all(view);
	notify(view->stream);
	return 0;
}

enum pool_result view_begin(struct view *view, struct slot **slot_out, uint64_t *seq_out)
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
	*seq_out = view->next_seq;
	return POOL_OK;
}

void view_publish(struct view *view, struct slot *slot, struct frame_info *info)
{
	struct generation *g = view->generation;
	uint64_t seq = view->next_seq++;
	info->published_ns = clock_ns();
	histogram_add(&view->copy, info->copied_ns - info->captured_ns);
	control_end_write(generation_control(g), slot->index, seq);
	pool_publish(&g->pool, slot, seq, info);
	view->counts.published++;
	struct subscriber *s;
	list_for_each(s, &view->subscribers, link)
		if (s->pool)
			subscriber_offer(s, slot);
}

static unsigned reserved_of(const struct subscriber *s)
{
	return s->options.reserved ? s->options.max_holds : 0;
}

int view_join(struct view *view, struct subscriber *s, char *text, size_t text_size)
{
	unsigned room = view->n_slots - POOL_UNRESERVED_MIN;
	if (s->options.delivery == FANOUT_FIFO && s->options.fifo_depth > room) {
		snprintf(text, text_size,
			"a queue of %u frames needs %u slots and the stream has %u: ask for "
			"fifo:%u or "
			"less, or start the broker with --slots %u",
			s->options.fifo_depth, s->options.fifo_depth + POOL_UNRESERVED_MIN,
			view->n_slots, room, s->options.fifo_depth + POOL_UNRESERVED_MIN);
		return -EBUSY;
	}
	if (view->reserved + reserved_of(s) > room) {
		snprintf(text, text_size,
			"%u reserved holds do not fit: of the stream's %u slots %u may be reserved "
			"and %u "
			"are; ask for fewer or for shared holds, or start the broker with --slots "
			"%u",
			reserved_of(s), view->n_slots, room, view->reserved,
			view->reserved + reserved_of(s) + POOL_UNRESERVED_MIN);
		return -EBUSY;
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
}

void view_bound(struct view *view, struct subscriber *s, uint32_t generation)
{
	struct generation *g = view->generation;
	if (!s->pool && g && g->id == generation)
		subscriber_attach(s, &g->pool, g->id);
}

void view_forget_newest(struct view *view)
{
	if (view->generation)
		pool_forget_newest(&view->generation->pool);
}
