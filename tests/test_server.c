/* Who is let in, who is swept out, and what everybody can see of it. */
#include "tests/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "broker/subscription.h"
#include "common/clock.h"
#include "common/log.h"
#include "tests/rig.h"

static struct rig rig;
static struct stream *stream;

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	rig_init(&rig);
	stream = rig_add_stream(&rig, "test");
	rig_resize(stream, 64, 64);
}

static void end(void)
{
	rig_settle(&rig);
	CHECK(server_idle(rig.server));
	CHECK_EQ(rig.server->quota.n_users, 0);
	CHECK_EQ(stream->native.n_subscribers, 0);
	rig_finish(&rig);
}

/* Run until the server has so many clients, 10 s at most. */
static void run_until_clients(unsigned n)
{
	uint64_t before = clock_ns();
	while (rig.server->n_clients != n && clock_ns() - before < 10 * NS_PER_S)
		rig_run_ms(&rig, 5);
	CHECK_EQ(rig.server->n_clients, n);
}

/* --- who is let in --------------------------------------------------------------------------- */

TEST(there_are_as_many_clients_as_the_limit_says)
{
	struct peer p[3], more;
	begin();
	rig.limits.clients = 3;
	rig_configure(&rig);
	for (int i = 0; i < 3; i++)
		peer_ready(&p[i], &rig, "x");
	peer_connect(&more, &rig);
	peer_expect_bye(&more, SLUICE__ERROR_CODE__ERROR_LIMIT,
		"the broker has all of its 3 clients (--max-clients)");
	CHECK_EQ(rig.server->refused, 1);
	peer_close(&p[1]);
	peer_ready(&more, &rig, "x");
	rig.limits.clients = 1; /* a lower limit sends nobody away */
	rig_configure(&rig);
	CHECK_EQ(rig.server->n_clients, 3);
	peer_close(&p[0]);
	peer_close(&p[2]);
	peer_close(&more);
	end();
}

TEST(a_user_has_a_quota_of_clients_and_of_their_descriptors)
{
	struct peer p[2], more;
	begin();
	rig.limits.clients_per_user = 2;
	rig_configure(&rig);
	peer_ready(&p[0], &rig, "x");
	peer_ready(&p[1], &rig, "x");
	peer_connect(&more, &rig);
	peer_expect_bye(&more, SLUICE__ERROR_CODE__ERROR_LIMIT, "--max-clients-per-user");
	rig.limits.clients_per_user = 100;
	rig.limits.fds_per_user = 2;
	rig_configure(&rig);
	peer_connect(&more, &rig);
	peer_expect_bye(&more, SLUICE__ERROR_CODE__ERROR_LIMIT, "fds-per-user");
	CHECK_EQ(quota_used(&rig.server->quota, getuid(), QUOTA_CLIENTS), 2);
	CHECK_EQ(quota_used(&rig.server->quota, getuid(), QUOTA_FDS), 2);
	CHECK_EQ(rig.server->refused, 2);
	peer_close(&p[0]);
	peer_close(&p[1]);
	end();
}

TEST(another_user_is_let_in_by_a_rule_only)
{
	struct peer p;
	begin();
	rig.server->own_uid = getuid() + 1;
	peer_connect(&p, &rig);
	peer_expect_bye(
		&p, SLUICE__ERROR_CODE__ERROR_PERMISSION, "to [access] in its configuration");
	rig.access.n_rules = 1;
	rig.access.rule[0] = (struct access_rule){ true, getgid(), ROLE_CONSUME };
	rig_configure(&rig);
	peer_consume(&p, &rig, "test");
	rig.access.n_rules = 0; /* who is there already stays */
	rig_configure(&rig);
	rig_publish(stream);
	peer_expect_frame(&p, 1);
	peer_close(&p);
	end();
}

TEST(a_flood_of_connections_is_turned_away_and_costs_nobody_a_frame)
{
	struct peer healthy, p;
	begin();
	rig.limits.clients_per_user = 1;
	rig_configure(&rig);
	peer_consume(&healthy, &rig, "test");
	unsigned fds = test_count_fds(), rounds = 500 / test_slowness();
	for (unsigned i = 0; i < rounds; i++) {
		peer_connect(&p, &rig);
		peer_expect_bye(&p, SLUICE__ERROR_CODE__ERROR_LIMIT, "");
		uint64_t seq = rig_publish(stream);
		peer_expect_frame(&healthy, seq);
		peer_release_last(&healthy);
	}
	CHECK_EQ(rig.server->refused, rounds);
	CHECK(test_count_fds() <= fds);
	peer_close(&healthy);
	end();
}

