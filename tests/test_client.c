/* The session: what it may say when, and what becomes of a client that says something else. */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "broker/client.h"
#include "common/log.h"
#include "tests/rig.h"

static struct rig rig;
static struct stream *stream;
static struct peer healthy; /* beside every misbehaving one: must not lose a frame */

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	rig_init(&rig);
	stream = rig_add_stream(&rig, "test");
	rig_resize(stream, 64, 64);
	peer_consume(&healthy, &rig, "test");
}

static void check_healthy(void)
{
	uint64_t seq = rig_publish(stream);
	peer_expect_frame(&healthy, seq);
	peer_release_last(&healthy);
	peer_expect_nothing(&healthy);
	CHECK_EQ(rig.server->n_clients, 1);
	CHECK_EQ(quota_used(&rig.server->quota, getuid(), QUOTA_CLIENTS), 1);
	CHECK_EQ(quota_used(&rig.server->quota, getuid(), QUOTA_FDS), 1);
	CHECK_EQ(stream->native.n_subscribers, 1);
}

static void end(void)
{
	peer_close(&healthy);
	CHECK_EQ(rig.server->n_clients, 0);
	CHECK_EQ(rig.server->quota.n_users, 0);
	CHECK_EQ(stream->native.n_subscribers, 0);
	rig_finish(&rig);
}

/* --- messages by number ---------------------------------------------------------------------- */

/* A message of this body with nothing in it. */
static size_t empty_message(int body, unsigned char *data)
{
	unsigned tag = (unsigned)body << 3 | 2;
	size_t len = 0;
	for (; tag >= 0x80; tag >>= 7)
		data[len++] = (unsigned char)(tag | 0x80);
	data[len++] = (unsigned char)tag;
	data[len++] = 0;
	return len;
}

TEST(before_hello_everything_but_hello_is_the_end)
{
	begin();
	for (int body = SLUICE__PACKET__BODY_LIST_STREAMS; body <= SLUICE__PACKET__BODY_STATUS;
		body++) {
		struct peer p;
		unsigned char data[8];
		bool known =
			wire_body_name(body)[0] != 'u' || body == SLUICE__PACKET__BODY_UNSUBSCRIBE;
		bool client = body <= SLUICE__PACKET__BODY_STATUS_REQUEST;
		peer_connect(&p, &rig);
		peer_send_bytes(&p, data, empty_message(body, data), NULL);
		peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_PROTOCOL,
			client  ? "is not allowed before hello"
			: known ? "is not for a client to send"
				: "malformed, unknown, too long");
		check_healthy();
	}
	end();
}

TEST(after_hello_hello_and_what_the_broker_says_are_the_end)
{
	static const int bodies[] = { SLUICE__PACKET__BODY_HELLO, SLUICE__PACKET__BODY_WELCOME,
		SLUICE__PACKET__BODY_ERROR, SLUICE__PACKET__BODY_BYE, SLUICE__PACKET__BODY_STREAMS,
		SLUICE__PACKET__BODY_STREAM_CHANGED, SLUICE__PACKET__BODY_SUBSCRIBED,
		SLUICE__PACKET__BODY_GENERATION, SLUICE__PACKET__BODY_FRAME,
		SLUICE__PACKET__BODY_REVOKED, SLUICE__PACKET__BODY_ENDED,
		SLUICE__PACKET__BODY_STATUS };
	begin();
	for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct peer p;
		unsigned char data[8];
		peer_ready(&p, &rig, "wrong");
		peer_send_bytes(&p, data, empty_message(bodies[i], data), NULL);
		peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_PROTOCOL, wire_body_name(bodies[i]));
		check_healthy();
	}
	end();
}

TEST(empty_requests_of_a_ready_client_are_answered_or_ignored)
{
	static const struct {
		int body, answer;
	} rows[] = {
		{ SLUICE__PACKET__BODY_LIST_STREAMS, SLUICE__PACKET__BODY_STREAMS },
		{ SLUICE__PACKET__BODY_SUBSCRIBE, SLUICE__PACKET__BODY_ERROR },
		{ SLUICE__PACKET__BODY_UNSUBSCRIBE,
			0 }, /* views that it has not: ended long ago? */
		{ SLUICE__PACKET__BODY_BOUND, 0 },
		{ SLUICE__PACKET__BODY_RELEASE, 0 },
		{ SLUICE__PACKET__BODY_STATUS_REQUEST, SLUICE__PACKET__BODY_STATUS },
	};
	struct peer p;
	begin();
	peer_ready(&p, &rig, "terse");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned char data[8];
		peer_send_bytes(&p, data, empty_message(rows[i].body, data), NULL);
		peer_expect(&p, rows[i].answer);
		peer_expect_nothing(&p);
	}
	peer_close(&p);
	check_healthy();
	end();
}

