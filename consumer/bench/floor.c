/*
 * The floor: what fanning out costs with nothing around it. One process, one epoll, one timer; for
 * each tick a sendmsg() to every consumer, for each answer a recvmsg(). The datagrams have the size
 * of the broker's. The consumers block in recvmsg() and answer.
 *
 * Pictures that do not fit a processor's caches are written to memory before each tick, by a thread
 * of its own as in the broker: it is this that makes what comes after it slower, not the fan-out.
 */
#include "consumer/bench/floor.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "consumer/bench/cpu.h"
#include "consumer/bench/subject.h"
#include "proto/wire.h"

enum {
	EVENTS = 256,
	BACKLOG = 128,
	SLOTS = 8,                 /* pictures, as many as the broker has */
	PICTURE_MIN = 1024 * 1024, /* bytes: smaller ones are not written */
};

static size_t packed_bytes(const Sluice__Packet *packet)
{
	uint8_t data[FLOOR_MESSAGE_MAX];
	size_t len = 0;
	(void)wire_encode(packet, data, sizeof(data), &len);
	return len;
}

struct floor_sizes floor_sizes(void)
{
	uint64_t now = clock_ns();
	enum { VIEW = 1, GENERATION = 1, SLOT = 3, SEQ = 1000 };
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	Sluice__Release release = SLUICE__RELEASE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	struct floor_sizes sizes;
	frame.view = release.view = VIEW;
	frame.generation = release.generation = GENERATION;
	frame.slot = release.slot = SLOT;
	frame.seq = release.seq = SEQ;
	frame.pts_ns = frame.captured_ns = frame.copied_ns = frame.published_ns = now;
	release.received_ns = now;
	packet.body_case = SLUICE__PACKET__BODY_FRAME;
	packet.frame = &frame;
	sizes.frame = packed_bytes(&packet);
	packet.body_case = SLUICE__PACKET__BODY_RELEASE;
	packet.release = &release;
	sizes.release = packed_bytes(&packet);
	return sizes;
}

/* --- the process ------------------------------------------------------------------------------ */

/* Writes pictures. */
struct maker {
	int timer_fd;
	int made_fd; /* eventfd */
	size_t row_bytes, rows;
	char *slots;
};

struct server {
	int epoll_fd, listen_fd, timer_fd;
	int tick_fd; /* the timer, or what tells that a picture is made */
	struct maker maker;
	struct floor_sizes sizes;
	struct floor_message newest;
	unsigned n_clients;
	int client[BENCH_CONSUMERS_MAX + 1];
};

/* Sends or receives one datagram. */
static ssize_t transfer(
	ssize_t (*call)(int, struct msghdr *), int fd, const void *data, size_t bytes)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	return call(fd, &msg);
}

