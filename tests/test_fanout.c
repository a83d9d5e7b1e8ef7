/* What one subscriber gets: its queue, its holds, the counts. */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "broker/fanout.h"
#include "tests/death.h"

enum { SLOTS = 8, GENERATION = 7 };

/* A subscriber, and what it was told. */
struct reader {
	struct subscriber s;
	uint64_t sent[64];
	unsigned n_sent;
	uint64_t revoked[64];
	unsigned n_revoked;
	int answer;       /* of send */
	uint64_t wait_ns; /* as deferred last; 0: not */
};

static int on_send(struct subscriber *s, const struct lease *lease, const struct frame_info *info)
{
	struct reader *r = container_of(s, struct reader, s);
	if (r->answer != FANOUT_OK)
		return r->answer;
	CHECK_EQ(lease->state, LEASE_WAITING);
	CHECK_EQ(info->pts_ns, lease->seq * 10);
	CHECK_EQ(lease->generation, GENERATION);
	r->sent[r->n_sent++] = lease->seq;
	return FANOUT_OK;
}

static void on_revoked(struct subscriber *s, const struct lease *lease)
{
	struct reader *r = container_of(s, struct reader, s);
	r->revoked[r->n_revoked++] = lease->seq;
}

static void on_defer(struct subscriber *s, uint64_t wait_ns)
{
	container_of(s, struct reader, s)->wait_ns = wait_ns;
}

static const struct subscriber_ops ops = { on_send, on_revoked, on_defer };

static struct pool pool;
static uint64_t last_seq;

static void begin(struct reader *r, struct subscriber_options options)
{
	if (pool.n_slots == 0)
		pool_init(&pool, SLOTS, subscriber_on_revoke);
	memset(r, 0, sizeof(*r));
	subscriber_init(&r->s, &options, &ops);
	subscriber_attach(&r->s, &pool, GENERATION);
}

static struct slot *publish(void)
{
	struct slot *slot;
	last_seq++;
	struct frame_info info = { .pts_ns = last_seq * 10, .published_ns = last_seq };
	CHECK_EQ(pool_acquire(&pool, &slot), POOL_OK);
	pool_publish(&pool, slot, last_seq, &info);
	slot->complete = true;
	return slot;
}

static void publish_to(struct reader *r, unsigned n)
{
	while (n-- > 0)
		subscriber_offer(&r->s, publish());
}

/* Release the n-th frame that was sent, from 1. */
static enum fanout_result give_back(struct reader *r, uint64_t seq)
{
	uint64_t published_ns = 0;
	for (unsigned i = 0; i < SLOTS; i++)
		if (pool.slots[i].seq == seq)
			return subscriber_release(&r->s, GENERATION, i, seq, &published_ns);
	return FANOUT_NOT_HELD;
}

static void check_counts(
	const struct reader *r, uint64_t sent, uint64_t skipped, uint64_t dropped, uint64_t revoked)
{
	CHECK_EQ(r->s.counts.sent, sent);
	CHECK_EQ(r->s.counts.skipped, skipped);
	CHECK_EQ(r->s.counts.dropped, dropped);
	CHECK_EQ(r->s.counts.revoked, revoked);
	CHECK_EQ(r->n_sent, sent);
	CHECK_EQ(r->n_revoked, revoked);
}

static const struct subscriber_options mailbox = { .delivery = FANOUT_MAILBOX, .max_holds = 2 };

TEST(a_mailbox_keeps_the_newest_while_its_reader_is_busy)
{
	struct reader r;
	begin(&r, mailbox);
	publish_to(&r, 5); /* 1 and 2 are sent; 3 and 4 are replaced; 5 waits */
	check_counts(&r, 2, 2, 0, 0);
	CHECK_EQ(r.s.n_waiting, 1);
	CHECK_EQ(give_back(&r, 1), FANOUT_OK);
	check_counts(&r, 3, 2, 0, 0);
	CHECK_EQ(r.sent[2], 5);
	CHECK(r.s.n_waiting == 0 && r.s.n_lent == 2);
	subscriber_finish(&r.s);
}

