/* How long pictures take through an encoder that may hold several of them back. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { LATENCY_IN_FLIGHT = 256 /* pictures; older ones are forgotten */ };

struct latency {
	unsigned next;
	struct {
		int64_t ticks;
		uint64_t captured_ns; /* 0: nobody's, or counted already */
	} picture[LATENCY_IN_FLIGHT];
};

/* A picture of that time goes in. captured_ns 0: it is not to be counted. */
void latency_begin(struct latency *latency, int64_t ticks, uint64_t captured_ns);

/* Its packet came out: how long ago was it captured? false: it is not to be counted. */
bool latency_end(struct latency *latency, int64_t ticks, uint64_t *ns_out);
