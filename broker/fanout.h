/*
 * What one subscriber gets of a view's frames: its queue, its holds, and the counts. Decides only;
 * the session that owns it sends. No allocation after subscriber_init().
 *
 * A lease is one frame's way through one subscriber:
 *
 *	waiting ──sent──▶ lent ──released──▶ (gone)
 *	   │                └──revoked──▶ revoked ──released──▶ (gone)
 *	   └─ replaced (mailbox: skipped), pushed out (fifo: dropped), revoked (dropped)
 *
 * A subscriber with a maximum frame rate is not offered every frame: the times of their pictures
 * decide, so that those it gets are as evenly spaced as the stream allows. The newest one is offered
 * in any case, later, if no other comes.
 *
 * Lent and revoked leases both count against max_holds: a client that does not read its socket gets
 * a bounded number of messages.
 */
#pragma once

#include "broker/pool.h"
#include "common/histogram.h"

enum {
	FANOUT_HOLDS_MAX = 16,
	FANOUT_FIFO_MAX = 32,
	FANOUT_LEASES = FANOUT_HOLDS_MAX + FANOUT_FIFO_MAX,
};

enum fanout_delivery {
	FANOUT_MAILBOX, /* the newest frame waits */
	FANOUT_FIFO,    /* up to fifo_depth frames wait */
};

enum fanout_result {
	FANOUT_OK = 0,
	FANOUT_WAS_REVOKED = 1, /* release: of a frame that was taken back before */
	FANOUT_NOT_HELD = 2,    /* release: of a frame that it does not have */
	FANOUT_SOCKET_FULL = 3, /* send: the client does not read; drop the frame */
};

enum lease_state { LEASE_WAITING, LEASE_LENT, LEASE_REVOKED };

struct lease {
	struct list link; /* subscriber::waiting, ::lent or ::unused */
	struct hold hold;
	struct subscriber *subscriber;
	enum lease_state state;
	uint32_t generation;
	unsigned slot;
	uint64_t seq;
	uint64_t published_ns;
	uint64_t sent_ns;
	uint64_t paced; /* frames left out before it */
};

struct subscriber;
struct gpu_timeline; /* opaque here */

struct subscriber_ops {
	/* Tell the client of a frame. FANOUT_OK, FANOUT_SOCKET_FULL, or negative errno: it is gone. */
	int (*send)(struct subscriber *s, const struct lease *lease, const struct frame_info *info);
	/* Tell the client that a lent frame is taken back. */
	void (*revoked)(struct subscriber *s, const struct lease *lease);
	/* Call subscriber_catch_up() in so long; once, the last one counts. NULL if there is no
	 * maximum frame rate. */
	void (*defer)(struct subscriber *s, uint64_t wait_ns);
};

struct subscriber_options {
	enum fanout_delivery delivery;
	unsigned fifo_depth;      /* 1 to FANOUT_FIFO_MAX for FANOUT_FIFO */
	unsigned max_holds;       /* 1 to FANOUT_HOLDS_MAX */
	bool reserved;            /* holds are never revoked */
	uint64_t min_interval_ns; /* of the pictures that it is offered, on average; 0: all */
};

struct subscriber_counts {
	uint64_t sent;
	uint64_t skipped; /* mailbox: replaced by a newer one before it was sent */
	uint64_t dropped; /* pushed out of the queue, revoked in it, or the socket was full */
	uint64_t revoked; /* taken back while lent */
	uint64_t paced;   /* left out for the sake of its maximum frame rate */
};

/* What is known of the times of the pictures. */
struct pace {
	uint64_t due_ns;   /* the next picture should be of this time; 0: any */
	uint64_t last_ns;  /* when the last picture was of, offered or not; 0: there was none */
	uint64_t usual_ns; /* from one picture of the stream to the next */
};

struct subscriber {
	struct list link; /* view::subscribers */
	struct subscriber_options options;
	const struct subscriber_ops *ops;
	bool early;       /* gets frames when their GPU work is submitted, not when it has ended */
	bool on_timeline; /* of these: each submission signals its timeline */
	struct gpu_timeline *timeline; /* NULL: none yet */
	struct pool *pool; /* of the generation it gets now; NULL: none, nothing is offered */
	uint32_t generation;
	uint64_t offered_seq; /* the last frame that was offered or left out; 0: none */
	struct pace pace;
	bool is_behind;      /* the newest frame was left out */
	bool is_owed;        /* ..., it is time for it, and it is still to be made */
	uint64_t paced;      /* frames left out since the last lease */
	struct list waiting; /* lease::link, oldest first */
	struct list lent;    /* lease::link, oldest first: lent and revoked */
	struct list unused;  /* lease::link */
	unsigned n_waiting;
	unsigned n_lent;
	struct subscriber_counts counts;
	struct lease leases[FANOUT_LEASES];
};

void subscriber_init(struct subscriber *s, const struct subscriber_options *options,
	const struct subscriber_ops *ops);

/* All holds are dropped, none is reported. */
void subscriber_finish(struct subscriber *s);

/* From now on frames of this generation are offered; the newest at once if it is complete: of one
 * that the GPU still writes, the subscriber had no part in the submission. pool [borrow]. */
void subscriber_attach(struct subscriber *s, struct pool *pool, uint32_t generation);

/* The generation ends: waiting frames are dropped, lent ones stay readable until released. The newest, if it was
 * left out, is offered before. */
void subscriber_detach(struct subscriber *s);

/* A frame of the generation that is attached may be had: sends it, or lets it wait. Nothing if it was
 * offered before. */
void subscriber_offer(struct subscriber *s, struct slot *slot);

/* It is time to offer the newest frame, if that was left out. If it was never made the subscriber is owed it. */
void subscriber_catch_up(struct subscriber *s);

/* Would it have a frame of this number and time, or wait for a later one? */
bool subscriber_is_due(const struct subscriber *s, uint64_t seq, uint64_t pts_ns);

/* It is not due, and so the frame is not made at all. Nothing if it was offered or left out before. */
void subscriber_leave_out(struct subscriber *s, uint64_t seq, uint64_t pts_ns);

/**
 * The client gives a frame back. Waiting frames take its place.
 *
 * published_ns_out  when it was published; untouched if FANOUT_NOT_HELD
 */
enum fanout_result subscriber_release(struct subscriber *s, uint32_t generation, unsigned slot,
	uint64_t seq, uint64_t *published_ns_out);

/* What pool_init() takes: a hold of a subscriber is revoked. */
void subscriber_on_revoke(struct hold *hold);

/* When the oldest frame that is still held in the pool was sent; 0: none is. */
uint64_t subscriber_oldest_hold_ns(const struct subscriber *s);