/* Out of descriptors: it waits a moment, keeps its clients, and takes the newcomer then. */
TEST(a_server_without_free_descriptors_waits)
{
	struct peer p, late;
	struct rlimit old, limit;
	if (test_under_valgrind())
		test_not_for_here("valgrind accepts the connection all the same");
	begin();
	peer_consume(&p, &rig, "test");
	fdset_close(&p.fds);
	peer_connect(&late, &rig);
	peer_close(&late); /* so that its own socket has a number that is free */
	int next = fcntl(0, F_DUPFD_CLOEXEC, 0);
	CHECK(next >= 0);
	close(next);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	limit = old;
	limit.rlim_cur = (rlim_t)next + 1; /* for the client's end, not for ours */
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	peer_connect(&late, &rig);
	CHECK_EQ(rig.server->n_clients, 1);
	CHECK(rig.server->listen_watch == NULL);
	rig_publish(stream);
	peer_expect_frame(&p, 1);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	run_until_clients(2);
	peer_hello(&late, "late");
	peer_close(&late);
	peer_close(&p);
	end();
}

/* --- who is swept out ------------------------------------------------------------------------ */

TEST(who_says_no_hello_is_sent_away)
{
	struct peer silent, ready;
	begin();
	rig.limits.hello_timeout_ns = 200 * NS_PER_MS;
	rig_configure(&rig);
	peer_ready(&ready, &rig, "x");
	uint64_t before = clock_ns();
	peer_connect(&silent, &rig);
	run_until_clients(1);
	CHECK(clock_ns() - before >= 200 * NS_PER_MS);
	peer_expect_bye(&silent, SLUICE__ERROR_CODE__ERROR_TIMEOUT, "no hello within 200 ms");
	peer_expect_nothing(&ready);
	peer_close(&ready);
	end();
}

/* Connections that come and go must not put the deadlines of others off. */
TEST(deadlines_hold_while_others_connect)
{
	struct peer silent, other;
	begin();
	rig.limits.hello_timeout_ns = 200 * NS_PER_MS;
	rig_configure(&rig);
	peer_connect(&silent, &rig);
	uint64_t before = clock_ns();
	while (clock_ns() - before < 600 * NS_PER_MS) {
		peer_ready(&other, &rig, "x");
		peer_close(&other);
		rig_run_ms(&rig, 10);
	}
	peer_expect_bye(&silent, SLUICE__ERROR_CODE__ERROR_TIMEOUT, "no hello");
	end();
}

TEST(who_keeps_a_reserved_frame_for_too_long_is_sent_away)
{
	struct peer greedy, shared, quick;
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	begin();
	rig.limits.hold_deadline_ns = 200 * NS_PER_MS;
	rig_configure(&rig);
	peer_consume(&shared, &rig, "test");
	m.stream = (char *)"test";
	m.reserved_holds = 1;
	peer_ready(&greedy, &rig, "greedy");
	peer_subscribe(&greedy, &m);
	peer_expect(&greedy, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&greedy, 0, "");
	peer_ready(&quick, &rig, "quick");
	peer_subscribe(&quick, &m);
	peer_expect(&quick, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&quick, 0, "");
	rig_publish(stream);
	peer_expect_frame(&quick, 1);
	peer_release_last(&quick);
	run_until_clients(2);
	peer_expect_frame(&greedy, 1);
	peer_expect_bye(&greedy, SLUICE__ERROR_CODE__ERROR_TIMEOUT,
		"a reserved frame of stream \"test\" was held for more than 200 ms");
	CHECK_EQ(stream->native.reserved, 1);
	peer_expect_frame(&shared, 1); /* a shared one may be kept */
	peer_expect_nothing(&shared);
	peer_close(&shared);
	peer_close(&quick);
	end();
}

TEST(a_reserved_frame_of_an_old_generation_may_be_kept)
{
	struct peer p;
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	begin();
	rig.limits.hold_deadline_ns = 20 * NS_PER_MS;
	rig_configure(&rig);
	m.stream = (char *)"test";
	m.reserved_holds = 1;
	peer_ready(&p, &rig, "x");
	peer_subscribe(&p, &m);
	peer_expect(&p, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&p, 0, "");
	rig_publish(stream);
	peer_expect_frame(&p, 1);
	rig_resize(stream, 128, 64); /* its memory is its own now */
	rig_run_ms(&rig, 250);
	CHECK_EQ(rig.server->n_clients, 1);
	peer_close(&p);
	end();
}

