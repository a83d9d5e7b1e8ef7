#include "broker/backlog.h"

/* The slot of the hold says so by itself. */
static void on_revoke(struct hold *hold)
{
	(void)hold;
}

void backlog_init(struct backlog *backlog)
{
	*backlog = (struct backlog){ .n = 0 };
	for (unsigned i = 0; i < BACKLOG_MAX; i++) {
		list_init(&backlog->hold[i].in_slot);
		backlog->hold[i].revoke = on_revoke;
	}
}

void backlog_clear(struct backlog *backlog)
{
	while (backlog->n > 0)
		pool_drop(&backlog->hold[--backlog->n]);
	backlog->from = NULL;
	backlog->last_seq = 0;
}

void backlog_drop_first(struct backlog *backlog)
{
	struct slot *next;
	for (unsigned i = 0; i < backlog->n; i++) {
		/* before the one behind it lets go, or nobody would hold it for a moment */
		pool_drop(&backlog->hold[i]);
		next = i + 1 < backlog->n ? backlog->hold[i + 1].slot : NULL;
		if (next)
			pool_hold(&backlog->hold[i], next);
	}
	backlog->n--;
}

void backlog_add(struct backlog *backlog, const void *from, struct slot *slot)
{
	if (backlog->from != from)
		backlog_clear(backlog);
	if (slot->seq <= backlog->last_seq)
		return;
	if (backlog->n == BACKLOG_MAX) {
		backlog_drop_first(backlog);
		backlog->lost++;
	}
	backlog->from = from;
	backlog->last_seq = slot->seq;
	pool_hold(&backlog->hold[backlog->n++], slot);
}

struct slot *backlog_first(struct backlog *backlog, uint64_t than_seq)
{
	while (backlog->n > 0) {
		struct slot *slot = backlog->hold[0].slot;
		if (slot && slot->seq > than_seq)
			return slot;
		backlog->lost += slot == NULL;
		backlog_drop_first(backlog);
	}
	return NULL;
}
