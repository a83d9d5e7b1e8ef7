#include "consumer/bench/gpu_rows.h"

#include <stdio.h>
#include <string.h>

/* What is to be reached with 3840x2160 and complete frames, in lock-step. */
static const struct goal {
	unsigned consumers;
	double p50_us;
	double rate; /* at least; 0: no goal */
} goals[] = { { 1, 60, 0 }, { 4, 60, 14000 }, { 16, 100, 6000 } };

/* Paced: the GPU's clocks fall between frames. */
static const double paced_p50_us = 300;

static const double cpu_bound = 1.5;

/* A new consumer waits for the next frame, and so long beyond. */
static const double beginning_ms = 5;

static const struct goal *find_goal(const struct gpu_leg *leg)
{
	if (leg->scene.width != 3840 || strcmp(leg->readiness, "complete") != 0)
		return NULL;
	for (unsigned i = 0; i < sizeof(goals) / sizeof(goals[0]); i++)
		if (goals[i].consumers == leg->scene.consumers)
			return &goals[i];
	return NULL;
}

/* "3840x2160, 4 consumers, complete at 250/s: p50" */
static struct row row_of(const struct gpu_leg *leg, const char *quantity, const char *unit)
{
	const struct scene *s = &leg->scene;
	struct row row = { .figure = "gpu", .unit = unit };
	char pace[24] = "";
	if (s->fps > 0)
		snprintf(pace, sizeof(pace), " at %u/s", s->fps);
	snprintf(row.what, sizeof(row.what), "%ux%u, %u %s, %s%s: %s", s->width, s->height,
		s->consumers, s->consumers == 1 ? "consumer" : "consumers", leg->readiness, pace,
		quantity);
	return row;
}

void gpu_rounds_add(struct gpu_rounds *rounds, const struct readers_report *readers,
	const struct gpu_floors *floors, double broker_cpu_us)
{
	double copy = floors->copy_us;
	const struct echo_report *echo = &floors->echo;
	series_add(&rounds->read, readers->read_us, copy + echo->deliver_us);
	series_add(&rounds->p99, readers->read_p99_us, 0);
	series_add(&rounds->rate, readers->fps, 1e6 / (copy + echo->round_us));
	series_add(&rounds->copy, readers->copy_us, copy);
	series_add(&rounds->receive, readers->receive_us, echo->deliver_us);
	series_add(&rounds->fetch, readers->fetch_us, 0);
	series_add(&rounds->cpu, broker_cpu_us, echo->cpu_us);
}

static void add_p50(struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds)
{
	struct row row = row_of(leg, "p50", "us");
	const struct goal *goal = find_goal(leg);
	row.beside_name = "floor";
	if (goal) {
		row.target = TARGET_AT_MOST;
		row.bound = leg->scene.fps > 0 ? paced_p50_us : goal->p50_us;
	}
	report_add(report, &row, &rounds->read);
}

static void add_rate(struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds)
{
	struct row row = row_of(leg, "frames/s", "/s");
	const struct goal *goal = find_goal(leg);
	row.beside_name = "floor";
	if (goal && goal->rate > 0) {
		row.target = TARGET_AT_LEAST;
		row.bound = goal->rate;
	}
	report_add(report, &row, &rounds->rate);
}

static void add_parts(struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds)
{
	struct row copy = row_of(leg, "of it copy", "us");
	struct row message = row_of(leg, "of it message", "us");
	struct row reading = row_of(leg, "of it reading", "us");
	copy.beside_name = message.beside_name = "floor";
	report_add(report, &copy, &rounds->copy);
	report_add(report, &message, &rounds->receive);
	report_add(report, &reading, &rounds->fetch);
}

void gpu_rows_of_rounds(struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds)
{
	bool is_lock_step = leg->scene.fps == 0;
	bool is_complete = strcmp(leg->readiness, "complete") == 0;
	struct row p99 = row_of(leg, "p99", "us");
	add_p50(report, leg, rounds);
	if (is_complete)
		report_add(report, &p99, &rounds->p99);
	if (is_complete && is_lock_step)
		add_parts(report, leg, rounds);
	if (is_lock_step)
		add_rate(report, leg, rounds);
}

void gpu_rows_of_cpu(struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds,
	double *alone_us)
{
	unsigned n = leg->scene.consumers;
	struct pair cpu = series_medians(&rounds->cpu);
	struct series more = { 0 };
	struct row row = row_of(leg, "processor time", "us");
	report_add(report, &row, &rounds->cpu);
	if (n == 1)
		*alone_us = cpu.measured;
	if (n == 1 || *alone_us == 0)
		return;
	row = row_of(leg, "processor time for each more consumer", "us");
	row.beside_name = "floor";
	row.target = TARGET_RATIO_AT_MOST;
	row.bound = cpu_bound;
	series_add(&more, (cpu.measured - *alone_us) / (n - 1), cpu.beside);
	report_add(report, &row, &more);
}

void gpu_rows_of_beginning(
	struct report *report, const struct gpu_leg *leg, struct gpu_beginning *beginning)
{
	struct row bytes = row_of(leg, "GPU bytes for each more consumer", "bytes");
	struct row together = row_of(leg, "first frame, all at once", "ms");
	struct row import = row_of(leg, "of it import", "ms");
	struct row one_more = row_of(leg, "first frame of one more", "ms");
	bytes.target = TARGET_ZERO;
	together.target = one_more.target = TARGET_AT_MOST;
	together.bound = one_more.bound = 1000.0 / leg->scene.fps + beginning_ms;
	report_add(report, &bytes, &beginning->bytes);
	report_add(report, &together, &beginning->together);
	report_add(report, &import, &beginning->import);
	report_add(report, &one_more, &beginning->one_more);
}
