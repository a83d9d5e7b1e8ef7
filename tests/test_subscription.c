/* Subscriptions: what is granted, the generation and its answer, frames, and giving them back. */
#include "tests/test.h"

#include <drm_fourcc.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "broker/client.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/stamp.h"
#include "proto/control.h"
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

static uint64_t quota_fds(void)
{
	return quota_used(&rig.server->quota, getuid(), QUOTA_FDS);
}

static uint64_t quota_bytes(void)
{
	return quota_used(&rig.server->quota, getuid(), QUOTA_BYTES);
}

/* --- what is granted ------------------------------------------------------------------------- */

/* A Subscribe, and what becomes of it. */
struct wish {
	const char *stream;
	int memory, readiness;
	uint32_t fourcc, width, height;
	int delivery;
	uint32_t fifo_depth, max_holds, reserved_holds;
	int code; /* 0: granted */
	const char *says;
};

enum {
	FIFO = SLUICE__DELIVERY__DELIVERY_FIFO,
	ROOM = RIG_SLOTS - POOL_UNRESERVED_MIN,
};

static const struct wish wishes[] = {
	{ "test", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "" },
	{ "test", 0, 0, DRM_FORMAT_XRGB8888, 64, 64, 0, 0, 16, 0, 0, "" },
	{ "test", 0, 0, 0, 0, 0, FIFO, ROOM, 1, 0, 0, "" },
	{ "test", 0, 0, 0, 0, 0, 0, UINT32_MAX, 1, 0, 0, "" }, /* no queue: not looked at */
	{ "test", 0, 0, 0, 0, 0, 0, 0, 0, ROOM, 0, "" },
	{ "test", 0, 0, 0, 0, 0, 0, 0, 17, 0, SLUICE__ERROR_CODE__ERROR_LIMIT,
		"17 holds: one subscription may have 16" },
	{ "test", 0, 0, 0, 0, 0, 0, 0, 0, 17, SLUICE__ERROR_CODE__ERROR_LIMIT,
		"17 holds: one subscription may have 16" },
	{ "test", 0, 0, 0, 0, 0, 0, 0, UINT32_MAX, 0, SLUICE__ERROR_CODE__ERROR_LIMIT,
		"4294967295 holds" },
	{ "test", 0, 0, 0, 0, 0, 0, 0, 0, ROOM + 1, SLUICE__ERROR_CODE__ERROR_ADMISSION,
		"6 reserved holds do not fit: of the stream's 8 slots 5 may be reserved and 0" },
	{ "test", 0, 0, 0, 0, 0, FIFO, 0, 1, 0, SLUICE__ERROR_CODE__ERROR_LIMIT,
		"a queue of 0 frames: it may have 1 to 32" },
	{ "test", 0, 0, 0, 0, 0, FIFO, 33, 1, 0, SLUICE__ERROR_CODE__ERROR_LIMIT,
		"a queue of 33 frames: it may have 1 to 32" },
	{ "test", 0, 0, 0, 0, 0, FIFO, ROOM + 1, 1, 0, SLUICE__ERROR_CODE__ERROR_ADMISSION,
		"a queue of 6 frames needs 9 slots and the stream has 8" },
	{ "test", 0, 0, 0, 0, 0, 2, 1, 1, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW,
		"delivery 2 is unknown" },
	{ "test", 0, 0, 0, 0, 0, -1, 1, 1, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW,
		"delivery -1 is unknown" },
	{ "test", 1, 0, 0, 0, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "GPU memory" },
	{ "test", -5, 0, 0, 0, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW,
		"this kind of memory" },
	{ "test", 0, 0, DRM_FORMAT_NV12, 0, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW,
		"is BGRx 64x64; only its own format and size" },
	{ "test", 0, 0, 0, 65, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "is BGRx 64x64" },
	{ "test", 0, 0, 0, 0, 63, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "is BGRx 64x64" },
	{ "tes", 0, 0, 0, 0, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_STREAM,
		"there is no stream \"tes\"; streams: test" },
	{ "", 0, 0, 0, 0, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_STREAM, "streams: test" },
	{ "\x1b[2J\xff", 0, 0, 0, 0, 0, 0, 0, 0, 0, SLUICE__ERROR_CODE__ERROR_NO_STREAM,
		"there is no stream \"?[2J?\"" },
	{ "12345678901234567890123456789012345678901234567890123456789012345", 0, 0, 0, 0, 0, 0, 0,
		0, 0, SLUICE__ERROR_CODE__ERROR_NO_STREAM, "streams: test" },
};

