/* What a frame costs the broker for each consumer, and how soon they have it. */
#include <stdio.h>

#include "consumer/bench/figures.h"
#include "consumer/bench/stand.h"

enum {
	SIDE = 64,
	FPS_MIN = 30,
	FPS_MAX = 240,
	DELIVERIES = 12000,        /* a second, where FPS_MIN and FPS_MAX allow it */
	LATENCY_TARGET_COUNT = 10, /* consumers; of more, the last ones wait for the first ones */
};

static const double cpu_bound = 1.5, latency_bound = 2.0;

/* The same turns give all of these. */
struct fanout_series {
	struct fanout_cost cost;
	struct series all, making, p50, p99;
	struct series lost, late; /* one value */
};

static unsigned fps_for(unsigned consumers)
{
	unsigned fps = DELIVERIES / consumers;
	return fps < FPS_MIN ? FPS_MIN : fps > FPS_MAX ? FPS_MAX : fps;
}

static void add_turns(struct fanout_series *s, const struct turn *broker, const struct turn *floor,
	unsigned consumers)
{
	const double us = 1e-3;
	fanout_cost_add(&s->cost, broker, floor, consumers);
	series_add(
		&s->all, broker->busy_all_ns * us / consumers, floor->busy_all_ns * us / consumers);
	series_add(&s->making, broker->alone_all_ns * us, floor->alone_all_ns * us);
	series_add(&s->p50, broker->tally.p50_ns * us, floor->tally.p50_ns * us);
	series_add(&s->p99, broker->tally.p99_ns * us, floor->tally.p99_ns * us);
}

static int take_turns(struct fanout_series *series, const struct plan *plan, struct stand *broker,
	struct stand *floor, unsigned consumers, struct failure *failure)
{
	struct turn of_broker, of_floor;
	int r = 0;
	for (unsigned i = 0; r == 0 && i < plan->rounds; i++) {
		r = stand_turn(broker, plan->window_ns, &of_broker, failure);
		if (r == 0)
			r = stand_turn(floor, plan->window_ns, &of_floor, failure);
		if (r == 0)
			add_turns(series, &of_broker, &of_floor, consumers);
	}
	return r;
}

static int count_lost(struct fanout_series *series, const struct plan *plan, struct stand *broker,
	struct stand *floor, struct failure *failure)
{
	struct tally b = { 0 }, f = { 0 };
	int r = stand_watch(broker, plan->watch_ns, &b, failure);
	if (r == 0)
		r = stand_watch(floor, plan->watch_ns, &f, failure);
	if (r < 0)
		return r;
	series_add(&series->lost, (double)(b.missing + b.spoiled), (double)(f.missing + f.spoiled));
	series_add(&series->late, (double)b.late, (double)f.late);
	return 0;
}

static int measure(struct fanout_series *series, const struct plan *plan, const struct scene *scene,
	struct failure *failure)
{
	_cleanup_(stand_destroyp) struct stand *broker = NULL, *floor = NULL;
	progress("cpu, latency: %u consumers at %u frames/s", scene->consumers, scene->fps);
	int r = stand_create(&broker, &subject_broker, plan->place, scene, failure);
	if (r == 0)
		r = stand_create(&floor, &subject_floor, plan->place, scene, failure);
	if (r == 0)
		r = take_turns(series, plan, broker, floor, scene->consumers, failure);
	if (r == 0)
		r = count_lost(series, plan, broker, floor, failure);
	return r;
}

/* A row's name: "10 consumers, 240 frames/s: p50". Returns the row. */
static const struct row *name(struct row *row, const struct scene *scene, const char *quantity)
{
	snprintf(row->what, sizeof(row->what), "%u %s, %u frames/s: %s", scene->consumers,
		scene->consumers == 1 ? "consumer" : "consumers", scene->fps, quantity);
	return row;
}

static void add_cpu(struct report *report, const struct scene *scene, struct fanout_series *s)
{
	struct row row = { .figure = "cpu", .unit = "us", .beside_name = "floor" };
	struct row cost = row, lost = row, late = row;
	cost.target = TARGET_RATIO_AT_MOST;
	cost.bound = cpu_bound;
	lost.unit = late.unit = "frames";
	lost.target = TARGET_ZERO;
	fanout_cost_report(report, name(&cost, scene, "fan-out"), &s->cost);
	report_add(report, name(&row, scene, "all of it"), &s->all);
	report_add(report, name(&row, scene, "made for nobody"), &s->making);
	report_add(report, name(&lost, scene, "lost"), &s->lost);
	report_add(report, name(&late, scene, "not made in time"), &s->late);
}

static void add_latency(struct report *report, const struct scene *scene, struct fanout_series *s)
{
	struct row row = { .figure = "latency", .unit = "us", .beside_name = "floor" };
	struct row p50 = row;
	if (scene->consumers <= LATENCY_TARGET_COUNT) {
		p50.target = TARGET_RATIO_AT_MOST;
		p50.bound = latency_bound;
	}
	report_add(report, name(&p50, scene, "p50"), &s->p50);
	report_add(report, name(&row, scene, "p99"), &s->p99);
}

int figure_fanout(struct report *report, const struct plan *plan, struct failure *failure)
{
	struct fanout_series series[COUNTS_MAX] = { 0 };
	struct scene scenes[COUNTS_MAX];
	for (unsigned i = 0; i < plan->n_counts; i++) {
		unsigned n = plan->counts[i];
		scenes[i] = (struct scene){
			.consumers = n, .width = SIDE, .height = SIDE, .fps = fps_for(n)
		};
		int r = measure(&series[i], plan, &scenes[i], failure);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < plan->n_counts && plan->figures & FIGURE_CPU; i++)
		add_cpu(report, &scenes[i], &series[i]);
	for (unsigned i = 0; i < plan->n_counts && plan->figures & FIGURE_LATENCY; i++)
		add_latency(report, &scenes[i], &series[i]);
	return 0;
}
