/* libsluice against a scripted broker: frames, their memory, and what becomes of them. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "tests/consumer_fixture.h"

static struct fake_memory memory, newer;

/* --- A frame ----------------------------------------------------------------------------------*/

static void send_damaged(struct fake *fake)
{
	Sluice__Rect rects[3] = { SLUICE__RECT__INIT, SLUICE__RECT__INIT, SLUICE__RECT__INIT };
	Sluice__Rect *damage[3] = { &rects[0], &rects[1], &rects[2] };
	rects[0].x = FAKE_WIDTH; /* outside */
	rects[0].width = rects[0].height = 1;
	rects[1].x = 60;
	rects[1].y = 40;
	rects[1].width = UINT32_MAX; /* half outside */
	rects[1].height = 3;
	rects[2].width = 0; /* empty */
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.view = FAKE_VIEW;
	frame.generation = memory.generation;
	frame.slot = 2;
	frame.seq = 5;
	frame.pts_ns = 11;
	frame.captured_ns = 12;
	frame.copied_ns = 13;
	frame.published_ns = 14;
	frame.n_damage = 3;
	frame.damage = damage;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_FRAME;
	packet.frame = &frame;
	control_end_write(memory.control, 2, 5);
	fake_send(fake, &packet, NULL);
}

static void script_one(struct fake *fake)
{
	fake_memory_init(&memory, 3, 100);
	fake_begin(fake, 2, &memory);
	send_damaged(fake);
	fake_released(fake, &memory, 2, 5);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_frame_can_be_read)
{
	struct session s;
	begin(&s, script_one, NULL, 0);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(frame->data[0][0], 102);
	CHECK_EQ(frame->data[0][frame->size_bytes - 1], 102);
	CHECK(!frame->data[1] && !frame->data[3]);
	CHECK(frame->n_planes == 1 && frame->stride[0] == 256);
	CHECK(frame->width == FAKE_WIDTH && frame->height == FAKE_HEIGHT);
	CHECK(frame->size_bytes == (size_t)256 * FAKE_HEIGHT && frame->seq == 5);
	CHECK(frame->pts_ns == 11 && frame->captured_ns == 12);
	CHECK(frame->copied_ns == 13 && frame->published_ns == 14 && frame->received_ns > 14);
	CHECK(frame->primaries == 2 && frame->transfer == 2 && frame->matrix == 2);
	sluice_frame_release(frame);
	end(&s);
}

TEST(damage_is_cut_to_the_picture)
{
	struct session s;
	begin(&s, script_one, NULL, 0);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(frame->n_damage, 1);
	CHECK(frame->damage[0].x == 60 && frame->damage[0].width == 4);
	CHECK(frame->damage[0].y == 40 && frame->damage[0].height == 3);
	sluice_frame_release(frame);
	end(&s);
}

TEST(a_frame_is_released_and_counted)
{
	struct session s;
	begin(&s, script_one, NULL, 0);
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_frame_valid(frame));
	sluice_frame_release(frame);
	sluice_frame_release(NULL);
	struct sluice_view_stats stats = stats_of(&s);
	CHECK(stats.received == 1 && stats.taken == 1 && stats.missed == 0 && stats.revoked == 0);
	end(&s);
}

TEST(formats_have_names)
{
	char name[8];
	CHECK_STR(sluice_fourcc_name(format_info_by_name("bgrx")->fourcc, name), "BGRx");
	CHECK_STR(sluice_fourcc_name(0x01414243, name), "CBA?");
	/* too long for the buffer: the letters of the code */
	CHECK_STR(sluice_fourcc_name(format_info_by_name("xRGB_210LE")->fourcc, name), "XR30");
}

