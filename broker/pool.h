/*
 * The slots of one generation: who writes, who holds, which is the newest, and which is taken back
 * when the writer needs one. Decides only: no memory, no socket, no allocation.
 *
 *	free ──acquire──▶ writing ──publish──▶ ready ──newer frame──▶ held ──last hold dropped──▶ free
 *	                     └────abandon────▶ free       (no holds: straight to free)
 *
 * A held slot whose holds are all shared is revoked when the writer finds no free one: oldest first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broker/frame.h"
#include "common/list.h"

enum {
	POOL_SLOTS_MAX = 64,
	POOL_SLOTS_MIN = 4,
	/* what the writer must always find: one being written, the newest, and one to write next */
	POOL_UNRESERVED_MIN = 3,
};

enum slot_state {
	SLOT_FREE,
	SLOT_WRITING,
	SLOT_READY, /* published, the newest */
	SLOT_HELD,  /* published, not the newest any more, somebody holds it */
	SLOT_STATES,
};

struct slot {
	enum slot_state state;
	unsigned index;
	uint64_t seq;  /* of the frame in it, 0: none yet */
	bool complete; /* published, and its pixels are there; else the GPU is still writing them */
	int sync_fd;   /* until it is complete: a sync_file that says when; -EBADF: none */
	struct frame_info info;
	struct list holds; /* hold::in_slot */
	unsigned n_reserved;
};

struct hold;

/* The slot is about to be written: tell the reader. The hold is dropped already. */
typedef void (*pool_revoke_fn)(struct hold *hold);

/* One reader's claim on one slot. Owned by the reader. */
struct hold {
	struct list in_slot;
	struct slot *slot;     /* NULL: holds nothing */
	bool reserved;         /* never revoked */
	pool_revoke_fn revoke; /* NULL: the pool's */
};

struct pool {
	unsigned n_slots;
	struct slot slots[POOL_SLOTS_MAX];
	struct slot *newest; /* NULL before the first frame */
	pool_revoke_fn revoke;
};

enum pool_result {
	POOL_OK = 0,
	POOL_FULL = 1, /* every slot is being written, the newest, or reserved */
};

/* n_slots from POOL_SLOTS_MIN to POOL_SLOTS_MAX (asserted). */
void pool_init(struct pool *pool, unsigned n_slots, pool_revoke_fn revoke);

/* Every hold is dropped without a word: the generation ends, its memory stays with who mapped it. */
void pool_finish(struct pool *pool);

/**
 * Lend a slot to the writer: a free one (the one free for longest), else the oldest held one, whose
 * shared holds are revoked.
 *
 * slot_out  [lend] until pool_publish() or pool_abandon(); untouched unless POOL_OK
 */
enum pool_result pool_acquire(struct pool *pool, struct slot **slot_out);

/* The slot holds frame `seq` now and is the newest. */
void pool_publish(
	struct pool *pool, struct slot *slot, uint64_t seq, const struct frame_info *info);

/* There is no newest frame any more; who holds it keeps it. */
void pool_forget_newest(struct pool *pool);

/* The writer has no frame after all. */
void pool_abandon(struct slot *slot);

/* Hold a published slot, shared. hold [borrow] until pool_drop(), the revoke callback, or
 * pool_finish(). */
void pool_hold(struct hold *hold, struct slot *slot);

/* The hold is never revoked from now on. That as many fit was seen to when the reader came. */
void pool_reserve(struct hold *hold);

/* Drop a hold; nothing if it holds nothing. */
void pool_drop(struct hold *hold);

#ifdef SLUICE_FAULTS
/* Test: reuse a held slot without a word, so that the stamp check of the readers must fail. */
extern bool pool_fault_early_reuse;
#endif
