#include "consumer/encoder/control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/fd.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/values.h"

enum {
	BACKLOG = 8,
	LINES_A_TURN = 8, /* of one client: frames go before */
	TELL_S = 5,       /* for an answer */
};

struct client {
	int fd; /* -EBADF: none */
	size_t used;
	unsigned long last_turn; /* when it said something */
	char line[CONTROL_LINE_MAX];
};

struct control {
	control_fn fn;
	void *data;
	int fd; /* -EBADF: no socket */
	struct sockaddr_un address;
	dev_t device; /* of the socket's file */
	ino_t inode;
	unsigned long turn;
	struct client client[CONTROL_CLIENTS_MAX];
};

static volatile sig_atomic_t key_is_asked;

static void on_key(int signo)
{
	key_is_asked = 1;
}

int control_install(void)
{
	struct sigaction action = { .sa_handler = on_key, .sa_flags = SA_RESTART };
	sigemptyset(&action.sa_mask);
	return sigaction(SIGUSR1, &action, NULL) < 0 ? -errno : 0;
}

static int fill_address(struct sockaddr_un *address, const char *path, struct problem *problem)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return problem_set(problem, -ENAMETOOLONG,
			"the control socket's path has at most %zu bytes: %.64s…",
			sizeof(address->sun_path) - 1, path);
	memcpy(address->sun_path, path, strlen(path));
	return 0;
}

/* A socket that nobody listens on is a dead process's. */
static int remove_stale(const struct sockaddr_un *address, struct problem *problem)
{
	const char *path = address->sun_path;
	struct stat st;
	if (lstat(path, &st) < 0)
		return 0; /* what is wrong, bind() says as well */
	if (!S_ISSOCK(st.st_mode))
		return problem_set(problem, -EEXIST,
			"cannot listen on %s: a file of that name exists and is no socket", path);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	if (r == 0 || errno != ECONNREFUSED)
		return problem_set(problem, -EADDRINUSE,
			"cannot listen on %s: another process does, give another --control", path);
	unlink(path);
	return 0;
}

static int listen_at(struct control *c, const char *path, struct problem *problem)
{
	struct stat st;
	int r = fill_address(&c->address, path, problem);
	if (r == 0)
		r = remove_stale(&c->address, problem);
	if (r < 0)
		return r;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* before bind(), so that the file has the mode from its first moment */
	if (c->fd < 0 || fchmod(c->fd, S_IRUSR | S_IWUSR) < 0 ||
		bind(c->fd, (const struct sockaddr *)&c->address, sizeof(c->address)) < 0 ||
		lstat(path, &st) < 0 || listen(c->fd, BACKLOG) < 0)
		return problem_set(
			problem, -errno, "cannot listen on %s: %s", path, strerror(errno));
	c->device = st.st_dev;
	c->inode = st.st_ino;
	return 0;
}

int control_create(struct control **control_out, const char *path, control_fn fn, void *data,
	struct problem *problem)
{
	_cleanup_(control_destroyp) struct control *c = calloc(1, sizeof(*c));
	if (!c)
		return problem_set(problem, -ENOMEM, "out of memory");
	c->fn = fn;
	c->data = data;
	c->fd = -EBADF;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		c->client[i].fd = -EBADF;
	int r = path ? listen_at(c, path, problem) : 0;
	if (r == 0)
		*control_out = TAKE_PTR(c);
	return r;
}

