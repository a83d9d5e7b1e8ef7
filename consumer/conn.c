#include "consumer/conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/clock.h"
#include "consumer/session.h"
#include "consumer/text.h"
#include "consumer/view.h"

enum { TIMEOUT_DEFAULT_MS = 5000 };

static const uint64_t accept_pause_ns = 5 * NS_PER_MS;

int conn_error(struct sluice *conn, int r, enum sluice_error_code code, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	error_vset(&conn->error, code, fmt, args);
	va_end(args);
	return r;
}

int conn_protocol_error(struct sluice *conn, const char *fmt, ...)
{
	char what[WIRE_TEXT_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return conn_error(conn, -EPROTO, SLUICE_ERROR_PROTOCOL,
		"the broker broke the protocol: it sent %s; this is a bug in it or in libsluice",
		what);
}

uint32_t conn_next_request(struct sluice *conn)
{
	if (++conn->last_request == 0)
		conn->last_request = 1;
	return conn->last_request;
}

bool conn_has_requested(const struct sluice *conn, uint32_t request)
{
	return request <= conn->last_request;
}

void conn_send(struct sluice *conn, const Sluice__Packet *packet)
{
	link_send(&conn->link, packet);
}

void conn_wake(struct sluice *conn)
{
	enum { LONG_PAST_NS = 1 };
	link_arm(&conn->link, LONG_PAST_NS);
}

/* What came is announced by no socket any more. */
void conn_keep_news(struct sluice *conn)
{
	if (conn->news || conn->streams.n_changes > 0 || views_ready(conn) > 0)
		conn_wake(conn);
}

/* --- Waiting ----------------------------------------------------------------------------------*/

int conn_until(struct sluice *conn, conn_done_fn done, const void *arg)
{
	uint64_t deadline = clock_ns() + (uint64_t)conn->timeout_ms * NS_PER_MS;
	int r = session_process(conn, done, arg);
	while (r == 0 && !done(conn, arg) && clock_ns() < deadline) {
		link_sleep(&conn->link, deadline);
		r = session_process(conn, done, arg);
	}
	conn_keep_news(conn);
	if (r < 0 || done(conn, arg))
		return r;
	return conn_error(conn, -ETIMEDOUT, SLUICE_ERROR_NONE,
		"the broker did not answer within %d ms", conn->timeout_ms);
}

static bool is_up(const struct sluice *conn, const void *arg)
{
	return conn->state == CONN_UP;
}

int conn_until_up(struct sluice *conn)
{
	return conn_until(conn, is_up, NULL);
}

static int dispatch(struct sluice *conn)
{
	int r = session_process(conn, NULL, NULL);
	if (r < 0)
		return r;
	streams_tell(conn);
	return views_ready(conn);
}

int sluice_dispatch(struct sluice *conn)
{
	int r = dispatch(conn);
	conn->news = false;
	return r;
}

uint64_t conn_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

int sluice_wait(struct sluice *conn, int timeout_ms)
{
	uint64_t deadline = conn_deadline(timeout_ms);
	int r = dispatch(conn);
	while (r == 0 && !conn->news && clock_ns() < deadline) {
		if (link_sleep(&conn->link, deadline) < 0)
			return conn_error(conn, -EINTR, SLUICE_ERROR_NONE, "a signal came");
		r = dispatch(conn);
	}
	conn->news = false;
	return r;
}

/* --- Connecting -------------------------------------------------------------------------------*/

static int set_name(struct sluice *conn, const char *name, struct error *error)
{
	if (name && wire_name_check(name) < 0) {
		error_set(error, SLUICE_ERROR_NONE,
			"a client's name has 1 to %d bytes, none of them a control character",
			WIRE_NAME_MAX);
		return -EINVAL;
	}
	if (!name)
		name = program_invocation_short_name;
	text_copy(conn->name, sizeof(conn->name), *name ? name : "unknown");
	return 0;
}

static int set_options(struct sluice *conn, const struct sluice_options *options)
{
	if (options->timeout_ms < 0 || (options->flags & ~(unsigned)SLUICE_RECONNECT)) {
		error_set(&conn->error, SLUICE_ERROR_NONE,
			options->timeout_ms < 0 ? "timeout_ms is negative"
						: "flags has bits that do not exist");
		return -EINVAL;
	}
	conn->timeout_ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_DEFAULT_MS;
	conn->flags = options->flags;
	int r = set_name(conn, options->name, &conn->error);
	return r < 0 ? r : link_init(&conn->link, options->socket, &conn->error);
}

static struct sluice *create(void)
{
	struct sluice *conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->link.sock = conn->link.timer_fd = conn->link.epoll_fd = -EBADF;
	conn->state = CONN_DOWN;
	list_init(&conn->views);
	list_init(&conn->leaving);
	conn->arena = wire_arena_create(WIRE_PACKET_ARENA);
	return conn->arena ? conn : sluice_close(conn);
}

/* A broker that is busy accepting others has no room for us yet: that passes. */
static int begin(struct sluice *conn)
{
	uint64_t deadline = conn_deadline(conn->timeout_ms);
	int r = session_begin(conn);
	while (r == -EAGAIN && clock_ns() < deadline) {
		struct timespec pause = clock_timespec(accept_pause_ns);
		nanosleep(&pause, NULL);
		r = session_begin(conn);
	}
	return r == -EAGAIN ? -ETIMEDOUT : r;
}

/* The first time nothing is tried again: who connects wants to know. */
static int connect_first(struct sluice *conn, const struct sluice_options *options)
{
	int r = set_options(conn, options);
	if (r < 0)
		return r;
	unsigned flags = conn->flags;
	conn->flags = 0;
	r = begin(conn);
	if (r == 0)
		r = conn_until_up(conn);
	conn->flags = flags;
	return r;
}

DEFINE_CLEANUP(struct sluice *, sluice_close);

int sluice_connect(struct sluice **conn_out, const struct sluice_options *options)
{
	static const struct sluice_options defaults;
	_cleanup_(sluice_closep) struct sluice *conn = create();
	if (!conn) {
		error_set(&error_of_connect, SLUICE_ERROR_NONE, "out of memory");
		return -ENOMEM;
	}
	int r = connect_first(conn, options ? options : &defaults);
	if (r < 0) {
		error_of_connect = conn->error;
		return r;
	}
	*conn_out = TAKE_PTR(conn);
	return 0;
}

struct sluice *sluice_close(struct sluice *conn)
{
	if (!conn)
		return NULL;
	views_destroy(conn);
	mappings_finish(&conn->leaving);
	streams_finish(&conn->streams);
	link_finish(&conn->link);
	free(conn->arena);
	free(conn);
	return NULL;
}

int sluice_fd(const struct sluice *conn)
{
	return conn->link.epoll_fd;
}

uint64_t sluice_session(const struct sluice *conn)
{
	return conn->session;
}

char *sluice_fourcc_name(uint32_t fourcc, char buf[8])
{
	enum { NAME_BYTES = 8 };
	const struct format_info *info = format_info(fourcc);
	char letters[5] = { 0 };
	for (int i = 0; i < 4; i++) {
		char c = (char)(fourcc >> (8 * i));
		letters[i] = c > ' ' && c < 0x7f ? c : '?';
	}
	/* a longer name does not fit what the caller has: the letters name the format as well */
	bool fits = info && strlen(info->name) < NAME_BYTES;
	text_copy(buf, NAME_BYTES, fits ? info->name : letters);
	return buf;
}
