#include "broker/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/describe.h"
#include "broker/status.h"
#include "broker/subscription.h"
#include "common/clock.h"
#include "common/log.h"

/* A handler returns 0, or a protocol error code after it has written client::end_text. */
typedef int (*handler_fn)(struct client *client, const Sluice__Packet *packet);

static void set_reason(struct client *client, int code, const char *text)
{
	client->end_code = code;
	if (text != client->end_text)
		snprintf(client->end_text, sizeof(client->end_text), "%s", text);
}

/* Best effort: the socket may be full or closed. */
static void send_bye(struct client *client)
{
	Sluice__Bye bye = SLUICE__BYE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	bye.code = (Sluice__ErrorCode)client->end_code;
	bye.text = client->end_text;
	packet.body_case = SLUICE__PACKET__BODY_BYE;
	packet.bye = &bye;
	(void)conn_send_packet(client->conn, &packet, NULL);
}

void client_say_bye(struct client *client, int code, const char *text)
{
	if (client->state == SESSION_ENDED)
		return;
	set_reason(client, code, text);
	send_bye(client);
	client->state = SESSION_ENDED;
}

void client_doom(struct client *client, int code, const char *fmt, ...)
{
	if (client->doomed)
		return;
	char text[WIRE_TEXT_MAX + 1];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	client_say_bye(client, code, text);
	client->doomed = true;
	server_schedule_reap(client->server);
}

int client_send(struct client *client, const Sluice__Packet *packet, struct fdset *fds)
{
	if (client->doomed || client->state == SESSION_ENDED) {
		if (fds)
			fdset_close(fds);
		return 0;
	}
	int r = conn_send_packet(client->conn, packet, fds);
	if (r == -ETOOMANYREFS)
		return r;
	if (r == WIRE_AGAIN)
		client_doom(client, SLUICE__ERROR_CODE__ERROR_SLOW,
			"it does not read its socket: no room for \"%s\"",
			wire_body_name((int)packet->body_case));
	else if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		client_doom(client, SLUICE__ERROR_CODE__ERROR_INTERNAL, "cannot send \"%s\": %s",
			wire_body_name((int)packet->body_case), strerror(-r));
	return 0;
}

void client_send_error(struct client *client, uint32_t request, int code, const char *text)
{
	Sluice__Error error = SLUICE__ERROR__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	error.request = request;
	error.code = (Sluice__ErrorCode)code;
	error.text = (char *)text;
	packet.body_case = SLUICE__PACKET__BODY_ERROR;
	packet.error = &error;
	client_send(client, &packet, NULL);
}

static int on_hello(struct client *client, const Sluice__Packet *packet)
{
	const Sluice__Hello *hello = packet->hello;
	if (hello->version_min > WIRE_VERSION || hello->version_max < WIRE_VERSION) {
		snprintf(client->end_text, sizeof(client->end_text),
			"the client speaks protocol versions %u to %u, this broker %d: update the older",
			hello->version_min, hello->version_max, WIRE_VERSION);
		return SLUICE__ERROR_CODE__ERROR_VERSION;
	}
	if (wire_name_check(hello->name) < 0) {
		snprintf(client->end_text, sizeof(client->end_text),
			"a client's name is 1 to %d bytes without control characters",
			WIRE_NAME_MAX);
		return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
	}
	snprintf(client->name, sizeof(client->name), "%s", hello->name);
	client->state = SESSION_READY;
	log_debug("client=%llu pid=%d name=%s connected", (unsigned long long)client->id,
		(int)client->peer.pid, client->name);

	Sluice__Welcome welcome = SLUICE__WELCOME__INIT;
	Sluice__Packet answer = SLUICE__PACKET__INIT;
	welcome.version = WIRE_VERSION;
	welcome.session = client->server->session;
	welcome.broker = (char *)"sluice-broker " SLUICE_VERSION;
	welcome.client = client->id;
	answer.body_case = SLUICE__PACKET__BODY_WELCOME;
	answer.welcome = &welcome;
	client_send(client, &answer, NULL);
	return 0;
}