TEST(descriptors_that_do_not_belong_are_the_end_and_are_closed)
{
	static const unsigned counts[] = { 1, 2, FDSET_MAX };
	begin();
	for (int body = SLUICE__PACKET__BODY_HELLO; body <= SLUICE__PACKET__BODY_STATUS_REQUEST;
		body++)
		for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
			struct peer p;
			struct fdset fds = { .n = 0 };
			unsigned char data[8];
			peer_connect(&p, &rig);
			if (body != SLUICE__PACKET__BODY_HELLO)
				peer_hello(&p, "generous");
			while (fds.n < counts[i])
				fds.fd[fds.n++] = eventfd(0, EFD_CLOEXEC);
			peer_send_bytes(&p, data, empty_message(body, data), &fds);
			peer_expect_bye(
				&p, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "descriptors, not 0");
			check_healthy();
		}
	end();
}

/* --- bytes ----------------------------------------------------------------------------------- */

TEST(bytes_that_are_no_message_are_the_end)
{
	static unsigned char too_long[WIRE_REQUEST_MAX + 1] = { 0x12, 0x00 };
	static unsigned char too_many[WIRE_REQUEST_MAX];
	too_many[0] = 0x12;
	for (size_t i = 2; i + 3 <= sizeof(too_many); i += 3)
		memcpy(too_many + i, "\xf8\x06\x01", 3);
	const struct {
		const char *row;
		const void *data;
		size_t len;
	} rows[] = {
		{ "noise", "\xde\xad\xbe\xef", 4 },
		{ "a truncated hello", "\x0a\x20\x08\x01", 4 },
		{ "a body that nobody knows", "\x9a\x06\x00", 3 },
		{ "no body", "\xf8\x06\x01", 3 },
		{ "one byte too long", too_long, sizeof(too_long) },
		{ "more fields than the arena holds", too_many, sizeof(too_many) - 1 },
	};
	begin();
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (int ready = 0; ready < 2; ready++) {
			struct peer p;
			peer_connect(&p, &rig);
			if (ready)
				peer_hello(&p, "noisy");
			peer_send_bytes(&p, rows[i].data, rows[i].len, NULL);
			peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "malformed");
			check_healthy();
		}
	end();
}

TEST(an_empty_datagram_is_the_end)
{
	struct peer p;
	begin();
	peer_ready(&p, &rig, "silent");
	peer_send_bytes(&p, "", 0, NULL);
	CHECK_EQ(peer_recv(&p), -1);
	peer_close(&p);
	check_healthy();
	end();
}

TEST(what_follows_a_mistake_is_not_heard_and_the_bye_is)
{
	struct peer p;
	unsigned char data[8];
	size_t len = empty_message(SLUICE__PACKET__BODY_LIST_STREAMS, data);
	begin();
	peer_ready(&p, &rig, "hasty");
	for (int i = 0; i < 5; i++)
		CHECK_EQ(
			wire_send(p.fd, i == 0 ? (void *)"\xff" : data, i == 0 ? 1 : len, NULL), 0);
	rig_settle(&rig);
	peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "malformed");
	check_healthy();
	end();
}

/* Close after each step of a session's life, in the middle of whatever was going on. */
TEST(a_client_may_go_at_any_step)
{
	begin();
	for (int step = 0; step < 8; step++) {
		struct peer p;
		Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
		m.stream = (char *)"test";
		peer_connect(&p, &rig);
		if (step > 0)
			peer_hello(&p, "leaving");
		if (step > 1)
			peer_list(&p, true);
		if (step > 2)
			peer_ask(&p, &m); /* Subscribed, Generation and its descriptors unread */
		if (step > 3) {
			peer_skip_to(&p, SLUICE__PACKET__BODY_GENERATION);
			peer_bound(&p, 0, "");
		}
		if (step > 4) {
			uint64_t seq = rig_publish(stream); /* lent, unread */
			peer_expect_frame(&healthy, seq);
			peer_release_last(&healthy);
		}
		if (step > 5)
			peer_skip_to(&p, SLUICE__PACKET__BODY_FRAME);
		if (step > 6)
			peer_release_last(&p);
		peer_close(&p);
		check_healthy();
	}
	end();
}

TEST(a_thousand_connections_leave_nothing)
{
	struct peer p;
	begin();
	peer_consume(&p, &rig, "test");
	peer_close(&p);
	check_healthy();
	unsigned fds = test_count_fds();
	for (unsigned i = 0; i < 1000 / test_slowness(); i++) {
		peer_consume(&p, &rig, "test");
		rig_publish(stream);
		peer_close(&p);
		peer_skip_to(&healthy, SLUICE__PACKET__BODY_FRAME);
		peer_release_last(&healthy);
	}
	CHECK_EQ(test_count_fds(), fds);
	check_healthy();
	end();
}

