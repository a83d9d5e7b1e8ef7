/* Who writes, who holds, what is taken back. */
#include "tests/test.h"

#include <string.h>

#include "broker/pool.h"
#include "tests/death.h"

enum { SLOTS = POOL_SLOTS_MIN };

static struct hold *revoked[16];
static unsigned n_revoked;

static void on_revoke(struct hold *hold)
{
	CHECK(hold->slot == NULL); /* dropped already */
	revoked[n_revoked++] = hold;
}

static struct slot *acquire(struct pool *pool)
{
	struct slot *slot = NULL;
	CHECK_EQ(pool_acquire(pool, &slot), POOL_OK);
	CHECK(slot != NULL && slot->state == SLOT_WRITING);
	return slot;
}

static struct slot *publish(struct pool *pool, uint64_t seq)
{
	struct frame_info info = { .pts_ns = seq * 10 };
	struct slot *slot = acquire(pool);
	pool_publish(pool, slot, seq, &info);
	return slot;
}

static unsigned count(const struct pool *pool, enum slot_state state)
{
	unsigned n = 0;
	for (unsigned i = 0; i < pool->n_slots; i++)
		n += pool->slots[i].state == state;
	return n;
}

TEST(a_published_slot_is_the_newest_until_the_next)
{
	struct pool pool;
	pool_init(&pool, SLOTS, on_revoke);
	CHECK(pool.newest == NULL);
	struct slot *first = publish(&pool, 1);
	CHECK(pool.newest == first && first->state == SLOT_READY && first->seq == 1);
	CHECK_EQ(first->info.pts_ns, 10);
	struct slot *second = publish(&pool, 2);
	CHECK(pool.newest == second && second != first);
	CHECK_EQ(first->state, SLOT_FREE); /* nobody holds it */
	pool_finish(&pool);
}

TEST(the_slot_that_is_free_for_longest_is_written_next)
{
	struct pool pool;
	pool_init(&pool, SLOTS, on_revoke);
	for (uint64_t seq = 1; seq <= 3 * SLOTS; seq++)
		CHECK_EQ(publish(&pool, seq)->index, (seq - 1) % SLOTS);
	CHECK_EQ(n_revoked, 0);
	pool_finish(&pool);
}

TEST(a_hold_keeps_its_slot_when_a_newer_frame_comes)
{
	struct pool pool;
	struct hold a = { 0 }, b = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *slot = publish(&pool, 1);
	pool_hold(&a, slot);
	pool_hold(&b, slot);
	publish(&pool, 2);
	CHECK_EQ(slot->state, SLOT_HELD);
	pool_drop(&a);
	CHECK_EQ(slot->state, SLOT_HELD);
	pool_drop(&b);
	CHECK_EQ(slot->state, SLOT_FREE);
	pool_drop(&b); /* holds nothing: nothing happens */
	CHECK(a.slot == NULL && b.slot == NULL);
	pool_finish(&pool);
}

TEST(a_hold_of_the_newest_frame_that_is_dropped_leaves_it_the_newest)
{
	struct pool pool;
	struct hold a = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *slot = publish(&pool, 1);
	pool_hold(&a, slot);
	pool_drop(&a);
	CHECK(slot->state == SLOT_READY && pool.newest == slot);
	pool_finish(&pool);
}

TEST(the_oldest_shared_hold_is_revoked_when_no_slot_is_free)
{
	struct pool pool;
	struct hold hold[SLOTS + 1][2] = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *slot = publish(&pool, i + 1);
		pool_hold(&hold[i][0], slot);
		pool_hold(&hold[i][1], slot);
	}
	CHECK_EQ(n_revoked, 0);
	CHECK_EQ(count(&pool, SLOT_HELD), SLOTS - 1);
	struct slot *slot = acquire(&pool);
	CHECK_EQ(n_revoked, 2); /* both holds of the oldest frame, and no other */
	CHECK(revoked[0] == &hold[0][0] && revoked[1] == &hold[0][1]);
	CHECK_EQ(slot->seq, 1);
	CHECK(hold[1][0].slot != NULL);
	pool_finish(&pool);
	CHECK_EQ(n_revoked, 2); /* without a word */
	CHECK(hold[1][0].slot == NULL);
}