/* --- the end --------------------------------------------------------------------------------- */

TEST(a_server_that_drains_says_why_and_takes_nobody)
{
	struct peer p[2], late;
	begin();
	peer_consume(&p[0], &rig, "test");
	peer_connect(&p[1], &rig); /* has not said hello */
	server_drain(rig.server, "the broker was told to end");
	CHECK(!server_idle(rig.server));
	rig_publish(stream); /* nobody is told any more */
	rig_resize(stream, 128, 64);
	peer_list(&p[0], true);
	for (int i = 0; i < 2; i++) {
		peer_expect(&p[i], SLUICE__PACKET__BODY_BYE);
		CHECK_EQ(p[i].packet->bye->code, SLUICE__ERROR_CODE__ERROR_SHUTDOWN);
		CHECK_STR(p[i].packet->bye->text, "the broker was told to end");
		peer_expect_nothing(&p[i]);
	}
	peer_connect(&late, &rig);
	peer_expect_nothing(&late);
	CHECK_EQ(rig.server->n_clients, 2);
	peer_close(&p[0]);
	peer_close(&p[1]);
	CHECK(server_idle(rig.server));
	peer_close(&late);
	end();
}

TEST(a_server_is_destroyed_with_its_clients)
{
	struct peer p[4];
	begin();
	for (int i = 0; i < 4; i++)
		peer_consume(&p[i], &rig, "test");
	rig_publish(stream);
	peer_list(&p[0], true);
	server_drain(rig.server, "x");
	rig_finish(&rig);
	for (int i = 0; i < 4; i++) {
		while (peer_recv(&p[i]) > 0)
			;
		fdset_close(&p[i].fds);
		close(p[i].fd);
		free(p[i].arena);
	}
}

TEST(every_start_has_a_session_of_its_own)
{
	uint64_t session[4];
	for (int i = 0; i < 4; i++) {
		rig_init(&rig);
		session[i] = rig.server->session;
		CHECK(session[i] != 0);
		for (int k = 0; k < i; k++)
			CHECK(session[k] != session[i]);
		rig_finish(&rig);
	}
}

/* --- the status ------------------------------------------------------------------------------ */

/* One client as some page of the status has it. */
struct seen {
	uint64_t client;
	bool ended;
	char name[WIRE_NAME_MAX + 1];
	char reason[WIRE_TEXT_MAX + 1];
	unsigned n_subscriptions;
	uint64_t sent;
};

static struct seen seen[256];
static unsigned n_seen, n_pages, n_streams;

static void read_status(struct peer *p)
{
	uint64_t from = 0;
	n_seen = n_pages = n_streams = 0;
	do {
		peer_status(p, 77, from);
		peer_expect(p, SLUICE__PACKET__BODY_STATUS);
		const Sluice__Status *s = p->packet->status;
		CHECK(s->request == 77 && s->session == rig.server->session);
		CHECK(s->n_clients <= WIRE_STATUS_CLIENTS && s->n_streams <= WIRE_STATUS_STREAMS);
		CHECK(s->n_streams == 0 || n_seen == 0); /* streams come first */
		CHECK(s->next == 0 || s->next > from);
		n_streams += (unsigned)s->n_streams;
		for (size_t i = 0; i < s->n_clients; i++) {
			const Sluice__ClientStatus *c = s->clients[i];
			struct seen *e = &seen[n_seen++];
			CHECK(n_seen < 256);
			*e = (struct seen){ .client = c->client,
				.ended = c->ended,
				.n_subscriptions = (unsigned)c->n_subscriptions };
			snprintf(e->name, sizeof(e->name), "%s", c->name);
			snprintf(e->reason, sizeof(e->reason), "%s", c->reason);
			e->sent = c->n_subscriptions ? c->subscriptions[0]->sent : 0;
		}
		from = s->next;
		n_pages++;
	} while (from && n_pages < 100);
	CHECK_EQ(from, 0);
}

