/*
 * Percentiles of durations without allocation: buckets of a quarter octave (error at most 19 %),
 * from 1 µs to over an hour. Not thread-safe.
 */
#pragma once

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 128 };

struct histogram {
	uint64_t count;
	uint64_t max_ns;
	uint32_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

/* The value (ns) below which `share` (0 to 1) of the entries lie; 0 if there are none. */
uint64_t histogram_percentile(const struct histogram *h, double share);
