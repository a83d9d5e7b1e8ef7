#include "consumer/encoder/latency.h"

#include "consumer/encoder/now.h"

void latency_begin(struct latency *latency, int64_t ticks, uint64_t captured_ns)
{
	unsigned i = latency->next++ % LATENCY_IN_FLIGHT;
	latency->picture[i].ticks = ticks;
	latency->picture[i].captured_ns = captured_ns;
}

bool latency_end(struct latency *latency, int64_t ticks, uint64_t *ns_out)
{
	for (unsigned i = 0; i < LATENCY_IN_FLIGHT; i++) {
		uint64_t captured_ns = latency->picture[i].captured_ns;
		if (captured_ns == 0 || latency->picture[i].ticks != ticks)
			continue;
		*ns_out = now_ns() - captured_ns;
		latency->picture[i].captured_ns = 0;
		return true;
	}
	return false;
}