static int on_list_streams(struct client *client, const Sluice__Packet *packet)
{
	const struct catalog *catalog = client->server->catalog;
	struct description description[CATALOG_STREAMS_MAX];
	Sluice__StreamInfo *pointer[CATALOG_STREAMS_MAX];
	client->watching = packet->list_streams->watch;
	for (unsigned i = 0; i < catalog->n_streams; i++) {
		describe_stream(catalog->stream[i], &description[i]);
		pointer[i] = &description[i].info;
	}
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	Sluice__Packet answer = SLUICE__PACKET__INIT;
	streams.n_streams = catalog->n_streams;
	streams.streams = pointer;
	answer.body_case = SLUICE__PACKET__BODY_STREAMS;
	answer.streams = &streams;
	client_send(client, &answer, NULL);
	return 0;
}

static int on_subscribe(struct client *client, const Sluice__Packet *packet)
{
	subscription_create(client, packet->subscribe);
	return 0;
}

/* A view that ended at our side while the client's message was on its way is no error. */
static int on_unsubscribe(struct client *client, const Sluice__Packet *packet)
{
	subscription_destroy(subscription_find(client, packet->unsubscribe->view));
	return 0;
}

static int on_bound(struct client *client, const Sluice__Packet *packet)
{
	struct subscription *s = subscription_find(client, packet->bound->view);
	return s ? subscription_on_bound(
			   s, packet->bound, client->end_text, sizeof(client->end_text))
		 : 0;
}

static int on_release(struct client *client, const Sluice__Packet *packet)
{
	struct subscription *s = subscription_find(client, packet->release->view);
	return s ? subscription_on_release(
			   s, packet->release, client->end_text, sizeof(client->end_text))
		 : 0;
}

static int on_status_request(struct client *client, const Sluice__Packet *packet)
{
	status_answer(client, packet->status_request);
	return 0;
}

static const handler_fn handlers[] = {
	[SLUICE__PACKET__BODY_HELLO] = on_hello,
	[SLUICE__PACKET__BODY_LIST_STREAMS] = on_list_streams,
	[SLUICE__PACKET__BODY_SUBSCRIBE] = on_subscribe,
	[SLUICE__PACKET__BODY_UNSUBSCRIBE] = on_unsubscribe,
	[SLUICE__PACKET__BODY_BOUND] = on_bound,
	[SLUICE__PACKET__BODY_RELEASE] = on_release,
	[SLUICE__PACKET__BODY_STATUS_REQUEST] = on_status_request,
};

static uint32_t request_of(const Sluice__Packet *packet)
{
	if (packet->body_case == SLUICE__PACKET__BODY_SUBSCRIBE)
		return packet->subscribe->request;
	if (packet->body_case == SLUICE__PACKET__BODY_STATUS_REQUEST)
		return packet->status_request->request;
	return 0;
}

/* 0, or the error code that ends the client, with its sentence in end_text. */
static int handle(struct client *client, const Sluice__Packet *packet, const struct fdset *fds)
{
	char text[WIRE_TEXT_MAX + 1];
	struct gate_input input = {
		.body = (int)packet->body_case,
		.n_fds = fds->n,
		.state = client->state,
		.roles = client->roles,
	};
	int code = gate_check(&input, text, sizeof(text));
	if (code == SLUICE__ERROR_CODE__ERROR_PERMISSION) {
		client_send_error(client, request_of(packet), code, text);
		return 0;
	}
	if (code) {
		set_reason(client, code, text);
		return code;
	}
	return handlers[packet->body_case](client, packet);
}

static void log_end(struct client *client)
{
	enum log_level level =
		client->end_code && client->end_code != SLUICE__ERROR_CODE__ERROR_SHUTDOWN
			? LOG_LEVEL_WARNING
			: LOG_LEVEL_DEBUG;
	log_limited(&client->server->log, level, "client=%llu pid=%d name=%s ended: %s",
		(unsigned long long)client->id, (int)client->peer.pid,
		client->name[0] ? client->name : "?", client->end_text);
}

static void end_by_itself(struct client *client, int result)
{
	if (client->state == SESSION_ENDED)
		return; /* it was told why, and went */
	if (result == -EPROTO)
		client_say_bye(client, SLUICE__ERROR_CODE__ERROR_PROTOCOL,
			"a message that is malformed, unknown, too long, or with too many descriptors");
	else
		set_reason(client, 0, result == WIRE_CLOSED ? "closed" : strerror(-result));
}

static void on_packet(void *data, const Sluice__Packet *packet, struct fdset *fds, int result)
{
	struct client *client = data;
	if (client->doomed)
		return;
	if (!packet) {
		end_by_itself(client, result);
	} else {
		if (client->state == SESSION_ENDED)
			return;
		int code = handle(client, packet, fds);
		if (code == 0)
			return;
		client_say_bye(client, code, client->end_text);
	}
	log_end(client);
	client_destroy(client); /* nothing may touch it after this line */
}

