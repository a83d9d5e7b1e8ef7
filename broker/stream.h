/*
 * A named source of frames, and its views: the forms in which its frames are lent. Holds the state,
 * hands out slots to the one writer, and offers each published frame to every subscriber.
 */
#pragma once

#include "broker/fanout.h"
#include "broker/form.h"
#include "broker/generation.h"
#include "common/histogram.h"

enum {
	STREAM_NAME_MAX = 64,
	STREAM_TEXT_MAX = 512,
	STREAM_SOURCE_MAX = 256,
	STREAM_CONVERTED_MAX = 8, /* converted views */
	VIEW_READ_MIN =
		2, /* slots of a view that others can be made of at one time, whatever is reserved */
};

enum stream_state {
	STREAM_WAITING, /* its source is not there (yet, or no more): text says why */
	STREAM_LIVE,
};

struct view_counts {
	uint64_t published;
	uint64_t no_slot;    /* frames lost because no slot was free */
	uint64_t refused;    /* captured frames that were not fit to be published */
	uint64_t superseded; /* captured frames that a newer one replaced before the copy */
};

/*
 * One form of a stream's frames. The stream's own form is its native view; its mirror is the same
 * picture in the other kind of memory, made only while somebody wants it. Converted views have
 * another format or size; each is made from one of these two, or from a converted view of the same
 * form in the other kind of memory, while somebody wants it.
 *
 * A view is wanted while it has subscribers, or a view that is made from it is wanted.
 */
struct view {
	struct list link; /* stream::converted */
	uint32_t id;      /* unique in this broker, from 1 */
	struct stream *stream;
	unsigned n_slots;
	struct slot_source source;
	struct generation *generation; /* NULL before the first format, and while nobody wants it */
	struct list subscribers;       /* subscriber::link */
	unsigned n_subscribers;
	struct form form;      /* converted: what was asked for */
	struct view *from;     /* converted: what it is made from while it is wanted, else NULL */
	unsigned n_dependents; /* wanted views that are made from it */
	unsigned reserved;     /* holds that are never revoked, of all subscribers together */
	bool is_in_making;     /* stream_supply::wanted is asked for it: nobody may free it */
	uint64_t passed_seq;   /* frames up to this are not to be made for it; 0: none */
	bool was_returned;     /* the newest frame was given back by all before it was complete */
	struct view_counts counts;
	struct histogram copy;            /* captured to copied */
	char reason[STREAM_TEXT_MAX + 1]; /* why it runs as it does, or why not */
};

/* Told of changes by whoever wired the stream up. */
struct stream_listener {
	/* State, text or format are new: for those who watch. */
	void (*changed)(void *data, struct stream *stream);
	/* A subscriber of the view must be told of its generation (again). May make it leave. */
	void (*rebind)(void *data, struct view *view, struct subscriber *s);
	/* Nobody can have the view any more: end the subscription. It leaves. */
	void (*end)(void *data, struct view *view, struct subscriber *s, const char *reason);
};

/* Told who wants which view: the one who makes the frames. */
struct stream_supply {
	/* The view is about to be wanted: all but the native one get a generation here, if the format
	 * is known. 0, or negative errno: view->reason says why it cannot be had. */
	int (*wanted)(void *data, struct view *view);
	/* It is wanted no more. */
	void (*unwanted)(void *data, struct view *view);
	/* A converted view that nobody wants is about to be freed. */
	void (*forget)(void *data, struct view *view);
	/* A subscriber was attached, or is owed a frame, and the view's newest one may be old. */
	void (*attached)(void *data, struct view *view);
	/* A picture is just being brought into it, or made from it: to free it would wait for that. */
	bool (*is_busy)(void *data, const struct view *view);
	/* The newest frame was with somebody, and is with nobody any more. */
	void (*returned)(void *data, struct view *view);
};

struct stream {
	char name[STREAM_NAME_MAX + 1];
	char source[STREAM_SOURCE_MAX + 1];
	enum stream_state state;
	char text[STREAM_TEXT_MAX + 1];
	struct view native;
	struct view mirror;    /* source.ops NULL: there is none */
	struct list converted; /* view::link, the one that was made last at the end */
	unsigned n_converted;
	uint64_t next_seq;                  /* of the next frame, from 1, never reset */
	bool is_over;                       /* nobody can have its frames any more: text says why */
	char gpu_text[STREAM_TEXT_MAX + 1]; /* why there is no view in GPU memory */
	const struct stream_listener *listener;
	void *listener_data;
	const struct stream_supply *supply; /* NULL: none yet, or no more */
	void *supply_data;
};

/**
 * name, source  [borrow] copied, cut at their limits
 * n_slots       of each generation to come
 * budget        [borrow] until stream_finish()
 * listener      [borrow] until stream_finish()
 */
void stream_init(struct stream *stream, const char *name, const char *source, unsigned n_slots,
	struct memory_budget *budget);

void stream_set_listener(
	struct stream *stream, const struct stream_listener *listener, void *listener_data);

/* Native frames come from here, those of the mirror from there. Before the first format. */
void stream_set_memory(
	struct stream *stream, const struct slot_source *native, const struct slot_source *mirror);

/* The mirror's alone, at any time: it has no generation. */
void stream_set_mirror(struct stream *stream, const struct slot_source *mirror);

/* supply NULL: whoever made the frames is gone. */
void stream_set_supply(
	struct stream *stream, const struct stream_supply *supply, void *supply_data);

