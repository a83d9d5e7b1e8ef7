#include "broker/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "broker/client.h"
#include "broker/describe.h"
#include "broker/subscription.h"
#include "common/clock.h"
#include "common/log.h"

enum {
	ACCEPTS_PER_TURN = 32, /* so that a flood of connections does not delay frames */
	SWEEP_MS = 100,
	PAUSE_MS = 100, /* no accept after the process ran out of descriptors */
};

struct ended_client *server_remember(struct server *server)
{
	if (server->n_ended == SERVER_ENDED_MAX) {
		memmove(server->ended, server->ended + 1,
			(SERVER_ENDED_MAX - 1) * sizeof(server->ended[0]));
		server->n_ended--;
	}
	return &server->ended[server->n_ended++];
}

void server_schedule_reap(struct server *server)
{
	watch_arm(server->reap_timer, 0);
}

static void on_reap(void *data)
{
	struct server *server = data;
	struct client *client, *next;
	list_for_each_safe(client, next, &server->clients, link)
		if (client->doomed)
			client_reap(client);
}

static void on_sweep(void *data)
{
	struct server *server = data;
	uint64_t now = clock_ns();
	struct client *client;
	list_for_each(client, &server->clients, link)
		client_check_deadlines(client, now);
	if (server->n_clients > 0)
		watch_arm(server->sweep_timer, SWEEP_MS * NS_PER_MS);
}

/* The newcomer is told why, if its socket takes it. */
static void turn_away(struct server *server, int fd, int code, const char *text, pid_t pid)
{
	unsigned char data[WIRE_TEXT_MAX + 64];
	size_t len;
	Sluice__Bye bye = SLUICE__BYE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	bye.code = (Sluice__ErrorCode)code;
	bye.text = (char *)text;
	packet.body_case = SLUICE__PACKET__BODY_BYE;
	packet.bye = &bye;
	if (wire_encode(&packet, data, sizeof(data), &len) == 0)
		(void)wire_send(fd, data, len, NULL);
	server->refused++;
	log_limited(&server->refusal_log, LOG_LEVEL_WARNING, "refused a connection of pid=%d: %s",
		(int)pid, text);
}

