/*
 * libFuzzer: clients that say anything at any time to a real server over real sockets, while frames
 * are published, streams change, and deadlines pass. After each step the books must balance: holds,
 * queues, quotas. At the end nothing may be left.
 */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "broker/subscription.h"
#include "common/clock.h"
#include "common/log.h"
#include "tests/fuzz_session.h"
#include "tests/rig.h"
#include "tests/test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS = 2, KNOWN = 8, RESIZES_MAX = 4 };

/* A frame that a client has been told of. */
struct known {
	uint32_t view, generation, slot;
	uint64_t seq;
};

struct client_end {
	int fd;
	bool said_bye; /* by the broker: nothing may follow */
	struct known known[KNOWN];
	unsigned n_known;
};

static struct rig rig;
static struct client_end ends[FUZZ_PEERS];
static struct wire_arena *arena;
static unsigned n_resizes;
static bool small_sockets;

static const uint8_t *input;
static size_t input_left;

/* rig.c's checks end the process in a way that libFuzzer reports. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fprintf(stderr, "%s:%d: ", file, line);
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	abort();
}

static unsigned take(void)
{
	if (input_left == 0)
		return 0;
	input_left--;
	return *input++;
}

static struct stream *take_stream(void)
{
	return rig.catalog.stream[take() % STREAMS];
}

/* --- the client's side ----------------------------------------------------------------------- */

static void close_end(struct client_end *e)
{
	fd_closep(&e->fd);
	*e = (struct client_end){ .fd = -EBADF };
}

