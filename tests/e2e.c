#include "tests/e2e.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "common/format.h"
#include "common/stamp.h"
#include "tests/test.h"

enum { START_MS = 10000, ANSWER_MS = 5000 };

enum { CHILD_STOP_FD = 3, CHILD_REPORT_FD = 4 };

void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
	nanosleep(&t, NULL);
}

/* --- the broker ------------------------------------------------------------------------------ */

static int try_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fd_closep(&fd);
	return fd;
}

/* It says so when its sources are there too. Not by connecting: that would cost it a descriptor. */
static void wait_until_it_listens(const struct broker_process *b, unsigned said_before)
{
	for (unsigned waited = 0; waited < START_MS * test_slowness(); waited += 5) {
		if (broker_log_count(b, "listening on") > said_before)
			return;
		if (waitpid(b->pid, NULL, WNOHANG) == b->pid)
			break;
		sleep_ms(5);
	}
	test_fail(__FILE__, __LINE__, "the broker does not listen: see %s", b->log);
}

const char *e2e_broker_path(void)
{
	return SLUICE_BROKER;
}

static void exec_broker(const struct broker_process *b, const char *const *options)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
	/* no GPU unless the test asks for one: a software renderer takes its time to start */
	const char *argv[E2E_ARGS_MAX + 6] = { SLUICE_BROKER, "--socket", b->socket, "--gpu",
		"none" };
	for (unsigned i = 0; options[i] && i < E2E_ARGS_MAX; i++)
		argv[i + 5] = options[i];
	int log = open(b->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
	dup2(log, STDERR_FILENO);
	execv(SLUICE_BROKER, (char *const *)argv);
	_exit(127);
}

void broker_restart(struct broker_process *b, const char *const *options)
{
	fflush(NULL);
	unsigned said_before = broker_log_count(b, "listening on");
	b->pid = fork();
	if (b->pid == 0)
		exec_broker(b, options);
	wait_until_it_listens(b, said_before);
}

void broker_start(struct broker_process *b, const char *const *options)
{
	snprintf(b->socket, sizeof(b->socket), "%s/s", test_tmpdir());
	snprintf(b->log, sizeof(b->log), "%s/log", test_tmpdir());
	broker_restart(b, options);
}

