/*
 * A frame's size must not matter to the fan-out: 4K beside 64 × 64, 10 consumers, 30 frames/s.
 *
 * Making a picture of 33 MB empties the caches, and whatever the processor does next is slower. So
 * the floor writes as much memory before it sends, and it is the growth that is compared.
 */
#include <stdio.h>

#include "consumer/bench/figures.h"
#include "consumer/bench/stand.h"

static const double bound = 1.1;

static const struct scene small = { .consumers = 10, .width = 64, .height = 64, .fps = 30 };
static const struct scene large = { .consumers = 10, .width = 3840, .height = 2160, .fps = 30 };

/* Each in both sizes. */
struct size_series {
	struct fanout_cost cost;
	struct series p50;
};

/* Take one turn of both sizes. */
static int compare(struct size_series *series, const struct plan *plan, struct stand *of_large,
	struct stand *of_small, struct failure *failure)
{
	const double us = 1e-3;
	struct turn l, s;
	int r = stand_turn(of_large, plan->window_ns, &l, failure);
	if (r == 0)
		r = stand_turn(of_small, plan->window_ns, &s, failure);
	if (r < 0)
		return r;
	fanout_cost_add(&series->cost, &l, &s, large.consumers);
	series_add(&series->p50, l.tally.p50_ns * us, s.tally.p50_ns * us);
	return 0;
}

/* How many times as much a large frame takes. */
struct growth {
	double cost, p50;
};

static struct growth add_rows(struct report *report, struct size_series *series, const char *who)
{
	struct row row = { .figure = "size", .unit = "us", .beside_name = "64x64" };
	snprintf(row.what, sizeof(row.what), "%s, 3840x2160: fan-out", who);
	const struct row *cost = fanout_cost_report(report, &row, &series->cost);
	snprintf(row.what, sizeof(row.what), "%s, 3840x2160: p50", who);
	const struct row *p50 = report_add(report, &row, &series->p50);
	return (struct growth){ cost->measured / cost->beside, p50->measured / p50->beside };
}

static void add_growth(struct report *report, const char *what, double broker, double floor)
{
	struct series one = { 0 };
	struct row row = {
		.figure = "size",
		.unit = "x",
		.beside_name = "floor",
		.target = TARGET_RATIO_AT_MOST,
		.bound = bound,
	};
	snprintf(row.what, sizeof(row.what), "growth from 64x64 to 3840x2160: %s", what);
	series_add(&one, broker, floor);
	report_add(report, &row, &one);
}

static int create(struct stand **large_out, struct stand **small_out,
	const struct subject_kind *kind, const struct plan *plan, struct failure *failure)
{
	int r = stand_create(large_out, kind, plan->place, &large, failure);
	return r < 0 ? r : stand_create(small_out, kind, plan->place, &small, failure);
}

int figure_size(struct report *report, const struct plan *plan, struct failure *failure)
{
	_cleanup_(stand_destroyp) struct stand *large_b = NULL, *small_b = NULL;
	_cleanup_(stand_destroyp) struct stand *large_f = NULL, *small_f = NULL;
	struct size_series broker = { 0 }, floor = { 0 };
	progress("size: 3840x2160 beside 64x64");
	int r = create(&large_b, &small_b, &subject_broker, plan, failure);
	if (r == 0)
		r = create(&large_f, &small_f, &subject_floor, plan, failure);
	for (unsigned i = 0; r == 0 && i < plan->rounds; i++) {
		r = compare(&broker, plan, large_b, small_b, failure);
		if (r == 0)
			r = compare(&floor, plan, large_f, small_f, failure);
	}
	if (r < 0)
		return r;
	struct growth of_broker = add_rows(report, &broker, "broker");
	struct growth of_floor = add_rows(report, &floor, "floor");
	add_growth(report, "fan-out", of_broker.cost, of_floor.cost);
	add_growth(report, "p50", of_broker.p50, of_floor.p50);
	return 0;
}