TEST(a_fifo_sends_every_frame_in_order)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, 3, 1, false, 0 });
	publish_to(&r, 4);
	for (uint64_t seq = 1; seq <= 4; seq++) {
		CHECK_EQ(r.n_sent, seq);
		CHECK_EQ(r.sent[seq - 1], seq);
		CHECK_EQ(give_back(&r, seq), FANOUT_OK);
	}
	check_counts(&r, 4, 0, 0, 0);
	subscriber_finish(&r.s);
}

TEST(a_fifo_that_overflows_loses_the_oldest)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, 3, 1, false, 0 });
	publish_to(&r, 6); /* 1 is sent, 2 and 3 are pushed out, 4 to 6 wait */
	check_counts(&r, 1, 0, 2, 0);
	CHECK_EQ(give_back(&r, 1), FANOUT_OK);
	CHECK_EQ(r.sent[1], 4);
	subscriber_finish(&r.s);
}

TEST(no_more_than_max_holds_are_lent)
{
	for (unsigned max = 1; max <= 5; max++) {
		struct reader r;
		begin(&r, (struct subscriber_options){ FANOUT_MAILBOX, 0, max, false, 0 });
		unsigned at_once = r.n_sent; /* the newest of the round before */
		publish_to(&r, 5);
		CHECK_EQ(r.n_sent, max);
		CHECK_EQ(r.s.n_lent, max);
		CHECK(at_once <= 1);
		subscriber_finish(&r.s);
	}
}

TEST(the_newest_frame_is_sent_at_once_to_who_comes_late)
{
	struct reader early, late;
	begin(&early, mailbox);
	CHECK_EQ(early.n_sent, 0);
	publish_to(&early, 3);
	begin(&late, mailbox);
	CHECK(late.n_sent == 1 && late.sent[0] == 3);
	subscriber_finish(&early.s);
	subscriber_finish(&late.s);
}

TEST(a_release_must_name_what_is_held)
{
	struct reader r;
	uint64_t published_ns = 42;
	begin(&r, mailbox);
	struct slot *slot = publish();
	subscriber_offer(&r.s, slot);
	unsigned i = slot->index;
	CHECK_EQ(subscriber_release(&r.s, GENERATION, i, 2, &published_ns), FANOUT_NOT_HELD);
	CHECK_EQ(subscriber_release(&r.s, GENERATION, i + 1, 1, &published_ns), FANOUT_NOT_HELD);
	CHECK_EQ(subscriber_release(&r.s, GENERATION - 1, i, 1, &published_ns), FANOUT_NOT_HELD);
	CHECK_EQ(subscriber_release(&r.s, GENERATION, UINT32_MAX, UINT64_MAX, &published_ns),
		FANOUT_NOT_HELD);
	CHECK_EQ(published_ns, 42);
	CHECK_EQ(subscriber_release(&r.s, GENERATION, i, 1, &published_ns), FANOUT_OK);
	CHECK_EQ(published_ns, 1);
	CHECK_EQ(subscriber_release(&r.s, GENERATION, i, 1, &published_ns), FANOUT_NOT_HELD);
	subscriber_finish(&r.s);
}

TEST(a_frame_that_waits_cannot_be_released)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_MAILBOX, 0, 1, false, 0 });
	publish_to(&r, 2);
	CHECK_EQ(r.s.n_waiting, 1);
	CHECK_EQ(give_back(&r, 2), FANOUT_NOT_HELD);
	subscriber_finish(&r.s);
}

