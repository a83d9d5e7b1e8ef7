/* Frames: what is sent, what is held, what is given back, and who does not read. */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/client.h"
#include "common/log.h"
#include "tests/rig.h"

static struct rig rig;
static struct stream *stream;
static struct peer peer;

/* One stream with a format, one client that is ready. */
static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	rig_init(&rig);
	stream = rig_add_stream(&rig, "test");
	rig_resize(stream, 64, 64);
	peer_ready(&peer, &rig, "subscriber");
}

/* Whatever became of the client: nothing is left of it. */
static void end(void)
{
	if (peer.arena)
		peer_close(&peer);
	CHECK_EQ(rig.server->n_clients, 0);
	CHECK_EQ(rig.server->quota.n_users, 0);
	CHECK_EQ(stream->native.n_subscribers, 0);
	CHECK_EQ(stream->native.reserved, 0);
	rig_finish(&rig);
}

static struct subscriber *the_subscriber(void)
{
	return list_first(&stream->native.subscribers, struct subscriber, link);
}

TEST(a_release_of_what_is_not_held_is_the_end)
{
	static const struct {
		const char *row;
		int32_t view, generation, slot, seq;
	} rows[] = {
		{ "another slot", 0, 0, 1, 0 },
		{ "a frame to come", 0, 0, 0, 1 },
		{ "a frame long gone", 0, 0, 0, -1 },
		{ "a generation to come", 0, 1, 0, 0 },
		{ "a slot that there is not", 0, 0, 1000, 0 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin();
		Sluice__Subscribe m = rig_request();
		peer_consume_as(&peer, &m);
		rig_publish(stream);
		rig_publish(stream);
		peer_expect_frame(&peer, 1);
		peer_release_last(&peer);
		peer_expect_frame(&peer, 2);
		peer.generation += (uint32_t)rows[i].generation;
		peer_release(&peer, peer.packet->frame->slot + (uint32_t)rows[i].slot,
			peer.packet->frame->seq + (uint64_t)rows[i].seq);
		peer_expect_bye(&peer, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "is not held");
		end();
	}
}

TEST(a_second_release_is_the_end)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	rig_publish(stream);
	peer_expect_frame(&peer, 1);
	uint32_t slot = peer.packet->frame->slot;
	peer_release(&peer, slot, 1);
	peer_expect_nothing(&peer);
	peer_release(&peer, slot, 1);
	peer_expect_bye(&peer, SLUICE__ERROR_CODE__ERROR_PROTOCOL,
		"release: frame 1 of slot 0 is not held");
	end();
}

TEST(a_release_of_a_stale_generation_is_ignored_even_twice)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	rig_publish(stream);
	peer_expect_frame(&peer, 1);
	uint32_t slot = peer.packet->frame->slot, old = peer.generation;
	rig_resize(stream, 128, 64);
	peer_release(&peer, slot, 1);
	peer_release(&peer, slot, 1);
	peer_release(&peer, 55, 55);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	uint32_t new = peer.generation;
	peer_bound(&peer, 0, "");
	peer.generation = old;
	peer_release(&peer, slot, 1);
	peer_expect_nothing(&peer);
	peer.generation = new;
	rig_publish(stream);
	peer_expect_frame(&peer, 2);
	end();
}

TEST(frames_of_an_old_generation_count_until_they_are_released)
{
	begin();
	Sluice__Subscribe m = rig_request();
	m.max_holds = 1;
	peer_consume_as(&peer, &m);
	rig_publish(stream);
	peer_expect_frame(&peer, 1);
	uint32_t slot = peer.packet->frame->slot, old = peer.generation;
	rig_resize(stream, 128, 64);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	uint32_t new = peer.generation;
	peer_bound(&peer, 0, "");
	rig_publish(stream);
	peer_expect_nothing(&peer); /* it holds its one frame */
	peer.generation = old;
	peer_release(&peer, slot, 1);
	peer.generation = new;
	peer_expect_frame(&peer, 2);
	end();
}

TEST(a_release_of_an_unknown_view_is_ignored)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	rig_publish(stream);
	peer_expect_frame(&peer, 1);
	uint32_t view = peer.view;
	peer.view += 1000;
	peer_release_last(&peer);
	peer_bound(&peer, 0, "");
	peer.view = view;
	peer_release_last(&peer);
	rig_publish(stream);
	peer_expect_frame(&peer, 2);
	end();
}

