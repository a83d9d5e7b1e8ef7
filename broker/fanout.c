#include "broker/fanout.h"

#include <assert.h>
#include <stddef.h>

#include "common/clock.h"

void subscriber_init(struct subscriber *s, const struct subscriber_options *options,
	const struct subscriber_ops *ops)
{
	assert(options->max_holds >= 1 && options->max_holds <= FANOUT_HOLDS_MAX);
	assert(options->fifo_depth <= FANOUT_FIFO_MAX);
	*s = (struct subscriber){ .options = *options, .ops = ops };
	list_init(&s->link);
	list_init(&s->waiting);
	list_init(&s->lent);
	list_init(&s->unused);
	for (unsigned i = 0; i < FANOUT_LEASES; i++) {
		s->leases[i].subscriber = s;
		list_init(&s->leases[i].hold.in_slot);
		list_insert(&s->unused, &s->leases[i].link);
	}
}

/* The lease has no hold any more: put it away. */
static void lease_end(struct lease *lease)
{
	struct subscriber *s = lease->subscriber;
	assert(!lease->hold.slot);
	if (lease->state == LEASE_WAITING)
		s->n_waiting--;
	else
		s->n_lent--;
	list_remove(&lease->link);
	list_insert(&s->unused, &lease->link);
}

static void lease_drop(struct lease *lease)
{
	pool_drop(&lease->hold);
	lease_end(lease);
}

static void drop_waiting(struct subscriber *s)
{
	struct lease *lease;
	while ((lease = list_first(&s->waiting, struct lease, link)))
		lease_drop(lease);
}

void subscriber_finish(struct subscriber *s)
{
	struct lease *lease;
	drop_waiting(s);
	while ((lease = list_first(&s->lent, struct lease, link)))
		lease_drop(lease);
	s->pool = NULL;
	list_remove(&s->link);
}

/* A lease in the queue; there is always an unused one, see subscriber_offer(). */
static void lease_begin(struct subscriber *s, struct slot *slot)
{
	struct lease *lease = list_first(&s->unused, struct lease, link);
	assert(lease);
	list_remove(&lease->link);
	lease->state = LEASE_WAITING;
	lease->generation = s->generation;
	lease->slot = slot->index;
	lease->seq = slot->seq;
	lease->published_ns = slot->info.published_ns;
	pool_hold(&lease->hold, slot);
	list_insert(&s->waiting, &lease->link);
	s->n_waiting++;
}

static void lend(struct lease *lease)
{
	struct subscriber *s = lease->subscriber;
	list_remove(&lease->link);
	list_insert(&s->lent, &lease->link);
	lease->state = LEASE_LENT;
	lease->sent_ns = clock_ns();
	if (s->options.reserved)
		pool_reserve(&lease->hold);
	s->n_waiting--;
	s->n_lent++;
	s->counts.sent++;
}

/* Send what waits while there is room. */
static void pump(struct subscriber *s)
{
	while (s->n_lent < s->options.max_holds) {
		struct lease *lease = list_first(&s->waiting, struct lease, link);
		if (!lease)
			return;
		int r = s->ops->send(s, lease, &lease->hold.slot->info);
		if (r == FANOUT_OK) {
			lend(lease);
			continue;
		}
		s->counts.dropped++;
		lease_drop(lease);
		if (r < 0)
			return;
	}
}

/* Make room for one more in the queue. */
static void make_room(struct subscriber *s)
{
	bool mailbox = s->options.delivery == FANOUT_MAILBOX;
	unsigned depth = mailbox ? 1 : s->options.fifo_depth;
	while (s->n_waiting >= depth) {
		struct lease *oldest = list_first(&s->waiting, struct lease, link);
		assert(oldest);
		if (mailbox)
			s->counts.skipped++;
		else
			s->counts.dropped++;
		lease_drop(oldest);
	}
}

void subscriber_offer(struct subscriber *s, struct slot *slot)
{
	if (s->offered_seq == slot->seq)
		return;
	s->offered_seq = slot->seq;
	/* what waits and what is lent are at most fifo_depth and max_holds: a lease is unused */
	make_room(s);
	lease_begin(s, slot);
	pump(s);
}

void subscriber_attach(struct subscriber *s, struct pool *pool, uint32_t generation)
{
	s->pool = pool;
	s->generation = generation;
	s->offered_seq = 0;
	if (pool->newest && pool->newest->complete)
		subscriber_offer(s, pool->newest);
}

void subscriber_detach(struct subscriber *s)
{
	if (s->options.delivery == FANOUT_MAILBOX)
		s->counts.skipped += s->n_waiting;
	else
		s->counts.dropped += s->n_waiting;
	drop_waiting(s);
	struct lease *lease;
	list_for_each(lease, &s->lent, link)
		pool_drop(&lease->hold);
	s->pool = NULL;
}

static struct lease *find_lent(
	struct subscriber *s, uint32_t generation, unsigned slot, uint64_t seq)
{
	struct lease *lease;
	list_for_each(lease, &s->lent, link)
		if (lease->seq == seq && lease->generation == generation && lease->slot == slot)
			return lease;
	return NULL;
}

enum fanout_result subscriber_release(struct subscriber *s, uint32_t generation, unsigned slot,
	uint64_t seq, uint64_t *published_ns_out)
{
	struct lease *lease = find_lent(s, generation, slot, seq);
	if (!lease)
		return FANOUT_NOT_HELD;
	*published_ns_out = lease->published_ns;
	bool was_revoked = lease->state == LEASE_REVOKED;
	lease_drop(lease);
	pump(s);
	return was_revoked ? FANOUT_WAS_REVOKED : FANOUT_OK;
}

void subscriber_on_revoke(struct hold *hold)
{
	struct lease *lease = container_of(hold, struct lease, hold);
	struct subscriber *s = lease->subscriber;
	if (lease->state == LEASE_WAITING) {
		s->counts.dropped++;
		lease_end(lease);
		return;
	}
	lease->state = LEASE_REVOKED;
	s->counts.revoked++;
	s->ops->revoked(s, lease);
}

uint64_t subscriber_oldest_hold_ns(const struct subscriber *s)
{
	struct lease *lease;
	list_for_each(lease, &s->lent, link)
		if (lease->hold.slot)
			return lease->sent_ns;
	return 0;
}
