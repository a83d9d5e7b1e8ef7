#include "consumer/session.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "consumer/text.h"
#include "consumer/view.h"

/* Messages that one call handles, so that a broker cannot keep the user's program in it. */
enum { BATCH_MAX = 256 };

static const uint64_t backoff_min_ns = 100 * NS_PER_MS;
static const uint64_t backoff_max_ns = 5 * NS_PER_S;

/* --- Beginning and end ------------------------------------------------------------------------*/

static void send_hello(struct sluice *conn)
{
	Sluice__Hello hello = SLUICE__HELLO__INIT;
	hello.version_min = WIRE_VERSION;
	hello.version_max = WIRE_VERSION;
	hello.name = conn->name;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &hello;
	conn_send(conn, &packet);
}

int session_begin(struct sluice *conn)
{
	int r = link_open(&conn->link);
	if (r < 0) {
		link_explain(&conn->link, r, &conn->error);
		return r;
	}
	conn->state = CONN_GREETING;
	conn->bye = (struct error){ 0 };
	conn->retry_ns = clock_ns() + (uint64_t)conn->timeout_ms * NS_PER_MS;
	link_arm(&conn->link, conn->retry_ns);
	send_hello(conn);
	return 0;
}

/* Would another try meet with the same answer? */
static bool is_final(int r)
{
	return r == -EPROTO || r == -EACCES || r == -EMFILE;
}

static void retry_later(struct sluice *conn)
{
	conn->state = CONN_DOWN;
	conn->backoff_ns *= 2;
	if (conn->backoff_ns == 0)
		conn->backoff_ns = backoff_min_ns;
	if (conn->backoff_ns > backoff_max_ns)
		conn->backoff_ns = backoff_max_ns;
	conn->retry_ns = clock_ns() + conn->backoff_ns;
	link_arm(&conn->link, conn->retry_ns);
}

int session_lose(struct sluice *conn, int r)
{
	bool will_retry = (conn->flags & SLUICE_RECONNECT) && !is_final(r);
	link_close(&conn->link);
	conn->session = 0;
	conn->epoch++;
	conn->result = r;
	streams_on_lost(conn);
	views_on_lost(conn, will_retry);
	if (will_retry) {
		retry_later(conn);
		return 0;
	}
	conn->state = CONN_DEAD;
	conn->news = true;
	conn_wake(conn); /* and it stays readable: there is always that to be told */
	return r;
}

/* The socket is closed, with or without a Bye before. */
static int lose_closed(struct sluice *conn)
{
	if (conn->bye.code == SLUICE_ERROR_NONE)
		return session_lose(conn,
			conn_error(conn, -ECONNRESET, SLUICE_ERROR_NONE,
				"the broker closed the connection without a word: it was stopped "
				"or killed"));
	conn->error = conn->bye;
	int r = error_number(conn->bye.code);
	return session_lose(conn, conn->state == CONN_UP && !is_final(r) ? -ECONNRESET : r);
}

static int try_again(struct sluice *conn)
{
	int r = session_begin(conn);
	if (r < 0)
		retry_later(conn);
	return 0;
}

/* --- What arrives -----------------------------------------------------------------------------*/

static int on_welcome(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	const Sluice__Welcome *welcome = packet->welcome;
	if (welcome->version != WIRE_VERSION)
		return conn_protocol_error(
			conn, "version %u of the protocol, not %d", welcome->version, WIRE_VERSION);
	if (welcome->session == 0)
		return conn_protocol_error(conn, "a session without a number");
	conn->state = CONN_UP;
	conn->session = welcome->session;
	conn->backoff_ns = 0;
	link_arm(&conn->link, 0);
	streams_on_up(conn);
	views_on_up(conn);
	return 0;
}

static int on_error(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	const Sluice__Error *in = packet->error;
	enum sluice_error_code code = error_code_from_wire((int)in->code);
	char text[WIRE_TEXT_MAX + 1];
	text_copy(text, sizeof(text), in->text);
	if (in->request != 0 && !conn_has_requested(conn, in->request))
		return conn_protocol_error(conn, "an answer to a request that was not made");
	if (!views_on_refused(conn, in->request, code, text) &&
		!status_on_refused(conn, in->request, code, text))
		error_set(&conn->error, code, "%s", text[0] ? text : sluice_error_name(code));
	return 0;
}

/* The last message: the session ends here, not when the broker closes its end. */
static int on_bye(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	char text[WIRE_TEXT_MAX + 1];
	enum sluice_error_code code = error_code_from_wire((int)packet->bye->code);
	text_copy(text, sizeof(text), packet->bye->text);
	error_set(&conn->bye, code, "%s", text[0] ? text : sluice_error_name(code));
	return -ECONNRESET;
}

#define BIT(n) (1u << (n))

/* Which message is legal when. How many descriptors Generation and Frame have is for mapping.c and
 * frame.c to say. */
