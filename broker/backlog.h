/*
 * Frames of one view that are still to be brought into another, oldest first: where somebody wants every
 * frame, one that comes while the one before is being converted must not be lost. Bounded, and never in
 * the writer's way: their slots are held as any reader's, and taken back when the writer needs one.
 */
#pragma once

#include "broker/pool.h"

enum { BACKLOG_MAX = 4 };

struct backlog {
	const void *from;  /* whose frames they are */
	uint64_t last_seq; /* added last */
	unsigned n;
	struct hold hold[BACKLOG_MAX]; /* by age; slot NULL: it was taken back */
	uint64_t lost;                 /* taken back, or pushed out by newer ones */
};

void backlog_init(struct backlog *backlog);

/* All holds are dropped; not counted as lost. */
void backlog_clear(struct backlog *backlog);

/* Add a published frame, unless it was added before. from [borrow] whose it is: frames of others are
 * forgotten. */
void backlog_add(struct backlog *backlog, const void *from, struct slot *slot);

/* The oldest frame that is newer than this one; what is older is dropped. NULL: there is none. */
struct slot *backlog_first(struct backlog *backlog, uint64_t than_seq);

/* The one that backlog_first() named is held by somebody else now. */
void backlog_drop_first(struct backlog *backlog);