TEST(a_free_slot_is_preferred_to_revoking)
{
	struct pool pool;
	struct hold hold[2] = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	pool_hold(&hold[0], publish(&pool, 1));
	pool_hold(&hold[1], publish(&pool, 2));
	publish(&pool, 3);
	publish(&pool, 4); /* 1 and 2 are held, 3 is free, 4 is the newest */
	CHECK_EQ(acquire(&pool)->seq, 3);
	CHECK_EQ(n_revoked, 0);
	pool_finish(&pool);
}

TEST(reserved_holds_are_never_revoked)
{
	struct pool pool;
	struct hold hold[3] = { 0 }, shared = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	pool_hold(&hold[0], publish(&pool, 1));
	pool_reserve(&hold[0]);
	pool_hold(&shared, hold[0].slot); /* of the same frame: stays as well */
	pool_hold(&hold[1], publish(&pool, 2));
	pool_hold(&hold[2], publish(&pool, 3));
	publish(&pool, 4);
	CHECK_EQ(acquire(&pool)->seq, 2); /* not 1, though it is older */
	CHECK_EQ(n_revoked, 1);
	CHECK(revoked[0] == &hold[1] && hold[0].slot && shared.slot);
	pool_finish(&pool);
}

TEST(a_dropped_reserved_hold_may_be_followed_by_a_revocation)
{
	struct pool pool;
	struct hold reserved = { 0 }, shared = { 0 }, other[SLOTS] = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *slot = publish(&pool, 1);
	pool_hold(&reserved, slot);
	pool_reserve(&reserved);
	pool_hold(&shared, slot);
	pool_drop(&reserved);
	CHECK_EQ(slot->n_reserved, 0);
	for (uint64_t seq = 2; seq <= SLOTS; seq++)
		pool_hold(&other[seq - 1], publish(&pool, seq));
	CHECK_EQ(acquire(&pool)->seq, 1);
	CHECK(n_revoked == 1 && revoked[0] == &shared);
}

TEST(a_pool_with_nothing_to_take_back_is_full)
{
	struct pool pool;
	struct hold hold[SLOTS] = { 0 };
	struct slot *slot = NULL;
	pool_init(&pool, SLOTS, on_revoke);
	for (unsigned i = 0; i < SLOTS; i++) {
		pool_hold(&hold[i], publish(&pool, i + 1));
		pool_reserve(&hold[i]);
	}
	CHECK_EQ(pool_acquire(&pool, &slot), POOL_FULL);
	CHECK(slot == NULL);
	pool_drop(&hold[2]);
	CHECK_EQ(acquire(&pool)->seq, 3);
	pool_finish(&pool);
}

TEST(the_newest_frame_is_never_written_into)
{
	struct pool pool;
	struct slot *slot[SLOTS];
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *newest = publish(&pool, 1);
	for (unsigned i = 0; i < SLOTS - 1; i++)
		CHECK((slot[i] = acquire(&pool)) != newest);
	CHECK_EQ(pool_acquire(&pool, &slot[SLOTS - 1]), POOL_FULL);
	pool_abandon(slot[0]);
	CHECK_EQ(slot[0]->state, SLOT_FREE);
	CHECK(acquire(&pool) == slot[0]);
	pool_finish(&pool);
}

TEST(a_forgotten_newest_frame_stays_with_who_holds_it)
{
	struct pool pool;
	struct hold hold = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	pool_forget_newest(&pool); /* there is none */
	struct slot *slot = publish(&pool, 1);
	pool_forget_newest(&pool);
	CHECK(pool.newest == NULL && slot->state == SLOT_FREE);
	slot = publish(&pool, 2);
	pool_hold(&hold, slot);
	pool_forget_newest(&pool);
	CHECK(pool.newest == NULL && slot->state == SLOT_HELD && hold.slot == slot);
	pool_drop(&hold);
	CHECK_EQ(slot->state, SLOT_FREE);
	pool_finish(&pool);
}