TEST(a_shared_hold_is_revoked_and_its_release_is_no_error)
{
	begin();
	Sluice__Subscribe m = rig_request();
	m.max_holds = RIG_SLOTS;
	peer_consume_as(&peer, &m);
	uint32_t slot[RIG_SLOTS + 1];
	for (uint64_t seq = 1; seq <= RIG_SLOTS; seq++) {
		rig_publish(stream);
		peer_expect_frame(&peer, seq);
		slot[seq] = peer.packet->frame->slot;
	}
	CHECK_EQ(rig_publish(stream), RIG_SLOTS + 1); /* the stream does not wait */
	peer_expect(&peer, SLUICE__PACKET__BODY_REVOKED);
	CHECK(peer.packet->revoked->view == peer.view);
	CHECK(peer.packet->revoked->slot == slot[1] && peer.packet->revoked->seq == 1);
	CHECK_EQ(peer.packet->revoked->generation, peer.generation);
	CHECK_EQ(the_subscriber()->counts.revoked, 1);
	peer_expect_nothing(&peer); /* a revoked frame counts until it is released */
	peer_release(&peer, slot[1], 1);
	peer_expect_frame(&peer, RIG_SLOTS + 1);
	peer_release(&peer, slot[1], 1); /* but twice is one */
	peer_expect_bye(&peer, SLUICE__ERROR_CODE__ERROR_PROTOCOL, "is not held");
	end();
}

/* It never releases and never reads: it costs the stream nothing, and what it is sent has an end. */
TEST(who_never_releases_gets_a_bounded_number_of_messages)
{
	struct peer other;
	begin();
	Sluice__Subscribe m = rig_request();
	m.max_holds = WIRE_HOLDS_MAX;
	peer_consume_as(&peer, &m);
	peer_consume(&other, &rig, "test");
	for (uint64_t seq = 1; seq <= 1000; seq++) {
		CHECK_EQ(rig_publish(stream), seq);
		peer_expect_frame(&other, seq);
		peer_release_last(&other);
	}
	unsigned n = 0;
	while (peer_recv(&peer) > 0)
		n++;
	CHECK(n >= WIRE_HOLDS_MAX && n <= 2 * WIRE_HOLDS_MAX); /* Frame and Revoked */
	peer_close(&other);
	end();
}

TEST(a_fifo_brings_every_frame)
{
	begin();
	Sluice__Subscribe m = rig_request();
	m.delivery = SLUICE__DELIVERY__DELIVERY_FIFO;
	m.fifo_depth = 4;
	m.max_holds = 1;
	peer_consume_as(&peer, &m);
	for (uint64_t seq = 1; seq <= 40; seq += 4) {
		for (int i = 0; i < 4; i++)
			rig_publish(stream);
		for (uint64_t k = seq; k < seq + 4; k++) {
			peer_expect_frame(&peer, k);
			peer_release_last(&peer);
		}
	}
	CHECK_EQ(the_subscriber()->counts.sent, 40);
	CHECK_EQ(the_subscriber()->counts.dropped, 0);
	end();
}

TEST(damage_is_passed_on)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	for (unsigned n = 0; n <= FRAME_DAMAGE_MAX; n++) {
		struct slot *slot;
		uint64_t seq;
		struct frame_info info = { .n_damage = n };
		for (unsigned i = 0; i < n; i++)
			info.damage[i] =
				(struct frame_rect){ UINT32_MAX - i, i, 16384, UINT32_MAX };
		CHECK_EQ(view_begin(&stream->native, &slot), POOL_OK);
		seq = stream_take_seq(stream);
		view_publish(&stream->native, slot, seq, &info);
		peer_expect_frame(&peer, seq);
		CHECK_EQ(peer.packet->frame->n_damage, n);
		for (unsigned i = 0; i < n; i++) {
			const Sluice__Rect *r = peer.packet->frame->damage[i];
			CHECK(r->x == UINT32_MAX - i && r->y == i);
			CHECK(r->width == 16384 && r->height == UINT32_MAX);
		}
		peer_release_last(&peer);
	}
	end();
}

TEST(the_newest_frame_comes_at_once)
{
	begin();
	for (int i = 0; i < 5; i++)
		rig_publish(stream);
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	peer_expect_frame(&peer, 5);
	end();
}

