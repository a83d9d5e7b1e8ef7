/* sluice-bench: what the broker costs, beside the least that it could cost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "consumer/bench/options.h"

enum { ROUND_MS = 500, QUICK_MS = 150 };

static void on_signal(int signo)
{
	(void)signo;
	bench_interrupted = 1;
}

/* No SA_RESTART: what sleeps wakes up. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static const struct step {
	unsigned figures;
	int (*fn)(struct report *, const struct plan *, struct failure *);
} steps[] = {
	{ FIGURE_CPU | FIGURE_LATENCY, figure_fanout },
	{ FIGURE_SIZE, figure_size },
#ifdef HAVE_PIPEWIRE
	{ FIGURE_COPY, figure_copy },
#endif
	{ FIGURE_FIRST, figure_first },
#ifdef HAVE_GSTREAMER
	{ FIGURE_GSTREAMER, figure_gstreamer },
#endif
	{ FIGURE_GPU, figure_gpu },
	{ FIGURE_CONVERT, figure_convert },
	{ FIGURE_ENCODE, figure_encode },
};

static int measure(struct report *report, const struct plan *plan, struct failure *failure)
{
	unsigned left = plan->figures;
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		left &= ~steps[i].figures;
		if (!(steps[i].figures & plan->figures))
			continue;
		int r = steps[i].fn(report, plan, failure);
		if (r < 0)
			return r;
	}
	if (left & FIGURE_COPY)
		progress("copy: left out, because this program was built without PipeWire");
	if (left & FIGURE_GSTREAMER)
		return fail(failure, -ENOSYS,
			"gstreamer: this program was built without it; scripts/bench-gstreamer "
			"does it all");
	return 0;
}

/* Other numbers of consumers make sense where each has a context on the GPU. */
static void plan_gpu(struct plan *plan, const struct options *o)
{
	static const unsigned counts[] = { 1, 4, 16 }, counts_quick[] = { 1, 2 };
	plan->gpu_rounds = o->is_quick ? 1 : o->gpu_rounds;
	if (o->has_counts) {
		plan->n_gpu_counts = plan->n_counts;
		memcpy(plan->gpu_counts, plan->counts, sizeof(plan->counts));
	} else if (o->is_quick) {
		plan->n_gpu_counts = sizeof(counts_quick) / sizeof(counts_quick[0]);
		memcpy(plan->gpu_counts, counts_quick, sizeof(counts_quick));
	} else {
		plan->n_gpu_counts = sizeof(counts) / sizeof(counts[0]);
		memcpy(plan->gpu_counts, counts, sizeof(counts));
	}
}

static struct plan plan_for(const struct options *o, struct place *place)
{
	struct plan plan = {
		.place = place,
		.figures = o->figures,
		.rounds = o->is_quick ? 1 : o->rounds,
		.window_ns = (o->is_quick ? QUICK_MS : ROUND_MS) * NS_PER_MS,
		.watch_ns = o->is_quick ? QUICK_MS * NS_PER_MS : o->seconds * NS_PER_S,
		.n_counts = o->n_counts,
	};
	memcpy(plan.counts, o->counts, sizeof(plan.counts));
	if (o->is_quick && plan.n_counts > 2)
		plan.n_counts = 2;
	plan_gpu(&plan, o);
	return plan;
}

static int run(const struct options *o, struct failure *failure)
{
	struct place place = { .broker = o->broker, .check = o->check };
	int r = place_init(&place, failure);
	if (r < 0)
		return r;
	struct plan plan = plan_for(o, &place);
	struct report report = {
		.is_quick = o->is_quick,
		.rounds = plan.figures & ~(FIGURE_GPU | FIGURE_CONVERT) ? plan.rounds
									: plan.gpu_rounds,
		.round_seconds = (double)plan.window_ns / NS_PER_S,
		.watch_seconds = (double)plan.watch_ns / NS_PER_S,
	};
	r = measure(&report, &plan, failure);
	place_finish(&place);
	if (report.n_rows > 0)
		report_print(&report, stdout);
	if (r == 0 && o->json)
		r = report_write_json(&report, o->json, failure);
	return r;
}

int main(int argc, char **argv)
{
	struct options options;
	struct failure failure = { .text = "failed" };
	int r = options_parse(&options, argc, argv);
	if (r == OPTIONS_EXIT)
		return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
	if (r < 0)
		return EXIT_USAGE;
	catch_signals();
	r = run(&options, &failure);
	if (r < 0)
		progress("%s", failure.text);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