/* 0 with one client and one descriptor charged, or an error code with a sentence. */
static int admit(struct server *server, const struct access_peer *peer, unsigned *roles_out,
	char *text, size_t text_size)
{
	*roles_out = access_roles(&server->access, peer, server->own_uid);
	if (!*roles_out) {
		snprintf(text, text_size,
			"user %u may not use this broker: add \"allow = user:%u consume\" to [access] in its configuration",
			peer->uid, peer->uid);
		return SLUICE__ERROR_CODE__ERROR_PERMISSION;
	}
	if (server->n_clients >= server->limits.clients) {
		snprintf(text, text_size, "the broker has all of its %u clients (--max-clients)",
			server->limits.clients);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	if (!quota_charge(&server->quota, peer->uid, QUOTA_CLIENTS, 1)) {
		snprintf(text, text_size,
			"user %u has all of the %u clients that one user may have (--max-clients-per-user)",
			peer->uid, server->limits.clients_per_user);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	if (!quota_charge(&server->quota, peer->uid, QUOTA_FDS, 1)) {
		quota_return(&server->quota, peer->uid, QUOTA_CLIENTS, 1);
		snprintf(text, text_size,
			"user %u has all the descriptors that one user may have (fds-per-user)",
			peer->uid);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	return 0;
}

static void welcome(struct server *server, int *fd)
{
	struct access_peer peer;
	struct client *client;
	char text[WIRE_TEXT_MAX + 1];
	unsigned roles;
	if (access_peer_of_socket(&peer, *fd) < 0)
		return;
	int code = admit(server, &peer, &roles, text, sizeof(text));
	if (code) {
		turn_away(server, *fd, code, text, peer.pid);
		return;
	}
	int r = client_create(&client, server, fd, &peer, roles);
	if (r < 0) {
		log_error("cannot take a client: %s", strerror(-r));
		quota_return(&server->quota, peer.uid, QUOTA_CLIENTS, 1);
		quota_return(&server->quota, peer.uid, QUOTA_FDS, 1);
		return;
	}
	server->pause_logged = false;
	/* only the first: who comes later must not put off the deadlines of who is there */
	if (server->n_clients == 1)
		watch_arm(server->sweep_timer, SWEEP_MS * NS_PER_MS);
}

static void pause_accepting(struct server *server, int error)
{
	if (!server->pause_logged)
		log_warning("cannot accept connections now: %s", strerror(error));
	server->pause_logged = true;
	server->listen_watch = watch_destroy(server->listen_watch);
	watch_arm(server->pause_timer, PAUSE_MS * NS_PER_MS);
}

static void on_listen(void *data)
{
	struct server *server = data;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		_cleanup_fd_ int fd =
			accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			welcome(server, &fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			pause_accepting(server, errno);
		else if (errno == EINTR || errno == ECONNABORTED)
			continue;
		return;
	}
}

static void resume_accepting(void *data)
{
	struct server *server = data;
	if (server->draining)
		return;
	int r = loop_watch(server->loop, &server->listen_watch, server->listen_fd, LOOP_READ,
		on_listen, server);
	if (r < 0)
		watch_arm(server->pause_timer, PAUSE_MS * NS_PER_MS);
}

static int start(struct server *server)
{
	int r = loop_timer(server->loop, &server->pause_timer, resume_accepting, server);
	if (r < 0)
		return r;
	r = loop_timer(server->loop, &server->sweep_timer, on_sweep, server);
	if (r < 0)
		return r;
	r = loop_timer(server->loop, &server->reap_timer, on_reap, server);
	if (r < 0)
		return r;
	return loop_watch(server->loop, &server->listen_watch, server->listen_fd, LOOP_READ,
		on_listen, server);
}

int server_create(
	struct server **server_out, struct loop *loop, int *listen_fd, struct catalog *catalog)
{
	_cleanup_fd_ int fd = fd_take(listen_fd);
	_cleanup_(server_destroyp) struct server *server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	*server = (struct server){
		.loop = loop,
		.catalog = catalog,
		.own_uid = getuid(),
		.started_ns = clock_ns(),
		.listen_fd = fd_take(&fd),
		.log = { .burst = 10, .interval_ns = NS_PER_S },
		.refusal_log = { .burst = 1, .interval_ns = 10 * NS_PER_S },
	};
	list_init(&server->clients);
	if (getrandom(&server->session, sizeof(server->session), 0) != sizeof(server->session))
		return -EIO;
	server->session |= 1; /* 0 means "not connected" to clients */
	server->arena = wire_arena_create(WIRE_REQUEST_ARENA);
	if (!server->arena)
		return -ENOMEM;
	int r = start(server);
	if (r < 0)
		return r;
	*server_out = TAKE_PTR(server);
	return 0;
}

/* The kernel lets as many be in flight as this process may have open: no user may have them all. */
static uint64_t fds_for_one_user(uint64_t wanted)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || wanted <= limit.rlim_cur / 2)
		return wanted;
	return limit.rlim_cur / 2;
}

void server_configure(
	struct server *server, const struct server_limits *limits, const struct access *access)
{
	server->limits = *limits;
	server->access = *access;
	server->quota.limit[QUOTA_CLIENTS] = limits->clients_per_user;
	server->quota.limit[QUOTA_FDS] = fds_for_one_user(limits->fds_per_user);
	server->quota.limit[QUOTA_BYTES] = limits->bytes_per_user;
}

void server_set_gpus(struct server *server, server_gpus_fn gpus, void *data)
{
	server->gpus = gpus;
	server->gpus_data = data;
}

static void tell_watchers(struct server *server, const Sluice__StreamInfo *info)
{
	struct client *client;
	list_for_each(client, &server->clients, link)
		client_stream_changed(client, info);
}

void server_stream_changed(struct server *server, struct stream *stream)
{
	struct description description;
	describe_stream(stream, &description);
	tell_watchers(server, &description.info);
}

/* To any of the stream's views. */
static void end_subscriptions(
	struct client *client, const struct stream *stream, const char *reason)
{
	/* from the end: the last one takes the place of one that ends */
	for (unsigned i = client->n_subscriptions; i-- > 0;)
		if (client->subscription[i]->view->stream == stream)
			subscription_end(client->subscription[i],
				SLUICE__ERROR_CODE__ERROR_STREAM_GONE, reason);
}

void server_stream_removed(struct server *server, struct stream *stream, const char *reason)
{
	struct client *client;
	list_for_each(client, &server->clients, link)
		end_subscriptions(client, stream, reason);
	struct description description;
	describe_stream(stream, &description);
	description.info.state = SLUICE__STREAM_STATE__STREAM_REMOVED;
	description.info.text = (char *)reason;
	tell_watchers(server, &description.info);
}

void server_drain(struct server *server, const char *reason)
{
	server->draining = true;
	server->listen_watch = watch_destroy(server->listen_watch);
	struct client *client;
	list_for_each(client, &server->clients, link)
		client_say_bye(client, SLUICE__ERROR_CODE__ERROR_SHUTDOWN, reason);
}

bool server_idle(const struct server *server)
{
	return server->n_clients == 0;
}

struct server *server_destroy(struct server *server)
{
	if (!server)
		return NULL;
	struct client *client, *next;
	list_for_each_safe(client, next, &server->clients, link)
		client_destroy(client);
	server->listen_watch = watch_destroy(server->listen_watch);
	server->pause_timer = watch_destroy(server->pause_timer);
	server->sweep_timer = watch_destroy(server->sweep_timer);
	server->reap_timer = watch_destroy(server->reap_timer);
	fd_closep(&server->listen_fd);
	free(server->arena);
	free(server);
	return NULL;
}

/* --- the one message of a frame -------------------------------------------------------------- */

static void fill_damage(
	Sluice__Frame *m, Sluice__Rect *rect, Sluice__Rect **pointer, const struct frame_info *info)
{
	for (unsigned i = 0; i < info->n_damage; i++) {
		rect[i] = (Sluice__Rect)SLUICE__RECT__INIT;
		rect[i].x = info->damage[i].x;
		rect[i].y = info->damage[i].y;
		rect[i].width = info->damage[i].width;
		rect[i].height = info->damage[i].height;
		pointer[i] = &rect[i];
	}
	m->n_damage = info->n_damage;
	m->damage = pointer;
}

static int pack_frame(struct frame_message *out, uint32_t view, const struct lease *lease,
	const struct frame_info *info)
{
	Sluice__Rect rect[FRAME_DAMAGE_MAX], *pointer[FRAME_DAMAGE_MAX];
	Sluice__Frame m = SLUICE__FRAME__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.view = view;
	m.generation = lease->generation;
	m.slot = lease->slot;
	m.seq = lease->seq;
	m.pts_ns = info->pts_ns;
	m.captured_ns = info->captured_ns;
	m.copied_ns = info->copied_ns;
	m.published_ns = info->published_ns;
	m.paced = lease->paced;
	fill_damage(&m, rect, pointer, info);
	packet.body_case = SLUICE__PACKET__BODY_FRAME;
	packet.frame = &m;
	return wire_encode(&packet, out->data, sizeof(out->data), &out->len);
}

const struct frame_message *server_frame_message(struct server *server, uint32_t view,
	const struct lease *lease, const struct frame_info *info)
{
	struct frame_message *m = &server->frame;
	if (m->seq == lease->seq && m->view == view && m->generation == lease->generation &&
		m->copied_ns == info->copied_ns && m->paced == lease->paced)
		return m;
	m->seq = 0;
	if (pack_frame(m, view, lease, info) < 0)
		return NULL;
	m->view = view;
	m->generation = lease->generation;
	m->seq = lease->seq;
	m->copied_ns = info->copied_ns;
	m->paced = lease->paced;
	return m;
}
