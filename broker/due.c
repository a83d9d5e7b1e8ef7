#include "broker/due.h"

bool view_is_due(const struct view *view, const struct slot *of)
{
	const struct subscriber *s;
	const struct view *made;
	list_for_each(s, &view->subscribers, link)
		if (subscriber_is_due(s, of->seq, of->info.pts_ns))
			return true;
	list_for_each(made, &view->stream->converted, link)
		if (made->from == view && view_is_due(made, of))
			return true;
	return false;
}

void view_pass(struct view *view, const struct slot *of)
{
	struct subscriber *s;
	struct view *made;
	view->passed_seq = of->seq;
	list_for_each(s, &view->subscribers, link)
		subscriber_leave_out(s, of->seq, of->info.pts_ns);
	list_for_each(made, &view->stream->converted, link)
		if (made->from == view)
			view_pass(made, of);
}

uint64_t view_dealt_with_seq(const struct view *view)
{
	uint64_t newest = view_newest_seq(view);
	return newest > view->passed_seq ? newest : view->passed_seq;
}

void view_look_again(struct view *view)
{
	const struct stream *stream = view->stream;
	for (struct view *v = view; v && v != &stream->native; v = view_from(v)) {
		v->passed_seq = 0;
		/* nothing is to be made of a frame from before */
		if (v != view && !view_is_current(v))
			view_forget_newest(v);
	}
	if (stream->supply)
		stream->supply->attached(stream->supply_data, view);
}

void view_catch_up(struct view *view, struct subscriber *s)
{
	subscriber_catch_up(s);
	if (s->is_owed)
		view_look_again(view);
}