static const struct rule {
	unsigned states;
	bool has_fds;
	int (*fn)(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
} rules[] = {
	[SLUICE__PACKET__BODY_WELCOME] = { BIT(CONN_GREETING), false, on_welcome },
	[SLUICE__PACKET__BODY_ERROR] = { BIT(CONN_GREETING) | BIT(CONN_UP), false, on_error },
	[SLUICE__PACKET__BODY_BYE] = { BIT(CONN_GREETING) | BIT(CONN_UP), false, on_bye },
	[SLUICE__PACKET__BODY_STREAMS] = { BIT(CONN_UP), false, streams_on_streams },
	[SLUICE__PACKET__BODY_STREAM_CHANGED] = { BIT(CONN_UP), false, streams_on_changed },
	[SLUICE__PACKET__BODY_SUBSCRIBED] = { BIT(CONN_UP), false, view_on_subscribed },
	[SLUICE__PACKET__BODY_GENERATION] = { BIT(CONN_UP), true, view_on_generation },
	[SLUICE__PACKET__BODY_FRAME] = { BIT(CONN_UP), true, frame_on_frame },
	[SLUICE__PACKET__BODY_REVOKED] = { BIT(CONN_UP), false, frame_on_revoked },
	[SLUICE__PACKET__BODY_ENDED] = { BIT(CONN_UP), false, view_on_ended },
	[SLUICE__PACKET__BODY_STATUS] = { BIT(CONN_UP), false, status_on_status },
};

enum { N_RULES = sizeof(rules) / sizeof(rules[0]) };

static const struct rule *find_rule(const Sluice__Packet *packet)
{
	unsigned body = (unsigned)packet->body_case;
	return body < N_RULES && rules[body].fn ? &rules[body] : NULL;
}

static int handle(struct sluice *conn, size_t len, struct fdset *fds)
{
	Sluice__Packet *packet;
	if (wire_decode(conn->packet, len, conn->arena, &packet) < 0)
		return conn_protocol_error(conn, "a message that is malformed");
	const char *name = wire_body_name((int)packet->body_case);
	const struct rule *rule = find_rule(packet);
	if (!rule)
		return conn_protocol_error(conn, "the message %s, which is a client's", name);
	if (!(rule->states & BIT(conn->state)))
		return conn_protocol_error(conn, "the message %s, which is not for now", name);
	if (fds->n > 0 && !rule->has_fds)
		return conn_protocol_error(conn, "%u descriptors with %s", fds->n, name);
	return rule->fn(conn, packet, fds);
}

/* They are closed again as soon as the memory is mapped. */
static int explain_no_descriptors(struct sluice *conn)
{
	struct rlimit limit = { 0 };
	getrlimit(RLIMIT_NOFILE, &limit);
	return conn_error(conn, -EMFILE, SLUICE_ERROR_NONE,
		"this process may open no more descriptors: a view needs up to %d free ones for a "
		"moment, and the limit is %llu: raise it (ulimit -n)",
		WIRE_SLOTS_MAX + 2, (unsigned long long)limit.rlim_cur);
}

/* 0: nothing is there; 1: a message was handled; negative: the session is over. */
static int receive(struct sluice *conn)
{
	_cleanup_fdset_ struct fdset fds;
	size_t len;
	int r = wire_recv(conn->link.sock, conn->packet, sizeof(conn->packet), &len, &fds);
	if (r == WIRE_AGAIN)
		return 0;
	if (r == -EPROTO)
		return conn_protocol_error(
			conn, "a message that is too long, or has too many descriptors");
	if (r == -EMFILE)
		return explain_no_descriptors(conn);
	if (r < 0 || r == WIRE_CLOSED)
		return -ECONNRESET;
	r = handle(conn, len, &fds);
	return r < 0 ? r : 1;
}

static int receive_all(struct sluice *conn, conn_done_fn done, const void *arg)
{
	int r = 1;
	for (int i = 0; i < BATCH_MAX && r == 1 && !(done && done(conn, arg)); i++)
		r = receive(conn);
	if (r == -ECONNRESET)
		return lose_closed(conn);
	return r < 0 ? session_lose(conn, r) : 0;
}

static int lose_overflown(struct sluice *conn)
{
	return session_lose(
		conn, conn_error(conn, -ECONNRESET, SLUICE_ERROR_NONE,
			      "the broker does not read what this process sends: it hangs"));
}

static int lose_greeting(struct sluice *conn)
{
	return session_lose(conn, conn_error(conn, -ETIMEDOUT, SLUICE_ERROR_NONE,
					  "the broker at %s did not answer within %d ms",
					  conn->link.address.sun_path, conn->timeout_ms));
}

int session_process(struct sluice *conn, conn_done_fn done, const void *arg)
{
	bool is_due = clock_ns() >= conn->retry_ns;
	frames_collect(conn);
	mappings_leave(&conn->leaving);
	if (conn->state == CONN_DEAD)
		return conn->result;
	link_drain_timer(&conn->link);
	if (conn->state == CONN_DOWN && is_due)
		return try_again(conn);
	if (conn->state == CONN_UP)
		views_retry(conn);
	else
		link_arm(&conn->link, conn->retry_ns);
	if (conn->link.sock < 0)
		return 0;
	if (conn->link.overflown)
		return lose_overflown(conn);
	link_flush(&conn->link);
	int r = receive_all(conn, done, arg);
	if (r == 0 && conn->state == CONN_GREETING && is_due)
		return lose_greeting(conn);
	return r;
}
