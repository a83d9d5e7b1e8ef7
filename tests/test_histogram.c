#include "tests/test.h"

#include <string.h>

#include "common/histogram.h"

TEST(an_empty_histogram_says_nothing)
{
	struct histogram h = { 0 };
	CHECK_EQ(histogram_percentile(&h, 0.5), 0);
	CHECK_EQ(histogram_percentile(&h, 1.0), 0);
}

TEST(one_value_is_every_percentile)
{
	static const uint64_t values[] = { 0, 1, 1023, 1024, 1500, 2047, 4096, 1000000, 16666667,
		2000000000, 3000000000000 };
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct histogram h = { 0 };
		histogram_add(&h, values[i]);
		CHECK_EQ(h.count, 1);
		CHECK_EQ(h.max_ns, values[i]);
		for (double share = 0; share <= 1; share += 0.25) {
			uint64_t v = histogram_percentile(&h, share);
			CHECK(v <= values[i]);
			/* below 1 µs everything is one bucket */
			CHECK(values[i] < 1024 || (double)v >= 0.81 * (double)values[i]);
		}
	}
}

TEST(percentiles_are_within_19_percent)
{
	struct histogram h = { 0 };
	enum { N = 10000 };
	for (uint64_t i = 1; i <= N; i++)
		histogram_add(&h, i * 5000);
	static const double shares[] = { 0.01, 0.1, 0.5, 0.9, 0.99, 1 };
	for (unsigned i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		double exact = shares[i] * N * 5000;
		double got = (double)histogram_percentile(&h, shares[i]);
		CHECK(got >= 0.81 * exact && got <= 1.19 * exact);
	}
}

TEST(percentiles_rise_with_the_share)
{
	struct histogram h = { 0 };
	for (uint64_t v = 1; v < 1ull << 40; v = v * 5 / 4 + 1)
		histogram_add(&h, v);
	uint64_t before = 0;
	for (double share = 0; share <= 1; share += 0.01) {
		uint64_t v = histogram_percentile(&h, share);
		CHECK(v >= before);
		before = v;
	}
}

TEST(no_percentile_is_above_the_greatest_value)
{
	struct histogram h = { 0 };
	for (int i = 0; i < 100; i++)
		histogram_add(&h, 1030); /* the middle of its bucket is above it */
	CHECK_EQ(histogram_percentile(&h, 0.99), 1030);
}

TEST(the_longest_time_is_the_last_bucket)
{
	struct histogram h = { 0 };
	histogram_add(&h, UINT64_MAX);
	histogram_add(&h, 3600ull * 1000000000);
	CHECK_EQ(h.bucket[HISTOGRAM_BUCKETS - 1], 2);
	CHECK_EQ(h.max_ns, UINT64_MAX);
}

TEST(buckets_are_in_order_of_time)
{
	unsigned before = 0;
	for (uint64_t v = 1; v < 1ull << 43; v += v / 16 + 1) {
		struct histogram h = { 0 };
		histogram_add(&h, v);
		unsigned bucket = 0;
		while (h.bucket[bucket] == 0)
			bucket++;
		CHECK(bucket >= before && bucket <= before + 1);
		before = bucket;
	}
}