struct client *client_reap(struct client *client)
{
	log_end(client);
	return client_destroy(client);
}

void client_stream_changed(struct client *client, const Sluice__StreamInfo *info)
{
	if (!client->watching)
		return;
	Sluice__StreamChanged changed = SLUICE__STREAM_CHANGED__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	changed.stream = (Sluice__StreamInfo *)info;
	packet.body_case = SLUICE__PACKET__BODY_STREAM_CHANGED;
	packet.stream_changed = &changed;
	client_send(client, &packet, NULL);
}

static bool holds_too_long(const struct subscription *s, uint64_t now_ns, uint64_t deadline_ns)
{
	if (!s->subscriber.options.reserved)
		return false;
	uint64_t since = subscriber_oldest_hold_ns(&s->subscriber);
	return since && now_ns - since > deadline_ns;
}

void client_check_deadlines(struct client *client, uint64_t now_ns)
{
	const struct server_limits *limits = &client->server->limits;
	if (client->state == SESSION_NEW &&
		now_ns - client->connected_ns > limits->hello_timeout_ns) {
		client_doom(client, SLUICE__ERROR_CODE__ERROR_TIMEOUT, "no hello within %llu ms",
			(unsigned long long)(limits->hello_timeout_ns / NS_PER_MS));
		return;
	}
	/* from the end: one that cannot be retried leaves */
	for (unsigned i = client->n_subscriptions; i-- > 0;)
		subscription_retry(client->subscription[i]);
	for (unsigned i = 0; i < client->n_subscriptions; i++)
		if (holds_too_long(client->subscription[i], now_ns, limits->hold_deadline_ns))
			client_doom(client, SLUICE__ERROR_CODE__ERROR_TIMEOUT,
				"a reserved frame of stream \"%s\" was held for more than %llu ms",
				client->subscription[i]->view->stream->name,
				(unsigned long long)(limits->hold_deadline_ns / NS_PER_MS));
}

int client_create(struct client **client_out, struct server *server, int *fd,
	const struct access_peer *peer, unsigned roles)
{
	_cleanup_fd_ int taken = fd_take(fd);
	_cleanup_free_ struct client *client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	*client = (struct client){
		.server = server,
		.id = server->last_client_id + 1,
		.peer = *peer,
		.roles = roles,
		.connected_ns = clock_ns(),
	};
	int r = conn_create(&client->conn, server->loop, &taken, server->arena, on_packet, client);
	if (r < 0)
		return r;
	server->last_client_id++;
	server->n_clients++;
	list_insert(&server->clients, &client->link);
	*client_out = TAKE_PTR(client);
	return 0;
}

static void remember(struct client *client)
{
	struct ended_client *e = server_remember(client->server);
	uint64_t now = clock_ns();
	*e = (struct ended_client){
		.id = client->id,
		.pid = client->peer.pid,
		.uid = client->peer.uid,
		.ended_ns = now,
		.lived_ns = now - client->connected_ns,
		.n_subscriptions = client->n_subscriptions,
	};
	memcpy(e->name, client->name, sizeof(e->name));
	memcpy(e->reason, client->end_text, sizeof(e->reason));
	for (unsigned i = 0; i < client->n_subscriptions; i++) {
		const struct subscription *s = client->subscription[i];
		struct ended_subscription *es = &e->subscription[i];
		memcpy(es->stream, s->view->stream->name, sizeof(es->stream));
		es->view = s->view->id;
		es->options = s->subscriber.options;
		es->counts = s->subscriber.counts;
		es->latency_p50_ns = histogram_percentile(&s->latency, 0.50);
		es->latency_p99_ns = histogram_percentile(&s->latency, 0.99);
	}
}

struct client *client_destroy(struct client *client)
{
	if (!client)
		return NULL;
	struct server *server = client->server;
	if (client->name[0]) /* those who never said hello must not push out the others */
		remember(client);
	while (client->n_subscriptions > 0)
		subscription_destroy(client->subscription[client->n_subscriptions - 1]);
	list_remove(&client->link);
	server->n_clients--;
	client->conn = conn_destroy(client->conn);
	quota_return(&server->quota, client->peer.uid, QUOTA_FDS, 1 + client->fds_in_flight);
	quota_return(&server->quota, client->peer.uid, QUOTA_CLIENTS, 1);
	free(client);
	return NULL;
}