static void connect_end(struct client_end *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(rig.address);
	close_end(e);
	memcpy(address.sun_path + 1, rig.address, len);
	len += offsetof(struct sockaddr_un, sun_path) + 1;
	e->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(e->fd >= 0);
	CHECK(connect(e->fd, (struct sockaddr *)&address, (socklen_t)len) == 0);
	if (!small_sockets)
		return;
	/* what the server accepts gets the number that is free now */
	int room = 1, next = fcntl(e->fd, F_DUPFD_CLOEXEC, 0);
	close(next);
	rig_turn(&rig);
	(void)setsockopt(next, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

static void note_frame(struct client_end *e, const Sluice__Frame *f)
{
	struct known *k = &e->known[e->n_known++ % KNOWN];
	*k = (struct known){ f->view, f->generation, f->slot, f->seq };
}

/* One packet; false: there is none. */
static bool read_one(struct client_end *e)
{
	static unsigned char data[WIRE_PACKET_MAX];
	_cleanup_fdset_ struct fdset fds = { .n = 0 };
	Sluice__Packet *packet;
	size_t len;
	int r = wire_recv(e->fd, data, sizeof(data), &len, &fds);
	if (r != WIRE_OK)
		return false;
	CHECK_EQ(wire_decode(data, len, arena, &packet), 0);
	CHECK(!e->said_bye);
	e->said_bye = packet->body_case == SLUICE__PACKET__BODY_BYE;
	bool is_generation = packet->body_case == SLUICE__PACKET__BODY_GENERATION;
	CHECK_EQ(fds.n, is_generation ? packet->generation->slots + 1 : 0);
	CHECK(packet->body_case >= SLUICE__PACKET__BODY_WELCOME);
	if (packet->body_case == SLUICE__PACKET__BODY_FRAME)
		note_frame(e, packet->frame);
	return true;
}

static void send_bytes(struct client_end *e, const void *data, size_t len, struct fdset *fds)
{
	/* a socket that is full or closed is as good as any other */
	if (e->fd >= 0)
		(void)wire_send(e->fd, data, len, fds);
	else if (fds)
		fdset_close(fds);
}

static void send_packet(struct client_end *e, const Sluice__Packet *packet)
{
	unsigned char data[WIRE_REQUEST_MAX];
	size_t len;
	CHECK_EQ(wire_encode(packet, data, sizeof(data), &len), 0);
	send_bytes(e, data, len, NULL);
}

/* A text of up to 255 bytes, some of which are no UTF-8. */
static char *take_text(char *buf)
{
	unsigned len = take();
	memset(buf, len % 7 == 6 ? 0xc3 : 'x', len);
	buf[len] = 0;
	return buf;
}

static void say_raw(struct client_end *e)
{
	struct fdset fds = { .n = 0 };
	unsigned char data[256];
	unsigned n_fds = take() % 4, len = take();
	while (fds.n < n_fds)
		fds.fd[fds.n++] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	for (unsigned i = 0; i < len; i++)
		data[i] = (unsigned char)take();
	send_bytes(e, data, len, &fds);
}

static void say_hello(struct client_end *e)
{
	char name[256];
	Sluice__Hello m = SLUICE__HELLO__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.version_max = take();
	m.version_min = m.version_max & 1;
	m.name = take_text(name);
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &m;
	send_packet(e, &packet);
}

static void say_list(struct client_end *e)
{
	Sluice__ListStreams m = SLUICE__LIST_STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.watch = take() & 1;
	packet.body_case = SLUICE__PACKET__BODY_LIST_STREAMS;
	packet.list_streams = &m;
	send_packet(e, &packet);
}

static void say_subscribe(struct client_end *e)
{
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.stream = take_stream()->name;
	m.delivery = (Sluice__Delivery)(take() % 3);
	m.fifo_depth = take();
	m.max_holds = take() % 32;
	m.reserved_holds = take() % 32;
	unsigned wrong = take();
	m.stream = wrong & 1 ? (char *)"n\xff" : m.stream;
	m.memory = (Sluice__Memory)(wrong >> 1 & 1);
	m.readiness = (Sluice__Readiness)(wrong >> 2 & 1);
	m.width = wrong >> 3 & 1 ? 16 : 0;
	m.fourcc = wrong >> 4 & 1;
	m.matrix = wrong >> 5 & 1 ? 6 : 0;
	m.min_interval_ns = wrong >> 6 & 1 ? NS_PER_S / 30 : 0;
	m.range = (Sluice__Range)(wrong >> 7 & 1 ? 3 : 0);
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBE;
	packet.subscribe = &m;
	send_packet(e, &packet);
}

static void say_unsubscribe(struct client_end *e)
{
	Sluice__Unsubscribe m = SLUICE__UNSUBSCRIBE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.view = take_stream()->native.id;
	m.view += take();
	packet.body_case = SLUICE__PACKET__BODY_UNSUBSCRIBE;
	packet.unsubscribe = &m;
	send_packet(e, &packet);
}

static void say_bound(struct client_end *e)
{
	char text[256];
	Sluice__Bound m = SLUICE__BOUND__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	const struct view *view = &take_stream()->native;
	m.view = view->id;
	m.generation = view->generation ? view->generation->id : 0;
	m.generation -= take();
	m.error = (Sluice__ErrorCode)(take() % 16);
	m.text = take_text(text);
	packet.body_case = SLUICE__PACKET__BODY_BOUND;
	packet.bound = &m;
	send_packet(e, &packet);
}

static void say_release(struct client_end *e)
{
	Sluice__Release m = SLUICE__RELEASE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	const struct known *k = &e->known[take() % KNOWN];
	unsigned wrong = take();
	m.view = k->view + (wrong == 1);
	m.generation = k->generation + (wrong == 2) - (wrong == 3);
	m.slot = k->slot + (wrong == 4);
	m.seq = k->seq + (wrong == 5) - (wrong == 6);
	m.received_ns = wrong == 7 ? UINT64_MAX : clock_ns();
	packet.body_case = SLUICE__PACKET__BODY_RELEASE;
	packet.release = &m;
	send_packet(e, &packet);
}

static void say_status(struct client_end *e)
{
	Sluice__StatusRequest m = SLUICE__STATUS_REQUEST__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.from = (uint64_t)take() << (take() % 64);
	packet.body_case = SLUICE__PACKET__BODY_STATUS_REQUEST;
	packet.status_request = &m;
	send_packet(e, &packet);
}

/* --- the broker's side ----------------------------------------------------------------------- */

static void publish(void)
{
	struct stream *stream = take_stream();
	unsigned n = take() % 16;
	for (unsigned i = 0; stream->native.generation && i < n; i++)
		CHECK(rig_publish(stream) > 0); /* no client can stop a stream */
}

static void resize(void)
{
	struct stream *stream = take_stream();
	unsigned size = take() % (FUZZ_TOO_BIG + 1);
	struct video_format format;
	uint32_t side = size == FUZZ_TOO_BIG ? FORMAT_SIDE_MAX : 16 + size;
	if (n_resizes++ >= RESIZES_MAX) /* memory is made anew each time, which is slow */
		return;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, side, side, &format), 0);
	int r = view_configure(&stream->native, &format);
	CHECK_EQ(r, size == FUZZ_TOO_BIG ? -EDQUOT : 0);
	stream_set_state(stream, r < 0 ? STREAM_WAITING : STREAM_LIVE, stream->native.reason);
}

