#include "consumer/encoder/parent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "consumer/encoder/ladder.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/supervise.h"

enum { OWN_ARGS = 4 /* that a child gets beside ours, at most */ };

struct parent {
	const struct options *options;
	char *const *argv;
	int argc;
	bool is_terminal;
};

bool parent_is_wanted(const struct options *options)
{
	if (options->is_supervised)
		return false;
	return options->restart || (options->ladder.n > 0 && !options->rung);
}

/* Our own command line, and before the rest of it what the child shall be. */
static void become_encoder(void *data, const struct supervise_start *start)
{
	const struct parent *p = data;
	char supervised[64], rung[128];
	char keep[] = "--keep", rewrite[] = "--rewrite";
	char **argv = calloc((size_t)p->argc + OWN_ARGS + 1, sizeof(*argv));
	unsigned n = 0;
	if (!argv)
		return;
	argv[n++] = p->argv[0];
	snprintf(supervised, sizeof(supervised), "--supervised=%" PRIu64, start->working_since_ns);
	argv[n++] = supervised;
	if (!p->options->rung && p->options->ladder.n > 0) {
		snprintf(rung, sizeof(rung), "--rung=%s",
			p->options->ladder.rung[start->child].name);
		argv[n++] = rung;
	}
	if (start->working_since_ns)
		argv[n++] = keep; /* what was recorded before it died */
	if (p->is_terminal)
		argv[n++] = rewrite;
	memcpy(&argv[n], &p->argv[1], (size_t)(p->argc - 1) * sizeof(*argv));
	execv("/proc/self/exe", argv);
	free(argv);
}

/* A file or a server for each, and again after a restart. */
static int check_output(const struct options *options, struct problem *problem)
{
	char *path;
	if (output_kind_of(options->output) == OUTPUT_PIPE)
		return problem_set(problem, -EINVAL,
			"--ladder and --restart need an OUTPUT that can be opened again: %.64s "
			"cannot",
			options->output);
	if (options->ladder.n == 0)
		return 0;
	int r = ladder_path(options->output, options->ladder.rung[0].name, &path, problem);
	if (r < 0)
		return r == -ENOMEM ? problem_set(problem, r, "out of memory") : r;
	free(path);
	return 0;
}

int parent_run(const struct options *options, int argc, char *const *argv, struct problem *problem)
{
	const char *names[LADDER_MAX];
	struct parent parent = { options, argv, argc, isatty(STDERR_FILENO) };
	struct supervise_plan plan = {
		.program = "sluice-encode",
		.n = 1,
		.execute = become_encoder,
		.data = &parent,
		.times = supervise_times_usual,
	};
	_Static_assert((int)LADDER_MAX <= (int)SUPERVISE_MAX, "a process for each rung");
	int r = check_output(options, problem);
	if (r < 0)
		return r;
	if (!options->rung && options->ladder.n > 0) {
		for (unsigned i = 0; i < options->ladder.n; i++)
			names[i] = options->ladder.rung[i].name;
		plan.n = options->ladder.n;
		plan.name = names;
	}
	r = supervise(&plan);
	return r < 0 ? problem_set(problem, r, "signals cannot be taken: %s", strerror(-r)) : r;
}
