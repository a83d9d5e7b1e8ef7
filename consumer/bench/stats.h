/* Order statistics. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void stats_sort_u32(uint32_t *values, size_t n);

/* Of sorted values: the one below which `share` (0 to 1) of them lie; 0 if there are none. */
double stats_percentile_u32(const uint32_t *values, size_t n, double share);

void stats_sort(double *values, size_t n);
double stats_percentile(const double *values, size_t n, double share);

/* Sorts. The mean of the two middle ones if n is even; 0 if there are none. */
double stats_median(double *values, size_t n);
