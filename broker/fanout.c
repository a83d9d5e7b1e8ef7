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

/* One that was never sent: the next one tells of what was left out before it. */
static void drop_unsent(struct lease *lease)
{
	struct subscriber *s = lease->subscriber;
	struct list *next = lease->link.next;
	if (next == &s->waiting)
		s->paced += lease->paced;
	else
		container_of(next, struct lease, link)->paced += lease->paced;
	lease_drop(lease);
}

static void drop_waiting(struct subscriber *s)
{
	struct lease *lease;
	while ((lease = list_first(&s->waiting, struct lease, link)))
		drop_unsent(lease);
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
	lease->paced = s->paced;
	s->paced = 0;
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
		drop_unsent(lease);
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
		drop_unsent(oldest);
	}
}

/* --- The maximum frame rate ------------------------------------------------------------------- */

static uint64_t at_most(uint64_t a, uint64_t limit)
{
	return a < limit ? a : limit;
}

/* How far apart the stream's pictures are; a pause says nothing of that. */
static void learn(struct pace *pace, uint64_t pts_ns, uint64_t interval_ns)
{
	uint64_t gap = pts_ns > pace->last_ns ? pts_ns - pace->last_ns : 0;
	bool is_first = pace->last_ns == 0;
	pace->last_ns = pts_ns;
	if (is_first || gap == 0)
		return;
	gap = at_most(gap, interval_ns);
	pace->usual_ns = pace->usual_ns ? (7 * pace->usual_ns + gap) / 8 : gap;
}

/*
 * Is the picture the one that is nearest to the time when one is due? Those times have the interval of
 * the maximum rate whatever the pictures' own times are, so the rate is kept on average, and a jitter
 * of less than half of the stream's own interval does not change which pictures are taken.
 */
static bool is_due(const struct pace *pace, uint64_t pts_ns, uint64_t interval_ns)
{
	bool is_from_before = pace->due_ns > pts_ns + 2 * interval_ns; /* another source's times */
	return is_from_before || pts_ns + pace->usual_ns / 2 >= pace->due_ns;
}

static void take(struct pace *pace, uint64_t pts_ns, uint64_t interval_ns)
{
	bool is_near = pts_ns < pace->due_ns + interval_ns && pace->due_ns <= pts_ns + interval_ns;
	pace->due_ns = (is_near ? pace->due_ns : pts_ns) + interval_ns;
}

/* Not this one, unless it stays the newest: the time when another might still come is waited for. */
static void leave_out(struct subscriber *s, uint64_t pts_ns)
{
	const struct pace *pace = &s->pace;
	uint64_t spare = at_most(2 * pace->usual_ns, s->options.min_interval_ns);
	s->counts.paced++;
	s->paced++;
	s->is_behind = true;
	s->ops->defer(s, pace->due_ns - pts_ns + spare);
}

static void hand_over(struct subscriber *s, struct slot *slot)
{
	/* what waits and what is lent are at most fifo_depth and max_holds: a lease is unused */
	make_room(s);
	lease_begin(s, slot);
	pump(s);
}

/* The one that was left out last, which has its time now: it counts as one that came when it was due. */
static void make_good(struct subscriber *s, struct slot *slot)
{
	s->is_behind = s->is_owed = false;
	s->counts.paced--;
	s->paced--;
	s->pace.due_ns += s->options.min_interval_ns;
	hand_over(s, slot);
}

bool subscriber_is_due(const struct subscriber *s, uint64_t seq, uint64_t pts_ns)
{
	uint64_t interval = s->options.min_interval_ns;
	struct pace pace = s->pace;
	if (!s->pool || interval == 0 || s->is_owed)
		return true;
	if (s->offered_seq == seq)
		return false;
	learn(&pace, pts_ns, interval);
	return is_due(&pace, pts_ns, interval);
}

void subscriber_leave_out(struct subscriber *s, uint64_t seq, uint64_t pts_ns)
{
	if (s->offered_seq == seq)
		return;
	s->offered_seq = seq;
	learn(&s->pace, pts_ns, s->options.min_interval_ns);
	leave_out(s, pts_ns);
}

void subscriber_offer(struct subscriber *s, struct slot *slot)
{
	uint64_t interval = s->options.min_interval_ns, pts = slot->info.pts_ns;
	if (s->offered_seq == slot->seq) {
		if (s->is_owed)
			make_good(s, slot);
		return;
	}
	s->offered_seq = slot->seq;
	s->is_behind = s->is_owed = false;
	if (interval) {
		learn(&s->pace, pts, interval);
		if (!is_due(&s->pace, pts, interval)) {
			leave_out(s, pts);
			return;
		}
		take(&s->pace, pts, interval);
	}
	hand_over(s, slot);
}

void subscriber_catch_up(struct subscriber *s)
{
	struct slot *newest = s->pool ? s->pool->newest : NULL;
	if (!s->pool || !s->is_behind)
		return;
	if (newest && newest->seq == s->offered_seq)
		make_good(s, newest);
	else
		s->is_owed = true;
}

void subscriber_attach(struct subscriber *s, struct pool *pool, uint32_t generation)
{
	s->pool = pool;
	s->generation = generation;
	s->offered_seq = 0;
	s->is_behind = s->is_owed = false;
	if (pool->newest && pool->newest->complete)
		subscriber_offer(s, pool->newest);
}

void subscriber_detach(struct subscriber *s)
{
	subscriber_catch_up(s);
	if (s->options.delivery == FANOUT_MAILBOX)
		s->counts.skipped += s->n_waiting;
	else
		s->counts.dropped += s->n_waiting;
	drop_waiting(s);
	struct lease *lease;
	list_for_each(lease, &s->lent, link)
		pool_drop(&lease->hold);
	s->pool = NULL;
	s->is_behind = s->is_owed = false;
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
		drop_unsent(lease);
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
