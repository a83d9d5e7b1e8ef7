/*
 * A named source of frames, and its views: the forms in which its frames are lent. Holds the state,
 * hands out slots to the one writer, and offers each published frame to every subscriber.
 */
#pragma once

#include "broker/fanout.h"
#include "broker/generation.h"
#include "common/histogram.h"

enum { STREAM_NAME_MAX = 64, STREAM_TEXT_MAX = 512, STREAM_SOURCE_MAX = 256 };

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

/* One form of a stream's frames. The stream's own form is its native view. */
struct view {
	uint32_t id; /* unique in this broker, from 1 */
	struct stream *stream;
	unsigned n_slots;
	struct memory_budget *budget;
	struct generation *generation; /* NULL before the first format */
	uint64_t next_seq;             /* of the next frame, from 1, never reset */
	struct list subscribers;       /* subscriber::link */
	unsigned n_subscribers;
	unsigned reserved; /* holds that are never revoked, of all subscribers together */
	struct view_counts counts;
	struct histogram copy; /* captured to copied */
	char reason[STREAM_TEXT_MAX + 1];
};

/* Told of changes by whoever wired the stream up. */
struct stream_listener {
	/* State, text or format are new: for those who watch. */
	void (*changed)(void *data, struct stream *stream);
	/* A subscriber of the view must be told of its generation (again). May make it leave. */
	void (*rebind)(void *data, struct view *view, struct subscriber *s);
};

struct stream {
	char name[STREAM_NAME_MAX + 1];
	char source[STREAM_SOURCE_MAX + 1];
	enum stream_state state;
	char text[STREAM_TEXT_MAX + 1];
	struct view native;
	const struct stream_listener *listener;
	void *listener_data;
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

/* Every subscriber must have left (asserted). */
void stream_finish(struct stream *stream);

/* Waiting, with a sentence why, or live with "". Tells the listener of a change. */
void stream_set_state(struct stream *stream, enum stream_state state, const char *text);

/**
 * The frames to come have this format: a new generation, unless it is the same. Every subscriber is
 * detached and rebound. No slot may be in the writer's hands.
 *
 * 0, or what generation_create() returns: then the view has no generation, and says why.
 */
int view_configure(struct view *view, const struct video_format *format);

/**
 * A slot to write the next frame into; its readers find its frame gone from now on.
 *
 * slot_out  [lend] until view_publish() or pool_abandon()
 * seq_out   the number that the frame will have
 *
 * POOL_OK or POOL_FULL (counted). The view must have a generation.
 */
enum pool_result view_begin(struct view *view, struct slot **slot_out, uint64_t *seq_out);

/* The slot is written: offer it to every subscriber. info->published_ns is set here. */
void view_publish(struct view *view, struct slot *slot, struct frame_info *info);

/**
 * Subscribe. s [borrow] initialised, until view_leave().
 *
 * 0, or -EBUSY: the holds or the queue cannot be granted; the sentence has the figures.
 */
int view_join(struct view *view, struct subscriber *s, char *text, size_t text_size);

/* Detaches, gives back what was reserved, finishes s. */
void view_leave(struct view *view, struct subscriber *s);

/* Its generation has arrived at the client: offer frames from now on. Stale ids do nothing. */
void view_bound(struct view *view, struct subscriber *s, uint32_t generation);

/* The newest frame is for nobody any more: its source is gone. New subscribers wait for the next. */
void view_forget_newest(struct view *view);