static void script_colour(struct fake *fake)
{
	Sluice__Generation generation;
	uint32_t offset[4], stride[4];
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	fake_subscribed(fake, 2);
	fake_describe(&memory, &generation, offset, stride);
	Sluice__Colour colour = SLUICE__COLOUR__INIT;
	colour.primaries = 9;
	colour.transfer = 256; /* no such number */
	colour.full_range = true;
	generation.colour = &colour;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &generation;
	struct fdset fds = fake_memory_fds(&memory);
	fake_send(fake, &packet, &fds);
	fake_expect(fake, SLUICE__PACKET__BODY_BOUND);
	fake_frame(fake, &memory, 0, 1);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(colour_reaches_the_user)
{
	struct session s;
	begin(&s, script_colour, NULL, 0);
	struct sluice_frame *frame = next(&s);
	CHECK(frame->primaries == 9 && frame->transfer == 2 && frame->matrix == 0);
	CHECK(frame->full_range);
	end(&s);
}

/* --- Queues -----------------------------------------------------------------------------------*/

static void script_burst(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 3, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_frame(fake, &memory, 1, 2);
	fake_frame(fake, &memory, 2, 5);
	fake_tell(fake);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_memory_finish(&memory);
}

TEST(a_mailbox_keeps_the_newest_frame)
{
	struct session s;
	struct sluice_frame *frame;
	begin(&s, script_burst, NULL, 0);
	CHECK_EQ(sync_with(&s), 1);
	CHECK_EQ(sluice_view_next(s.view, &frame), 1);
	CHECK_EQ(frame->seq, 5);
	CHECK_EQ(sluice_view_next(s.view, &frame), 0);
	struct sluice_view_stats stats = stats_of(&s);
	CHECK_EQ(stats.received, 3);
	CHECK_EQ(stats.taken, 1);
	CHECK_EQ(stats.missed, 4); /* 1 and 2 here, 3 and 4 at the broker */
	fake_go(&s.fake);
	end(&s);
}

TEST(a_fifo_keeps_every_frame_in_order)
{
	struct session s;
	struct sluice_frame *frame;
	begin(&s, script_burst, &fifo, 0);
	CHECK_EQ(sync_with(&s), 3);
	CHECK_EQ(next(&s)->seq, 1);
	CHECK_EQ(next(&s)->seq, 2);
	CHECK_EQ(next(&s)->seq, 5);
	CHECK_EQ(sluice_view_next(s.view, &frame), 0);
	CHECK_EQ(stats_of(&s).missed, 2);
	fake_go(&s.fake);
	end(&s);
}

TEST(frames_that_wait_outlive_the_broker)
{
	struct session s;
	struct sluice_frame *frame;
	begin(&s, script_burst, &fifo, 0);
	CHECK_EQ(sync_with(&s), 3);
	fake_go(&s.fake);
	CHECK_EQ(sluice_wait(s.conn, 0) < 0 ? -ECONNRESET : wait_for_end(s.conn), -ECONNRESET);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(sluice_view_next(s.view, &frame), 1);
		CHECK_EQ(frame->data[0][0], i);
		CHECK(sluice_frame_valid(frame));
		sluice_frame_release(frame);
	}
	CHECK_EQ(sluice_view_next(s.view, &frame), -ECONNRESET);
	end(&s);
}

static void script_during_call(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 3, &memory);
	fake_tell(fake);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_frame(fake, &memory, 0, 1);
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STREAMS;
	packet.streams = &streams;
	fake_send(fake, &packet, NULL);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_frame_that_came_during_another_call_makes_the_descriptor_readable)
{
	struct session s;
	struct sluice_stream_info *infos;
	begin(&s, script_during_call, NULL, 0);
	CHECK_EQ(sync_with(&s), 0);
	CHECK_EQ(sluice_streams(s.conn, &infos), 0);
	free(infos);
	struct pollfd p = { .fd = sluice_fd(s.conn), .events = POLLIN };
	CHECK_EQ(poll(&p, 1, LONG_MS), 1);
	CHECK_EQ(sluice_dispatch(s.conn), 1);
	CHECK_EQ(poll(&p, 1, 0), 0);
	CHECK_EQ(next(&s)->seq, 1);
	end(&s);
}

/* --- Revocation -------------------------------------------------------------------------------*/

static void script_revoke(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_tell(fake);
	fake_pause(fake);
	fake_revoke(fake, &memory, 0, 1);
	fake_tell(fake);
	fake_released(fake, &memory, 0, 1);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_frame_that_is_revoked_while_it_waits_is_never_seen)
{
	struct session s;
	struct sluice_frame *frame;
	begin(&s, script_revoke, NULL, 0);
	CHECK_EQ(sync_with(&s), 1);
	fake_go(&s.fake);
	CHECK_EQ(sync_with(&s), 0);
	CHECK_EQ(sluice_view_next(s.view, &frame), 0);
	CHECK_EQ(stats_of(&s).revoked, 1);
	end(&s);
}

TEST(a_frame_that_is_revoked_while_it_is_held_is_not_valid_and_is_still_released)
{
	struct session s;
	begin(&s, script_revoke, NULL, 0);
	CHECK_EQ(sync_with(&s), 1);
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_frame_valid(frame));
	fake_go(&s.fake);
	CHECK_EQ(sync_with(&s), 0);
	CHECK(!sluice_frame_valid(frame));
	CHECK_EQ(stats_of(&s).revoked, 1);
	sluice_frame_release(frame);
	end(&s);
}

static void script_overwrite(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_frame(fake, &memory, 1, 2);
	control_begin_write(memory.control, 0);
	fake_tell(fake);
	fake_released(fake, &memory, 0, 1);
	fake_pause(fake);
	control_begin_write(memory.control, 1);
	fake_tell(fake);
	fake_released(fake, &memory, 1, 2);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_slot_that_is_written_again_is_noticed_without_a_message)
{
	struct session s;
	begin(&s, script_overwrite, &fifo, 0);
	CHECK_EQ(sync_with(&s), 2);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(frame->seq, 2); /* 1 was gone already */
	CHECK_EQ(stats_of(&s).revoked, 1);
	CHECK(sluice_frame_valid(frame));
	fake_go(&s.fake);
	fake_await(&s.fake);
	CHECK(!sluice_frame_valid(frame));
	sluice_frame_release(frame);
	end(&s);
}