/* --- hello ----------------------------------------------------------------------------------- */

static void say_hello(struct peer *p, uint32_t min, uint32_t max, const char *name)
{
	Sluice__Hello m = SLUICE__HELLO__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.version_min = min;
	m.version_max = max;
	m.features = UINT64_MAX; /* wishes that nobody has to grant */
	m.name = (char *)name;
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &m;
	peer_send(p, &packet);
}

TEST(versions_must_have_one_in_common)
{
	static const struct {
		uint32_t min, max;
		bool ok;
	} rows[] = { { 1, 1, true }, { 0, 1, true }, { 1, 2, true }, { 0, UINT32_MAX, true },
		{ 0, 0, false }, { 2, 2, false }, { 2, UINT32_MAX, false }, { 2, 1, false },
		{ 1, 0, false } };
	begin();
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer p;
		peer_connect(&p, &rig);
		say_hello(&p, rows[i].min, rows[i].max, "x");
		if (!rows[i].ok) {
			peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_VERSION, "update the older");
			continue;
		}
		peer_expect(&p, SLUICE__PACKET__BODY_WELCOME);
		CHECK_EQ(p.packet->welcome->version, WIRE_VERSION);
		CHECK_EQ(p.packet->welcome->features, 0);
		CHECK_EQ(p.packet->welcome->session, rig.server->session);
		CHECK_STR(p.packet->welcome->broker, "sluice-broker " SLUICE_VERSION);
		CHECK(p.packet->welcome->client > 0);
		peer_close(&p);
	}
	check_healthy();
	end();
}

TEST(names_must_be_fit_to_be_shown)
{
	static const struct {
		const char *name;
		bool ok;
	} rows[] = {
		{ "1234567890123456789012345678901234567890123456789012345678901234", true },
		{ "12345678901234567890123456789012345678901234567890123456789012345", false },
		{ "", false }, { "two\nlines", false }, { "\x1b[2J", false },
		{ "caf\xc3\xa9", true },
		{ "caf\xe9", false }, /* not UTF-8: whoever reads the status could not parse it */
	};
	begin();
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer p;
		peer_connect(&p, &rig);
		say_hello(&p, 1, 1, rows[i].name);
		if (rows[i].ok) {
			peer_expect(&p, SLUICE__PACKET__BODY_WELCOME);
			peer_close(&p);
		} else {
			peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "1 to 64 bytes");
		}
	}
	check_healthy();
	end();
}

TEST(every_client_has_a_number_of_its_own)
{
	begin();
	uint64_t last = 0;
	for (int i = 0; i < 5; i++) {
		struct peer p;
		peer_ready(&p, &rig, "x");
		CHECK(p.packet->welcome->client > last);
		last = p.packet->welcome->client;
		peer_close(&p);
	}
	end();
}

/* --- streams --------------------------------------------------------------------------------- */

TEST(streams_are_listed_and_their_changes_told_to_who_watches)
{
	struct peer once, watcher;
	begin();
	peer_ready(&once, &rig, "once");
	peer_ready(&watcher, &rig, "watcher");
	peer_list(&once, false);
	peer_list(&watcher, true);
	peer_expect(&once, SLUICE__PACKET__BODY_STREAMS);
	CHECK_EQ(once.packet->streams->n_streams, 1);
	const Sluice__StreamInfo *info = once.packet->streams->streams[0];
	CHECK_STR(info->name, "test");
	CHECK_STR(info->source, "rig");
	CHECK(info->state == SLUICE__STREAM_STATE__STREAM_LIVE && info->width == 64);
	peer_expect(&watcher, SLUICE__PACKET__BODY_STREAMS);

	struct stream *other = rig_add_stream(&rig, "other");
	peer_expect(&watcher, SLUICE__PACKET__BODY_STREAM_CHANGED);
	CHECK_STR(watcher.packet->stream_changed->stream->name, "other");
	CHECK_EQ(watcher.packet->stream_changed->stream->state,
		SLUICE__STREAM_STATE__STREAM_WAITING);
	CHECK_EQ(watcher.packet->stream_changed->stream->fourcc, 0);

	rig_resize(other, 32, 16);
	peer_expect(&watcher, SLUICE__PACKET__BODY_STREAM_CHANGED);
	CHECK_EQ(watcher.packet->stream_changed->stream->height, 16);
	peer_expect(&watcher, SLUICE__PACKET__BODY_STREAM_CHANGED); /* live */

	peer_list(&watcher, false);
	peer_expect(&watcher, SLUICE__PACKET__BODY_STREAMS);
	CHECK_EQ(watcher.packet->streams->n_streams, 2);
	rig_remove_stream(&rig, other);
	peer_expect_nothing(&watcher);
	peer_list(&watcher, true);
	peer_expect(&watcher, SLUICE__PACKET__BODY_STREAMS);
	CHECK_EQ(watcher.packet->streams->n_streams, 1);
	peer_expect_nothing(&once);
	peer_close(&once);
	peer_close(&watcher);
	check_healthy();
	end();
}

