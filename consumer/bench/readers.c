#include "consumer/bench/readers.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"

enum {
	FIRST_PATIENCE_S = 60, /* starting CUDA takes seconds if many do */
	REPORT_PATIENCE_S = 20,
	END_PATIENCE_S = 5,
	LINE_MAX_BYTES = 4096, /* of a report, with the NUL */
};

struct reader {
	pid_t pid;                /* 0: none */
	int fd;                   /* its reports */
	char log[BENCH_PATH_MAX]; /* path of what it says on stderr */
};

struct readers {
	struct readers_first first;
	unsigned n;
	struct reader reader[];
};

/* --- in the process that becomes one ----------------------------------------------------------- */

_Noreturn static void become_reader(
	const struct place *place, const struct readers_request *q, const char *log, int out_fd)
{
	char spin[24];
	snprintf(spin, sizeof(spin), "%llu", q->spin_ns / NS_PER_US);
	const char *argv[] = { "sluice-cuda-check", "--json", "--stream", "bench", "--socket",
		q->socket, "--readiness", q->readiness, "--spin", spin, NULL };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	int log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (log_fd < 0 || dup2(log_fd, STDERR_FILENO) < 0 || dup2(out_fd, STDOUT_FILENO) < 0)
		_exit(1);
	program_exec(place->check, argv[0], "consumer/check", (char *const *)argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s; name it with --check PATH\n",
		place->check ? place->check : argv[0], strerror(errno));
	_exit(1);
}

/* --- its last word ------------------------------------------------------------------------------ */

/* The last line that it wrote to stderr, without the program's name; "" if there is none. */
static void read_last_line(const char *path, char *text, size_t size)
{
	static const char name[] = "sluice-cuda-check: ";
	char line[BENCH_TEXT_MAX];
	text[0] = 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		size_t skip = strncmp(line, name, sizeof(name) - 1) == 0 ? sizeof(name) - 1 : 0;
		line[strcspn(line, "\n")] = 0;
		snprintf(text, size, "%s", line + skip);
	}
	fclose(f);
}

/* Ctrl-C ends them too: then that is what happened. */
static int tell_ended(struct reader *one, struct failure *failure)
{
	char why[BENCH_TEXT_MAX - 64];
	waitpid(one->pid, NULL, 0);
	one->pid = 0;
	if (bench_interrupted)
		return fail(failure, -EINTR, "interrupted");
	read_last_line(one->log, why, sizeof(why));
	return fail(
		failure, -ECHILD, "a consumer has ended: %s", why[0] ? why : "it does not say why");
}

static int tell_late(const struct reader *one, unsigned patience_s, struct failure *failure)
{
	char why[BENCH_TEXT_MAX - 64];
	read_last_line(one->log, why, sizeof(why));
	return fail(failure, -ETIMEDOUT, "a consumer has no frame after %u s%s%s", patience_s,
		why[0] ? ": " : "", why);
}

/* --- its reports -------------------------------------------------------------------------------- */

static int wait_for(const struct reader *one, uint64_t until_ns)
{
	struct pollfd p = { .fd = one->fd, .events = POLLIN };
	uint64_t now = clock_ns();
	int n = poll(&p, 1, now < until_ns ? (int)((until_ns - now) / NS_PER_MS) + 1 : 0);
	return n < 0 ? -errno : n;
}

static int read_line(struct reader *one, unsigned patience_s, char *line, struct failure *failure)
{
	uint64_t until = clock_ns() + patience_s * NS_PER_S;
	size_t used = 0;
	while (used < LINE_MAX_BYTES - 1) {
		int r = wait_for(one, until);
		if (r == 0)
			return tell_late(one, patience_s, failure);
		if (r < 0)
			return fail(failure, r, r == -EINTR ? "interrupted" : "cannot wait");
		ssize_t got = read(one->fd, line + used, LINE_MAX_BYTES - 1 - used);
		if (got <= 0)
			return tell_ended(one, failure);
		used += (size_t)got;
		if (line[used - 1] == '\n') {
			line[used] = 0;
			return 0;
		}
	}
	return fail(failure, -EPROTO, "a report of sluice-cuda-check is too long");
}