TEST(the_status_has_pages_and_everybody_is_on_one)
{
	struct peer p[20], observer;
	begin();
	for (int i = 1; i < 40; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%d", i);
		rig_add_stream(&rig, name);
	}
	for (int i = 0; i < 20; i++)
		peer_consume(&p[i], &rig, "test");
	rig_publish(stream);
	for (int i = 0; i < 3; i++)
		peer_close(&p[i]);
	peer_ready(&observer, &rig, "observer");
	read_status(&observer);
	CHECK_EQ(n_streams, 40);
	CHECK_EQ(n_seen, 21);
	CHECK(n_pages >= 3);
	for (unsigned i = 0; i < n_seen; i++) {
		CHECK_EQ(seen[i].ended, i >= 18);
		CHECK(i == 0 || i == 18 || seen[i].client > seen[i - 1].client);
		CHECK_EQ(seen[i].sent, i != 17);
	}
	CHECK_STR(seen[17].name, "observer");
	CHECK_STR(seen[18].reason, "closed");
	for (int i = 3; i < 20; i++)
		peer_close(&p[i]);
	peer_close(&observer);
	end();
}

TEST(the_status_begins_anywhere)
{
	static const uint64_t froms[] = { 1, 1000, UINT32_MAX, 1ull << 61, (1ull << 62) - 1,
		1ull << 62, (1ull << 62) + 1, (1ull << 62) + 1000000, (1ull << 63) - 1, 1ull << 63,
		(1ull << 63) + 1, (1ull << 63) + 1000, 3ull << 62, UINT64_MAX };
	struct peer p;
	begin();
	peer_ready(&p, &rig, "observer");
	for (unsigned i = 0; i < sizeof(froms) / sizeof(froms[0]); i++) {
		peer_status(&p, i, froms[i]);
		peer_expect(&p, SLUICE__PACKET__BODY_STATUS);
		CHECK_EQ(p.packet->status->request, i);
		CHECK_EQ(p.packet->status->n_streams, 0);
		CHECK_EQ(p.packet->status->next, 0);
		CHECK_EQ(p.packet->status->n_clients, froms[i] <= (1ull << 62) + 1);
	}
	peer_close(&p);
	end();
}

TEST(the_status_tells_of_views_clients_and_why)
{
	struct peer p, observer;
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	begin();
	m.stream = (char *)"test";
	m.delivery = SLUICE__DELIVERY__DELIVERY_FIFO;
	m.fifo_depth = 3;
	m.max_holds = 1;
	peer_ready(&p, &rig, "consumer");
	peer_subscribe(&p, &m);
	peer_expect(&p, SLUICE__PACKET__BODY_GENERATION);
	peer_ready(&observer, &rig, "observer");
	peer_status(&observer, 1, 0);
	peer_expect(&observer, SLUICE__PACKET__BODY_STATUS);
	CHECK_EQ(observer.packet->status->clients[0]->fds, 1 + RIG_SLOTS + 1);
	CHECK(!observer.packet->status->clients[0]->subscriptions[0]->bound);
	peer_bound(&p, 0, "");
	for (int i = 0; i < 6; i++)
		rig_publish(stream);
	m.stream = (char *)"no such";
	peer_ask(&p, &m);
	rig_run_ms(&rig, 5);
	peer_status(&observer, 1, 0);
	peer_expect(&observer, SLUICE__PACKET__BODY_STATUS);
	const Sluice__Status *s = observer.packet->status;
	CHECK(s->pid == (uint32_t)getpid() && s->uptime_ns > 0 && s->next == 0);
	CHECK(s->memory_bytes == stream->native.generation->bytes &&
		s->memory_limit_bytes == 256 << 20);
	const Sluice__ViewStatus *v = s->streams[0]->views[0];
	CHECK(v->published == 6 && v->slots == RIG_SLOTS && v->width == 64 && v->no_slot == 0);
	const Sluice__ClientStatus *c = s->clients[0];
	CHECK(c->pid == (uint32_t)getpid() && c->uid == getuid() && !c->ended && c->fds == 1);
	CHECK(strstr(c->reason, "there is no stream \"no such\""));
	const Sluice__SubscriptionStatus *ss = c->subscriptions[0];
	CHECK(ss->delivery == SLUICE__DELIVERY__DELIVERY_FIFO && ss->fifo_depth == 3);
	CHECK(ss->max_holds == 1 && ss->reserved_holds == 0 && ss->bound);
	CHECK(ss->holds == 1 && ss->oldest_hold_ns >= 4 * NS_PER_MS && ss->waiting == 3);
	CHECK(ss->sent == 1 && ss->dropped == 2 && ss->skipped == 0 && ss->revoked == 0);
	CHECK_EQ(ss->bytes, s->memory_bytes);
	peer_close(&p);
	peer_close(&observer);
	end();
}