static void gone(void)
{
	struct stream *stream = take_stream();
	view_forget_newest(&stream->native);
	stream_set_state(stream, STREAM_WAITING, "its source is gone");
}

/* In its place, so that the other keeps its own. */
static void remove_and_add(void)
{
	unsigned i = take() % STREAMS;
	struct stream *stream = rig.catalog.stream[i];
	char name[STREAM_NAME_MAX + 1];
	memcpy(name, stream->name, sizeof(name));
	const struct stream_listener *listener = stream->listener;
	server_stream_removed(rig.server, stream, "it was removed");
	stream_finish(stream);
	stream_init(stream, name, "fuzz", RIG_SLOTS, &rig.catalog.budget);
	stream_set_listener(stream, listener, &rig);
	server_stream_changed(rig.server, stream);
}

static void let_time_pass(void)
{
	struct client *client;
	list_for_each(client, &rig.server->clients, link)
		client_check_deadlines(client, clock_ns() + 3600 * NS_PER_S);
}

static void say_bye(unsigned i)
{
	bool is_end = take() & 1;
	struct client *client;
	list_for_each(client, &rig.server->clients, link) {
		if (i-- != 0)
			continue;
		if (is_end)
			client_doom(client, SLUICE__ERROR_CODE__ERROR_SHUTDOWN, "the broker ends");
		else
			client_say_bye(
				client, SLUICE__ERROR_CODE__ERROR_SHUTDOWN, "the broker ends");
	}
}

/* --- the books ------------------------------------------------------------------------------- */

struct books {
	unsigned clients;
	unsigned subscribers[STREAMS];
	unsigned reserved[STREAMS];
	unsigned holds[STREAMS];
	uint64_t fds, bytes;
};

static unsigned stream_index(const struct stream *stream)
{
	unsigned i = 0;
	while (rig.catalog.stream[i] != stream)
		CHECK(++i < STREAMS);
	return i;
}

static void add_leases(struct books *b, const struct subscriber *s, unsigned stream)
{
	unsigned waiting = 0, lent = 0;
	const struct lease *lease;
	list_for_each(lease, &s->waiting, link) {
		CHECK(lease->state == LEASE_WAITING && lease->hold.slot);
		b->holds[stream]++;
		waiting++;
	}
	list_for_each(lease, &s->lent, link) {
		CHECK(lease->state != LEASE_WAITING);
		CHECK(lease->state != LEASE_REVOKED || !lease->hold.slot);
		b->holds[stream] += lease->hold.slot != NULL;
		lent++;
	}
	CHECK(waiting == s->n_waiting && lent == s->n_lent);
	CHECK(lent <= s->options.max_holds);
	CHECK(waiting <= (s->options.delivery == FANOUT_FIFO ? s->options.fifo_depth : 1));
}

