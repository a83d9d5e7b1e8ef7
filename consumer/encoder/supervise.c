#include "consumer/encoder/supervise.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "consumer/encoder/now.h"

enum {
	READ_BYTES = 4096,      /* of one child's stderr at a time: none keeps us from the others */
	LAST_BYTES = 64 * 1024, /* what a pipe may hold when its child is dead */
	STATUS_COMPLETE = 0,    /* exit status of a child */
	STATUS_USAGE = 2,
	STATUS_FINAL = SUPERVISE_STATUS_FINAL,
};

const struct supervise_times supervise_times_usual = {
	.delay_ns = 250 * NS_PER_MS,
	.delay_max_ns = 10 * NS_PER_S,
	.health_ns = 30 * NS_PER_S,
	.grace_ns = 5 * NS_PER_S,
};

enum state {
	WAITING, /* for its start */
	RUNNING,
	COMPLETE,
	FAILED,
};

struct ward {
	enum state state;
	struct child process;
	unsigned starts;
	uint64_t start_ns;         /* when it is started */
	uint64_t delay_ns;         /* before its next start but one; 0: as the first */
	uint64_t working_since_ns; /* 0: it has never been ready */
};

struct supervisor {
	const struct supervise_plan *plan;
	struct console console;
	struct ward ward[SUPERVISE_MAX];
	sigset_t old_mask;
	int signal_fd;
	unsigned stops;   /* how often we were told to end */
	uint64_t kill_ns; /* when those who are still there are killed; 0: not yet */
	bool was_usage;
};

/* What execute() is called with. */
struct execution {
	const struct supervise_plan *plan;
	struct supervise_start start;
};

static const char *name_of(const struct supervisor *s, unsigned i)
{
	return s->plan->name ? s->plan->name[i] : "the process";
}

static void execute(void *data)
{
	struct execution *e = data;
	e->plan->execute(e->plan->data, &e->start);
	fprintf(stderr, "%s: cannot be started: %s\n", e->plan->program, strerror(errno));
}

static void signal_all(struct supervisor *s, int signo)
{
	for (unsigned i = 0; i < s->plan->n; i++)
		if (s->ward[i].state == RUNNING)
			kill(s->ward[i].process.pid, signo);
}

/* Doubles what the next one will be. Returns what this one is. */
static uint64_t next_delay_ns(const struct supervise_times *times, struct ward *w)
{
	uint64_t delay_ns = w->delay_ns ? w->delay_ns : times->delay_ns;
	w->delay_ns = 2 * delay_ns < times->delay_max_ns ? 2 * delay_ns : times->delay_max_ns;
	return delay_ns;
}

/* why: "died of signal 9 (Killed)" */
static void start_again_later(struct supervisor *s, unsigned i, const char *why)
{
	struct ward *w = &s->ward[i];
	const char *program = s->plan->program, *name = name_of(s, i);
	if (!w->working_since_ns && w->starts >= SUPERVISE_STARTS) {
		w->state = FAILED;
		console_say(&s->console, "%s: %s %s at each of its %u starts: it is given up",
			program, name, why, w->starts);
		return;
	}
	uint64_t delay_ns = next_delay_ns(&s->plan->times, w);
	w->state = WAITING;
	w->start_ns = now_ns() + delay_ns;
	console_say(&s->console, "%s: %s %s: it is started again in %.2f s", program, name, why,
		(double)delay_ns / (double)NS_PER_S);
}

static void start(struct supervisor *s, unsigned i)
{
	char why[128];
	struct ward *w = &s->ward[i];
	struct execution execution = { s->plan, { i, w->starts, w->working_since_ns } };
	w->starts++;
	w->state = RUNNING;
	int r = child_start(&w->process, &s->old_mask, s->plan->name != NULL, execute, &execution);
	if (r == 0)
		return;
	snprintf(why, sizeof(why), "cannot be started (%s)", strerror(-r));
	start_again_later(s, i, why);
}

static void begin_to_end(struct supervisor *s, int signo, uint64_t grace_ns)
{
	s->stops++;
	signal_all(s, signo);
	if (!s->kill_ns && grace_ns)
		s->kill_ns = now_ns() + grace_ns;
}

/* The first: in good order. The second: soon. The third: now. */
static void on_stop(struct supervisor *s, int signo)
{
	if (s->stops >= 2)
		signo = SIGKILL;
	begin_to_end(s, signo, s->stops >= 1 ? s->plan->times.grace_ns : 0);
}

/* While all are ended, nothing begins again. */
static void end_early(struct supervisor *s, unsigned i, const char *why)
{
	s->ward[i].state = FAILED;
	if (!s->was_usage)
		console_say(&s->console, "%s: %s %s", s->plan->program, name_of(s, i), why);
}