TEST(a_removed_stream_ends_its_views_and_is_told)
{
	struct peer p;
	begin();
	struct stream *other = rig_add_stream(&rig, "other");
	rig_resize(other, 32, 32);
	peer_consume(&p, &rig, "other");
	peer_list(&p, true);
	peer_expect(&p, SLUICE__PACKET__BODY_STREAMS);
	rig_publish(other);
	peer_expect(&p, SLUICE__PACKET__BODY_FRAME);
	uint32_t slot = p.packet->frame->slot;
	uint64_t seq = p.packet->frame->seq;
	rig_remove_stream(&rig, other);
	peer_expect(&p, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(p.packet->ended->view, p.view);
	CHECK_EQ(p.packet->ended->code, SLUICE__ERROR_CODE__ERROR_STREAM_GONE);
	CHECK_STR(p.packet->ended->text, "it was removed");
	peer_expect(&p, SLUICE__PACKET__BODY_STREAM_CHANGED);
	CHECK_EQ(p.packet->stream_changed->stream->state, SLUICE__STREAM_STATE__STREAM_REMOVED);
	peer_release(&p, slot, seq); /* was on its way: no error */
	peer_unsubscribe(&p, p.view);
	peer_expect_nothing(&p);
	peer_close(&p);
	check_healthy();
	end();
}

/* Every name, text and source as long as it may be: the answer still fits. */
TEST(the_longest_list_fits_one_packet)
{
	struct peer p;
	char name[STREAM_NAME_MAX + 1], text[STREAM_TEXT_MAX + 1];
	begin();
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (unsigned i = 1; i < CATALOG_STREAMS_MAX; i++) {
		snprintf(name, sizeof(name), "%0*u", STREAM_NAME_MAX, i);
		struct stream *s = rig_add_stream(&rig, name);
		memset(s->source, 's', STREAM_SOURCE_MAX);
		rig_resize(s, 16, 16);
		stream_set_state(s, STREAM_WAITING, text);
		memset(s->native.reason, 'r', STREAM_TEXT_MAX);
	}
	peer_ready(&p, &rig, "patient");
	peer_list(&p, false);
	peer_expect(&p, SLUICE__PACKET__BODY_STREAMS);
	CHECK_EQ(p.packet->streams->n_streams, CATALOG_STREAMS_MAX);
	uint64_t from = 0;
	unsigned n = 0;
	do {
		peer_status(&p, 5, from);
		peer_expect(&p, SLUICE__PACKET__BODY_STATUS);
		from = p.packet->status->next;
		n += (unsigned)p.packet->status->n_streams;
	} while (from);
	CHECK_EQ(n, CATALOG_STREAMS_MAX);
	peer_close(&p);
	check_healthy();
	end();
}

/* --- roles ----------------------------------------------------------------------------------- */

TEST(who_may_only_observe_is_refused_the_rest_and_goes_on)
{
	struct peer p;
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	begin();
	rig.server->own_uid = getuid() + 1;
	rig.access.n_rules = 1;
	rig.access.rule[0] = (struct access_rule){ false, getuid(), ROLE_OBSERVE };
	rig_configure(&rig);
	peer_ready(&p, &rig, "observer");
	m.request = 9;
	m.stream = (char *)"test";
	peer_ask(&p, &m);
	peer_expect_error(&p, 9, SLUICE__ERROR_CODE__ERROR_PERMISSION, "[access]");
	peer_unsubscribe(&p, 1); /* no request that an answer could name */
	peer_expect_error(&p, 0, SLUICE__ERROR_CODE__ERROR_PERMISSION, "unsubscribe");
	peer_status(&p, 1, 0);
	peer_expect(&p, SLUICE__PACKET__BODY_STATUS);
	peer_close(&p);
	rig.access.rule[0].roles = ROLE_CONSUME;
	rig_configure(&rig);
	peer_consume(&p, &rig, "test");
	peer_status(&p, 4, 0);
	peer_expect_error(&p, 4, SLUICE__ERROR_CODE__ERROR_PERMISSION, "status_request");
	peer_close(&p);
	check_healthy();
	end();
}
