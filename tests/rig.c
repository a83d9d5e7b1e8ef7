#include "tests/rig.h"

#include <drm_fourcc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "broker/subscription.h"
#include "common/clock.h"
#include "common/stamp.h"
#include "tests/test.h"

/* --- the server ------------------------------------------------------------------------------ */

static void on_stop(void *data)
{
	loop_stop(data);
}

static void on_changed(void *data, struct stream *stream)
{
	server_stream_changed(((struct rig *)data)->server, stream);
}

static void on_rebind(void *data, struct view *view, struct subscriber *s)
{
	(void)data;
	(void)view;
	subscription_rebind(container_of(s, struct subscription, subscriber));
}

static void on_end(void *data, struct view *view, struct subscriber *s, const char *reason)
{
	(void)data;
	(void)view;
	subscription_end(container_of(s, struct subscription, subscriber),
		SLUICE__ERROR_CODE__ERROR_NO_VIEW, reason);
}

static const struct stream_listener listener = { on_changed, on_rebind, on_end };

/* An address that the kernel chooses: no file, nothing to clean up. */
static int listen_anywhere(struct rig *rig)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(address.sun_family);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, 128) == 0);
	len = sizeof(address);
	CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
	CHECK(len - sizeof(address.sun_family) - 1 < sizeof(rig->address));
	memcpy(rig->address, address.sun_path + 1, len - sizeof(address.sun_family) - 1);
	return fd;
}

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->catalog.budget.limit_bytes = 256 << 20;
	rig->limits = (struct server_limits){
		.clients = 4096,
		.clients_per_user = 4096,
		.fds_per_user = 1 << 20,
		.bytes_per_user = 1ull << 50,
		.hello_timeout_ns = 600 * NS_PER_S,
		.hold_deadline_ns = 600 * NS_PER_S,
	};
	CHECK_EQ(loop_create(&rig->loop), 0);
	CHECK_EQ(loop_timer(rig->loop, &rig->stop, on_stop, rig->loop), 0);
	int fd = listen_anywhere(rig);
	CHECK_EQ(server_create(&rig->server, rig->loop, &fd, &rig->catalog), 0);
	rig_configure(rig);
}

void rig_finish(struct rig *rig)
{
	rig->server = server_destroy(rig->server);
	for (unsigned i = 0; i < rig->catalog.n_streams; i++)
		stream_finish(rig->catalog.stream[i]);
	rig->stop = watch_destroy(rig->stop);
	rig->loop = loop_destroy(rig->loop);
	CHECK_EQ(rig->catalog.budget.used_bytes, 0);
}

void rig_configure(struct rig *rig)
{
	server_configure(rig->server, &rig->limits, &rig->access);
}

struct stream *rig_add_stream(struct rig *rig, const char *name)
{
	struct stream *stream = &rig->stream[rig->catalog.n_streams];
	stream_init(stream, name, "rig", RIG_SLOTS, &rig->catalog.budget);
	stream_set_listener(stream, &listener, rig);
	CHECK_EQ(catalog_add(&rig->catalog, stream), 0);
	server_stream_changed(rig->server, stream);
	return stream;
}

void rig_remove_stream(struct rig *rig, struct stream *stream)
{
	server_stream_removed(rig->server, stream, "it was removed");
	catalog_remove(&rig->catalog, stream);
	stream_finish(stream);
}

void rig_resize(struct stream *stream, uint32_t width, uint32_t height)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, width, height, &format), 0);
	CHECK_EQ(view_configure(&stream->native, &format), 0);
	stream_set_state(stream, STREAM_LIVE, "");
}

uint64_t rig_publish(struct stream *stream)
{
	struct view *view = &stream->native;
	struct slot *slot;
	uint64_t now = clock_ns();
	struct frame_info info = { .pts_ns = now, .captured_ns = now, .copied_ns = now };
	if (view_begin(view, &slot) != POOL_OK)
		return 0;
	uint64_t seq = stream_take_seq(stream);
	if (stamp_fits(&view->generation->format))
		stamp_draw(generation_pixels(view->generation, slot), &view->generation->format,
			(uint32_t)seq);
	view_publish(view, slot, seq, &info);
	return seq;
}

void rig_turn(struct rig *rig)
{
	/* a timer of 0 is run after everything that is ready in the same turn */
	rig_run_ms(rig, 0);
}

void rig_settle(struct rig *rig)
{
	/* accept, read, reap, and one to spare */
	for (int i = 0; i < 4; i++)
		rig_turn(rig);
}