TEST(reserved_frames_are_kept_and_those_of_others_are_not)
{
	struct peer other;
	begin();
	Sluice__Subscribe m = rig_request();
	m.reserved_holds = 5;
	peer_consume_as(&peer, &m);
	peer_consume(&other, &rig, "test");
	for (uint64_t seq = 1; seq <= 30; seq++)
		CHECK_EQ(rig_publish(stream), seq);
	for (uint64_t seq = 1; seq <= 5; seq++)
		peer_expect_frame(&peer, seq);
	peer_expect_nothing(&peer);
	const struct pool *pool = &stream->native.generation->pool;
	for (unsigned i = 0; i < RIG_SLOTS; i++)
		CHECK(pool->slots[i].seq <= 5 ? pool->slots[i].n_reserved == 1
					      : pool->slots[i].n_reserved == 0);
	m.reserved_holds = 1;
	peer_unsubscribe(&other, other.view);
	while (peer_recv(&other) > 0)
		;
	peer_ask(&other, &m);
	peer_expect_error(
		&other, 7, SLUICE__ERROR_CODE__ERROR_ADMISSION, "5 may be reserved and 5");
	peer_close(&other);
	end();
}

TEST(latency_is_what_the_client_says_within_reason)
{
	static const struct {
		int64_t after_ns; /* of the receipt, after the frame was published */
		bool noted;
	} rows[] = { { -1000, false }, { INT64_MAX / 2, false }, { 1000, true } };
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	unsigned noted = 0;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t seq = rig_publish(stream);
		peer_expect_frame(&peer, seq);
		Sluice__Release r = SLUICE__RELEASE__INIT;
		Sluice__Packet packet = SLUICE__PACKET__INIT;
		r.view = peer.view;
		r.generation = peer.generation;
		r.slot = peer.packet->frame->slot;
		r.seq = seq;
		r.received_ns = peer.packet->frame->published_ns + (uint64_t)rows[i].after_ns;
		packet.body_case = SLUICE__PACKET__BODY_RELEASE;
		packet.release = &r;
		rig_run_ms(&rig, 1);
		peer_send(&peer, &packet);
		noted += rows[i].noted;
		peer_status(&peer, 1, 0);
		peer_expect(&peer, SLUICE__PACKET__BODY_STATUS);
		CHECK_EQ(peer.packet->status->clients[0]->subscriptions[0]->latency_p50_ns > 0,
			noted > 0);
	}
	CHECK_EQ(noted, 1);
	end();
}

/* --- a client that does not read ------------------------------------------------------------- */

/* It releases by guessing right, and never reads: frames are dropped, and it stays. */
TEST(a_full_socket_drops_frames)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	uint64_t seq = 0;
	while (the_subscriber()->counts.dropped == 0 && seq < 10000) {
		seq = rig_publish(stream);
		if (the_subscriber()->counts.dropped == 0)
			peer_release(&peer, stream->native.generation->pool.newest->index, seq);
	}
	CHECK(seq > 10 && seq < 10000);
	CHECK_EQ(the_subscriber()->counts.sent, seq - 1);
	CHECK_EQ(rig.server->n_clients, 1);
	for (uint64_t k = 1; k < seq; k++)
		peer_expect_frame(&peer, k); /* all that were sent are there */
	peer_expect_nothing(&peer);
	rig_publish(stream);
	peer_expect_frame(&peer, seq + 1);
	end();
}

TEST(a_full_socket_ends_the_client_that_is_to_be_told_something)
{
	struct peer other;
	begin();
	peer_consume(&other, &rig, "test");
	for (int i = 0; i < 10000 && rig.server->n_clients == 2; i++)
		peer_list(&peer, false);
	CHECK_EQ(rig.server->n_clients, 1);
	const struct ended_client *e = &rig.server->ended[rig.server->n_ended - 1];
	CHECK_STR(e->reason, "it does not read its socket: no room for \"streams\"");
	int r;
	while ((r = peer_recv(&peer)) > 0)
		CHECK_EQ(r, SLUICE__PACKET__BODY_STREAMS);
	CHECK_EQ(r, -1);
	peer_close(&peer);
	uint64_t seq = rig_publish(stream);
	peer_expect_frame(&other, seq);
	peer_close(&other);
	end();
}