static int tell_strange(const char *name, struct failure *failure)
{
	return fail(failure, -EPROTO,
		"\"%s\" is missing in a report of sluice-cuda-check: is it as old as this program?",
		name);
}

/* Add the number that follows "name":. */
static int add_number(const char *json, const char *name, double *sum, struct failure *failure)
{
	char key[32], *end;
	snprintf(key, sizeof(key), "\"%s\":", name);
	const char *at = strstr(json, key);
	if (!at)
		return tell_strange(name, failure);
	at += strlen(key);
	double number = strtod(at, &end);
	if (end == at || !isfinite(number) || number < 0)
		return tell_strange(name, failure);
	*sum += number;
	return 0;
}

/* Durations are objects of percentiles. */
static int add_percentile(const char *json, const char *object, const char *name, double *sum,
	struct failure *failure)
{
	char key[32];
	snprintf(key, sizeof(key), "\"%s\":{", object);
	const char *at = strstr(json, key);
	return at ? add_number(at, name, sum, failure) : tell_strange(object, failure);
}

static const struct quantity {
	const char *object; /* NULL: a number */
	const char *name;
	size_t offset; /* of a double in a readers_report */
} quantities[] = {
	{ "read_us", "p50", offsetof(struct readers_report, read_us) },
	{ "read_us", "p99", offsetof(struct readers_report, read_p99_us) },
	{ "copy_us", "p50", offsetof(struct readers_report, copy_us) },
	{ "receive_us", "p50", offsetof(struct readers_report, receive_us) },
	{ "fetch_us", "p50", offsetof(struct readers_report, fetch_us) },
	{ NULL, "fps", offsetof(struct readers_report, fps) },
	{ NULL, "wrong", offsetof(struct readers_report, wrong) },
	{ NULL, "backwards", offsetof(struct readers_report, wrong) },
};
enum { N_QUANTITIES = sizeof(quantities) / sizeof(quantities[0]) };

static double *at_offset(struct readers_report *report, size_t offset)
{
	return (double *)((char *)report + offset);
}

static int add_report(const char *json, struct readers_report *sum, struct failure *failure)
{
	int r = 0;
	for (unsigned i = 0; r == 0 && i < N_QUANTITIES; i++) {
		const struct quantity *q = &quantities[i];
		double *into = at_offset(sum, q->offset);
		r = q->object ? add_percentile(json, q->object, q->name, into, failure)
			      : add_number(json, q->name, into, failure);
	}
	return r;
}

static void tell_all(struct readers *r, int signo)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->reader[i].pid > 0)
			kill(r->reader[i].pid, signo);
}

int readers_report(
	struct readers *readers, struct readers_report *report_out, struct failure *failure)
{
	struct readers_report sum = { 0 };
	char line[LINE_MAX_BYTES];
	int r = 0;
	tell_all(readers, SIGUSR1);
	for (unsigned i = 0; r == 0 && i < readers->n; i++) {
		r = read_line(&readers->reader[i], REPORT_PATIENCE_S, line, failure);
		if (r == 0)
			r = add_report(line, &sum, failure);
	}
	if (r < 0)
		return r;
	double wrong = sum.wrong;
	for (unsigned i = 0; i < N_QUANTITIES - 1; i++) /* the last two are one */
		*at_offset(&sum, quantities[i].offset) /= readers->n;
	sum.wrong = wrong;
	*report_out = sum;
	return 0;
}

/* --- their beginning ---------------------------------------------------------------------------- */

/* Signals that come before the program can take them wait; but what interrupts the measuring process
 * is not for its consumers, which that ends. */
