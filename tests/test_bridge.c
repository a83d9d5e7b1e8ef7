/* From captured pictures to slots, with a capture that does as the test says. */
#include "tests/test.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/bridge.h"
#include "broker/cpu_job.h"
#include "common/clock.h"
#include "common/stamp.h"

enum { BUFFERS = 4 };

struct fake_buffer {
	struct capture_buffer base;
	_Atomic unsigned reads;
	_Atomic uint64_t seq; /* of the last read */
	unsigned ms;          /* that a read takes */
	int result;
	bool lent;
	unsigned given_back;
};

struct fake {
	struct capture base;
	struct fake_buffer buffer[BUFFERS];
	int start_result;
	struct video_format first; /* announced by start; fourcc 0: none */
	unsigned destroyed;
};

static struct fake fake;
static struct loop *loop;
static struct stream stream;
static struct memory_budget budget;
static struct bridge *bridge;

static int fake_read(struct capture_buffer *base, uint8_t *pixels,
	const struct video_format *format, uint64_t seq)
{
	struct fake_buffer *b = container_of(base, struct fake_buffer, base);
	usleep(b->ms * 1000);
	stamp_draw(pixels, format, (uint32_t)seq);
	atomic_store(&b->seq, seq);
	atomic_fetch_add(&b->reads, 1);
	return b->result;
}

static int fake_start(struct capture *capture)
{
	if (fake.first.fourcc)
		capture->listener->format(capture->listener_data, &fake.first);
	return fake.start_result;
}

static void fake_give_back(struct capture *capture, struct capture_buffer *base)
{
	struct fake_buffer *b = container_of(base, struct fake_buffer, base);
	(void)capture;
	CHECK(b->lent);
	b->lent = false;
	b->given_back++;
}

static struct capture *fake_destroy(struct capture *capture)
{
	capture->listener->revoke(capture->listener_data, NULL);
	for (unsigned i = 0; i < BUFFERS; i++)
		CHECK(!fake.buffer[i].lent);
	fake.destroyed++;
	return NULL;
}

static const struct capture_ops fake_ops = {
	.start = fake_start,
	.give_back = fake_give_back,
	.destroy = fake_destroy,
};

static struct video_format format_of(uint32_t width, uint32_t height)
{
	struct video_format f;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, width, height, &f), 0);
	return f;
}

static int try_begin(void)
{
	fake.base.ops = &fake_ops;
	for (unsigned i = 0; i < BUFFERS; i++)
		fake.buffer[i].base.read = fake_read;
	budget.limit_bytes = 16 << 20;
	CHECK_EQ(loop_create(&loop), 0);
	stream_init(&stream, "test", "fake", 4, &budget);
	return bridge_create(&bridge, loop, &fake.base, &stream, NULL);
}

static void begin(void)
{
	fake.first = format_of(64, 64);
	CHECK_EQ(try_begin(), 0);
}

static void end(void)
{
	bridge = bridge_destroy(bridge);
	stream_finish(&stream);
	loop = loop_destroy(loop);
	CHECK_EQ(budget.used_bytes, 0);
}

static void announce(uint32_t width, uint32_t height)
{
	struct video_format f = format_of(width, height);
	fake.base.listener->format(fake.base.listener_data, &f);
}

static void offer(unsigned i)
{
	struct fake_buffer *b = &fake.buffer[i];
	uint64_t now = clock_ns();
	CHECK(!b->lent);
	b->lent = true;
	b->base.info = (struct frame_info){ .pts_ns = now - 5, .captured_ns = now };
	fake.base.listener->buffer(fake.base.listener_data, &b->base);
}

static void on_stop(void *data)
{
	loop_stop(data);
}

/* Long enough for what is under way; a job's end is waited for by its read's own time. */
static void run_for_ms(unsigned ms)
{
	struct watch *timer;
	CHECK_EQ(loop_timer(loop, &timer, on_stop, loop), 0);
	CHECK_EQ(watch_arm(timer, ms * NS_PER_MS), 0);
	CHECK_EQ(loop_run(loop), 0);
	watch_destroy(timer);
}

static void run_until(const uint64_t *count, uint64_t n)
{
	uint64_t until = clock_ns() + 10 * NS_PER_S;
	while (*count < n && clock_ns() < until)
		run_for_ms(1);
	CHECK_EQ(*count, n);
}

static void run_until_published(uint64_t n)
{
	run_until(&stream.native.counts.published, n);
}

static void check_newest(uint64_t seq)
{
	struct generation *g = stream.native.generation;
	uint32_t number;
	CHECK_EQ(g->pool.newest->seq, seq);
	CHECK_EQ(stamp_read(generation_pixels(g, g->pool.newest), &g->format, &number), STAMP_OK);
	CHECK_EQ(number, seq);
}