/* The view that is in this kind of memory; NULL: there is none. */
struct view *stream_view(struct stream *stream, enum memory_kind kind);

bool view_is_converted(const struct view *view);

/* What a view is made from: of the native view and the mirror the other one; NULL: nothing, or nothing
 * now. */
struct view *view_from(struct view *view);

/* Is it, or anything that is made from it, for anybody? */
bool view_is_wanted(const struct view *view);

/* The converted view of this form in this kind of memory; NULL: there is none. */
struct view *stream_find_converted(
	struct stream *stream, const struct form *form, enum memory_kind kind);

/**
 * Make one; the stream can be had in this kind of memory. If there are too many, one that nobody wants
 * goes; not one that is busy, which would be waited for. NULL: there is no place, or no memory. [lend] until it is forgotten, which is not while
 * it is wanted.
 */
struct view *stream_add_converted(
	struct stream *stream, const struct form *form, enum memory_kind kind);

/* It goes, unless it is wanted or about to be. Takes views that are not converted, which stay. */
void stream_forget_converted(struct view *view);

/* The same, unless it is busy: then nothing happens. True: it went. */
bool stream_forget_idle(struct view *view);

/* ..., of all of them. True: some went, and their memory is free. */
bool stream_forget_all_idle(struct stream *stream);

/**
 * A converted view is to be made from this one, which is wanted for that. It had nothing.
 *
 * 0, -EBUSY: of the slots too many are reserved; or what stream_supply::wanted returns. view->reason
 * says why.
 */
int view_depend(struct view *view, struct view *from);

/* It is not any more. Takes one that depends on nothing. */
void view_undepend(struct view *view);

/* Every subscriber must have left (asserted). */
void stream_finish(struct stream *stream);

/* Waiting, with a sentence why, or live with "". Tells the listener of a change. */
void stream_set_state(struct stream *stream, enum stream_state state, const char *text);

/* All its views end for this reason; the converted ones are freed. */
void stream_end_views(struct stream *stream, const char *reason);

/* What makes its frames has failed for good, for this reason: all views end, and nobody can subscribe until
 * there is another source of memory or a new format. No writer may have a slot. */
void stream_give_up(struct stream *stream, const char *reason);

/**
 * The frames to come have this format: a new generation, unless it is the same. Every subscriber is
 * detached and rebound. No slot may be in the writer's hands.
 *
 * 0, or what generation_create() returns: then the view has no generation, and says why.
 */
int view_configure(struct view *view, const struct video_format *format);

/* Nobody can have the view any more, for this reason: every subscriber is told, it has no generation. */
void view_end(struct view *view, const char *reason);

/* The generation goes; no writer may have it. Subscribers are detached, and wait for another. */
void view_release(struct view *view);

/**
 * A slot to write a frame into; its readers find its frame gone from now on.
 *
 * slot_out  [lend] until view_publish() or view_abandon()
 *
 * POOL_OK or POOL_FULL (counted). The view must have a generation.
 */
enum pool_result view_begin(struct view *view, struct slot **slot_out);

/* Take the number of the next frame; it may be given back if no later one was taken meanwhile. */
uint64_t stream_take_seq(struct stream *stream);
void stream_return_seq(struct stream *stream, uint64_t seq);

/**
 * The GPU will write the slot: offer it to those who wait for that themselves.
 *
 * info     copied_ns 0
 * sync_fd  [take] says when, -EBADF: nothing does
 */
void view_submit(
	struct view *view, struct slot *slot, uint64_t seq, struct frame_info *info, int *sync_fd);

/* The slot is written: offer it to every subscriber that was not offered it at its submission.
 * info->published_ns is set here. */
void view_publish(struct view *view, struct slot *slot, uint64_t seq, struct frame_info *info);

/* The writer has no frame after all. */
void view_abandon(struct view *view, struct slot *slot);

/* The number of the newest frame in the view; 0: there is none. */
uint64_t view_newest_seq(const struct view *view);

/* Does somebody want every frame, of it or of a view that is made from it? Else the newest is enough. */
bool view_wants_every(const struct view *view);

/* Is a frame in the view as new as any that the stream has in its own form? */
bool view_is_current(const struct view *view);

/**
 * Subscribe. s [borrow] initialised, until view_leave().
 *
 * 0, or -EBUSY: the holds or the queue cannot be granted; the sentence has the figures.
 */
int view_join(struct view *view, struct subscriber *s, char *text, size_t text_size);

/* Detaches, gives back what was reserved, finishes s. */
void view_leave(struct view *view, struct subscriber *s);

/* Its generation has arrived at the client: offer frames from now on, beginning with the newest.
 * Stale ids do nothing. */
void view_bound(struct view *view, struct subscriber *s, uint32_t generation);

/* Are frames made for it now? The native view has every frame, unless it is not wanted, but its GPU mirror
 * is. */
bool view_is_running(const struct view *view);

/* A client of the view has given a frame back. */
void view_returned(struct view *view);

/* The newest frame is complete and its writer idle: the supply hears now of what view_returned() could not
 * tell before that. */
void view_settled(struct view *view);

/* The newest frame is for nobody any more: its source is gone. New subscribers wait for the next. One
 * that the GPU still writes stays: whoever subscribes is not offered it. */
void view_forget_newest(struct view *view);

/* Of all views. */
void stream_forget_newest(struct stream *stream);