static Sluice__Subscribe request_of(const struct wish *w)
{
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	m.stream = (char *)w->stream;
	m.memory = (Sluice__Memory)w->memory;
	m.readiness = (Sluice__Readiness)w->readiness;
	m.fourcc = w->fourcc;
	m.width = w->width;
	m.height = w->height;
	m.delivery = (Sluice__Delivery)w->delivery;
	m.fifo_depth = w->fifo_depth;
	m.max_holds = w->max_holds;
	m.reserved_holds = w->reserved_holds;
	return m;
}

static void check_granted(const struct wish *w)
{
	peer_expect(&peer, SLUICE__PACKET__BODY_SUBSCRIBED);
	const Sluice__Subscribed *s = peer.packet->subscribed;
	CHECK_STR(s->stream, "test");
	CHECK_EQ(s->reserved_holds, w->reserved_holds);
	uint32_t wanted = w->reserved_holds ? w->reserved_holds : w->max_holds;
	CHECK_EQ(s->max_holds, wanted ? wanted : WIRE_HOLDS_DEFAULT);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_unsubscribe(&peer, peer.view);
}

TEST(what_cannot_be_granted_is_an_error_and_the_session_goes_on)
{
	begin();
	for (unsigned i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		Sluice__Subscribe m = request_of(&wishes[i]);
		m.request = i;
		peer_ask(&peer, &m);
		if (wishes[i].code)
			peer_expect_error(&peer, i, wishes[i].code, wishes[i].says);
		else
			check_granted(&wishes[i]);
		CHECK_EQ(stream->native.n_subscribers, 0);
	}
	end();
}

TEST(a_view_is_subscribed_to_once_at_a_time)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	m.request = 8;
	peer_ask(&peer, &m);
	peer_expect_error(&peer, 8, SLUICE__ERROR_CODE__ERROR_EXISTS, "already");
	uint64_t seq = rig_publish(stream);
	peer_expect_frame(&peer, seq);
	peer_unsubscribe(&peer, peer.view); /* gives back what it held */
	CHECK_EQ(stream->native.n_subscribers, 0);
	CHECK(list_empty(&stream->native.generation->pool.newest->holds));
	peer_consume_as(&peer, &m);
	peer_expect_frame(&peer, seq);
	end();
}

TEST(one_client_has_at_most_8_subscriptions)
{
	begin();
	for (unsigned i = 0; i <= WIRE_SUBSCRIPTIONS_MAX; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		rig_add_stream(&rig, name);
		Sluice__Subscribe m = rig_request();
		m.stream = name;
		peer_ask(&peer, &m);
		if (i < WIRE_SUBSCRIPTIONS_MAX)
			peer_expect(&peer, SLUICE__PACKET__BODY_SUBSCRIBED);
		else
			peer_expect_error(&peer, 7, SLUICE__ERROR_CODE__ERROR_LIMIT,
				"one client may have 8 subscriptions");
		peer_expect_nothing(&peer); /* no format yet: no generation */
	}
	peer_unsubscribe(&peer, rig.catalog.stream[3]->native.id); /* from the middle */
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	end();
}

/* --- the generation -------------------------------------------------------------------------- */

TEST(a_generation_brings_the_memory_of_the_frames)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_subscribe(&peer, &m);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	const Sluice__Generation *g = peer.packet->generation;
	CHECK(g->view == peer.view && g->slots == RIG_SLOTS && g->data_offset == 0);
	CHECK(g->fourcc == DRM_FORMAT_XRGB8888 && g->width == 64 && g->height == 64);
	CHECK(g->n_offset == 1 && g->n_stride == 1 && g->stride[0] == 256);
	CHECK(g->colour && g->colour->full_range && g->colour->primaries == 1);
	int page_fd = fdset_steal(&peer.fds, 0);
	struct stat st;
	CHECK(fstat(page_fd, &st) == 0 && (size_t)st.st_size == control_page_bytes(RIG_SLOTS));
	CHECK_EQ(fcntl(page_fd, F_GETFL) & O_ACCMODE, O_RDWR); /* the seals are what protects it */
	const struct control_page *page =
		mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, page_fd, 0);
	CHECK(page != MAP_FAILED);
	CHECK(page->magic == CONTROL_MAGIC && page->generation == peer.generation);
	CHECK(mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0) == MAP_FAILED);
	uint64_t size = g->size_bytes;
	struct video_format format = stream->native.generation->format;
	int slot_fd[RIG_SLOTS];
	for (unsigned i = 0; i < RIG_SLOTS; i++) {
		slot_fd[i] = fdset_steal(&peer.fds, i + 1);
		CHECK(fstat(slot_fd[i], &st) == 0 && (uint64_t)st.st_size == size);
		CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, slot_fd[i], 0) ==
			MAP_FAILED);
		CHECK(ftruncate(slot_fd[i], 0) < 0);
	}
	peer_bound(&peer, 0, "");
	for (int i = 0; i < 20; i++) {
		uint64_t seq = rig_publish(stream);
		uint32_t number;
		peer_expect_frame(&peer, seq);
		const Sluice__Frame *f = peer.packet->frame;
		CHECK(control_holds(page, f->slot, seq));
		CHECK(f->pts_ns > 0 && f->published_ns >= f->copied_ns && f->n_damage == 0);
		void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, slot_fd[f->slot], 0);
		CHECK(map != MAP_FAILED);
		CHECK_EQ(stamp_read(map, &format, &number), STAMP_OK);
		CHECK_EQ(number, seq);
		munmap(map, size);
		peer_release_last(&peer);
	}
	munmap((void *)page, control_page_bytes(RIG_SLOTS));
	close(page_fd);
	for (unsigned i = 0; i < RIG_SLOTS; i++)
		close(slot_fd[i]);
	end();
}