/* One that does not read its answers is not waited for. */
static void answer(struct client *client, const char *text)
{
	char line[CONTROL_ANSWER_MAX + 1];
	int n = snprintf(line, sizeof(line), "%.*s\n", CONTROL_ANSWER_MAX - 1, text);
	if (send(client->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		fd_closep(&client->fd);
}

static void run(
	struct control *c, struct client *client, enum control_command command, int64_t bits)
{
	char text[CONTROL_ANSWER_MAX] = "ok";
	struct problem problem = { "" };
	if (c->fn(c->data, command, bits, text, &problem) < 0)
		snprintf(text, sizeof(text), "error: %s", problem.text);
	answer(client, text);
}

static void run_line(struct control *c, struct client *client, char *line)
{
	int64_t bits = 0;
	line[strcspn(line, "\r")] = 0;
	if (strcmp(line, "keyframe") == 0)
		run(c, client, CONTROL_KEY, 0);
	else if (strcmp(line, "stats") == 0)
		run(c, client, CONTROL_STATS, 0);
	else if (strcmp(line, "quit") == 0)
		run(c, client, CONTROL_QUIT, 0);
	else if (strcmp(line, "help") == 0)
		answer(client, "ok: keyframe, bitrate RATE (such as 4M), stats, quit, help");
	else if (strncmp(line, "bitrate ", 8) != 0)
		answer(client, "error: no such command: help lists them");
	else if (value_bits(line + 8, OPTIONS_BIT_RATE_MIN, OPTIONS_BIT_RATE_MAX, &bits))
		run(c, client, CONTROL_BIT_RATE, bits);
	else
		answer(client, "error: bitrate takes bits per second such as 800k or 4M, from 1k "
			       "to 2000M");
}

static char *line_end(struct client *client)
{
	return client->fd < 0 ? NULL : memchr(client->line, '\n', client->used);
}

/* The lines that are whole, as many as a turn has. What is left of an unfinished one stays. */
static void run_lines(struct control *c, struct client *client)
{
	char *end;
	for (unsigned i = 0; i < LINES_A_TURN && (end = line_end(client)); i++) {
		char line[CONTROL_LINE_MAX];
		size_t n = (size_t)(end + 1 - client->line);
		memcpy(line, client->line, n - 1);
		line[n - 1] = 0;
		client->used -= n;
		memmove(client->line, end + 1, client->used);
		run_line(c, client, line);
	}
}

/* All lines that were whole have been run. */
static void read_client(struct control *c, struct client *client)
{
	size_t room = sizeof(client->line) - client->used;
	ssize_t n = recv(client->fd, client->line + client->used, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		client->used += (size_t)n;
		client->last_turn = c->turn;
	}
	/* the last command may lack its end */
	if (n == 0 && client->used > 0 && client->used < sizeof(client->line))
		client->line[client->used++] = '\n';
	run_lines(c, client);
	if (n <= 0)
		fd_closep(&client->fd);
	if (client->fd >= 0 && client->used == sizeof(client->line) && !line_end(client)) {
		answer(client, "error: a command has at most 255 bytes");
		fd_closep(&client->fd);
	}
}

/* First what is left of the last turn. */
static void serve_client(struct control *c, struct client *client, bool can_be_read)
{
	if (line_end(client))
		run_lines(c, client);
	else if (can_be_read)
		read_client(c, client);
}

/* A free place, or that of the client which was silent for longest. */
static struct client *find_place(struct control *c)
{
	struct client *best = &c->client[0];
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = &c->client[i];
		if (client->fd < 0)
			return client;
		if (client->last_turn < best->last_turn)
			best = client;
	}
	fd_closep(&best->fd);
	return best;
}

static void accept_client(struct control *c)
{
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	struct client *client = find_place(c);
	client->fd = fd;
	client->used = 0;
	client->last_turn = c->turn;
}

static void take_signal(struct control *c)
{
	char text[CONTROL_ANSWER_MAX];
	struct problem problem;
	if (!key_is_asked)
		return;
	key_is_asked = 0;
	c->fn(c->data, CONTROL_KEY, 0, text, &problem);
}

void control_poll(struct control *control)
{
	struct pollfd fds[1 + CONTROL_CLIENTS_MAX];
	take_signal(control);
	if (control->fd < 0)
		return;
	control->turn++;
	fds[0] = (struct pollfd){ control->fd, POLLIN, 0 };
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		fds[1 + i] = (struct pollfd){ control->client[i].fd, POLLIN, 0 };
	if (poll(fds, 1 + CONTROL_CLIENTS_MAX, 0) < 0)
		return;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		serve_client(control, &control->client[i], fds[1 + i].revents);
	if (fds[0].revents)
		accept_client(control);
}

struct control *control_destroy(struct control *control)
{
	struct stat st;
	if (!control)
		return NULL;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		fd_closep(&control->client[i].fd);
	/* not another process's that came in between */
	const char *path = control->address.sun_path;
	if (control->inode && lstat(path, &st) == 0 && st.st_dev == control->device &&
		st.st_ino == control->inode)
		unlink(path);
	fd_closep(&control->fd);
	free(control);
	return NULL;
}

/* 0, or negative errno. */
static int wait_until(int fd, uint64_t deadline_ns)
{
	struct pollfd readable = { fd, POLLIN, 0 };
	for (;;) {
		uint64_t now = now_ns();
		int ms = now < deadline_ns ? (int)((deadline_ns - now) / NS_PER_MS) + 1 : 0;
		int n = poll(&readable, 1, ms);
		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* The answer, up to its end. Returns its length, or negative errno. */
static ssize_t ask(
	int fd, const char *command, uint64_t deadline_ns, char text[CONTROL_ANSWER_MAX + 1])
{
	char line[CONTROL_LINE_MAX];
	size_t used = 0;
	int n = snprintf(line, sizeof(line), "%s\n", command);
	if (n >= (int)sizeof(line))
		return -E2BIG;
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
		return -errno;
	while (used < CONTROL_ANSWER_MAX) {
		int r = wait_until(fd, deadline_ns);
		if (r < 0)
			return r;
		ssize_t got = recv(fd, text + used, CONTROL_ANSWER_MAX - used, 0);
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		used += (size_t)got;
		if (text[used - 1] == '\n')
			break;
	}
	text[used] = 0;
	return (ssize_t)used;
}

int control_tell(const char *path, const char *command, struct problem *problem)
{
	struct sockaddr_un address;
	const struct timeval patience = { .tv_sec = TELL_S };
	uint64_t deadline_ns = now_ns() + TELL_S * NS_PER_S;
	char text[CONTROL_ANSWER_MAX + 1];
	int r = fill_address(&address, path, problem);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
		connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return problem_set(problem, -errno, "no sluice-encode listens on %s: %s", path,
			strerror(errno));
	ssize_t n = ask(fd, command, deadline_ns, text);
	if (n < 0)
		return problem_set(
			problem, (int)n, "no answer from %s: %s", path, strerror((int)-n));
	text[strcspn(text, "\n")] = 0;
	if (strncmp(text, "error: ", 7) == 0)
		return problem_set(problem, -EINVAL, "%s", text + 7);
	puts(text);
	return 0;
}