static int wait_for(pid_t pid)
{
	int status = -1;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

int broker_stop(struct broker_process *b)
{
	kill(b->pid, SIGTERM);
	int status = wait_for(b->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void broker_kill(struct broker_process *b)
{
	kill(b->pid, SIGKILL);
	wait_for(b->pid);
}

unsigned broker_fds(const struct broker_process *b)
{
	char path[64];
	unsigned n = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)b->pid);
	DIR *dir = opendir(path);
	CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

void broker_expect_fds(const struct broker_process *b, unsigned n)
{
	unsigned has = 0;
	for (unsigned waited = 0; waited < ANSWER_MS * test_slowness(); waited += 10) {
		has = broker_fds(b);
		if (has == n)
			return;
		sleep_ms(10);
	}
	test_fail(__FILE__, __LINE__, "the broker has %u descriptors open, not %u", has, n);
}

unsigned broker_log_count(const struct broker_process *b, const char *text)
{
	char line[2048];
	unsigned n = 0;
	FILE *f = fopen(b->log, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	fclose(f);
	return n;
}

/* --- healthy clients ------------------------------------------------------------------------- */

const struct healthy_options healthy_default = {
	.delivery = SLUICE_FIFO,
	.fifo_depth = 9,
	.max_holds = 2,
};

struct healthy_state {
	struct healthy_report report;
	uint64_t last_seq;
	uint64_t last_generation;
	unsigned read_ms;
};

static void check_frame(struct healthy_state *s, struct sluice_frame *frame)
{
	struct video_format format = {
		.fourcc = frame->fourcc,
		.width = frame->width,
		.height = frame->height,
		.n_planes = frame->n_planes,
		.stride = { frame->stride[0] },
	};
	uint32_t number = 0;
	enum stamp_result stamp = stamp_read(frame->data[0], &format, &number);
	if (s->read_ms) {
		/* a slow reader looks again at the end: a slot that was reused shows then */
		sleep_ms(s->read_ms);
		if (stamp == STAMP_OK)
			stamp = stamp_read(frame->data[0], &format, &number);
	}
	bool good = stamp == STAMP_OK && number == (uint32_t)frame->seq;
	if (!sluice_frame_valid(frame))
		s->report.invalid++;
	else if (!good)
		s->report.bad++;
	if (s->report.frames++ && s->last_generation == frame->generation)
		s->report.gaps += frame->seq - s->last_seq - 1;
	s->last_seq = frame->seq;
	s->last_generation = frame->generation;
}

static int read_frames(
	struct healthy_state *s, struct sluice *conn, struct sluice_view *view, int stop_fd)
{
	struct pollfd fds[2] = { { .fd = sluice_fd(conn), .events = POLLIN },
		{ .fd = stop_fd, .events = POLLIN } };
	for (;;) {
		struct sluice_frame *frame;
		int r;
		while ((r = sluice_view_next(view, &frame)) > 0) {
			check_frame(s, frame);
			sluice_frame_release(frame);
		}
		if (r < 0)
			return r;
		if (poll(fds, 2, -1) < 0)
			return -errno;
		if (fds[1].revents)
			return 0;
		r = sluice_dispatch(conn);
		if (r < 0)
			return r;
	}
}

static void healthy_main(
	const struct broker_process *b, const struct healthy_options *o, int stop_fd, int report_fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	struct healthy_state state = { .read_ms = o->read_ms };
	struct sluice_options options = { .socket = b->socket,
		.name = "healthy",
		.flags = o->flags,
		.timeout_ms = (int)(ANSWER_MS * test_slowness()) };
	struct sluice_view_request request = {
		.delivery = o->delivery,
		.fifo_depth = o->fifo_depth,
		.max_holds = o->max_holds,
		.reserved_holds = o->reserved_holds,
	};
	struct sluice *conn = NULL;
	struct sluice_view *view = NULL;
	int r = sluice_connect(&conn, &options);
	if (r == 0)
		r = sluice_subscribe(conn, "test", &request, &view);
	if (r == 0)
		r = read_frames(&state, conn, view, stop_fd);
	state.report.result = r;
	state.report.error_code = (int)sluice_error_code(conn);
	if (r < 0)
		fprintf(stderr, "  client: %s\n", sluice_error(conn));
	sluice_unsubscribe(view);
	sluice_close(conn);
	ssize_t n = write(report_fd, &state.report, sizeof(state.report));
	exit(n == sizeof(state.report) ? 0 : 1);
}

void healthy_start(
	struct healthy *h, const struct broker_process *b, const struct healthy_options *options)
{
	int stop[2], report[2];
	CHECK(pipe2(stop, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0);
	fflush(NULL);
	h->pid = fork();
	if (h->pid == 0) {
		/* the ends that steer other clients are theirs alone */
		dup2(stop[0], CHILD_STOP_FD);
		dup2(report[1], CHILD_REPORT_FD);
		close_range(CHILD_REPORT_FD + 1, ~0u, 0);
		healthy_main(b, options, CHILD_STOP_FD, CHILD_REPORT_FD);
	}
	close(stop[0]);
	close(report[1]);
	h->stop_fd = stop[1];
	h->report_fd = report[0];
}

struct healthy_report healthy_await(struct healthy *h)
{
	struct healthy_report report;
	ssize_t n = read(h->report_fd, &report, sizeof(report));
	fd_closep(&h->report_fd);
	fd_closep(&h->stop_fd);
	int status = wait_for(h->pid);
	if (n != sizeof(report) || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		test_fail(__FILE__, __LINE__, "a healthy client crashed (status %d)", status);
	return report;
}

struct healthy_report healthy_finish(struct healthy *h)
{
	fd_closep(&h->stop_fd);
	return healthy_await(h);
}

/* --- by hand --------------------------------------------------------------------------------- */

void raw_connect(struct raw *raw, const struct broker_process *b)
{
	*raw = (struct raw){ .fd = try_connect(b->socket) };
	CHECK(raw->fd >= 0);
	raw->arena = wire_arena_create(WIRE_PACKET_ARENA);
	CHECK(raw->arena);
}

void raw_close(struct raw *raw)
{
	fdset_close(&raw->fds);
	fd_closep(&raw->fd);
	free(raw->arena);
	raw->arena = NULL;
}

int raw_send(struct raw *raw, const Sluice__Packet *packet)
{
	unsigned char data[WIRE_PACKET_MAX];
	size_t len;
	CHECK(wire_encode(packet, data, sizeof(data), &len) == 0);
	return wire_send(raw->fd, data, len, NULL);
}

int raw_recv(struct raw *raw)
{
	static unsigned char data[WIRE_PACKET_MAX];
	size_t len;
	struct pollfd p = { .fd = raw->fd, .events = POLLIN };
	fdset_close(&raw->fds);
	CHECK(poll(&p, 1, (int)(ANSWER_MS * test_slowness())) == 1);
	int r = wire_recv(raw->fd, data, sizeof(data), &len, &raw->fds);
	if (r == WIRE_CLOSED || r == -ECONNRESET)
		return 0;
	CHECK_EQ(r, WIRE_OK);
	CHECK_EQ(wire_decode(data, len, raw->arena, &raw->packet), 0);
	return (int)raw->packet->body_case;
}

void raw_expect(struct raw *raw, int body)
{
	int got;
	while ((got = raw_recv(raw)) != body)
		if (got == 0 || got == SLUICE__PACKET__BODY_BYE)
			test_fail(__FILE__, __LINE__, "%s came, not %s: %s",
				got ? "bye" : "the end", wire_body_name(body),
				got ? raw->packet->bye->text : "");
}

void raw_expect_bye(struct raw *raw, int code)
{
	int got;
	while ((got = raw_recv(raw)) != SLUICE__PACKET__BODY_BYE)
		CHECK(got != 0);
	if ((int)raw->packet->bye->code != code)
		test_fail(__FILE__, __LINE__, "bye says %s, not %s: %s",
			wire_error_name((int)raw->packet->bye->code), wire_error_name(code),
			raw->packet->bye->text);
	CHECK_EQ(raw_recv(raw), 0);
}

void raw_hello(struct raw *raw)
{
	Sluice__Hello hello = SLUICE__HELLO__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	hello.version_min = hello.version_max = WIRE_VERSION;
	hello.name = (char *)"raw";
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &hello;
	CHECK_EQ(raw_send(raw, &packet), 0);
	raw_expect(raw, SLUICE__PACKET__BODY_WELCOME);
}

void raw_subscribe_with(struct raw *raw, const Sluice__Subscribe *request)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBE;
	packet.subscribe = (Sluice__Subscribe *)request;
	CHECK_EQ(raw_send(raw, &packet), 0);
}

void raw_subscribe(struct raw *raw, uint32_t holds)
{
	Sluice__Subscribe request = SLUICE__SUBSCRIBE__INIT;
	request.stream = (char *)"test";
	request.max_holds = holds;
	raw_subscribe_with(raw, &request);
	raw_expect(raw, SLUICE__PACKET__BODY_GENERATION);
	raw->view = raw->packet->generation->view;
	raw->generation = raw->packet->generation->generation;
}

void raw_bound(struct raw *raw)
{
	Sluice__Bound bound = SLUICE__BOUND__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	bound.view = raw->view;
	bound.generation = raw->generation;
	packet.body_case = SLUICE__PACKET__BODY_BOUND;
	packet.bound = &bound;
	CHECK_EQ(raw_send(raw, &packet), 0);
}

int raw_release(struct raw *raw, const Sluice__Frame *frame)
{
	Sluice__Release release = SLUICE__RELEASE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	release.view = frame->view;
	release.generation = frame->generation;
	release.slot = frame->slot;
	release.seq = frame->seq;
	packet.body_case = SLUICE__PACKET__BODY_RELEASE;
	packet.release = &release;
	return raw_send(raw, &packet);
}