static unsigned slots_in_state(enum slot_state state)
{
	unsigned n = 0;
	for (unsigned i = 0; i < 4; i++)
		n += stream.native.generation->pool.slots[i].state == state;
	return n;
}

TEST(a_picture_becomes_a_frame_and_its_buffer_goes_back)
{
	begin();
	CHECK_EQ(stream.state, STREAM_LIVE);
	for (unsigned i = 1; i <= 20; i++) {
		offer(i % BUFFERS);
		run_until_published(i);
		check_newest(i);
		CHECK(!fake.buffer[i % BUFFERS].lent);
	}
	const struct frame_info *info = &stream.native.generation->pool.newest->info;
	CHECK(info->pts_ns == info->captured_ns - 5);
	CHECK(info->captured_ns <= info->copied_ns && info->copied_ns <= info->published_ns);
	end();
	CHECK_EQ(fake.destroyed, 1);
}

TEST(the_newest_picture_wins_while_one_is_copied)
{
	begin();
	fake.buffer[0].ms = 30;
	offer(0);
	offer(1);
	CHECK_EQ(fake.buffer[1].given_back, 0);
	offer(2);
	CHECK_EQ(fake.buffer[1].given_back, 1); /* without being read */
	offer(3);
	CHECK_EQ(fake.buffer[2].given_back, 1);
	CHECK_EQ(stream.native.counts.superseded, 2);
	run_until_published(2);
	CHECK_EQ(atomic_load(&fake.buffer[0].seq), 1);
	CHECK_EQ(atomic_load(&fake.buffer[3].seq), 2);
	CHECK_EQ(fake.buffer[1].reads + fake.buffer[2].reads, 0);
	check_newest(2);
	end();
}

TEST(a_new_format_cancels_the_copy_and_what_waits)
{
	begin();
	offer(0);
	run_until_published(1);
	fake.buffer[1].ms = 30;
	offer(1);
	offer(2);
	uint32_t old = stream.native.generation->id;
	announce(128, 64);
	CHECK(fake.buffer[1].given_back == 1 && fake.buffer[2].given_back == 1);
	CHECK_EQ(fake.buffer[1].reads, 1); /* it had ended before its memory went away */
	CHECK(stream.native.generation->id > old);
	offer(3); /* before the loop has heard of the end of the cancelled one */
	run_until_published(2);
	CHECK_EQ(atomic_load(&fake.buffer[3].seq), 2);
	CHECK_EQ(stream.native.generation->format.width, 128);
	check_newest(2);
	end();
}

TEST(the_same_format_again_cancels_the_copy_and_keeps_the_generation)
{
	begin();
	uint32_t id = stream.native.generation->id;
	fake.buffer[0].ms = 20;
	offer(0);
	announce(64, 64);
	CHECK_EQ(stream.native.generation->id, id);
	CHECK_EQ(slots_in_state(SLOT_WRITING), 0);
	offer(1);
	run_until_published(1);
	end();
}

TEST(a_picture_that_cannot_be_read_is_counted_and_takes_no_number)
{
	begin();
	offer(0);
	run_until_published(1);
	fake.buffer[1].result = -ESTALE;
	offer(1);
	run_until(&stream.native.counts.refused, 1);
	CHECK(fake.buffer[1].given_back == 1);
	CHECK_STR(stream.native.reason, "frames refused: its memory is gone or too short");
	CHECK_EQ(slots_in_state(SLOT_WRITING), 0);
	check_newest(1);
	fake.buffer[1].result = -EIO;
	offer(1);
	run_until(&stream.native.counts.refused, 2);
	CHECK_STR(stream.native.reason, "frames refused: Input/output error");
	offer(2);
	run_until_published(2);
	check_newest(2);
	end();
}

TEST(what_the_capture_refuses_or_skips_is_counted)
{
	begin();
	fake.base.listener->refused(fake.base.listener_data, "corrupted");
	fake.base.listener->refused(fake.base.listener_data, "corrupted");
	fake.base.listener->superseded(fake.base.listener_data, 7);
	CHECK_EQ(stream.native.counts.refused, 2);
	CHECK_EQ(stream.native.counts.superseded, 7);
	CHECK_STR(stream.native.reason, "frames refused: corrupted");
	end();
}