TEST(the_last_32_that_ended_are_remembered_with_their_reason)
{
	struct peer p;
	begin();
	for (int i = 1; i <= SERVER_ENDED_MAX + 3; i++) {
		char name[16];
		snprintf(name, sizeof(name), "client %d", i);
		peer_ready(&p, &rig, name);
		if (i % 2)
			peer_send_bytes(&p, "\xff", 1, NULL);
		peer_close(&p);
	}
	peer_ready(&p, &rig, "observer");
	read_status(&p);
	CHECK_EQ(n_seen, SERVER_ENDED_MAX + 1);
	CHECK_STR(seen[1].name, "client 4");
	CHECK_STR(seen[SERVER_ENDED_MAX].name, "client 35");
	CHECK_STR(seen[1].reason, "closed");
	CHECK_STR(seen[2].reason,
		"a message that is malformed, unknown, too long, or with too many descriptors");
	peer_close(&p);
	end();
}

/* Also the mirror and converted views, which need no memory to be listed. */
static void fill_texts(struct stream *s)
{
	static struct slot_device device;
	memset(device.name, 'd', sizeof(device.name) - 1);
	s->mirror.source = s->native.source;
	s->mirror.source.device = &device;
	memset(s->source, 's', STREAM_SOURCE_MAX);
	memset(s->native.reason, 'r', STREAM_TEXT_MAX);
	memset(s->mirror.reason, 'm', STREAM_TEXT_MAX);
	for (uint32_t i = 1; i <= STREAM_CONVERTED_MAX; i++) {
		struct form form = { .width = i };
		struct view *view = stream_add_converted(s, &form, MEMORY_HOST);
		CHECK(view != NULL);
		memset(view->reason, 'c', STREAM_TEXT_MAX);
	}
}

/* As many streams, clients and subscriptions as one page has, every text at its limit, on the last page:
 * a client has more subscriptions than a page has streams. */
TEST(the_longest_page_fits_one_packet)
{
	enum {
		PAGES = WIRE_SUBSCRIPTIONS_MAX / WIRE_STATUS_STREAMS,
		STREAMS = PAGES * WIRE_STATUS_STREAMS
	};
	struct peer p[WIRE_STATUS_CLIENTS];
	char name[WIRE_NAME_MAX + 1];
	begin();
	_Static_assert((int)STREAMS == (int)WIRE_SUBSCRIPTIONS_MAX, "the last page is full");
	for (unsigned i = 1; i < STREAMS; i++) {
		snprintf(name, sizeof(name), "%0*u", WIRE_NAME_MAX, i);
		rig_resize(rig_add_stream(&rig, name), 16, 16);
	}
	for (unsigned i = 0; i < STREAMS; i++)
		fill_texts(&rig.stream[i]);
	for (unsigned i = 0; i < WIRE_STATUS_CLIENTS; i++) {
		memset(name, 'n', WIRE_NAME_MAX);
		peer_ready(&p[i], &rig, name);
		for (unsigned k = 0; k < WIRE_SUBSCRIPTIONS_MAX; k++) {
			Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
			m.stream = rig.stream[k].name;
			peer_subscribe(&p[i], &m);
			peer_skip_to(&p[i], SLUICE__PACKET__BODY_GENERATION);
			peer_bound(&p[i], 0, "");
		}
	}
	struct client *client;
	list_for_each(client, &rig.server->clients, link) {
		memset(client->end_text, 'r', WIRE_TEXT_MAX);
		for (unsigned k = 0; k < client->n_subscriptions; k++) {
			struct subscription *s = client->subscription[k];
			memset(&s->subscriber.counts, 0xff, sizeof(s->subscriber.counts));
			memset(s->note, 'n', WIRE_TEXT_MAX);
		}
	}
	read_status(&p[0]);
	CHECK_EQ(n_seen, WIRE_STATUS_CLIENTS);
	CHECK_EQ(n_pages, PAGES);
	CHECK_EQ(seen[WIRE_STATUS_CLIENTS - 1].n_subscriptions, WIRE_SUBSCRIPTIONS_MAX);
	for (unsigned i = 0; i < WIRE_STATUS_CLIENTS; i++)
		peer_close(&p[i]);
	end();
}