TEST(an_old_frame_that_is_held_may_be_held_again)
{
	struct pool pool;
	struct hold a = { 0 }, b = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *slot = publish(&pool, 1);
	pool_hold(&a, slot);
	publish(&pool, 2);
	pool_hold(&b, slot);
	pool_drop(&a);
	CHECK_EQ(slot->state, SLOT_HELD);
	pool_drop(&b);
	CHECK_EQ(slot->state, SLOT_FREE);
	pool_finish(&pool);
}

/* Ten thousand steps of everything that readers and the writer may do, by a fixed dice. */
TEST(whatever_happens_the_writer_finds_a_slot_while_three_are_not_reserved)
{
	enum { N = 8, HOLDS = 24, RESERVED = N - POOL_UNRESERVED_MIN };
	struct pool pool;
	struct hold hold[HOLDS] = { 0 };
	uint64_t seq = 0, dice = 42;
	unsigned reserved = 0;
	pool_init(&pool, N, on_revoke);
	for (unsigned step = 0; step < 10000; step++) {
		dice = dice * 6364136223846793005ull + 1442695040888963407ull;
		struct hold *h = &hold[(dice >> 33) % HOLDS];
		n_revoked = 0;
		if (dice >> 62 == 0) {
			publish(&pool, ++seq);
		} else if (h->slot) {
			reserved -= h->reserved;
			pool_drop(h);
		} else if (pool.newest) {
			pool_hold(h, pool.newest);
			if ((dice >> 60 & 1) && reserved < RESERVED) {
				pool_reserve(h);
				reserved++;
			}
		}
		CHECK(n_revoked <= HOLDS);
		CHECK_EQ(count(&pool, SLOT_WRITING), 0);
		CHECK_EQ(count(&pool, SLOT_READY), pool.newest != NULL);
		for (unsigned i = 0; i < N; i++)
			CHECK(pool.slots[i].state != SLOT_HELD ||
				!list_empty(&pool.slots[i].holds));
	}
	CHECK(seq > 1000);
	pool_finish(&pool);
}

/* --- our own mistakes ------------------------------------------------------------------------ */

static void publish_twice(void)
{
	struct pool pool;
	struct frame_info info = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *slot = publish(&pool, 1);
	pool_publish(&pool, slot, 2, &info);
}

static void abandon_what_is_published(void)
{
	struct pool pool;
	pool_init(&pool, SLOTS, on_revoke);
	publish(&pool, 1);
	struct hold hold = { 0 };
	pool_hold(&hold, pool.newest);
	publish(&pool, 2);
	pool_abandon(hold.slot);
	pool_abandon(hold.slot);
}

static void hold_what_is_free(void)
{
	struct pool pool;
	struct hold hold = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	pool_hold(&hold, &pool.slots[0]);
}

static void hold_twice(void)
{
	struct pool pool;
	struct hold hold = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	pool_hold(&hold, publish(&pool, 1));
	pool_hold(&hold, pool.newest);
}

static void too_few_slots(void)
{
	struct pool pool;
	pool_init(&pool, POOL_SLOTS_MIN - 1, on_revoke);
}

static void too_many_slots(void)
{
	struct pool pool;
	pool_init(&pool, POOL_SLOTS_MAX + 1, on_revoke);
}

TEST(steps_that_no_slot_may_take_are_mistakes)
{
	CHECK(dies(publish_twice));
	CHECK(dies(abandon_what_is_published));
	CHECK(dies(hold_what_is_free));
	CHECK(dies(hold_twice));
	CHECK(dies(too_few_slots));
	CHECK(dies(too_many_slots));
}

#ifdef SLUICE_FAULTS
TEST(the_fault_reuses_a_held_slot_without_a_word)
{
	struct pool pool;
	struct hold hold = { 0 };
	pool_init(&pool, SLOTS, on_revoke);
	struct slot *slot = publish(&pool, 1);
	pool_hold(&hold, slot);
	publish(&pool, 2);
	pool_fault_early_reuse = true;
	CHECK(acquire(&pool) == slot);
	CHECK(n_revoked == 0 && hold.slot == slot);
	pool_finish(&pool);
}
#endif