static void add_client(struct books *b, const struct client *client)
{
	unsigned in_flight =
		client->fds_orphaned; /* of subscriptions that ended before it answered */
	for (unsigned i = 0; i < client->n_subscriptions; i++) {
		const struct subscription *s = client->subscription[i];
		unsigned k = stream_index(s->view->stream);
		CHECK(s->client == client);
		b->subscribers[k]++;
		b->reserved[k] +=
			s->subscriber.options.reserved ? s->subscriber.options.max_holds : 0;
		b->bytes += s->bytes;
		in_flight += s->fds_in_flight;
		add_leases(b, &s->subscriber, k);
	}
	CHECK_EQ(client->fds_in_flight, in_flight);
	b->fds += 1 + in_flight;
	b->clients++;
}

static void check_pool(const struct pool *pool, unsigned holds)
{
	unsigned found = 0;
	for (unsigned i = 0; i < pool->n_slots; i++) {
		const struct slot *slot = &pool->slots[i];
		const struct hold *hold;
		unsigned reserved = 0, n = 0;
		list_for_each(hold, &slot->holds, in_slot) {
			CHECK(hold->slot == slot);
			reserved += hold->reserved;
			n++;
		}
		CHECK_EQ(slot->n_reserved, reserved);
		CHECK(slot->state != SLOT_WRITING);
		CHECK(slot->state != SLOT_FREE || n == 0);
		CHECK(slot->state != SLOT_HELD || n > 0);
		CHECK_EQ(slot->state == SLOT_READY, slot == pool->newest);
		found += n;
	}
	CHECK_EQ(found, holds);
}

static void check_books(void)
{
	static uid_t uid = (uid_t)-1;
	const struct quota *quota = &rig.server->quota;
	struct books b = { 0 };
	const struct client *client;
	if (uid == (uid_t)-1)
		uid = getuid();
	list_for_each(client, &rig.server->clients, link)
		add_client(&b, client);
	CHECK_EQ(b.clients, rig.server->n_clients);
	CHECK_EQ(quota_used(quota, uid, QUOTA_CLIENTS), b.clients);
	CHECK_EQ(quota_used(quota, uid, QUOTA_FDS), b.fds);
	CHECK_EQ(quota_used(quota, uid, QUOTA_BYTES), b.bytes);
	CHECK(b.fds <= quota->limit[QUOTA_FDS] && b.bytes <= quota->limit[QUOTA_BYTES]);
	uint64_t memory = 0;
	for (unsigned i = 0; i < STREAMS; i++) {
		const struct view *view = &rig.catalog.stream[i]->native;
		CHECK_EQ(view->n_subscribers, b.subscribers[i]);
		CHECK_EQ(view->reserved, b.reserved[i]);
		CHECK(view->reserved + POOL_UNRESERVED_MIN <= view->n_slots);
		memory += view->generation ? view->generation->bytes : 0;
		if (view->generation)
			check_pool(&view->generation->pool, b.holds[i]);
		else
			CHECK_EQ(b.holds[i], 0);
	}
	CHECK_EQ(rig.catalog.budget.used_bytes, memory);
}

/* Descriptors that are open, of the first so many: one call, and quick. */
static unsigned count_fds(void)
{
	enum { MANY = 256 };
	struct pollfd fds[MANY];
	unsigned n = 0;
	for (int i = 0; i < MANY; i++)
		fds[i] = (struct pollfd){ .fd = i };
	(void)poll(fds, MANY, 0);
	for (int i = 0; i < MANY; i++)
		n += !(fds[i].revents & POLLNVAL);
	return n;
}

/* --- steps ----------------------------------------------------------------------------------- */

static void read_some(struct client_end *e)
{
	unsigned n = take();
	while (e->fd >= 0 && n-- > 0 && read_one(e))
		;
}