TEST(a_stream_without_a_format_sends_its_generation_when_it_has_one)
{
	begin();
	rig_add_stream(&rig, "later");
	Sluice__Subscribe m = rig_request();
	m.stream = (char *)"later";
	m.width = 32;
	peer_subscribe(&peer, &m);
	peer_expect_nothing(&peer);
	rig_resize(&rig.stream[1], 32, 32);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&peer, 0, "");
	rig_publish(&rig.stream[1]);
	peer_expect_frame(&peer, 1);
	/* and ends when it becomes what was not asked for */
	rig_resize(&rig.stream[1], 48, 32);
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_NO_VIEW);
	CHECK(strstr(peer.packet->ended->text, "is BGRx 48x32 now"));
	CHECK(peer.packet->ended->subscribe_again);
	CHECK_EQ(rig.stream[1].native.n_subscribers, 0);
	end();
}

TEST(what_a_slow_client_left_out_comes_when_no_other_will)
{
	begin();
	Sluice__Subscribe m = rig_request();
	m.min_interval_ns = 3600 * NS_PER_S;
	peer_consume_as(&peer, &m);
	rig_publish(stream);
	peer_expect_frame(&peer, 1);
	rig_publish(stream);
	rig_publish(stream);
	peer_expect_nothing(&peer);
	stream_forget_newest(stream); /* its source is gone */
	peer_expect_frame(&peer, 3);
	CHECK_EQ(peer.packet->frame->paced, 1);
	end();
}

TEST(what_is_in_flight_or_bound_is_charged_to_the_user)
{
	begin();
	CHECK_EQ(quota_fds(), 1);
	Sluice__Subscribe m = rig_request();
	peer_subscribe(&peer, &m);
	CHECK_EQ(quota_fds(), 1 + RIG_SLOTS + 1);
	CHECK_EQ(quota_bytes(), stream->native.generation->bytes);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&peer, 0, "");
	CHECK_EQ(quota_fds(), 1);
	CHECK_EQ(quota_bytes(), stream->native.generation->bytes);
	rig_resize(stream, 128, 128);
	CHECK_EQ(quota_fds(), 1 + RIG_SLOTS + 1);
	CHECK_EQ(quota_bytes(), stream->native.generation->bytes);
	/* they lie in its socket still: until it answers what was sent later */
	peer_unsubscribe(&peer, peer.view);
	CHECK_EQ(quota_fds(), 1 + RIG_SLOTS + 1);
	CHECK_EQ(quota_bytes(), 0);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_subscribe(&peer, &m);
	CHECK_EQ(quota_fds(), 1 + 2 * (RIG_SLOTS + 1));
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&peer, 0, "");
	CHECK_EQ(quota_fds(), 1);
	end();
}

