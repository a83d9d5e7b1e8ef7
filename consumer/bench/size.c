/*
 * A frame's size must not matter to the fan-out: 4K beside 64 × 64.
 *
 * Making a picture of 33 MB empties the caches, and whatever the processor does next is slower. So
 * the floor writes as much memory before it sends, to show how much of a difference is due to that.
 */
#include <stdio.h>

#include "consumer/bench/figures.h"
#include "consumer/bench/stand.h"

enum {
	CONSUMERS = 100,
	LONGER = 2, /* than other rounds: there are few frames in them */
};

static const double bound = 1.1;

static const struct scene small = { .consumers = CONSUMERS, .width = 64, .height = 64, .fps = 30 };
static const struct scene large = {
	.consumers = CONSUMERS, .width = 3840, .height = 2160, .fps = 30
};

/* A stand for each size, and what was seen there. */
struct sizes {
	struct stand *large, *small;
	struct fanout_cost cost;
	struct series p50;
};

static void sizes_finish(struct sizes *s)
{
	s->large = stand_destroy(s->large);
	s->small = stand_destroy(s->small);
}

static int sizes_init(struct sizes *s, const struct subject_kind *kind, const struct plan *plan,
	struct failure *failure)
{
	int r = stand_create(&s->large, kind, plan->place, &large, failure);
	return r < 0 ? r : stand_create(&s->small, kind, plan->place, &small, failure);
}

static int take_turns(struct sizes *s, uint64_t window_ns, struct failure *failure)
{
	const double us = 1e-3;
	struct turn of_large, of_small;
	int r = stand_turn(s->large, window_ns, &of_large, failure);
	if (r == 0)
		r = stand_turn(s->small, window_ns, &of_small, failure);
	if (r != 0)
		return r;
	fanout_cost_add(&s->cost, &of_large, &of_small, CONSUMERS);
	series_add(&s->p50, of_large.tally.p50_ns * us, of_small.tally.p50_ns * us);
	return 0;
}

static void add_rows(struct report *report, struct sizes *s, const char *who, enum target target)
{
	struct row row = {
		.figure = "size",
		.unit = "us",
		.beside_name = "64x64",
		.target = target,
		.bound = bound,
	};
	snprintf(
		row.what, sizeof(row.what), "%s, %d consumers, 3840x2160: fan-out", who, CONSUMERS);
	fanout_cost_report(report, &row, &s->cost);
	snprintf(row.what, sizeof(row.what), "%s, %d consumers, 3840x2160: p50", who, CONSUMERS);
	report_add(report, &row, &s->p50);
}

int figure_size(struct report *report, const struct plan *plan, struct failure *failure)
{
	_cleanup_(sizes_finish) struct sizes broker = { 0 };
	_cleanup_(sizes_finish) struct sizes floor = { 0 };
	progress("size: %d consumers, 3840x2160 beside 64x64", CONSUMERS);
	int r = sizes_init(&broker, &subject_broker, plan, failure);
	if (r == 0)
		r = sizes_init(&floor, &subject_floor, plan, failure);
	for (unsigned i = 0; r == 0 && i < plan->rounds; i++) {
		r = take_turns(&broker, LONGER * plan->window_ns, failure);
		if (r == 0)
			r = take_turns(&floor, LONGER * plan->window_ns, failure);
	}
	if (r < 0)
		return r;
	add_rows(report, &broker, "broker", TARGET_RATIO_AT_MOST);
	add_rows(report, &floor, "floor", TARGET_NONE);
	return 0;
}
