#include "consumer/link.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "common/clock.h"

/* A variable that is set to nothing counts as not set, as in most programs. */
static const char *environment(const char *name)
{
	const char *value = secure_getenv(name);
	return value && *value ? value : NULL;
}

static int resolve(struct link *link, const char *path, struct error *error)
{
	const char *dir = NULL;
	if (!path)
		path = environment("SLUICE_SOCKET");
	if (!path)
		dir = environment("XDG_RUNTIME_DIR");
	if (!path && !dir) {
		error_set(error, SLUICE_ERROR_NONE,
			"cannot tell where the broker's socket is: neither SLUICE_SOCKET nor "
			"XDG_RUNTIME_DIR is set; name the socket");
		return -ENOENT;
	}
	size_t room = sizeof(link->address.sun_path);
	int n = path ? snprintf(link->address.sun_path, room, "%s", path)
		     : snprintf(link->address.sun_path, room, "%s/sluice-0", dir);
	if (n < 0 || (size_t)n >= room) {
		error_set(error, SLUICE_ERROR_NONE,
			"the socket's path has %d bytes, a socket's address has room for %zu: "
			"use a shorter one (%.40s...)",
			n, room - 1, link->address.sun_path);
		return -ENAMETOOLONG;
	}
	link->address.sun_family = AF_UNIX;
	return 0;
}

static int watch(struct link *link, int op, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };
	return epoll_ctl(link->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

static int make_descriptors(struct link *link)
{
	link->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (link->epoll_fd < 0)
		return -errno;
	link->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (link->timer_fd < 0)
		return -errno;
	return watch(link, EPOLL_CTL_ADD, link->timer_fd, EPOLLIN);
}

int link_init(struct link *link, const char *path, struct error *error)
{
	link->sock = link->timer_fd = link->epoll_fd = -EBADF;
	int r = resolve(link, path, error);
	if (r < 0)
		return r;
	r = make_descriptors(link);
	if (r < 0)
		error_set(error, SLUICE_ERROR_NONE, "cannot make a descriptor to wait on: %s",
			strerror(-r));
	return r;
}

void link_finish(struct link *link)
{
	link_close(link);
	link->waker = waker_destroy(link->waker);
	fd_closep(&link->timer_fd);
	fd_closep(&link->epoll_fd);
}

int link_open(struct link *link)
{
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (struct sockaddr *)&link->address, sizeof(link->address)) < 0)
		return -errno;
	int r = watch(link, EPOLL_CTL_ADD, sock, EPOLLIN);
	if (r < 0)
		return r;
	link->sock = fd_take(&sock);
	return 0;
}

void link_close(struct link *link)
{
	fd_closep(&link->sock);
	link->is_full = link->overflown = false;
	link->queued = 0;
}

static void set_full(struct link *link, bool is_full)
{
	if (link->is_full == is_full)
		return;
	link->is_full = is_full;
	watch(link, EPOLL_CTL_MOD, link->sock, is_full ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void enqueue(struct link *link, const void *data, size_t len)
{
	uint16_t n = (uint16_t)len;
	if (sizeof(n) + len > sizeof(link->queue) - link->queued) {
		link->overflown = true;
		return;
	}
	memcpy(link->queue + link->queued, &n, sizeof(n));
	memcpy(link->queue + link->queued + sizeof(n), data, len);
	link->queued += sizeof(n) + len;
	set_full(link, true);
}

void link_send(struct link *link, const Sluice__Packet *packet)
{
	uint8_t data[WIRE_REQUEST_MAX];
	size_t len;
	if (link->sock < 0 || wire_encode(packet, data, sizeof(data), &len) < 0)
		return;
	if (link->queued > 0 || wire_send(link->sock, data, len, NULL) == WIRE_AGAIN)
		enqueue(link, data, len);
}

/* Does the message at `at` leave the queue? True too when nobody will ever read it. */
static bool flush_one(struct link *link, size_t at, size_t *len_out)
{
	uint16_t n;
	memcpy(&n, link->queue + at, sizeof(n));
	*len_out = sizeof(n) + n;
	return wire_send(link->sock, link->queue + at + sizeof(n), n, NULL) != WIRE_AGAIN;
}

void link_flush(struct link *link)
{
	size_t at = 0, len;
	if (link->sock < 0 || link->queued == 0)
		return;
	while (at < link->queued && flush_one(link, at, &len))
		at += len;
	link->queued -= at;
	memmove(link->queue, link->queue + at, link->queued);
	set_full(link, link->queued > 0);
}

void link_arm(struct link *link, uint64_t at_ns)
{
	/* a time long past works; all zero would disarm */
	struct itimerspec when = { .it_value = clock_timespec(at_ns) };
	timerfd_settime(link->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
	link->is_armed = at_ns != 0;
}

void link_drain_timer(struct link *link)
{
	uint64_t n;
	if (link->is_armed && read(link->timer_fd, &n, sizeof(n)) > 0)
		link->is_armed = false;
}

void link_drain_waker(struct link *link)
{
	if (link->waker)
		waker_drain(link->waker);
}

int link_waker(struct link *link, struct waker **waker_out)
{
	_cleanup_(waker_destroyp) struct waker *waker = NULL;
	if (!link->waker) {
		int r = waker_create(&waker);
		if (r == 0)
			r = watch(link, EPOLL_CTL_ADD, waker_fd(waker), EPOLLIN);
		if (r < 0)
			return r;
		link->waker = TAKE_PTR(waker);
	}
	*waker_out = link->waker;
	return 0;
}

bool link_nap(const struct link *link, int ms)
{
	struct pollfd p[] = {
		{ .fd = link->sock, .events = 0 }, /* hanging up is told anyway */
		{ .fd = link->waker ? waker_fd(link->waker) : -1, .events = POLLIN },
	};
	bool is_gone = poll(p, 2, ms) > 0 && p[0].revents != 0;
	if (is_gone)
		poll(p + 1, 1, ms); /* the other alone: the socket would not let us sleep */
	return is_gone;
}

int link_sleep(const struct link *link, uint64_t until_ns)
{
	struct pollfd p = { .fd = link->epoll_fd, .events = POLLIN };
	uint64_t now = clock_ns();
	struct timespec left = clock_timespec(until_ns > now ? until_ns - now : 0);
	if (ppoll(&p, 1, until_ns == UINT64_MAX ? NULL : &left, NULL) < 0 && errno == EINTR)
		return -EINTR;
	return 0;
}

void link_explain(const struct link *link, int r, struct error *error)
{
	const char *path = link->address.sun_path;
	const char *why = strerror(-r);
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
		error_set(error, SLUICE_ERROR_NONE,
			"no broker listens at %s: start sluice-broker, or name its socket", path);
		return;
	case -EACCES:
		error_set(error, SLUICE_ERROR_NONE,
			"no permission to connect to %s: it belongs to another user's broker",
			path);
		return;
	case -EPROTOTYPE:
		error_set(error, SLUICE_ERROR_NONE,
			"%s is a socket, but not a Sluice broker's: name another", path);
		return;
	default:
		error_set(error, SLUICE_ERROR_NONE, "cannot connect to %s: %s", path, why);
	}
}