TEST(a_source_that_is_gone_leaves_a_stream_that_waits)
{
	begin();
	offer(0);
	run_until_published(1);
	fake.buffer[1].ms = 20;
	offer(1);
	offer(2);
	fake.base.listener->gone(fake.base.listener_data, "the window was closed");
	CHECK(fake.buffer[1].given_back == 1 && fake.buffer[2].given_back == 1);
	CHECK_EQ(stream.state, STREAM_WAITING);
	CHECK_STR(stream.text, "the window was closed");
	CHECK(stream.native.generation->pool.newest == NULL);
	run_for_ms(20);
	CHECK_EQ(stream.native.counts.published, 1);
	announce(64, 64);
	CHECK(stream.state == STREAM_LIVE && stream.text[0] == 0);
	offer(3);
	run_until_published(2);
	end();
}

TEST(a_frame_makes_a_waiting_stream_live)
{
	begin();
	fake.base.listener->gone(fake.base.listener_data, "paused");
	offer(0);
	run_until_published(1);
	CHECK_EQ(stream.state, STREAM_LIVE);
	end();
}

TEST(one_buffer_can_be_revoked)
{
	begin();
	fake.buffer[0].ms = 20;
	offer(0);
	offer(1);
	fake.base.listener->revoke(fake.base.listener_data, &fake.buffer[3].base); /* not with us */
	CHECK(fake.buffer[0].lent && fake.buffer[1].lent);
	fake.base.listener->revoke(fake.base.listener_data, &fake.buffer[1].base);
	CHECK(fake.buffer[0].lent && !fake.buffer[1].lent);
	run_until_published(1);
	fake.buffer[2].ms = 20;
	offer(2);
	offer(3);
	fake.base.listener->revoke(fake.base.listener_data, &fake.buffer[2].base);
	CHECK(!fake.buffer[2].lent && fake.buffer[2].reads == 1);
	CHECK(fake.buffer[3].lent); /* waits for its turn */
	run_until_published(2);
	CHECK_EQ(atomic_load(&fake.buffer[3].seq), 2);
	end();
}

TEST(no_memory_for_a_format_is_said_and_its_pictures_go_back)
{
	begin();
	announce(8192, 8192);
	CHECK(stream.native.generation == NULL);
	CHECK_EQ(stream.state, STREAM_WAITING);
	CHECK(strstr(stream.text, "no memory for BGRx 8192x8192"));
	offer(0);
	CHECK_EQ(fake.buffer[0].given_back, 1);
	announce(64, 64);
	CHECK_EQ(stream.state, STREAM_LIVE);
	offer(1);
	run_until_published(1);
	end();
}

TEST(a_picture_without_a_slot_goes_back_and_is_counted)
{
	begin();
	struct slot *slot[4];
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(pool_acquire(&stream.native.generation->pool, &slot[i]), POOL_OK);
	offer(0);
	CHECK_EQ(fake.buffer[0].given_back, 1);
	CHECK_EQ(stream.native.counts.no_slot, 1);
	for (unsigned i = 0; i < 4; i++)
		pool_abandon(slot[i]);
	offer(1);
	run_until_published(1);
	end();
}

TEST(a_capture_that_cannot_start_is_destroyed)
{
	fake.start_result = -ENODEV;
	CHECK_EQ(try_begin(), -ENODEV);
	CHECK(bridge == NULL);
	CHECK_EQ(fake.destroyed, 1);
	end();
}

TEST(the_end_waits_for_the_copy)
{
	begin();
	fake.buffer[0].ms = 30;
	offer(0);
	offer(1);
	end();
	CHECK_EQ(fake.buffer[0].reads, 1);
	CHECK(fake.buffer[0].given_back == 1 && fake.buffer[1].given_back == 1);
	CHECK_EQ(stream.native.counts.published, 0);
	CHECK(bridge_destroy(NULL) == NULL);
}

TEST(a_real_source_through_the_bridge)
{
	struct capture *capture;
	char error[256];
	budget.limit_bytes = 16 << 20;
	CHECK_EQ(loop_create(&loop), 0);
	stream_init(&stream, "test", "pattern", 4, &budget);
	struct capture_place place = { .loop = loop, .name = "test" };
	CHECK_EQ(capture_create(&capture, &place, "pattern:320x240@500:NV12", error, sizeof(error)),
		0);
	CHECK_EQ(bridge_create(&bridge, loop, capture, &stream, NULL), 0);
	uint64_t until = clock_ns() + 10 * NS_PER_S;
	while (stream.native.counts.published < 50 && clock_ns() < until)
		run_for_ms(2);
	CHECK(stream.native.counts.published >= 50);
	check_newest(stream.native.counts.published);
	end();
}

#ifdef SLUICE_FAULTS
TEST(the_fault_makes_a_copy_slow)
{
	begin();
	lane_fault_slow_ms = 50;
	uint64_t before = clock_ns();
	offer(0);
	run_until_published(1);
	CHECK(clock_ns() - before >= 50 * NS_PER_MS);
	end();
}
#endif
