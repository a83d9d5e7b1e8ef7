/*
 * A subscription, and the frames that came for it.
 *
 *	subscribing ──Subscribed──▶ active ──Ended──▶ ended
 *	  ▲  │  │                     │  │
 *	  │  │  └──refused──▶ ended   │  └─import failed─▶ failed ──after a while──▶ subscribing
 *	  │  └─no such stream─▶ missing  └──session lost──▶ down (SLUICE_RECONNECT), else ended
 *	  │                     │                          │
 *	  └──stream came────────┘◀─────────────────────────┘ session is back
 *
 * Where GPU memory cannot be had, a view with SLUICE_HOST_FALLBACK subscribes again, to host memory,
 * and stays with that.
 *
 * A frame is waiting, then held by the user, then unused again; one with a ticket is held until the
 * driver has called it. Its pixels are those of a mapping, to which it has a reference. One that is
 * orphaned is of no session or subscription that still lives: its release is told to nobody.
 */
#pragma once

#include <stdatomic.h>

#include "common/backoff.h"
#include "common/list.h"
#include "consumer/error.h"
#include "consumer/mapping.h"
#include "consumer/ticket.h"

enum {
	/* those held from a lost session, and those that the next one grants */
	VIEW_FRAMES = 2 * WIRE_HOLDS_MAX,
};

enum view_state {
	VIEW_SUBSCRIBING, /* Subscribe is sent */
	VIEW_ACTIVE,
	VIEW_FAILED,  /* its memory could not be imported: again at backoff.retry_ns */
	VIEW_MISSING, /* the broker is back, the stream is not yet */
	VIEW_DOWN,    /* no session */
	VIEW_ENDED,   /* result and error say why */
};

struct frame {
	struct sluice_frame pub; /* what the user sees */
	struct list link;        /* sluice_view::waiting, ::held or ::unused */
	struct sluice_view *view;
	struct mapping *mapping; /* NULL: unused */
	struct ticket *ticket;   /* its release waits for GPU work; NULL: it does not */
	unsigned slot;
	bool is_orphan;
	bool is_waited_for; /* a stream of the user waits for the timeline */
	_Atomic bool is_revoked;
};

struct sluice_view {
	struct list link; /* sluice::views */
	struct sluice *conn;
	enum view_state state;
	bool is_abandoned;    /* the user has let go of it; frames or an answer are still out */
	bool was_active;      /* the user has it: losing the session is no failure to subscribe */
	bool is_reconnecting; /* the Subscribe that is sent is for a new session */
	unsigned epoch;       /* counts the subscriptions that are over */
	char stream[WIRE_NAME_MAX + 1];
	struct sluice_view_request request; /* its pointers are not valid any more */
	struct importer *importer;          /* of the memory that is asked for now */
	enum sluice_readiness readiness;    /* as asked for, when active as granted */
	char note[ERROR_TEXT_SIZE];
	uint32_t number; /* of the Subscribe that was sent last */
	uint32_t id;     /* the broker's, while active */
	unsigned max_holds;
	unsigned n_lent; /* frames of this session that the broker waits for */
	struct mapping *mapping;
	struct mapping *taken; /* that of the last frame taken, if it is GPU memory; NULL: none */
	struct mapping *outgoing;  /* that of the one before, if it was another */
	struct error import_error; /* why the last import failed; empty text: it did not */
	struct backoff backoff;    /* of imports */
	uint64_t last_seq;         /* 0: none yet in this subscription */
	uint64_t left_off_seq;     /* the last of the one that this goes on from; 0: it is new */
	struct list waiting;       /* frame::link, oldest first */
	struct list held;
	struct list unused;
	unsigned n_waiting;
	unsigned n_held;
	unsigned n_tickets; /* of those held */
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

struct sluice_view *view_destroy(struct sluice_view *view);

/* --- As view.c, subscribe.c and bind.c share it -----------------------------------------------*/

/* Ask the broker; importer and request say for what. */
void view_send_subscribe(struct sluice_view *view);

/* Tell the broker that we want no more of it. */
void view_leave(struct sluice_view *view, enum view_state state);

/* Nothing more is told to the broker about this subscription. */
void view_detach(struct sluice_view *view, enum view_state state);

/* For good, for this reason. */
void view_end(struct sluice_view *view, int result, enum sluice_error_code code, const char *text);

/* Nothing waits for the view's timelines any more, whatever the broker does. */
void view_free_waits(struct sluice_view *view);

/* As above, of all views: a stream may wait for frames of several. */
void views_free_waits(struct sluice *conn);

/* Once more, of those subscriptions that are over. */
void views_repeat_signals(struct sluice *conn);

/* --- bind.c -----------------------------------------------------------------------------------*/

/* May GPU memory become host memory, and is it not yet? */
bool view_can_fall_back(const struct sluice_view *view);

/* Subscribe to host memory, for this reason. The broker has ended or refused the view, or was told. */
void view_fall_back(struct sluice_view *view, const char *why);

/* The broker has ended a view whose memory could not be imported. */
void view_import_failed(struct sluice_view *view);

/* Subscribe again where it is time; set the timer for the next, and for mappings_leave(). */
void views_retry(struct sluice *conn);

/* --- frame.c ----------------------------------------------------------------------------------*/

void frames_init(struct sluice_view *view);

/* Drop those that wait, without a word to the broker. */
void frames_drop_waiting(struct sluice_view *view);

/* What is out is told to nobody when it comes back. */
void frames_orphan(struct sluice_view *view);

/* Is this generation one that frames are still of? */
bool frames_use_generation(const struct sluice_view *view, uint32_t generation);

/* Given back, or dropped: it is unused again. */
void frame_release(struct frame *frame);

/* Its memory, or the timeline that tells of it, does not hold its pixels any more. */
bool frame_is_gone(const struct frame *frame);

/* --- gpu_frame.c ------------------------------------------------------------------------------*/

/* Release the frames whose tickets were called. May free abandoned views. */
void frames_collect(struct sluice *conn);

/* Block until the GPU work has ended that frames were handed over with. */
void frames_settle(struct sluice_view *view);

/* As above, of all views, and nothing waits for the timelines of frames that are still held. */
void frames_finish(struct sluice *conn);
