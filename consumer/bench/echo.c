#include "consumer/bench/echo.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "consumer/bench/floor.h"
#include "consumer/bench/stats.h"

enum { EVENTS = 64, ROUNDS_KEPT = 1 << 16, ANSWER_PATIENCE_MS = 5000 };

struct peer {
	pid_t pid; /* 0: none */
	int fd;
};

struct echo {
	struct floor_sizes sizes;
	int epoll_fd;
	unsigned n_rounds;
	uint32_t deliver_ns[ROUNDS_KEPT];
	uint32_t round_ns[ROUNDS_KEPT];
	unsigned n;
	struct peer peer[];
};

/* --- In each process --------------------------------------------------------------------------*/

static ssize_t receive(int fd, void *data, size_t size, uint64_t spin_ns)
{
	uint64_t until = clock_ns() + spin_ns;
	ssize_t n = -1;
	errno = EAGAIN;
	while (spin_ns > 0 && n < 0 && errno == EAGAIN && clock_ns() < until)
		n = recv(fd, data, size, MSG_DONTWAIT);
	return n < 0 && errno == EAGAIN ? recv(fd, data, size, 0) : n;
}

/* The answer says when it was received. */
_Noreturn static void answer_all(int fd, size_t bytes, uint64_t spin_ns)
{
	char message[FLOOR_MESSAGE_MAX] = { 0 };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the measuring process gets it too, and ends us */
	while (receive(fd, message, sizeof(message), spin_ns) > 0) {
		uint64_t now = clock_ns();
		memcpy(message, &now, sizeof(now));
		if (send(fd, message, bytes, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* --- In the process that measures -------------------------------------------------------------*/

static int start_one(struct echo *e, uint64_t spin_ns, struct failure *failure)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(failure, -errno, "no sockets for the floor: %s", strerror(errno));
	struct peer *peer = &e->peer[e->n++];
	*peer = (struct peer){ .fd = pair[0] };
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		answer_all(pair[1], e->sizes.release, spin_ns);
	}
	int r = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (r < 0)
		return fail(failure, r, "cannot start the floor's processes: %s", strerror(-r));
	peer->pid = pid;
	struct epoll_event event = { .events = EPOLLIN, .data.fd = peer->fd };
	return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, peer->fd, &event) < 0 ? -errno : 0;
}

int echo_create(struct echo **echo_out, unsigned n, uint64_t spin_ns, struct failure *failure)
{
	_cleanup_(echo_destroyp) struct echo *e = calloc(1, sizeof(*e) + n * sizeof(e->peer[0]));
	if (!e)
		return fail(failure, -ENOMEM, "out of memory");
	e->sizes = floor_sizes();
	e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int r = e->epoll_fd < 0 ? fail(failure, -errno, "no epoll: %s", strerror(errno)) : 0;
	while (r == 0 && e->n < n)
		r = start_one(e, spin_ns, failure);
	if (r < 0)
		return r;
	*echo_out = TAKE_PTR(e);
	return 0;
}

static int take_answer(int fd, uint64_t sent_ns, uint64_t *deliver_ns, struct failure *failure)
{
	uint64_t received = 0;
	char answer[FLOOR_MESSAGE_MAX];
	if (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) < (ssize_t)sizeof(received))
		return fail(failure, -EIO, "a process of the floor does not answer");
	memcpy(&received, answer, sizeof(received));
	*deliver_ns += received - sent_ns;
	return 0;
}

static int take_answers(
	struct echo *e, uint64_t sent_ns, uint64_t *deliver_ns, struct failure *failure)
{
	struct epoll_event events[EVENTS];
	unsigned left = e->n;
	while (left > 0) {
		int n = epoll_wait(e->epoll_fd, events, EVENTS, ANSWER_PATIENCE_MS);
		if (n <= 0)
			return n < 0 && errno == EINTR
				       ? fail(failure, -EINTR, "interrupted")
				       : fail(failure, -EIO, "the floor's processes do not answer");
		for (int i = 0; i < n; i++, left--) {
			int r = take_answer(events[i].data.fd, sent_ns, deliver_ns, failure);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int run_round(struct echo *e, struct failure *failure)
{
	static const char message[FLOOR_MESSAGE_MAX];
	uint64_t deliver_ns = 0, sent_ns = clock_ns();
	assert(e->n > 0);
	for (unsigned i = 0; i < e->n; i++)
		if (send(e->peer[i].fd, message, e->sizes.frame, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			return fail(failure, -errno, "the floor's sockets: %s", strerror(errno));
	int r = take_answers(e, sent_ns, &deliver_ns, failure);
	if (r < 0)
		return r;
	unsigned at = e->n_rounds++ % ROUNDS_KEPT;
	e->deliver_ns[at] = (uint32_t)(deliver_ns / e->n);
	e->round_ns[at] = (uint32_t)(clock_ns() - sent_ns);
	return 0;
}

static uint64_t own_cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static double median_us(uint32_t *ns, unsigned n_rounds)
{
	size_t n = n_rounds < ROUNDS_KEPT ? n_rounds : ROUNDS_KEPT;
	stats_sort_u32(ns, n);
	return stats_percentile_u32(ns, n, 0.5) / 1e3;
}

int echo_measure(struct echo *e, unsigned fps, uint64_t window_ns, struct echo_report *report_out,
	struct failure *failure)
{
	uint64_t began = clock_ns(), tick = began, cpu = own_cpu_ns();
	int r = 0;
	for (e->n_rounds = 0; r == 0 && (e->n_rounds == 0 || clock_ns() - began < window_ns);) {
		r = run_round(e, failure);
		if (r == 0 && fps > 0)
			r = pause_until(tick += NS_PER_S / fps, failure);
	}
	if (r < 0)
		return r;
	cpu = own_cpu_ns() - cpu;
	*report_out = (struct echo_report){
		.deliver_us = median_us(e->deliver_ns, e->n_rounds),
		.round_us = median_us(e->round_ns, e->n_rounds),
		.cpu_us = (double)cpu / 1e3 / e->n_rounds / e->n,
	};
	return 0;
}

/* They end when their socket has. */
struct echo *echo_destroy(struct echo *e)
{
	if (!e)
		return NULL;
	for (unsigned i = 0; i < e->n; i++) {
		shutdown(e->peer[i].fd, SHUT_RDWR); /* processes started later have it too */
		fd_closep(&e->peer[i].fd);
	}
	for (unsigned i = 0; i < e->n; i++)
		if (e->peer[i].pid > 0)
			waitpid(e->peer[i].pid, NULL, 0);
	fd_closep(&e->epoll_fd);
	free(e);
	return NULL;
}
