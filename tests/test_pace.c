/* Which frames a subscriber with a maximum frame rate gets: by the times of their pictures alone. */
#include "tests/test.h"

#include <string.h>

#include "broker/fanout.h"
#include "common/clock.h"

enum { SLOTS = 8, GENERATION = 7, SENT_MAX = 4096 };

static const uint64_t start_ns = 1000 * NS_PER_S;

struct reader {
	struct subscriber s;
	struct pool pool;
	uint64_t n; /* of pictures */
	unsigned n_sent;
	uint64_t seq[SENT_MAX];
	uint64_t pts[SENT_MAX];
	uint64_t paced[SENT_MAX];
	uint64_t wait_ns;
	bool is_full; /* its socket */
};

static struct reader r;

static int on_send(struct subscriber *s, const struct lease *lease, const struct frame_info *info)
{
	(void)s;
	if (r.is_full)
		return FANOUT_SOCKET_FULL;
	CHECK(r.n_sent < SENT_MAX);
	r.seq[r.n_sent] = lease->seq;
	r.paced[r.n_sent] = lease->paced;
	r.pts[r.n_sent++] = info->pts_ns;
	return FANOUT_OK;
}

static void on_revoked(struct subscriber *s, const struct lease *lease)
{
	(void)s;
	(void)lease;
}

static void on_defer(struct subscriber *s, uint64_t wait_ns)
{
	(void)s;
	CHECK(wait_ns > 0);
	r.wait_ns = wait_ns;
}

static const struct subscriber_ops ops = { on_send, on_revoked, on_defer };

static void begin_as(struct subscriber_options options)
{
	memset(&r, 0, sizeof(r));
	pool_init(&r.pool, SLOTS, subscriber_on_revoke);
	subscriber_init(&r.s, &options, &ops);
	subscriber_attach(&r.s, &r.pool, GENERATION);
}

static void begin(double fps)
{
	begin_as((struct subscriber_options){
		.delivery = FANOUT_FIFO,
		.fifo_depth = 4,
		.max_holds = 4,
		.min_interval_ns = (uint64_t)(1e9 / fps),
	});
}

/* Every frame is given back at once. */
static void give_back(void)
{
	uint64_t published_ns;
	struct lease *lease, *next;
	list_for_each_safe(lease, next, &r.s.lent, link)
		CHECK_EQ(subscriber_release(
				 &r.s, GENERATION, lease->slot, lease->seq, &published_ns),
			FANOUT_OK);
}

static void picture(uint64_t pts_ns)
{
	struct slot *slot;
	struct frame_info info = { .pts_ns = pts_ns };
	CHECK_EQ(pool_acquire(&r.pool, &slot), POOL_OK);
	pool_publish(&r.pool, slot, ++r.n, &info);
	slot->complete = true;
	subscriber_offer(&r.s, slot);
	give_back();
}

/* The same numbers each time: from -1 to 1. */
static double noise(void)
{
	static uint32_t state = 1;
	state = state * 1664525 + 1013904223;
	return (double)(state >> 8) / (1 << 23) - 1;
}

static void run(double fps, unsigned n, double jitter_ms)
{
	for (unsigned i = 0; i < n; i++)
		picture(start_ns + (uint64_t)(i * 1e9 / fps + (noise() + 1) * jitter_ms * 1e6));
}

TEST(half_the_rate_is_every_second_frame_whatever_the_jitter)
{
	static const double jitters[] = { 0, 1, 4 };
	for (unsigned j = 0; j < 3; j++) {
		begin(30);
		run(60, 1200, jitters[j]);
		CHECK_EQ(r.n_sent, 600);
		for (unsigned i = 1; i < r.n_sent; i++) {
			CHECK_EQ(r.seq[i], r.seq[i - 1] + 2);
			CHECK_EQ(r.paced[i], 1);
		}
		CHECK_EQ(r.s.counts.paced, 600);
		CHECK_EQ(r.s.counts.skipped + r.s.counts.dropped, 0);
	}
}

TEST(a_rate_that_does_not_divide_is_as_even_as_it_can_be)
{
	begin(24);
	run(60, 1200, 0);
	/* steps of 2 and 3 by turns, and two of the same only where a rounding tips it */
	unsigned repeats = 0;
	for (unsigned i = 1; i < r.n_sent; i++) {
		uint64_t step = r.seq[i] - r.seq[i - 1];
		CHECK(step == 2 || step == 3);
		repeats += i > 1 && step == r.seq[i - 1] - r.seq[i - 2];
	}
	CHECK(repeats <= 2);
	CHECK(r.n_sent >= 479 && r.n_sent <= 481);
}

static const struct rate {
	double source, most;
	unsigned least_sent, most_sent; /* of 1000 */
} rates[] = {
	{ 60, 120, 1000, 1000 }, /* slower than it may be: all */
	{ 60, 60, 999, 1000 },
	{ 30, 29, 960, 968 },
	{ 60, 50, 830, 835 },
	{ 144, 60, 415, 418 },
	{ 60, 1, 16, 18 },
};