TEST(a_revoked_frame_is_told_and_still_counts_until_it_is_released)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_MAILBOX, 0, 1, false, 0 });
	struct slot *first = publish();
	unsigned index = first->index;
	subscriber_offer(&r.s, first);
	for (unsigned i = 0; i < SLOTS - 1; i++) { /* nobody else wants them */
		struct slot *slot;
		CHECK_EQ(pool_acquire(&pool, &slot), POOL_OK);
	}
	/* every other slot is being written: 1 is the newest, and never taken */
	CHECK_EQ(r.n_revoked, 0);
	pool_abandon(&pool.slots[(index + 1) % SLOTS]);
	publish_to(&r, 1); /* waits: max_holds is 1 */
	struct slot *slot;
	CHECK_EQ(pool_acquire(&pool, &slot), POOL_OK);
	CHECK(slot == first);
	check_counts(&r, 1, 0, 0, 1);
	CHECK_EQ(r.revoked[0], 1);
	CHECK_EQ(r.s.n_lent, 1);
	CHECK_EQ(subscriber_oldest_hold_ns(&r.s), 0);
	uint64_t published_ns;
	CHECK_EQ(subscriber_release(&r.s, GENERATION, index, 1, &published_ns), FANOUT_WAS_REVOKED);
	check_counts(&r, 2, 0, 0, 1); /* the one that waited */
	CHECK_EQ(subscriber_release(&r.s, GENERATION, index, 1, &published_ns), FANOUT_NOT_HELD);
	subscriber_finish(&r.s);
}

TEST(a_waiting_frame_that_is_revoked_is_dropped_without_a_word)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, 5, 1, false, 0 });
	publish_to(&r, 6); /* 1 lent, 2 to 6 wait, the newest is 6 */
	for (unsigned i = 0; i < 4; i++) {
		struct slot *slot;
		CHECK_EQ(pool_acquire(&pool, &slot), POOL_OK);
	}
	/* two slots were free, then 1 (lent) and 2 (waiting) were taken */
	check_counts(&r, 1, 0, 1, 1);
	CHECK_EQ(r.s.n_waiting, 4);
	subscriber_finish(&r.s);
}

TEST(reserved_holds_are_not_taken_back_but_what_waits_is)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, 5, 1, true, 0 });
	publish_to(&r, 6);
	for (unsigned i = 0; i < 6; i++) {
		struct slot *slot;
		CHECK_EQ(pool_acquire(&pool, &slot), POOL_OK);
		CHECK(slot->seq != 1);
	}
	struct slot *slot;
	CHECK_EQ(pool_acquire(&pool, &slot), POOL_FULL); /* 1 is reserved, 6 the newest */
	check_counts(&r, 1, 0, 4, 0);
	CHECK(subscriber_oldest_hold_ns(&r.s) > 0);
	subscriber_finish(&r.s);
	CHECK_EQ(pool_acquire(&pool, &slot), POOL_OK);
	CHECK_EQ(slot->seq, 1);
}

TEST(a_full_socket_drops_the_frame_and_goes_on)
{
	struct reader r;
	begin(&r, mailbox);
	r.answer = FANOUT_SOCKET_FULL;
	publish_to(&r, 3);
	check_counts(&r, 0, 0, 3, 0);
	CHECK(r.s.n_lent == 0 && r.s.n_waiting == 0);
	r.answer = FANOUT_OK;
	publish_to(&r, 1);
	check_counts(&r, 1, 0, 3, 0);
	CHECK_EQ(r.sent[0], 4);
	subscriber_finish(&r.s);
}

TEST(a_client_that_is_gone_holds_nothing_more)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, 4, 2, false, 0 });
	r.answer = -EPIPE;
	publish_to(&r, 3);
	check_counts(&r, 0, 0, 3, 0);
	CHECK(r.s.n_lent == 0 && r.s.n_waiting == 0);
	subscriber_finish(&r.s);
}

TEST(detach_drops_what_waits_and_leaves_what_is_lent_to_be_released)
{
	struct reader r;
	uint64_t published_ns;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, 4, 2, false, 0 });
	publish_to(&r, 4);
	unsigned first = pool.slots[0].seq == 1 ? 0 : 1;
	CHECK(r.s.n_lent == 2 && r.s.n_waiting == 2);
	subscriber_detach(&r.s);
	CHECK(r.s.pool == NULL && r.s.n_waiting == 0 && r.s.n_lent == 2);
	check_counts(&r, 2, 0, 2, 0);
	CHECK_EQ(subscriber_oldest_hold_ns(&r.s), 0);
	CHECK_EQ(subscriber_release(&r.s, GENERATION, first, 1, &published_ns), FANOUT_OK);
	CHECK_EQ(r.s.n_lent, 1);
	for (unsigned i = 0; i < SLOTS; i++)
		CHECK(list_empty(&pool.slots[i].holds));
	subscriber_finish(&r.s);
}

