/* libsluice against a scripted broker that restarts, or does not read. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "tests/consumer_fixture.h"

static struct fake_memory memory, newer;

/* --- A broker that comes back -----------------------------------------------------------------*/

static void script_restart(struct fake *fake)
{
	fake_memory_init(&memory, 1, 10);
	fake_memory_init(&newer, 1, 20); /* the new broker counts from 1 as the old one did */
	fake_begin(fake, 2, &memory);
	fake_frame(fake, &memory, 0, 7);
	fake_frame(fake, &memory, 1, 8);
	fake_tell(fake);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_welcome(fake, 2);
	CHECK(fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS)->list_streams->watch);
	fake_refuse(fake, SLUICE__ERROR_CODE__ERROR_NO_STREAM, "not yet");
	fake_stream(fake, "other", SLUICE__STREAM_STATE__STREAM_LIVE);
	fake_stream(fake, "desktop", SLUICE__STREAM_STATE__STREAM_WAITING);
	fake_subscribed(fake, 2);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 0, 1);
	fake_released(fake, &newer, 0, 1); /* and no word of frame 7 */
	fake_expect_end(fake);
	fake_memory_finish(&memory);
	fake_memory_finish(&newer);
}

TEST(a_view_survives_the_restart_of_the_broker)
{
	struct session s;
	begin(&s, script_restart, &fifo, SLUICE_RECONNECT);
	int fd = sluice_fd(s.conn);
	CHECK_EQ(sync_with(&s), 2);
	struct sluice_frame *held = next(&s);
	fake_go(&s.fake);
	/* frame 8 waits: it goes with its session */
	while (sluice_session(s.conn) == 1)
		CHECK(sluice_wait(s.conn, SHORT_MS) >= 0);
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_fd(s.conn) == fd && sluice_session(s.conn) == 2);
	CHECK(frame->seq == 1 && frame->data[0][0] == 20);
	CHECK(held->seq == 7 && held->data[0][0] == 10);
	CHECK(sluice_frame_valid(held) && frame->generation != held->generation);
	sluice_frame_release(held);
	sluice_frame_release(frame);
	struct sluice_view_stats stats = stats_of(&s);
	CHECK(stats.reconnects == 1 && stats.received == 3 && stats.missed == 0);
	end(&s);
}

static void script_restarts(struct fake *fake)
{
	for (unsigned i = 0; i < 10; i++) {
		fake_memory_init(&memory, 1, i);
		fake_welcome(fake, i + 1);
		if (i > 0)
			fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
		fake_subscribed(fake, 2);
		fake_bind(fake, &memory);
		fake_frame(fake, &memory, 0, 1);
		fake_tell(fake);
		fake_pause(fake);
		fake_hang_up(fake);
		fake_memory_finish(&memory);
	}
}

TEST(ten_restarts_leave_no_descriptor_open)
{
	struct session s;
	struct sluice_frame *held[2];
	unsigned before = 0;
	begin(&s, script_restarts, NULL, SLUICE_RECONNECT);
	for (unsigned i = 0; i < 10; i++) {
		if (i >= 2)
			sluice_frame_release(held[i % 2]);
		held[i % 2] = next(&s);
		CHECK_EQ(held[i % 2]->data[0][0], i);
		fake_await(&s.fake);
		if (i == 1)
			before = test_count_fds();
		fake_go(&s.fake);
		while (sluice_session(s.conn) == i + 1 && i < 9)
			CHECK(sluice_wait(s.conn, SHORT_MS) >= 0);
	}
	CHECK(test_count_fds() <= before);
	CHECK_EQ(held[0]->data[0][0], 8);
	CHECK_EQ(stats_of(&s).reconnects, 9);
	end(&s);
}

