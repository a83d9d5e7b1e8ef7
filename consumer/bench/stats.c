#include "consumer/bench/stats.h"

#include <stdlib.h>

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

void stats_sort_u32(uint32_t *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare_u32);
}

double stats_percentile_u32(const uint32_t *values, size_t n, double share)
{
	return n ? values[(size_t)(share * (double)(n - 1))] : 0;
}

void stats_sort(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare_double);
}

double stats_percentile(const double *values, size_t n, double share)
{
	return n ? values[(size_t)(share * (double)(n - 1))] : 0;
}

double stats_median(double *values, size_t n)
{
	stats_sort(values, n);
	if (n == 0)
		return 0;
	return (values[(n - 1) / 2] + values[n / 2]) / 2;
}