static ssize_t send_now(int fd, struct msghdr *msg)
{
	return sendmsg(fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t receive_now(int fd, struct msghdr *msg)
{
	return recvmsg(fd, msg, MSG_DONTWAIT);
}

static ssize_t receive(int fd, struct msghdr *msg)
{
	return recvmsg(fd, msg, 0);
}

static void watch(const struct server *s, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* One row is filled, the others are copied from it, as the broker's pattern is drawn. */
static void make_picture(const struct maker *m, unsigned number)
{
	char *first = m->slots + number % SLOTS * m->rows * m->row_bytes;
	memset(first, (int)number, m->row_bytes);
	for (size_t y = 1; y < m->rows; y++)
		memcpy(first + y * m->row_bytes, first, m->row_bytes);
}

/* For ever. A tick that comes while a picture is made is left out, as the broker does. */
static void *make_pictures(void *data)
{
	const struct maker *m = data;
	uint64_t ticks;
	for (unsigned number = 0;; number++) {
		struct pollfd p = { .fd = m->timer_fd, .events = POLLIN };
		while (read(m->timer_fd, &ticks, sizeof(ticks)) != sizeof(ticks))
			poll(&p, 1, -1);
		make_picture(m, number);
		eventfd_write(m->made_fd, 1);
	}
	return NULL;
}

static int start_maker(struct server *s, const struct scene *scene)
{
	struct maker *m = &s->maker;
	pthread_t thread;
	*m = (struct maker){
		.timer_fd = s->timer_fd,
		.row_bytes = (size_t)scene->width * 4,
		.rows = scene->height,
	};
	s->tick_fd = s->timer_fd;
	if (m->row_bytes * m->rows < PICTURE_MIN)
		return 0;
	m->slots = malloc(SLOTS * m->row_bytes * m->rows);
	m->made_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!m->slots || m->made_fd < 0)
		return -ENOMEM;
	s->tick_fd = m->made_fd;
	int r = pthread_create(&thread, NULL, make_pictures, m);
	if (r == 0)
		pthread_setname_np(thread, CPU_COPY_THREAD);
	return -r;
}

static void on_tick(struct server *s)
{
	uint64_t ticks;
	if (read(s->tick_fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	s->newest.seq++;
	s->newest.published_ns = clock_ns();
	for (unsigned i = 0; i < s->n_clients; i++)
		transfer(send_now, s->client[i], &s->newest, s->sizes.frame);
}

static void on_connection(struct server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || s->n_clients == BENCH_CONSUMERS_MAX + 1) {
		fd_closep(&fd);
		return;
	}
	s->client[s->n_clients++] = fd;
	watch(s, fd);
	if (s->newest.seq)
		transfer(send_now, fd, &s->newest, s->sizes.frame);
}

static void forget(struct server *s, int fd)
{
	unsigned i = 0;
	while (s->client[i] != fd)
		i++;
	s->client[i] = s->client[--s->n_clients];
	close(fd);
}

static void on_answer(struct server *s, int fd)
{
	char answer[FLOOR_MESSAGE_MAX];
	answer[0] = 0; /* compilers cannot see that it is filled */
	ssize_t n = transfer(receive_now, fd, answer, sizeof(answer));
	if (n == 0 || (n < 0 && errno != EAGAIN))
		forget(s, fd);
}

static void serve(struct server *s)
{
	struct epoll_event events[EVENTS];
	for (;;) {
		int n = epoll_wait(s->epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == s->tick_fd)
				on_tick(s);
			else if (fd == s->listen_fd)
				on_connection(s);
			else
				on_answer(s, fd);
		}
	}
}

static bool address_of(const char *socket, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return (size_t)snprintf(address->sun_path, sizeof(address->sun_path), "%s", socket) <
	       sizeof(address->sun_path);
}

static int open_descriptors(struct server *s, const char *path, const struct scene *scene)
{
	struct timespec period = clock_timespec(NS_PER_S / scene->fps);
	struct itimerspec timer = { .it_interval = period, .it_value = period };
	struct sockaddr_un address;
	if (!address_of(path, &address))
		return -ENAMETOOLONG;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s->epoll_fd < 0 || s->timer_fd < 0 || s->listen_fd < 0 ||
		timerfd_settime(s->timer_fd, 0, &timer, NULL) < 0 ||
		bind(s->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(s->listen_fd, BACKLOG) < 0)
		return -errno;
	int r = start_maker(s, scene);
	watch(s, s->tick_fd);
	watch(s, s->listen_fd);
	return r;
}

static void floor_main(const struct subject *subject, const void *data)
{
	const struct scene *scene = data;
	struct rlimit limit;
	struct server *s = calloc(1, sizeof(*s));
	if (!s)
		_exit(1);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	s->sizes = floor_sizes();
	int r = open_descriptors(s, subject->socket, scene);
	if (r == 0)
		serve(s);
	progress("the floor's server cannot listen on %s: %s", subject->socket, strerror(-r));
	_exit(1);
}

static int floor_start(struct subject **subject_out, struct place *place, const struct scene *scene,
	struct failure *failure)
{
	return subject_start(subject_out, place, "floor", floor_main, scene, failure);
}

/* --- its consumers ---------------------------------------------------------------------------- */

int floor_connect(const char *path)
{
	struct timeval patience = { .tv_usec = SEAT_LOOK_MS * 1000L };
	struct sockaddr_un address;
	if (!address_of(path, &address))
		return -ENAMETOOLONG;
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	return fd_take(&fd);
}

int floor_receive(int fd, struct floor_message *message_out)
{
	ssize_t n = transfer(receive, fd, message_out, sizeof(*message_out));
	if (n > 0)
		return 1;
	if (n == 0)
		return -ECONNRESET;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int floor_answer(int fd, size_t bytes)
{
	static const char answer[FLOOR_MESSAGE_MAX];
	return transfer(send_now, fd, answer, bytes) < 0 ? -errno : 0;
}

static int floor_consume(struct seat *seat, const char *path, struct failure *failure)
{
	struct floor_sizes sizes = floor_sizes();
	_cleanup_fd_ int fd = floor_connect(path);
	int r = fd < 0 ? fd : 0;
	while (r >= 0 && !seat_is_over(seat)) {
		struct floor_message message;
		r = floor_receive(fd, &message);
		if (r <= 0)
			continue;
		uint64_t now = clock_ns();
		r = floor_answer(fd, sizes.release);
		struct sighting s = {
			.seq = message.seq,
			.published_ns = message.published_ns,
			.received_ns = now,
			.is_whole = true,
		};
		seat_note(seat, &s);
	}
	return r < 0 ? fail(failure, r, "the floor's server: %s", strerror(-r)) : 0;
}

const struct subject_kind subject_floor = {
	.name = "floor",
	.start = floor_start,
	.consume = floor_consume,
};
