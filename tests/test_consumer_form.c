/* libsluice against a scripted broker: views of a form that was asked for, and of a lower frame rate. */
#include <errno.h>
#include <string.h>

#include "tests/consumer_fixture.h"

static struct fake_memory memory;

static const struct sluice_view_request asked = {
	.delivery = SLUICE_FIFO,
	.fifo_depth = 8,
	.max_holds = 4,
	.width = FAKE_WIDTH,
	.height = FAKE_HEIGHT,
	.matrix = 6,
	.range = SLUICE_RANGE_FULL,
	.min_interval_ns = 33333333,
};

static const Sluice__Subscribe *grant(struct fake *fake)
{
	static const struct fake_grant host = { .max_holds = 4 };
	const Sluice__Subscribe *in = fake_grant(fake, &host);
	CHECK(in->fourcc == 0 && in->width == FAKE_WIDTH && in->height == FAKE_HEIGHT);
	CHECK(in->matrix == 6 && in->range == SLUICE__RANGE__RANGE_FULL);
	CHECK_EQ(in->min_interval_ns, 33333333);
	return in;
}

static void send_paced(struct fake *fake, unsigned slot, uint64_t seq, uint64_t paced)
{
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.view = fake->view;
	frame.generation = memory.generation;
	frame.slot = slot;
	frame.seq = seq;
	frame.copied_ns = 1;
	frame.paced = paced;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_FRAME;
	packet.frame = &frame;
	control_end_write(memory.control, slot, seq);
	fake_send(fake, &packet, NULL);
}

static void script_paced(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	grant(fake);
	fake_bind(fake, &memory);
	send_paced(fake, 0, 9, 4); /* before the first: nothing is known of it */
	send_paced(fake, 1, 11, 1);
	send_paced(fake, 2, 15, 2);
	fake_tell(fake);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_memory_finish(&memory);
}

TEST(what_was_left_out_on_purpose_was_not_missed)
{
	struct session s;
	begin(&s, script_paced, &asked, 0);
	CHECK_EQ(sync_with(&s), 3);
	struct sluice_view_stats stats = stats_of(&s);
	CHECK_EQ(stats.received, 3);
	CHECK_EQ(stats.paced, 3);
	CHECK_EQ(stats.missed, 1);
	fake_go(&s.fake);
	end(&s);
}

