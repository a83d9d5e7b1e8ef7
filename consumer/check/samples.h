/* Durations, the newest SAMPLES_MAX of them, and their percentiles. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { SAMPLES_MAX = 1 << 18 };

struct samples {
	uint64_t n; /* added; the oldest are overwritten */
	uint32_t us_tenths[SAMPLES_MAX];
};

/* to before from counts as 0: clocks are read on both sides of a process. */
void samples_add(struct samples *samples, uint64_t from_ns, uint64_t to_ns);

/* Before samples_us(). */
void samples_sort(struct samples *samples);

/* The value below which `share` (0 to 1) of the sorted ones lie, in microseconds; 0 if there are none. */
double samples_us(const struct samples *samples, double share);