static void script_full_hands(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_frame(fake, &memory, 1, 2);
	fake_tell(fake);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_welcome(fake, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_subscribed(fake, 2);
	fake_bind(fake, &memory);
	fake_frame(fake, &memory, 2, 1);
	fake_tell(fake);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(who_holds_all_it_may_gets_the_next_frame_when_it_releases_one)
{
	struct session s;
	struct sluice_frame *a, *b, *frame;
	begin(&s, script_full_hands, &fifo, SLUICE_RECONNECT);
	CHECK_EQ(sync_with(&s), 2);
	a = next(&s);
	b = next(&s);
	fake_go(&s.fake);
	while (sluice_session(s.conn) != 2)
		CHECK(sluice_wait(s.conn, SHORT_MS) >= 0);
	/* binds, then reads the frame of the new session */
	for (int i = 0; stats_of(&s).received < 3 && i < 100; i++)
		CHECK_EQ(sluice_wait(s.conn, SHORT_MS), 0);
	struct pollfd p = { .fd = sluice_fd(s.conn), .events = POLLIN };
	CHECK(sluice_view_next(s.view, &frame) == 0 && poll(&p, 1, 0) == 0);
	sluice_frame_release(a);
	CHECK(poll(&p, 1, LONG_MS) == 1 && sluice_dispatch(s.conn) == 1);
	CHECK(sluice_view_next(s.view, &frame) == 1 && frame->data[0][0] == 2);
	sluice_frame_release(b);
	end(&s);
}

/* --- A broker that does not read --------------------------------------------------------------*/

enum {
	MANY = 400, /* more than a socket takes, fewer than the queue */
	SOME = 100, /* fewer than a socket takes */
};

static void script_deaf(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 2, &memory);
	for (unsigned i = 1; i <= MANY; i++) {
		fake_frame(fake, &memory, i % FAKE_SLOTS, i);
		fake_pause(fake);
	}
	for (unsigned i = 2; i <= SOME; i++)
		fake_released(fake, &memory, i % FAKE_SLOTS, i);
	fake_tell(fake);
	fake_pause(fake);
	for (unsigned i = SOME + 1; i <= MANY; i++)
		fake_released(fake, &memory, i % FAKE_SLOTS, i);
	fake_released(fake, &memory, 1, 1);
	fake_tell(fake);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_release_that_finds_the_socket_full_is_neither_lost_nor_overtaken)
{
	struct session s;
	begin(&s, script_deaf, &fifo, 0);
	struct sluice_frame *first = next(&s);
	fake_go(&s.fake);
	for (unsigned i = 2; i <= MANY; i++) {
		struct sluice_frame *frame = next(&s);
		CHECK_EQ(frame->seq, i);
		sluice_frame_release(frame);
		fake_go(&s.fake);
	}
	fake_await(&s.fake);
	sluice_frame_release(first); /* the socket has room again, but others wait before it */
	fake_go(&s.fake);
	/* the descriptor becomes readable when the socket takes more, and only then */
	struct pollfd p = { .fd = sluice_fd(s.conn), .events = POLLIN };
	while (!fake_has_told(&s.fake))
		if (poll(&p, 1, SHORT_MS) == 1)
			CHECK_EQ(sluice_dispatch(s.conn), 0);
	CHECK_EQ(poll(&p, 1, 0), 0);
	end(&s);
}

static void script_hung(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 1, &memory);
	for (unsigned i = 1; i <= 10 * MANY; i++) {
		fake_frame(fake, &memory, i % FAKE_SLOTS, i);
		fake_pause(fake);
	}
	fake_memory_finish(&memory);
}

TEST(a_broker_that_never_reads_is_given_up)
{
	struct session s;
	struct sluice_frame *frame;
	int r = 0;
	unsigned n = 0;
	begin(&s, script_hung, NULL, 0);
	for (; n < 10 * MANY && r >= 0; n++) {
		while (r >= 0 && sluice_view_next(s.view, &frame) == 0)
			r = sluice_wait(s.conn, LONG_MS);
		if (r >= 0)
			sluice_frame_release(frame);
		fake_go(&s.fake);
	}
	CHECK_EQ(r, -ECONNRESET);
	CHECK(strstr(sluice_error(s.conn), "does not read"));
	for (; n < 10 * MANY; n++)
		fake_go(&s.fake);
	end(&s);
}