/* --- Generations ------------------------------------------------------------------------------*/

static void script_resize(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_memory_init(&newer, 2, 50);
	fake_begin(fake, 3, &memory);
	fake_frame(fake, &memory, 1, 1);
	fake_frame(fake, &memory, 2, 2);
	fake_pause(fake);
	fake_bind(fake, &newer);
	fake_memory_finish(&memory); /* the broker forgets the pages; readers keep them */
	fake_frame(fake, &newer, 1, 3);
	fake_tell(fake);
	fake_released(fake, &memory, 1, 1);
	fake_released(fake, &memory, 2, 2);
	fake_released(fake, &newer, 1, 3);
	fake_expect_end(fake);
	fake_memory_finish(&newer);
}

TEST(frames_of_an_old_generation_stay_readable_until_they_are_released)
{
	struct session s;
	begin(&s, script_resize, &fifo, 0);
	struct sluice_frame *first = next(&s);
	fake_go(&s.fake);
	/* dispatching here binds the new generation, while frame 2 of the old one waits */
	while (sluice_wait(s.conn, LONG_MS) < 2)
		;
	fake_await(&s.fake);
	struct sluice_frame *second = next(&s), *third = next(&s);
	CHECK(first->seq == 1 && second->seq == 2 && third->seq == 3);
	CHECK_EQ(first->data[0][0], 1);
	CHECK_EQ(second->data[0][0], 2);
	CHECK_EQ(third->data[0][0], 51);
	CHECK(first->generation == second->generation && second->generation != third->generation);
	CHECK(sluice_frame_valid(first) && sluice_frame_valid(second));
	sluice_frame_release(first);
	sluice_frame_release(second);
	sluice_frame_release(third);
	end(&s);
}

/* --- Ends -------------------------------------------------------------------------------------*/

static void send_ended(struct fake *fake)
{
	Sluice__Ended ended = SLUICE__ENDED__INIT;
	ended.view = FAKE_VIEW;
	ended.code = SLUICE__ERROR_CODE__ERROR_STREAM_GONE;
	ended.text = (char *)"the camera was removed";
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_ENDED;
	packet.ended = &ended;
	fake_send(fake, &packet, NULL);
}

static void script_end_view(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 2, &memory);
	fake_frame(fake, &memory, 0, 1);
	send_ended(fake);
	fake_tell(fake);
	fake_subscribed(fake, 1); /* the same view again: the old frame is told to nobody */
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_view_that_the_broker_ends_says_why_and_the_connection_goes_on)
{
	struct session s;
	struct sluice_frame *frame;
	begin(&s, script_end_view, NULL, 0);
	CHECK_EQ(sync_with(&s), 1);
	CHECK_EQ(sluice_view_next(s.view, &frame), 1);
	sluice_frame_release(frame);
	CHECK_EQ(sluice_view_next(s.view, &frame), -ENODEV);
	CHECK_STR(sluice_error(s.conn), "the camera was removed");
	CHECK_EQ(sluice_error_code(s.conn), SLUICE_ERROR_STREAM_GONE);
	CHECK(!sluice_unsubscribe(s.view));
	CHECK_EQ(sluice_subscribe(s.conn, "desktop", NULL, &s.view), 0);
	end(&s);
}

static void script_leave(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_memory_init(&newer, 2, 0);
	fake_begin(fake, 3, &memory);
	fake_frame(fake, &memory, 3, 1);
	fake_frame(fake, &memory, 4, 2);
	fake_pause(fake);
	/* what crosses the Unsubscribe on its way: of a view that is no more, and no error */
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_frame(fake, &memory, 5, 3);
	fake_revoke(fake, &memory, 3, 1);
	Sluice__Generation generation;
	uint32_t offset[4], stride[4];
	fake_describe(&newer, &generation, offset, stride);
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &generation;
	struct fdset fds = fake_memory_fds(&newer);
	fake_send(fake, &packet, &fds);
	send_ended(fake);
	fake_subscribed(fake, 2);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 0, 9);
	fake_tell(fake);
	fake_pause(fake);
	send_ended(fake);
	fake_frame(fake, &newer, 1, 10); /* now it is one: nobody unsubscribed this time */
	fake_expect_end(fake);
	fake_memory_finish(&memory);
	fake_memory_finish(&newer);
}

TEST(a_view_that_was_left_is_quiet_and_its_held_frame_readable)
{
	struct session s;
	begin(&s, script_leave, &fifo, 0);
	struct sluice_frame *held = next(&s);
	fake_go(&s.fake);
	s.view = sluice_unsubscribe(s.view);
	CHECK(!s.view);
	CHECK_EQ(sluice_subscribe(s.conn, "desktop", NULL, &s.view), 0);
	CHECK_EQ(next(&s)->seq, 9);
	CHECK_EQ(held->seq, 1);
	CHECK_EQ(held->data[0][0], 3);
	sluice_frame_release(held);
	fake_await(&s.fake);
	fake_go(&s.fake);
	CHECK_EQ(wait_for_end(s.conn), -EPROTO);
	end(&s);
}