void rig_run_ms(struct rig *rig, unsigned ms)
{
	CHECK_EQ(watch_arm(rig->stop, ms * NS_PER_MS), 0);
	CHECK_EQ(loop_run(rig->loop), 0);
}

/* --- a client -------------------------------------------------------------------------------- */

void peer_connect(struct peer *peer, struct rig *rig)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(rig->address);
	memset(peer, 0, sizeof(*peer));
	peer->rig = rig;
	peer->arena = wire_arena_create(WIRE_PACKET_ARENA);
	CHECK(peer->arena != NULL);
	memcpy(address.sun_path + 1, rig->address, len);
	len += offsetof(struct sockaddr_un, sun_path) + 1;
	peer->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(peer->fd >= 0);
	CHECK(connect(peer->fd, (struct sockaddr *)&address, (socklen_t)len) == 0);
	rig_settle(rig);
}

void peer_close(struct peer *peer)
{
	fdset_close(&peer->fds);
	fd_closep(&peer->fd);
	free(peer->arena);
	peer->arena = NULL;
	peer->packet = NULL;
	rig_settle(peer->rig);
}

void peer_send_bytes(struct peer *peer, const void *data, size_t len, struct fdset *fds)
{
	CHECK_EQ(wire_send(peer->fd, data, len, fds), WIRE_OK);
	rig_settle(peer->rig);
}

void peer_send(struct peer *peer, const Sluice__Packet *packet)
{
	unsigned char data[WIRE_REQUEST_MAX];
	size_t len;
	CHECK_EQ(wire_encode(packet, data, sizeof(data), &len), 0);
	peer_send_bytes(peer, data, len, NULL);
}

static void take_generation(struct peer *peer, const Sluice__Generation *m)
{
	peer->generation = m->generation;
	if (m->readiness == SLUICE__READINESS__READINESS_SYNC_FD)
		peer->sync_fd_view = m->view;
}

/* A sync_file comes only where it was granted, and only while the pixels are not there. */
static bool may_have_sync_fd(const struct peer *peer)
{
	const Sluice__Packet *packet = peer->packet;
	return packet->body_case == SLUICE__PACKET__BODY_FRAME &&
	       packet->frame->view == peer->sync_fd_view && packet->frame->copied_ns == 0;
}

/* The packet came with the descriptors that it must have. */
static void check_fds(const struct peer *peer)
{
	const Sluice__Generation *m = peer->packet->generation;
	unsigned n = 0;
	if (peer->packet->body_case == SLUICE__PACKET__BODY_GENERATION)
		n = m->slots + 1 + (m->readiness == SLUICE__READINESS__READINESS_TIMELINE);
	else if (may_have_sync_fd(peer) && peer->fds.n == 1)
		n = 1; /* none if the driver said that the work had ended */
	CHECK_EQ(peer->fds.n, n);
}

int peer_recv(struct peer *peer)
{
	static unsigned char data[WIRE_PACKET_MAX];
	size_t len;
	fdset_close(&peer->fds);
	int r = wire_recv(peer->fd, data, sizeof(data), &len, &peer->fds);
	if (r == WIRE_AGAIN)
		return 0;
	if (r == WIRE_CLOSED)
		return -1;
	CHECK_EQ(r, WIRE_OK);
	CHECK_EQ(wire_decode(data, len, peer->arena, &peer->packet), 0);
	int body = (int)peer->packet->body_case;
	if (body == SLUICE__PACKET__BODY_SUBSCRIBED)
		peer->view = peer->packet->subscribed->view;
	if (body == SLUICE__PACKET__BODY_GENERATION)
		take_generation(peer, peer->packet->generation);
	check_fds(peer);
	return body;
}

void peer_expect(struct peer *peer, int body)
{
	int got = peer_recv(peer);
	if (got != body)
		test_fail(__FILE__, __LINE__, "got \"%s\" (%d), not \"%s\"; text: %s",
			wire_body_name(got), got, wire_body_name(body),
			got == SLUICE__PACKET__BODY_BYE     ? peer->packet->bye->text
			: got == SLUICE__PACKET__BODY_ERROR ? peer->packet->error->text
							    : "");
}

void peer_expect_nothing(struct peer *peer)
{
	peer_expect(peer, 0);
}

void peer_expect_bye(struct peer *peer, int code, const char *says)
{
	peer_expect(peer, SLUICE__PACKET__BODY_BYE);
	const Sluice__Bye *bye = peer->packet->bye;
	CHECK_ROW((int)bye->code == code, wire_error_name((int)bye->code));
	CHECK_ROW(strstr(bye->text, says), bye->text);
	CHECK_EQ(peer_recv(peer), -1);
	peer_close(peer);
}

