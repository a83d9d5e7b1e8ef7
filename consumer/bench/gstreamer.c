/* The same work done by GStreamer's unixfdsink and unixfdsrc. */
#include <stdio.h>

#include "common/clock.h"
#include "consumer/bench/figures.h"
#include "consumer/bench/stand.h"

enum { WIDTH = 1280, HEIGHT = 720, FPS = 60, FPS_UNLIMITED = 2000 /* more than can be drawn */ };

static const unsigned counts[] = { 1, 4, 16 };

struct gstreamer_series {
	struct fanout_cost cost;
	struct series busy, p50, p99, rate;
};

static void add_turns(struct gstreamer_series *s, const struct turn *broker,
	const struct turn *unixfd, unsigned consumers, uint64_t window_ns)
{
	const double us = 1e-3, per_s = (double)NS_PER_S / (double)window_ns / consumers;
	fanout_cost_add(&s->cost, broker, unixfd, consumers);
	series_add(&s->busy, broker->busy_ns * us / consumers, unixfd->busy_ns * us / consumers);
	series_add(&s->p50, broker->tally.p50_ns * us, unixfd->tally.p50_ns * us);
	series_add(&s->p99, broker->tally.p99_ns * us, unixfd->tally.p99_ns * us);
	series_add(&s->rate, (double)broker->tally.frames * per_s,
		(double)unixfd->tally.frames * per_s);
}

static int measure(struct gstreamer_series *series, const struct plan *plan,
	const struct scene *scene, struct failure *failure)
{
	_cleanup_(stand_destroyp) struct stand *broker = NULL, *unixfd = NULL;
	struct turn b, u;
	progress("gstreamer: %u consumers at %u frames/s", scene->consumers, scene->fps);
	int r = stand_create(&broker, &subject_broker, plan->place, scene, failure);
	if (r == 0)
		r = stand_create(&unixfd, &subject_unixfd, plan->place, scene, failure);
	for (unsigned i = 0; r == 0 && i < plan->rounds; i++) {
		r = stand_turn(broker, plan->window_ns, &b, failure);
		if (r == 0)
			r = stand_turn(unixfd, plan->window_ns, &u, failure);
		if (r == 0)
			add_turns(series, &b, &u, scene->consumers, plan->window_ns);
	}
	return r;
}

static const struct row *name(
	struct row *row, const struct scene *scene, const char *quantity, const char *unit)
{
	char rate[32];
	snprintf(rate, sizeof(rate), "%u frames/s", scene->fps);
	snprintf(row->what, sizeof(row->what), "%u x 1280x720, %s: %s", scene->consumers,
		scene->fps == FPS_UNLIMITED ? "unlimited" : rate, quantity);
	row->unit = unit;
	return row;
}

static void add_rows(struct report *report, const struct scene *scene, struct gstreamer_series *s)
{
	struct row row = { .figure = "gstreamer", .beside_name = "unixfd" };
	report_add(report, name(&row, scene, "received by each", "/s"), &s->rate);
	if (scene->fps == FPS_UNLIMITED) {
		report_add(report, name(&row, scene, "all but drawing", "us"), &s->busy);
		return;
	}
	fanout_cost_report(report, name(&row, scene, "fan-out", "us"), &s->cost);
	report_add(report, name(&row, scene, "p50", "us"), &s->p50);
	report_add(report, name(&row, scene, "p99", "us"), &s->p99);
}

int figure_gstreamer(struct report *report, const struct plan *plan, struct failure *failure)
{
	static const unsigned rates[] = { FPS, FPS_UNLIMITED };
	for (unsigned i = 0; i < 2 * sizeof(counts) / sizeof(counts[0]); i++) {
		struct gstreamer_series series = { 0 };
		struct scene scene = {
			.consumers = counts[i / 2],
			.width = WIDTH,
			.height = HEIGHT,
			.fps = rates[i % 2],
		};
		int r = measure(&series, plan, &scene, failure);
		if (r < 0)
			return r;
		add_rows(report, &scene, &series);
	}
	return 0;
}
