/* Frames that are still to be converted: none is lost while there is room, and none is in the way. */
#include "tests/test.h"

#include "broker/backlog.h"

enum { SLOTS = 8 };

static const char from[] = "a view", other[] = "another view";

static void on_pool_revoke(struct hold *hold)
{
	(void)hold;
	CHECK(false); /* the backlog's holds hear of it themselves */
}

static struct slot *publish(struct pool *pool, uint64_t seq)
{
	struct frame_info info = { .pts_ns = seq };
	struct slot *slot = NULL;
	CHECK_EQ(pool_acquire(pool, &slot), POOL_OK);
	pool_publish(pool, slot, seq, &info);
	return slot;
}

static void add(struct backlog *backlog, struct pool *pool, uint64_t first, uint64_t last)
{
	for (uint64_t seq = first; seq <= last; seq++)
		backlog_add(backlog, from, publish(pool, seq));
}

static void check_first(struct backlog *backlog, uint64_t than_seq, uint64_t seq)
{
	const struct slot *slot = backlog_first(backlog, than_seq);
	CHECK_EQ(slot ? slot->seq : 0, seq);
}

static void open_both(struct pool *pool, struct backlog *backlog, unsigned n_slots)
{
	pool_init(pool, n_slots, on_pool_revoke);
	backlog_init(backlog);
}

TEST(frames_come_out_in_the_order_in_which_they_came)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, SLOTS);
	check_first(&backlog, 0, 0);
	add(&backlog, &pool, 1, 3);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		check_first(&backlog, 0, seq);
		backlog_drop_first(&backlog);
	}
	check_first(&backlog, 0, 0);
	CHECK_EQ(backlog.lost, 0);
	pool_finish(&pool);
}

TEST(a_frame_that_waits_is_not_written_over_while_there_are_others)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, SLOTS);
	backlog_add(&backlog, from, publish(&pool, 1));
	for (uint64_t seq = 2; seq < 4 * SLOTS; seq++)
		publish(&pool, seq);
	check_first(&backlog, 0, 1);
	CHECK_EQ(backlog.lost, 0);
	backlog_clear(&backlog);
	pool_finish(&pool);
}

TEST(the_same_frame_waits_once_and_an_older_one_not_at_all)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, SLOTS);
	struct slot *slot = publish(&pool, 5);
	backlog_add(&backlog, from, slot);
	backlog_add(&backlog, from, slot);
	CHECK_EQ(backlog.n, 1);
	backlog_add(&backlog, from, publish(&pool, 6));
	check_first(&backlog, 5, 6); /* 5 was brought in on another way */
	CHECK_EQ(backlog.lost, 0);
	backlog_clear(&backlog);
	pool_finish(&pool);
}

TEST(when_there_are_too_many_the_oldest_is_lost_and_counted)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, SLOTS);
	add(&backlog, &pool, 1, BACKLOG_MAX + 2);
	CHECK_EQ(backlog.lost, 2);
	check_first(&backlog, 0, 3);
	backlog_clear(&backlog);
	pool_finish(&pool);
}

TEST(the_writer_takes_back_what_it_needs)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, POOL_SLOTS_MIN);
	add(&backlog, &pool, 1, POOL_SLOTS_MIN);
	publish(&pool, POOL_SLOTS_MIN + 1); /* into the slot of frame 1 */
	check_first(&backlog, 0, 2);
	CHECK_EQ(backlog.lost, 1);
	backlog_clear(&backlog);
	pool_finish(&pool);
}

TEST(another_view_s_frames_take_the_place_of_the_first_one_s)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, SLOTS);
	add(&backlog, &pool, 1, 2);
	backlog_add(&backlog, other, publish(&pool, 3));
	check_first(&backlog, 0, 3);
	CHECK_EQ(backlog.n, 1);
	backlog_clear(&backlog);
	pool_finish(&pool);
}

TEST(when_the_pool_goes_nothing_is_left_to_be_taken)
{
	struct pool pool;
	struct backlog backlog;
	open_both(&pool, &backlog, SLOTS);
	add(&backlog, &pool, 1, 2);
	pool_finish(&pool);
	check_first(&backlog, 0, 0);
	backlog_clear(&backlog);
}