static void client_step(enum fuzz_step step, struct client_end *e)
{
	static void (*const say[FUZZ_STEPS])(struct client_end * e) = {
		[FUZZ_CONNECT] = connect_end,
		[FUZZ_CLOSE] = close_end,
		[FUZZ_READ] = read_some,
		[FUZZ_RAW] = say_raw,
		[FUZZ_HELLO] = say_hello,
		[FUZZ_LIST] = say_list,
		[FUZZ_SUBSCRIBE] = say_subscribe,
		[FUZZ_UNSUBSCRIBE] = say_unsubscribe,
		[FUZZ_BOUND] = say_bound,
		[FUZZ_RELEASE] = say_release,
		[FUZZ_STATUS] = say_status,
	};
	say[step](e);
}

static void take_step(void)
{
	unsigned byte = take();
	enum fuzz_step step = (enum fuzz_step)((byte & 0x3f) % FUZZ_STEPS);
	unsigned who = byte >> 6;
	static void (*const act[FUZZ_STEPS])(void) = {
		[FUZZ_PUBLISH] = publish,
		[FUZZ_RESIZE] = resize,
		[FUZZ_GONE] = gone,
		[FUZZ_REMOVE] = remove_and_add,
		[FUZZ_WAIT] = let_time_pass,
	};
	if (step == FUZZ_BYE)
		say_bye(who);
	else if (act[step])
		act[step]();
	else
		client_step(step, &ends[who % FUZZ_PEERS]);
	rig_turn(&rig);
	check_books();
}

static void configure(unsigned byte)
{
	rig.access.n_rules = 1;
	rig.access.rule[0] = (struct access_rule){ false, getuid(), byte & FUZZ_ROLES };
	rig.limits.fds_per_user = byte & FUZZ_FEW_FDS ? 16 : 4096;
	rig.limits.bytes_per_user = byte & FUZZ_FEW_BYTES ? 64 << 10 : 1 << 30;
	rig.limits.clients = byte & FUZZ_FEW_CLIENTS ? 2 : 64;
	small_sockets = byte & FUZZ_SMALL_SOCKETS;
	rig.limits.hello_timeout_ns = rig.limits.hold_deadline_ns = 600 * NS_PER_S;
	rig_configure(&rig);
}

static void init(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	arena = wire_arena_create(WIRE_PACKET_ARENA);
	CHECK(arena != NULL);
	rig_init(&rig);
	rig.server->own_uid = getuid() + 1; /* the rule decides */
	rig_add_stream(&rig, "a");
	rig_add_stream(&rig, "b");
	for (unsigned i = 0; i < FUZZ_PEERS; i++)
		ends[i].fd = -EBADF;
}

/* Streams begin each input alike; their memory is kept where nothing changed. */
static void begin(void)
{
	n_resizes = 0;
	for (unsigned i = 0; i < STREAMS; i++)
		rig_resize(rig.catalog.stream[i], 16, 16);
}

static void end(void)
{
	for (unsigned i = 0; i < FUZZ_PEERS; i++) {
		while (ends[i].fd >= 0 && read_one(&ends[i]))
			;
		close_end(&ends[i]);
	}
	/* a packet of each client a turn */
	for (int i = 0; rig.server->n_clients > 0 && i < 100000; i++)
		rig_turn(&rig);
	check_books();
	CHECK_EQ(rig.server->n_clients, 0);
	CHECK_EQ(rig.server->quota.n_users, 0);
	for (unsigned i = 0; i < STREAMS; i++)
		view_forget_newest(&rig.catalog.stream[i]->native);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!rig.loop)
		init();
	begin();
	unsigned fds = count_fds();
	input = data;
	input_left = size;
	configure(take());
	while (input_left > 0)
		take_step();
	end();
	begin();
	CHECK_EQ(count_fds(), fds);
	return 0;
}