static void script_overpaced(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	grant(fake);
	fake_bind(fake, &memory);
	send_paced(fake, 0, 9, 0);
	send_paced(fake, 1, 11, 2);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(no_more_can_be_left_out_than_there_were)
{
	struct session s;
	begin(&s, script_overpaced, &asked, 0);
	CHECK_EQ(wait_for_end(s.conn), -EPROTO);
	CHECK(strstr(sluice_error(s.conn), "more frames left out than there were"));
	end(&s);
}

/* --- The form of what comes --------------------------------------------------------------------- */

static const struct wrong {
	const char *what;
	uint32_t fourcc, width, height;
} wrongs[] = {
	{ "format", 1, 0, 0 },
	{ "width", 0, FAKE_WIDTH - 1, 0 },
	{ "height", 0, 0, FAKE_HEIGHT + 1 },
};

static void script_other_form(struct fake *fake)
{
	static const struct fake_grant host = { .max_holds = 1 };
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	fake_grant(fake, &host);
	fake_offer(fake, &memory);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_form_that_was_not_asked_for_is_the_brokers_mistake)
{
	for (unsigned i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct session s;
		struct sluice_view_request request = {
			.fourcc = wrongs[i].fourcc,
			.width = wrongs[i].width,
			.height = wrongs[i].height,
		};
		begin(&s, script_other_form, &request, 0);
		CHECK_ROW(wait_for_end(s.conn) == -EPROTO, wrongs[i].what);
		CHECK(strstr(sluice_error(s.conn), "a form that was not asked for"));
		end(&s);
	}
}

/* --- The stream has become another ---------------------------------------------------------------- */

static void script_converted_from_now_on(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	grant(fake);
	fake_bind(fake, &memory);
	send_paced(fake, 0, 9, 0);
	fake_ended_for_another(fake, "it is another size now");
	fake->view = FAKE_VIEW + 1;
	grant(fake);
	fake_bind(fake, &memory);
	fake_frame(fake, &memory, 0, 20);
	fake_released(fake, &memory, 0, 20);
	fake_ended_for_another(fake, "and now?");
	fake_refuse(fake, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "it cannot be made");
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

static void wait_for_end_of_view(const struct session *s, const char *says)
{
	struct sluice_frame *frame;
	int r;
	while ((r = sluice_view_next(s->view, &frame)) == 0)
		CHECK(sluice_wait(s->conn, LONG_MS) >= 0);
	CHECK_EQ(r, -EOPNOTSUPP);
	CHECK_STR(sluice_error(s->conn), says);
}

TEST(a_view_that_ends_because_the_stream_changed_is_asked_for_again)
{
	struct session s;
	struct sluice_frame *frame, *before = NULL;
	begin(&s, script_converted_from_now_on, &asked, 0);
	frame = next(&s);
	/* what came before the change is taken before it is heard of, or dropped */
	if (frame->seq == 9) {
		before = frame;
		frame = next(&s);
	}
	CHECK_EQ(frame->seq, 20);
	CHECK_EQ(stats_of(&s).missed, before ? 10 : 11);
	sluice_frame_release(frame);
	sluice_frame_release(before);
	wait_for_end_of_view(&s, "it cannot be made");
	end(&s);
}

static void script_given_up(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	grant(fake);
	fake_bind(fake, &memory);
	fake_ended(fake, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "it was tried three times");
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_view_that_was_given_up_ends_with_the_brokers_reason)
{
	struct session s;
	begin(&s, script_given_up, &asked, 0);
	wait_for_end_of_view(&s, "it was tried three times");
	end(&s);
}

enum { CHANGES = 12 };

/* Each time as many frames as may be out. */
static void script_changes_often(struct fake *fake)
{
	uint64_t seq = 0;
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	for (unsigned i = 0; i < CHANGES; i++) {
		fake->view = FAKE_VIEW + i;
		grant(fake);
		fake_bind(fake, &memory);
		for (unsigned k = 0; k < asked.max_holds; k++)
			send_paced(fake, k, ++seq, 0);
		if (i + 1 < CHANGES)
			fake_ended_for_another(fake, "it is another size now");
	}
	fake_tell(fake);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(frames_that_nobody_takes_do_not_pile_up_over_changes)
{
	struct session s;
	begin(&s, script_changes_often, &asked, 0);
	CHECK_EQ(sync_with(&s), asked.max_holds);
	struct sluice_view_stats stats = stats_of(&s);
	CHECK_EQ(stats.received, CHANGES * asked.max_holds);
	CHECK_EQ(stats.missed, (CHANGES - 1) * asked.max_holds);
	end(&s);
}

/* --- What cannot be asked for --------------------------------------------------------------------- */

static void script_welcome(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect_end(fake);
}

TEST(colours_that_do_not_exist_are_refused_here)
{
	struct session s;
	fake_start(&s.fake, script_welcome, NULL);
	struct sluice_options options = { .socket = s.fake.address.sun_path };
	CHECK_EQ(sluice_connect(&s.conn, &options), 0);
	struct sluice_view_request request = { .matrix = 2 };
	CHECK_EQ(sluice_subscribe(s.conn, "desktop", &request, &s.view), -EINVAL);
	CHECK(strstr(sluice_error(s.conn), "matrix"));
	request = (struct sluice_view_request){ .range = (enum sluice_range)3 };
	CHECK_EQ(sluice_subscribe(s.conn, "desktop", &request, &s.view), -EINVAL);
	CHECK(strstr(sluice_error(s.conn), "range"));
	end(&s);
}