TEST(detach_counts_a_mailbox_frame_as_skipped)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_MAILBOX, 0, 1, false, 0 });
	publish_to(&r, 2);
	subscriber_detach(&r.s);
	check_counts(&r, 1, 1, 0, 0);
	subscriber_finish(&r.s);
}

TEST(one_reader_that_never_releases_costs_the_others_nothing)
{
	struct reader slow, quick;
	begin(&slow, (struct subscriber_options){ FANOUT_MAILBOX, 0, FANOUT_HOLDS_MAX, false, 0 });
	begin(&quick, mailbox);
	for (uint64_t seq = 1; seq <= 60; seq++) {
		struct slot *slot = publish();
		subscriber_offer(&slow.s, slot);
		subscriber_offer(&quick.s, slot);
		CHECK_EQ(quick.n_sent, seq);
		CHECK_EQ(give_back(&quick, seq), FANOUT_OK);
	}
	check_counts(&quick, 60, 0, 0, 0);
	CHECK_EQ(slow.s.n_lent, FANOUT_HOLDS_MAX); /* a bounded number of messages */
	CHECK_EQ(slow.n_sent, FANOUT_HOLDS_MAX);
	subscriber_finish(&slow.s);
	subscriber_finish(&quick.s);
}

TEST(the_longest_queue_and_the_most_holds_have_leases)
{
	struct reader r;
	struct slot fake[FANOUT_HOLDS_MAX + FANOUT_FIFO_MAX + 1];
	struct subscriber_options most = { FANOUT_FIFO, FANOUT_FIFO_MAX, FANOUT_HOLDS_MAX, false,
		0 };
	begin(&r, most);
	for (unsigned i = 0; i < FANOUT_HOLDS_MAX + FANOUT_FIFO_MAX + 1; i++) {
		fake[i] = (struct slot){ SLOT_READY, i, i + 1, .sync_fd = -EBADF,
			.info = { .pts_ns = (i + 1) * 10 }, .n_reserved = 0 };
		list_init(&fake[i].holds);
		subscriber_offer(&r.s, &fake[i]);
	}
	CHECK(r.s.n_lent == FANOUT_HOLDS_MAX && r.s.n_waiting == FANOUT_FIFO_MAX);
	check_counts(&r, FANOUT_HOLDS_MAX, 0, 1, 0);
	subscriber_finish(&r.s);
}

TEST(the_oldest_hold_is_the_one_that_was_sent_first)
{
	struct reader r;
	begin(&r, mailbox);
	CHECK_EQ(subscriber_oldest_hold_ns(&r.s), 0);
	publish_to(&r, 2);
	uint64_t first = subscriber_oldest_hold_ns(&r.s);
	CHECK(first > 0);
	CHECK_EQ(give_back(&r, 1), FANOUT_OK);
	CHECK(subscriber_oldest_hold_ns(&r.s) >= first);
	CHECK_EQ(give_back(&r, 2), FANOUT_OK);
	CHECK_EQ(subscriber_oldest_hold_ns(&r.s), 0);
	subscriber_finish(&r.s);
}

static void no_holds(void)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_MAILBOX, 0, 0, false, 0 });
}

static void too_many_holds(void)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_MAILBOX, 0, FANOUT_HOLDS_MAX + 1, false, 0 });
}

static void too_long_a_queue(void)
{
	struct reader r;
	begin(&r, (struct subscriber_options){ FANOUT_FIFO, FANOUT_FIFO_MAX + 1, 1, false, 0 });
}

TEST(options_beyond_the_limits_are_mistakes)
{
	CHECK(dies(no_holds));
	CHECK(dies(too_many_holds));
	CHECK(dies(too_long_a_queue));
}