TEST(the_rate_is_never_exceeded_on_average_and_always_used)
{
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		const struct rate *row = &rates[i];
		for (unsigned jitter = 0; jitter < 2; jitter++) {
			begin(row->most);
			run(row->source, 1000, jitter * 2.5);
			if (r.n_sent < row->least_sent || r.n_sent > row->most_sent)
				test_fail(__FILE__, __LINE__, "%g of %g: %u of 1000", row->most,
					row->source, r.n_sent);
			CHECK_EQ(r.n_sent + r.s.counts.paced, 1000);
		}
	}
}

TEST(the_last_frame_before_a_pause_comes_later)
{
	begin(10);
	run(60, 100, 0); /* 0, 6, … 96: three more are left out */
	unsigned sent = r.n_sent;
	CHECK_EQ(r.seq[sent - 1], 97);
	CHECK_EQ(r.s.counts.paced, 83);
	/* not before another could have come */
	CHECK(r.wait_ns > 50 * NS_PER_MS && r.wait_ns < 200 * NS_PER_MS);
	subscriber_catch_up(&r.s);
	CHECK_EQ(r.n_sent, sent + 1);
	CHECK_EQ(r.seq[sent], 100);
	CHECK_EQ(r.paced[sent], 2);
	CHECK_EQ(r.s.counts.paced, 82);
	give_back();
	subscriber_catch_up(&r.s);
	CHECK_EQ(r.n_sent, sent + 1);
	/* the first one after the pause comes at once, the second when it is due */
	picture(start_ns + 5 * NS_PER_S);
	CHECK_EQ(r.seq[r.n_sent - 1], 101);
	picture(start_ns + 5 * NS_PER_S + 17 * NS_PER_MS);
	CHECK_EQ(r.seq[r.n_sent - 1], 101);
	picture(start_ns + 5 * NS_PER_S + 100 * NS_PER_MS);
	CHECK_EQ(r.seq[r.n_sent - 1], 103);
}

TEST(a_timer_that_is_late_changes_nothing)
{
	begin(30);
	run(60, 2, 0);
	picture(start_ns + 2 * NS_PER_S / 60);
	CHECK_EQ(r.n_sent, 2);
	subscriber_catch_up(&r.s);
	CHECK_EQ(r.n_sent, 2);
}

TEST(what_was_left_out_comes_before_its_generation_ends)
{
	begin(30);
	run(60, 2, 0);
	CHECK_EQ(r.n_sent, 1);
	subscriber_detach(&r.s);
	CHECK_EQ(r.n_sent, 2);
	CHECK_EQ(r.seq[1], 2);
	subscriber_catch_up(&r.s);
	CHECK_EQ(r.n_sent, 2);
	CHECK_EQ(r.s.counts.paced, 0);
}

TEST(times_that_jump_back_stop_nothing)
{
	begin(30);
	run(60, 60, 0);
	unsigned sent = r.n_sent;
	for (unsigned i = 0; i < 60; i++)
		picture(NS_PER_S + i * NS_PER_S / 60);
	CHECK(r.n_sent >= sent + 29 && r.n_sent <= sent + 31);
}

/* What the client is told of each jump adds up to what was left out. */
TEST(what_was_left_out_before_a_frame_that_was_lost_is_told_with_the_next)
{
	begin(30);
	run(60, 3, 0);
	CHECK_EQ(r.n_sent, 2);
	r.is_full = true;
	for (unsigned i = 3; i < 6; i++)
		picture(start_ns + i * NS_PER_S / 60);
	CHECK_EQ(r.s.counts.dropped, 1);
	r.is_full = false;
	picture(start_ns + 6 * NS_PER_S / 60);
	CHECK_EQ(r.seq[2], 7);
	CHECK_EQ(r.paced[2], 2);
	/* the same where it waits for a hold */
	begin_as((struct subscriber_options){
		.delivery = FANOUT_MAILBOX, .max_holds = 1, .min_interval_ns = NS_PER_S / 30 });
	uint64_t published_ns;
	struct slot *slot;
	for (unsigned i = 0; i < 7; i++) {
		struct frame_info info = { .pts_ns = start_ns + i * NS_PER_S / 60 };
		CHECK_EQ(pool_acquire(&r.pool, &slot), POOL_OK);
		pool_publish(&r.pool, slot, ++r.n, &info);
		slot->complete = true;
		subscriber_offer(&r.s, slot);
	}
	const struct lease *first = list_first(&r.s.lent, struct lease, link);
	subscriber_release(&r.s, GENERATION, first->slot, first->seq, &published_ns);
	CHECK_EQ(r.n_sent, 2);
	CHECK_EQ(r.seq[1], 7);
	CHECK_EQ(r.paced[1], 3);
	CHECK_EQ(r.s.counts.skipped, 2);
}
