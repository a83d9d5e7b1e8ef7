#include "consumer/check/samples.h"

#include <stdlib.h>

enum { TENTH_NS = 100 };

void samples_add(struct samples *samples, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t tenths = to_ns > from_ns ? (to_ns - from_ns) / TENTH_NS : 0;
	samples->us_tenths[samples->n++ % SAMPLES_MAX] =
		tenths < UINT32_MAX ? (uint32_t)tenths : UINT32_MAX;
}

static size_t count(const struct samples *samples)
{
	return samples->n < SAMPLES_MAX ? (size_t)samples->n : SAMPLES_MAX;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

void samples_sort(struct samples *samples)
{
	qsort(samples->us_tenths, count(samples), sizeof(uint32_t), compare);
}

double samples_us(const struct samples *samples, double share)
{
	size_t n = count(samples);
	return n ? samples->us_tenths[(size_t)(share * (double)(n - 1))] / 10.0 : 0;
}
