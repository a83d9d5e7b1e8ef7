#include "consumer/bench/subject.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/fd.h"

enum { START_PATIENCE_S = 10, END_PATIENCE_S = 5 };

static bool listens(const struct subject *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->socket);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	/* EPROTOTYPE: a stream socket, as GStreamer has */
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
	       errno == EPROTOTYPE;
}

static int wait_until_it_listens(struct subject *s, const char *name, struct failure *failure)
{
	uint64_t deadline = clock_ns() + START_PATIENCE_S * NS_PER_S;
	while (clock_ns() < deadline) {
		if (listens(s))
			return 0;
		if (waitpid(s->pid, NULL, WNOHANG) != 0) {
			s->pid = 0;
			return fail(failure, -ECHILD, "the %s ended at once", name);
		}
		int r = pause_until(clock_ns() + 2 * NS_PER_MS, failure);
		if (r < 0)
			return r;
	}
	return fail(
		failure, -ETIMEDOUT, "the %s does not listen after %d s", name, START_PATIENCE_S);
}

int subject_start(struct subject **subject_out, struct place *place, const char *name,
	void (*main_fn)(const struct subject *, const void *), const void *data,
	struct failure *failure)
{
	_cleanup_(subject_destroyp) struct subject *s = calloc(1, sizeof(*s));
	if (!s)
		return fail(failure, -ENOMEM, "out of memory");
	snprintf(s->socket, sizeof(s->socket), "%s/%s-%u", place->dir, name, ++place->n_subjects);
	s->pid = fork();
	if (s->pid < 0)
		return fail(failure, -errno, "cannot start the %s: %s", name, strerror(errno));
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGINT, SIG_IGN); /* the measuring process gets it too, and ends us */
		signal(SIGTERM, SIG_DFL);
		main_fn(s, data);
	}
	int r = wait_until_it_listens(s, name, failure);
	if (r < 0)
		return r;
	*subject_out = TAKE_PTR(s);
	return 0;
}

void subject_pause(struct subject *s)
{
	kill(s->pid, SIGSTOP);
}

void subject_resume(struct subject *s)
{
	kill(s->pid, SIGCONT);
}

static void end_process(pid_t pid)
{
	uint64_t deadline = clock_ns() + END_PATIENCE_S * NS_PER_S;
	kill(pid, SIGTERM);
	kill(pid, SIGCONT);
	while (clock_ns() < deadline) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return;
		usleep(2000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

struct subject *subject_destroy(struct subject *s)
{
	if (!s)
		return NULL;
	if (s->pid > 0)
		end_process(s->pid);
	unlink(s->socket);
	free(s);
	return NULL;
}
