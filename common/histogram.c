#include "common/histogram.h"

/* The first bucket ends at 1,024 ns = 4 << SHIFT; four buckets an octave. */
enum { SHIFT = 8, STEPS = 4 };

static unsigned bucket_of(uint64_t ns)
{
	uint64_t v = ns >> SHIFT;
	if (v < STEPS)
		return 0;
	unsigned octave = 61 - (unsigned)__builtin_clzll(v);
	unsigned step = (unsigned)(v >> octave) & (STEPS - 1);
	unsigned bucket = 1 + octave * STEPS + step;
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_middle_ns(unsigned bucket)
{
	if (bucket == 0)
		return STEPS << (SHIFT - 1);
	unsigned octave = (bucket - 1) / STEPS;
	unsigned step = (bucket - 1) % STEPS;
	uint64_t begin = ((uint64_t)(STEPS + step) << octave) << SHIFT;
	uint64_t width = 1ull << octave << SHIFT;
	return begin + width / 2;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->bucket[bucket_of(ns)]++;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

uint64_t histogram_percentile(const struct histogram *h, double share)
{
	if (h->count == 0)
		return 0;
	uint64_t rank = (uint64_t)(share * (double)(h->count - 1));
	uint64_t seen = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen > rank) {
			uint64_t middle = bucket_middle_ns(i);
			return middle < h->max_ns ? middle : h->max_ns;
		}
	}
	return h->max_ns;
}
