/* sluice-encode: from a stream to a video file. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "consumer/encoder/avlog.h"
#include "consumer/encoder/choose.h"
#include "consumer/encoder/control.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/parent.h"
#include "consumer/encoder/parts.h"
#include "consumer/encoder/record.h"
#include "consumer/encoder/rung.h"
#include "consumer/encoder/say.h"
#include "consumer/encoder/stats.h"
#include "consumer/encoder/stop.h"
#include "consumer/encoder/supervise.h"

enum { EXIT_COMPLETE = 0, EXIT_EARLY = 1, EXIT_USAGE = 2 };

static void closep(FILE **file)
{
	if (*file)
		fclose(*file);
}

static int complain(int status, const struct problem *problem)
{
	say("%s%s", problem->text, status == EXIT_USAGE ? " (see --help)" : "");
	return status;
}

/* --help or --version was printed, perhaps onto a full disk. */
static int finish_telling(struct problem *problem)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_COMPLETE;
	problem_set(problem, -EIO, "cannot write to the standard output: %s", strerror(errno));
	return complain(EXIT_EARLY, problem);
}

static int record_and_report(const struct options *options, const AVOutputFormat *format,
	FILE *stats_file, struct problem *problem)
{
	struct stats stats = {
		.is_live = !options->quiet,
		.rewrites = options->rewrites || isatty(STDERR_FILENO),
		.codec = options->encoder.codec,
	};
	int r = record(options, format, &stats, problem);
	if (stats.frames > 0 && !options->quiet)
		stats_print_summary(&stats, options->output);
	if (stats_file && stats_write_json(&stats, stats_file, stats.codec, options->output) < 0 &&
		r == 0)
		r = problem_set(
			problem, -EIO, "cannot write the statistics to %s", options->stats_path);
	return r;
}

/* What is wrong whatever the stream is like is told before there is one. */
static int check(
	const struct options *options, const AVOutputFormat **format_out, struct problem *problem)
{
	const struct encoder_settings *encoder = &options->encoder;
	bool is_auto = choose_is_auto(encoder->codec);
	int r = choose_check(options, problem);
	if (r < 0)
		return r;
	if (options->require_gpu && !is_auto && !encoder_is_on_gpu(encoder))
		return problem_set(
			problem, -EINVAL, "--require-gpu: %s encodes on the CPU", encoder->codec);
	return parts_check_output(options, format_out, problem);
}

static int exit_status(int r)
{
	return r == -EINVAL ? EXIT_USAGE : EXIT_EARLY;
}

/* As the process of that rung will. Says what is wrong. */
static int check_rung(struct options options)
{
	struct problem problem;
	struct rung_paths paths;
	const AVOutputFormat *format;
	int r = rung_apply(&options, &paths, &problem);
	if (r == 0)
		r = check(&options, &format, &problem);
	if (r < 0)
		complain(exit_status(r), &problem);
	rung_paths_free(&paths);
	return r;
}

/* What cannot work is told at once, once, and nothing is started. An exit status. */
static int check_rungs(struct options options)
{
	int r = 0;
	avlog_install(options.verbose);
	if (options.rung || options.ladder.n == 0)
		r = check_rung(options);
	for (unsigned i = 0; !options.rung && i < options.ladder.n && r == 0; i++) {
		struct options own = options;
		own.rung = options.ladder.rung[i].name;
		r = check_rung(own);
	}
	return r < 0 ? exit_status(r) : EXIT_COMPLETE;
}

/* In a process of its own: trying a codec leaves threads, and what a GPU's driver holds. */
static int check_apart(const struct options *options)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(check_rungs(*options));
	}
	/* what cannot be tried here is found out by the processes themselves */
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return EXIT_COMPLETE;
	return WEXITSTATUS(status);
}

/* The processes below say what is wrong with what they were told. */
static int run_parent(
	const struct options *options, int argc, char *const *argv, struct problem *problem)
{
	int status = check_apart(options);
	if (status != EXIT_COMPLETE)
		return status;
	int r = parent_run(options, argc, argv, problem);
	return r < 0 ? complain(exit_status(r), problem) : r;
}

/* A disk that is full or read-only is so after another start, too. */
static int final_status(const struct options *options, int r)
{
	bool is_final = r == -ENOSPC || r == -EDQUOT || r == -EROFS;
	return options->is_supervised && is_final ? SUPERVISE_STATUS_FINAL : EXIT_EARLY;
}

/* --time is for all processes of a restarted recording. true: it is over. */
static bool take_used_time(struct options *options)
{
	if (options->limit_us == 0 || options->since_ns == 0)
		return false;
	options->limit_us -= ((int64_t)now_ns() - options->since_ns) / (int64_t)NS_PER_US;
	return options->limit_us <= 0;
}

int main(int argc, char **argv)
{
	struct options options;
	struct problem problem = { "" };
	const AVOutputFormat *format = NULL;
	_cleanup_(rung_paths_free) struct rung_paths paths = { 0 };
	_cleanup_(closep) FILE *stats_file = NULL;

	control_install(); /* from here on a SIGUSR1 ends nothing */
	int r = options_parse(&options, argc, argv, &problem);
	if (r < 0)
		return complain(EXIT_USAGE, &problem);
	if (r == OPTIONS_DONE)
		return finish_telling(&problem);
	if (options.tell_path) {
		r = control_tell(options.tell_path, options.output, &problem);
		return r < 0 ? complain(EXIT_EARLY, &problem) : finish_telling(&problem);
	}
	if (parent_is_wanted(&options))
		return run_parent(&options, argc, argv, &problem);
	avlog_install(options.verbose);
	if ((r = rung_apply(&options, &paths, &problem)) < 0)
		return complain(exit_status(r), &problem);
	if ((r = check(&options, &format, &problem)) < 0)
		return complain(exit_status(r), &problem);
	if (take_used_time(&options))
		return EXIT_COMPLETE;
	if (options.stats_path && !(stats_file = fopen(options.stats_path, "we"))) {
		problem_set(
			&problem, 0, "cannot write %s: %s", options.stats_path, strerror(errno));
		return complain(EXIT_EARLY, &problem);
	}
	if ((r = stop_install()) < 0 || (r = control_install()) < 0)
		problem_set(&problem, r, "signals cannot be taken: %s", strerror(-r));
	else
		r = record_and_report(&options, format, stats_file, &problem);
	return r < 0 ? complain(final_status(&options, r), &problem) : EXIT_COMPLETE;
}