TEST(a_user_has_a_quota_of_descriptors_and_of_bytes)
{
	begin();
	Sluice__Subscribe m = rig_request();
	rig.limits.fds_per_user = 1 + RIG_SLOTS;
	rig_configure(&rig);
	peer_subscribe(&peer, &m);
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_LIMIT);
	CHECK(strstr(peer.packet->ended->text, "fds-per-user"));
	CHECK(quota_fds() == 1 && quota_bytes() == 0);

	rig.limits.fds_per_user++;
	rig.limits.bytes_per_user = stream->native.generation->bytes - 1;
	rig_configure(&rig);
	peer_subscribe(&peer, &m);
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_LIMIT);
	CHECK(quota_fds() == 1 && quota_bytes() == 0);

	rig.limits.bytes_per_user++;
	rig_configure(&rig);
	peer_consume_as(&peer, &m);
	rig_resize(stream, 65, 128); /* one that is too big for the quota: the view ends */
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_LIMIT);
	CHECK_EQ(quota_bytes(), 0);
	end();
}

TEST(a_client_that_cannot_map_it_ends_its_view_with_its_own_reason)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_subscribe(&peer, &m);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&peer, SLUICE__ERROR_CODE__ERROR_INTERNAL, "no address space\n\x1b[2J");
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_INTERNAL);
	CHECK_STR(peer.packet->ended->text, "the client cannot map it: no address space??[2J");
	CHECK(quota_fds() == 1 && quota_bytes() == 0);
	CHECK_EQ(stream->native.n_subscribers, 0);
	peer_consume_as(&peer, &m); /* it may try again */
	end();
}

TEST(a_reason_of_any_length_and_code_is_cut_and_passed_on)
{
	char text[1800];
	begin();
	Sluice__Subscribe m = rig_request();
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	peer_subscribe(&peer, &m);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&peer, -12345, text);
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK(strlen(peer.packet->ended->text) <= WIRE_TEXT_MAX);
	end();
}

TEST(an_answer_that_does_not_fit_is_the_end)
{
	static const struct {
		int twice;
		int32_t off;
	} rows[] = { { 0, 1 }, { 0, -1 }, { 1, 0 } };
	for (unsigned i = 0; i < 3; i++) {
		begin();
		Sluice__Subscribe m = rig_request();
		peer_subscribe(&peer, &m);
		peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
		if (rows[i].twice)
			peer_bound(&peer, 0, "");
		peer.generation += (uint32_t)rows[i].off;
		peer_bound(&peer, 0, "");
		peer_expect_bye(&peer, SLUICE__ERROR_CODE__ERROR_PROTOCOL,
			"was not offered or is answered already");
		end();
	}
}

/* Stopped through ten resizes: one generation in flight, then the newest one. */
TEST(a_client_that_does_not_answer_gets_one_generation)
{
	begin();
	Sluice__Subscribe m = rig_request();
	peer_consume_as(&peer, &m);
	rig_publish(stream);
	peer_expect_frame(&peer, 1);
	uint32_t slot = peer.packet->frame->slot;
	unsigned fds = test_count_fds();
	for (uint32_t i = 1; i <= 10; i++) {
		rig_resize(stream, 64 + i, 64);
		rig_publish(stream); /* not for it */
	}
	CHECK_EQ(test_count_fds(), fds);
	CHECK_EQ(quota_fds(), 1 + RIG_SLOTS + 1);
	peer_release(&peer, slot, 1); /* of its old generation: no error */
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	CHECK_EQ(peer.packet->generation->width, 65);
	peer_expect_nothing(&peer);
	peer_bound(&peer, 0, "");
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	CHECK_EQ(peer.packet->generation->width, 74);
	CHECK_EQ(peer.generation, stream->native.generation->id);
	peer_expect_nothing(&peer); /* no frame before it has answered */
	peer_bound(&peer, 0, "");
	peer_expect_frame(&peer, 11);
	end();
}

/* Out of descriptors for the copies that travel: this client is told, the others stay. */
TEST(a_broker_without_descriptors_sends_a_generation_when_it_has_some)
{
	struct peer other;
	struct rlimit old, limit;
	if (test_under_valgrind())
		test_not_for_here("valgrind makes the descriptors all the same");
	begin();
	peer_consume(&other, &rig, "test");
	fdset_close(&other.fds);
	Sluice__Subscribe m = rig_request();
	int next = fcntl(0, F_DUPFD_CLOEXEC, 0);
	CHECK(next >= 0);
	close(next);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	limit = old;
	limit.rlim_cur = (rlim_t)next + RIG_SLOTS; /* one too few */
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	peer_ask(&peer, &m);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	peer_expect(&peer, SLUICE__PACKET__BODY_SUBSCRIBED);
	peer_expect_nothing(&peer);
	rig_run_ms(&rig, 250); /* it tries again with each sweep */
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	rig_publish(stream);
	peer_expect_frame(&other, 1);
	peer_close(&other);
	end();
}
