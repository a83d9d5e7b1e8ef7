#include "broker/pool.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

/* Unused where asserts are compiled out. */
static const unsigned slot_next[SLOT_STATES] __attribute__((unused)) = {
	[SLOT_FREE] = 1u << SLOT_WRITING,
	[SLOT_WRITING] = 1u << SLOT_READY | 1u << SLOT_FREE,
	[SLOT_READY] = 1u << SLOT_HELD | 1u << SLOT_FREE,
	[SLOT_HELD] = 1u << SLOT_FREE,
};

static void slot_set_state(struct slot *slot, enum slot_state state)
{
	assert(slot_next[slot->state] & 1u << state);
	slot->state = state;
}

void pool_init(struct pool *pool, unsigned n_slots, pool_revoke_fn revoke)
{
	assert(n_slots >= POOL_SLOTS_MIN && n_slots <= POOL_SLOTS_MAX);
	*pool = (struct pool){ .n_slots = n_slots, .revoke = revoke };
	for (unsigned i = 0; i < n_slots; i++) {
		pool->slots[i].index = i;
		pool->slots[i].sync_fd = -EBADF;
		list_init(&pool->slots[i].holds);
	}
}

static void detach(struct hold *hold)
{
	list_remove(&hold->in_slot);
	hold->slot->n_reserved -= hold->reserved;
	hold->slot = NULL;
}

void pool_finish(struct pool *pool)
{
	for (unsigned i = 0; i < pool->n_slots; i++) {
		struct hold *hold, *next;
		list_for_each_safe(hold, next, &pool->slots[i].holds, in_slot)
			detach(hold);
	}
	pool->newest = NULL;
}

static struct slot *oldest_in_state(struct pool *pool, enum slot_state state)
{
	struct slot *oldest = NULL;
	for (unsigned i = 0; i < pool->n_slots; i++) {
		struct slot *slot = &pool->slots[i];
		if (slot->state != state || slot->n_reserved > 0)
			continue;
		if (!oldest || slot->seq < oldest->seq)
			oldest = slot;
	}
	return oldest;
}

/* The reader's callback finds its hold dropped, and must not drop others. */
static void revoke_all(struct pool *pool, struct slot *slot)
{
	struct hold *hold;
	while ((hold = list_first(&slot->holds, struct hold, in_slot))) {
		detach(hold);
		(hold->revoke ? hold->revoke : pool->revoke)(hold);
	}
	slot_set_state(slot, SLOT_FREE);
}

#ifdef SLUICE_FAULTS
bool pool_fault_early_reuse;

/* The holds stay where they are: their readers go on reading what is overwritten. */
static struct slot *steal_held(struct pool *pool)
{
	if (!pool_fault_early_reuse)
		return NULL;
	struct slot *slot = oldest_in_state(pool, SLOT_HELD);
	if (slot)
		slot_set_state(slot, SLOT_FREE);
	return slot;
}
#else
static struct slot *steal_held(struct pool *pool)
{
	(void)pool;
	return NULL;
}
#endif

enum pool_result pool_acquire(struct pool *pool, struct slot **slot_out)
{
	struct slot *slot = steal_held(pool);
	if (!slot)
		slot = oldest_in_state(pool, SLOT_FREE);
	if (!slot) {
		slot = oldest_in_state(pool, SLOT_HELD);
		if (!slot)
			return POOL_FULL;
		revoke_all(pool, slot);
	}
	slot_set_state(slot, SLOT_WRITING);
	slot->complete = false;
	*slot_out = slot;
	return POOL_OK;
}

void pool_forget_newest(struct pool *pool)
{
	struct slot *slot = pool->newest;
	if (slot)
		slot_set_state(slot, list_empty(&slot->holds) ? SLOT_FREE : SLOT_HELD);
	pool->newest = NULL;
}

void pool_publish(struct pool *pool, struct slot *slot, uint64_t seq, const struct frame_info *info)
{
	pool_forget_newest(pool);
	slot_set_state(slot, SLOT_READY);
	slot->seq = seq;
	slot->info = *info;
	pool->newest = slot;
}

void pool_abandon(struct slot *slot)
{
	slot_set_state(slot, SLOT_FREE);
}

void pool_hold(struct hold *hold, struct slot *slot)
{
	assert(!hold->slot);
	assert(slot->state == SLOT_READY || slot->state == SLOT_HELD);
	hold->slot = slot;
	hold->reserved = false;
	list_insert(&slot->holds, &hold->in_slot);
}

void pool_reserve(struct hold *hold)
{
	assert(hold->slot && !hold->reserved);
	hold->reserved = true;
	hold->slot->n_reserved++;
}

void pool_drop(struct hold *hold)
{
	struct slot *slot = hold->slot;
	if (!slot)
		return;
	detach(hold);
	if (slot->state == SLOT_HELD && list_empty(&slot->holds))
		slot_set_state(slot, SLOT_FREE);
}