void peer_expect_error(struct peer *peer, uint32_t request, int code, const char *says)
{
	peer_expect(peer, SLUICE__PACKET__BODY_ERROR);
	const Sluice__Error *error = peer->packet->error;
	CHECK_EQ(error->request, request);
	CHECK_ROW((int)error->code == code, wire_error_name((int)error->code));
	CHECK_ROW(strstr(error->text, says), error->text);
}

void peer_expect_frame(struct peer *peer, uint64_t seq)
{
	peer_expect(peer, SLUICE__PACKET__BODY_FRAME);
	CHECK_EQ(peer->packet->frame->seq, seq);
	CHECK_EQ(peer->packet->frame->generation, peer->generation);
}

void peer_skip_to(struct peer *peer, int body)
{
	int got;
	while ((got = peer_recv(peer)) != body)
		CHECK_ROW(got > 0, wire_body_name(body));
}

void peer_hello(struct peer *peer, const char *name)
{
	Sluice__Hello m = SLUICE__HELLO__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.version_min = m.version_max = WIRE_VERSION;
	m.name = (char *)name;
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &m;
	peer_send(peer, &packet);
	peer_expect(peer, SLUICE__PACKET__BODY_WELCOME);
}

void peer_ready(struct peer *peer, struct rig *rig, const char *name)
{
	peer_connect(peer, rig);
	peer_hello(peer, name);
}

void peer_ask(struct peer *peer, const Sluice__Subscribe *request)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBE;
	packet.subscribe = (Sluice__Subscribe *)request;
	peer_send(peer, &packet);
}

void peer_subscribe(struct peer *peer, const Sluice__Subscribe *request)
{
	peer_ask(peer, request);
	peer_expect(peer, SLUICE__PACKET__BODY_SUBSCRIBED);
	CHECK_EQ(peer->packet->subscribed->request, request->request);
}

Sluice__Subscribe rig_request(void)
{
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	m.request = 7;
	m.stream = (char *)"test";
	return m;
}

void peer_consume_as(struct peer *peer, const Sluice__Subscribe *request)
{
	peer_subscribe(peer, request);
	peer_expect(peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(peer, 0, "");
}

void peer_consume(struct peer *peer, struct rig *rig, const char *stream)
{
	Sluice__Subscribe m = rig_request();
	m.stream = (char *)stream;
	peer_ready(peer, rig, "consumer");
	peer_consume_as(peer, &m);
}

void peer_list(struct peer *peer, bool watch)
{
	Sluice__ListStreams m = SLUICE__LIST_STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.watch = watch;
	packet.body_case = SLUICE__PACKET__BODY_LIST_STREAMS;
	packet.list_streams = &m;
	peer_send(peer, &packet);
}

void peer_bound(struct peer *peer, int error, const char *text)
{
	Sluice__Bound m = SLUICE__BOUND__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.view = peer->view;
	m.generation = peer->generation;
	m.error = (Sluice__ErrorCode)error;
	m.text = (char *)text;
	packet.body_case = SLUICE__PACKET__BODY_BOUND;
	packet.bound = &m;
	peer_send(peer, &packet);
}

void peer_release(struct peer *peer, uint32_t slot, uint64_t seq)
{
	Sluice__Release m = SLUICE__RELEASE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.view = peer->view;
	m.generation = peer->generation;
	m.slot = slot;
	m.seq = seq;
	m.received_ns = clock_ns();
	packet.body_case = SLUICE__PACKET__BODY_RELEASE;
	packet.release = &m;
	peer_send(peer, &packet);
}

void peer_release_last(struct peer *peer)
{
	CHECK_EQ(peer->packet->body_case, SLUICE__PACKET__BODY_FRAME);
	peer_release(peer, peer->packet->frame->slot, peer->packet->frame->seq);
}

void peer_unsubscribe(struct peer *peer, uint32_t view)
{
	Sluice__Unsubscribe m = SLUICE__UNSUBSCRIBE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.view = view;
	packet.body_case = SLUICE__PACKET__BODY_UNSUBSCRIBE;
	packet.unsubscribe = &m;
	peer_send(peer, &packet);
}

void peer_status(struct peer *peer, uint32_t request, uint64_t from)
{
	Sluice__StatusRequest m = SLUICE__STATUS_REQUEST__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.request = request;
	m.from = from;
	packet.body_case = SLUICE__PACKET__BODY_STATUS_REQUEST;
	packet.status_request = &m;
	peer_send(peer, &packet);
}