static void hold_signals(sigset_t *before_out)
{
	sigset_t held;
	sigemptyset(&held);
	sigaddset(&held, SIGUSR1);
	sigaddset(&held, SIGINT);
	sigprocmask(SIG_BLOCK, &held, before_out);
}

static int start_one(struct readers *readers, struct place *place,
	const struct readers_request *request, struct failure *failure)
{
	int pipe_fds[2];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return fail(failure, -errno, "no pipe for a consumer: %s", strerror(errno));
	struct reader *one = &readers->reader[readers->n++];
	one->fd = pipe_fds[0];
	snprintf(one->log, sizeof(one->log), "%s/reader-%u", place->dir, ++place->n_subjects);
	sigset_t before;
	hold_signals(&before);
	pid_t pid = fork();
	if (pid == 0)
		become_reader(place, request, one->log, pipe_fds[1]);
	int r = pid < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(pipe_fds[1]);
	if (r < 0)
		return fail(failure, r, "cannot start a consumer: %s", strerror(-r));
	one->pid = pid;
	return 0;
}

static int keep_slowest(const char *json, const char *name, double *ms, struct failure *failure)
{
	double one = 0;
	int r = add_number(json, name, &one, failure);
	if (r == 0 && one > *ms)
		*ms = one;
	return r;
}

static int take_first(
	struct readers *readers, unsigned i, const char *readiness, struct failure *failure)
{
	char line[LINE_MAX_BYTES], granted[48];
	struct readers_first *first = &readers->first;
	int r = read_line(&readers->reader[i], FIRST_PATIENCE_S, line, failure);
	if (r == 0)
		r = keep_slowest(line, "first_ms", &first->first_ms, failure);
	if (r == 0)
		r = keep_slowest(line, "import_ms", &first->import_ms, failure);
	snprintf(granted, sizeof(granted), "\"readiness\":\"%s\"", readiness);
	if (r == 0 && !strstr(line, granted))
		first->is_granted = false;
	return r;
}

static struct readers *allocate(unsigned n)
{
	struct readers *readers = calloc(1, sizeof(*readers) + n * sizeof(readers->reader[0]));
	if (readers)
		readers->first.is_granted = true;
	return readers;
}

int readers_create(struct readers **readers_out, struct place *place,
	const struct readers_request *request, struct failure *failure)
{
	_cleanup_(readers_destroyp) struct readers *readers = allocate(request->n);
	if (!readers)
		return fail(failure, -ENOMEM, "out of memory");
	int r = 0;
	for (unsigned i = 0; r == 0 && i < request->n; i++)
		r = start_one(readers, place, request, failure);
	tell_all(readers, SIGUSR1);
	for (unsigned i = 0; r == 0 && i < request->n; i++)
		r = take_first(readers, i, request->readiness, failure);
	if (r < 0)
		return r;
	read_last_line(readers->reader[0].log, readers->first.note, sizeof(readers->first.note));
	*readers_out = TAKE_PTR(readers);
	return 0;
}

const struct readers_first *readers_first(const struct readers *readers)
{
	return &readers->first;
}

void readers_pause(struct readers *readers)
{
	tell_all(readers, SIGSTOP);
}

void readers_resume(struct readers *readers)
{
	tell_all(readers, SIGCONT);
}

/* --- their end ---------------------------------------------------------------------------------- */

static void wait_for_end(pid_t pid, uint64_t until_ns)
{
	while (clock_ns() < until_ns) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return;
		usleep(2000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

struct readers *readers_destroy(struct readers *readers)
{
	if (!readers)
		return NULL;
	uint64_t until = clock_ns() + END_PATIENCE_S * NS_PER_S;
	tell_all(readers, SIGTERM);
	tell_all(readers, SIGCONT);
	for (unsigned i = 0; i < readers->n; i++) {
		struct reader *one = &readers->reader[i];
		if (one->pid > 0)
			wait_for_end(one->pid, until);
		fd_closep(&one->fd);
		unlink(one->log);
	}
	free(readers);
	return NULL;
}
