/* When to try again what failed: later each time, and not at all after the third. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"

enum { BACKOFF_TRIES = 3 };

/* All zero: nothing has failed. */
struct backoff {
	unsigned failures;
	uint64_t retry_ns; /* CLOCK_MONOTONIC */
};

static inline void backoff_reset(struct backoff *b)
{
	*b = (struct backoff){ 0 };
}

/* 1 s after the first, 2 s after the second, never after the third. */
static inline void backoff_fail(struct backoff *b, uint64_t now_ns)
{
	b->failures++;
	b->retry_ns = now_ns + (NS_PER_S << (b->failures - 1));
}

static inline bool backoff_is_latched(const struct backoff *b)
{
	return b->failures >= BACKOFF_TRIES;
}

static inline bool backoff_allows(const struct backoff *b, uint64_t now_ns)
{
	return b->failures == 0 || (!backoff_is_latched(b) && now_ns >= b->retry_ns);
}
