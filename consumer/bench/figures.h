/* What is measured. Each adds rows to the report; 0, or negative with a sentence. */
#pragma once

#include "consumer/bench/report.h"
#include "consumer/bench/stand.h"

enum { COUNTS_MAX = 16 };

enum {
	FIGURE_CPU = 1 << 0,
	FIGURE_LATENCY = 1 << 1,
	FIGURE_SIZE = 1 << 2,
	FIGURE_COPY = 1 << 3,
	FIGURE_FIRST = 1 << 4,
	FIGURE_GSTREAMER = 1 << 5,
	FIGURE_GPU = 1 << 6,
	FIGURE_CONVERT = 1 << 7,
	FIGURE_ENCODE = 1 << 8,
	FIGURE_USUAL = FIGURE_GSTREAMER - 1, /* the others need more than any machine has */
};

struct plan {
	struct place *place;
	unsigned figures; /* FIGURE_ bits */
	unsigned rounds;
	uint64_t window_ns; /* of a round */
	uint64_t watch_ns;  /* without a break, for lost frames */
	unsigned n_counts;
	unsigned counts[COUNTS_MAX]; /* consumers */
	/* the same for gpu; the rounds also for convert */
	unsigned gpu_rounds;
	unsigned n_gpu_counts;
	unsigned gpu_counts[COUNTS_MAX];
};

/* The cost of the fan-out in each round, and what it is made of. */
struct fanout_cost {
	struct series cost, busy, alone; /* us per frame and consumer */
};

void fanout_cost_add(struct fanout_cost *cost, const struct turn *measured,
	const struct turn *beside, unsigned consumers);

/* As report_add(); the difference of the medians, which is steadier than the median difference. */
void fanout_cost_report(struct report *report, const struct row *row, struct fanout_cost *cost);

/* cpu, latency: the same rounds. */
int figure_fanout(struct report *report, const struct plan *plan, struct failure *failure);

/* size */
int figure_size(struct report *report, const struct plan *plan, struct failure *failure);

/* copy; only if PipeWire is built in */
int figure_copy(struct report *report, const struct plan *plan, struct failure *failure);

/* first */
int figure_first(struct report *report, const struct plan *plan, struct failure *failure);

/* gstreamer; only if SLUICE_BENCH_GSTREAMER is set */
int figure_gstreamer(struct report *report, const struct plan *plan, struct failure *failure);

/* convert; only where there is a GPU that Vulkan knows */
int figure_convert(struct report *report, const struct plan *plan, struct failure *failure);
/* encode; only where there are sluice-encode and ffmpeg */
int figure_encode(struct report *report, const struct plan *plan, struct failure *failure);

/* gpu; only where there is a GPU that Vulkan and CUDA know */
int figure_gpu(struct report *report, const struct plan *plan, struct failure *failure);