static void describe(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(text, size, "died of signal %d (%s)", WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else
		snprintf(text, size, "ended with exit status %d", WEXITSTATUS(status));
}

static void on_end(struct supervisor *s, unsigned i, int status)
{
	char why[128];
	struct ward *w = &s->ward[i];
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	if (w->process.is_ready && now_ns() >= w->process.started_ns + s->plan->times.health_ns)
		w->delay_ns = 0;
	describe(status, why, sizeof(why));
	if (code == STATUS_COMPLETE) {
		w->state = COMPLETE;
	} else if (code == STATUS_USAGE) {
		w->state = FAILED;
		s->was_usage = true;
		begin_to_end(s, SIGTERM, s->plan->times.grace_ns);
	} else if (s->stops > 0) {
		end_early(s, i, why);
	} else if (code == STATUS_FINAL) {
		w->state = FAILED;
		console_say(&s->console, "%s: %s cannot go on: it is not started again",
			s->plan->program, name_of(s, i));
	} else {
		start_again_later(s, i, why);
	}
}

static void listen_to(struct supervisor *s, unsigned i, size_t most)
{
	char data[READ_BYTES];
	struct ward *w = &s->ward[i];
	size_t n = 1;
	for (size_t sum = 0; n > 0 && sum < most; sum += n) {
		n = child_read(&w->process, data, sizeof(data));
		console_feed(&s->console, i, data, n);
	}
	if (child_look_ready(&w->process) && !w->working_since_ns)
		w->working_since_ns = now_ns();
}

/* Several SIGCHLD may have become one: look at all. */
static void reap(struct supervisor *s)
{
	for (unsigned i = 0; i < s->plan->n; i++) {
		int status;
		struct ward *w = &s->ward[i];
		if (w->state != RUNNING || !child_has_ended(&w->process, &status))
			continue;
		listen_to(s, i, LAST_BYTES);
		console_end(&s->console, i);
		child_forget(&w->process);
		on_end(s, i, status);
	}
}

static void take_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;
	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		int signo = (int)info.ssi_signo;
		if (signo == SIGUSR1)
			signal_all(s, signo);
		else if (signo != SIGCHLD)
			on_stop(s, signo);
	}
	reap(s);
}

/* What the clock wants: starts, and the end of patience. */
static void be_on_time(struct supervisor *s)
{
	uint64_t now = now_ns();
	for (unsigned i = 0; i < s->plan->n; i++) {
		struct ward *w = &s->ward[i];
		if (w->state == WAITING && s->stops > 0)
			end_early(s, i, "was not running at the end");
		else if (w->state == WAITING && now >= w->start_ns)
			start(s, i);
	}
	if (s->kill_ns && now >= s->kill_ns) {
		signal_all(s, SIGKILL);
		s->kill_ns = 0;
	}
}

static void earlier(uint64_t *ns, uint64_t other_ns)
{
	if (other_ns < *ns)
		*ns = other_ns;
}

/* Milliseconds until be_on_time() has something to do; -1: never. */
static int timeout_ms(const struct supervisor *s)
{
	uint64_t at = UINT64_MAX, now = now_ns();
	for (unsigned i = 0; i < s->plan->n; i++)
		if (s->ward[i].state == WAITING)
			earlier(&at, s->ward[i].start_ns);
	if (s->kill_ns)
		earlier(&at, s->kill_ns);
	if (at == UINT64_MAX)
		return -1;
	return at <= now ? 0 : (int)((at - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void wait_and_listen(struct supervisor *s)
{
	struct pollfd fds[1 + 2 * SUPERVISE_MAX] = { { .fd = s->signal_fd, .events = POLLIN } };
	unsigned n = s->plan->n;
	for (unsigned i = 0; i < n; i++) {
		const struct child *c = &s->ward[i].process;
		fds[1 + 2 * i] = (struct pollfd){ .fd = c->error_fd, .events = POLLIN };
		fds[2 + 2 * i] = (struct pollfd){ .fd = c->ready_fd, .events = POLLIN };
	}
	if (poll(fds, 1 + 2 * n, timeout_ms(s)) < 0)
		return;
	for (unsigned i = 0; i < n; i++)
		if (fds[1 + 2 * i].revents || fds[2 + 2 * i].revents)
			listen_to(s, i, READ_BYTES);
	if (fds[0].revents)
		take_signals(s);
}

static bool is_over(const struct supervisor *s)
{
	for (unsigned i = 0; i < s->plan->n; i++)
		if (s->ward[i].state == WAITING || s->ward[i].state == RUNNING)
			return false;
	return true;
}

static int conclude(struct supervisor *s)
{
	int result = SUPERVISE_COMPLETE;
	for (unsigned i = 0; i < s->plan->n; i++) {
		if (s->ward[i].state == COMPLETE)
			continue;
		result = SUPERVISE_FAILED;
		if (s->plan->name && !s->was_usage)
			console_say(
				&s->console, "%s: %s has failed", s->plan->program, name_of(s, i));
	}
	return s->was_usage ? SUPERVISE_USAGE : result;
}

/* nohup(1): a signal that is blocked would be read although it is ignored. */
static bool is_ignored(int signo)
{
	struct sigaction now;
	return sigaction(signo, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* The signals become readable; children get the mask as it was. */
static int take_over_signals(struct supervisor *s)
{
	sigset_t ours;
	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	if (!is_ignored(SIGHUP))
		sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGUSR1);
	sigaddset(&ours, SIGCHLD);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* ignored, it would take the exit status along */
	if (sigprocmask(SIG_BLOCK, &ours, &s->old_mask) < 0)
		return -errno;
	s->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? -errno : 0;
}

int supervise(const struct supervise_plan *plan)
{
	struct supervisor s = { .plan = plan };
	int r = take_over_signals(&s);
	if (r < 0)
		return r;
	console_init(&s.console, STDERR_FILENO, plan->n, plan->name);
	for (unsigned i = 0; i < plan->n; i++)
		child_init(&s.ward[i].process);
	for (;;) {
		be_on_time(&s);
		if (is_over(&s))
			break;
		wait_and_listen(&s);
		console_draw(&s.console);
	}
	r = conclude(&s);
	fd_closep(&s.signal_fd);
	sigprocmask(SIG_SETMASK, &s.old_mask, NULL);
	return r;
}
