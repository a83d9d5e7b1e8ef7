/*
 * A subscription, and the frames that came for it.
 *
 *	subscribing ──Subscribed──▶ active ──Ended──▶ ended
 *	  ▲  │  │                     │
 *	  │  │  └──refused──▶ ended   └──session lost──▶ down (SLUICE_RECONNECT), else ended
 *	  │  └─no such stream─▶ missing                   │
 *	  └──────stream came──────┘◀──────────────────────┘ session is back
 *
 * A frame is waiting, then held by the user, then unused again. Its pixels are those of a mapping,
 * to which it has a reference. One that is orphaned is of no session or subscription that still
 * lives: its release is told to nobody.
 */
#pragma once

#include <stdatomic.h>

#include "common/list.h"
#include "consumer/error.h"
#include "consumer/mapping.h"

enum {
	/* those held from a lost session, and those that the next one grants */
	VIEW_FRAMES = 2 * WIRE_HOLDS_MAX,
};

enum view_state {
	VIEW_SUBSCRIBING, /* Subscribe is sent */
	VIEW_ACTIVE,
	VIEW_MISSING, /* the broker is back, the stream is not yet */
	VIEW_DOWN,    /* no session */
	VIEW_ENDED,   /* result and error say why */
};

struct frame {
	struct sluice_frame pub; /* what the user sees */
	struct list link;        /* sluice_view::waiting, ::held or ::unused */
	struct sluice_view *view;
	struct mapping *mapping; /* NULL: unused */
	unsigned slot;
	bool is_orphan;
	_Atomic bool is_revoked;
};

struct sluice_view {
	struct list link; /* sluice::views */
	struct sluice *conn;
	enum view_state state;
	bool is_abandoned; /* the user has let go of it; frames or an answer are still out */
	bool was_active;   /* the user has it: losing the session is no failure to subscribe */
	char stream[WIRE_NAME_MAX + 1];
	struct sluice_view_request request;
	uint32_t number; /* of the Subscribe that was sent last */
	uint32_t id;     /* the broker's, while active */
	unsigned max_holds;
	unsigned n_lent; /* frames of this session that the broker waits for */
	struct mapping *mapping;
	uint64_t last_seq;   /* 0: none yet in this subscription */
	struct list waiting; /* frame::link, oldest first */
	struct list held;
	struct list unused;
	unsigned n_waiting;
	unsigned n_held;
	int result;
	struct error error;
	struct sluice_view_stats stats;
	struct frame frames[VIEW_FRAMES];
};

/* Handlers of session.c. 0, or negative: the connection ends. */
int view_on_subscribed(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
int view_on_generation(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
int view_on_ended(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
int frame_on_frame(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
int frame_on_revoked(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);

/* A Subscribe was refused. True if it was one of ours. */
bool views_on_refused(
	struct sluice *conn, uint32_t request, enum sluice_error_code code, const char *text);

/* The session begins: subscribe again. */
void views_on_up(struct sluice *conn);

/* The session is lost. will_retry: views wait for the next one. */
void views_on_lost(struct sluice *conn, bool will_retry);

/* A stream is there: those who miss it subscribe. */
void views_on_stream(struct sluice *conn, const char *name);

/* Would a view like to know when its stream comes? */
bool views_want_watch(const struct sluice *conn);

/* Frames that users can take now. */
int views_ready(const struct sluice *conn);

/* Everything, frames that are held included. */
void views_destroy(struct sluice *conn);

/**
 * The view that a message is about.
 *
 * view_out  NULL: one that was unsubscribed while the message was on its way: ignore it
 *
 * 0 or -EPROTO.
 */
int view_find(struct sluice *conn, uint32_t id, struct sluice_view **view_out);

/* Frees it if nothing of it is out any more. */
void view_reap(struct sluice_view *view);

/* --- frame.c ----------------------------------------------------------------------------------*/

void frames_init(struct sluice_view *view);

/* Drop those that wait, without a word to the broker. */
void frames_drop_waiting(struct sluice_view *view);

/* What is out is told to nobody when it comes back. */
void frames_orphan(struct sluice_view *view);

/* Is this generation one that frames are still of? */
bool frames_use_generation(const struct sluice_view *view, uint32_t generation);
