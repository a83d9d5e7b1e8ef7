/* The same frames in host and in GPU memory: which view is made of what, when, and when not. */
#include "tests/mirror_scene.h"

#include <drm_fourcc.h>
#include <string.h>

#include "common/clock.h"

enum { ROUNDS = 5, LINGER_MS = 100 };

#define COMPLETE   SLUICE__READINESS__READINESS_COMPLETE
#define GPU_MEMORY SLUICE__MEMORY__MEMORY_OPAQUE_FD

static struct mirror_scene s;

static void check_says(const struct view *view, const char *says)
{
	CHECK_ROW(strstr(view->reason, says), view->reason);
}

static void need_imports(void)
{
	if (!gpu_info(s.gpu)->can_import_host)
		test_skip("the driver cannot import host memory");
}

/* What was done to set all this up does not count. */
static void count_from_here(void)
{
	mirror_driver.n_submits = mirror_driver.n_maps = 0;
}

/* So many more pictures, each in the frame of the next number; all peers get it and give it back. */
static void feed_and_take(struct peer *peers, unsigned n_peers)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t number = mirror_feed(&s);
		for (unsigned i = 0; i < n_peers; i++)
			mirror_take(&s, &peers[i], s.stream->next_seq - 1, number);
	}
}

/* --- Only the GPU view is wanted ---------------------------------------------------------------- */

TEST(a_mapped_picture_is_uploaded_without_the_cpu_while_only_the_gpu_view_is_wanted)
{
	struct peer peer;
	mirror_open(&s, MIRROR_MAPPED);
	need_imports();
	mirror_consume_gpu(&s, &peer, COMPLETE);
	count_from_here();
	feed_and_take(&peer, 1);
	CHECK_EQ(s.n_reads, 0);
	CHECK_EQ(mirror_driver.n_maps, 0);
	CHECK_EQ(mirror_gpu(&s)->counts.published, ROUNDS);
	CHECK_EQ(mirror_host(&s)->counts.published, 0);
	CHECK(view_is_running(mirror_gpu(&s)));
	CHECK(!view_is_running(mirror_host(&s)));
	CHECK_STR(mirror_gpu(&s)->reason,
		"uploaded from the captured memory, without a copy by the CPU");
	check_says(mirror_host(&s), "rests: nobody wants it");
	peer_close(&peer);
	mirror_close(&s);
}

TEST(a_host_reader_who_comes_gets_the_newest_frame_and_the_cpu_copies_from_then_on)
{
	struct peer peers[2];
	mirror_open(&s, MIRROR_MAPPED);
	need_imports();
	mirror_consume_gpu(&s, &peers[0], COMPLETE);
	feed_and_take(peers, 1);
	mirror_consume_host(&s, &peers[1]);
	CHECK(view_is_running(mirror_host(&s)));
	mirror_take(&s, &peers[1], ROUNDS, s.last_number);
	CHECK_EQ(s.n_reads, 0);
	check_says(mirror_host(&s), "read back from the GPU");
	feed_and_take(peers, 2);
	CHECK_EQ(s.n_reads, ROUNDS);
	check_says(mirror_host(&s), "copied from the captured memory by the CPU");
	check_says(mirror_gpu(&s), "uploaded from the host view");
	/* and back */
	peer_close(&peers[1]);
	feed_and_take(peers, 1);
	CHECK_EQ(s.n_reads, ROUNDS);
	check_says(mirror_host(&s), "rests");
	peer_close(&peers[0]);
	mirror_close(&s);
}

static void check_staging(enum mirror_source source, const char *says)
{
	struct peer peer;
	mirror_open(&s, source);
	mirror_driver.refuses_imports = true;
	mirror_consume_gpu(&s, &peer, COMPLETE);
	count_from_here();
	feed_and_take(&peer, 1);
	CHECK_EQ(s.n_reads, ROUNDS);
	CHECK_EQ(mirror_host(&s)->counts.published, 0);
	CHECK(!view_is_running(mirror_host(&s)));
	CHECK_STR(mirror_gpu(&s)->reason, says);
	CHECK_EQ(mirror_driver.n_submits, ROUNDS);
	CHECK_EQ(mirror_driver.n_maps, 1);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(a_source_without_a_mapping_goes_through_staging_memory_and_the_view_says_so)
{
	check_staging(MIRROR_UNMAPPED,
		"uploaded through staging memory: the source's memory is not mapped");
}

TEST(a_mapping_that_the_driver_refuses_goes_through_staging_memory_and_the_view_says_so)
{
	check_staging(MIRROR_MAPPED,
		"uploaded through staging memory: the driver cannot import the captured memory");
}

/* --- Both are wanted ---------------------------------------------------------------------------- */

static void check_both(enum mirror_source source, bool refuses_imports, const char *says)
{
	struct peer peers[5];
	mirror_open(&s, source);
	mirror_driver.refuses_imports = refuses_imports;
	for (unsigned i = 0; i < 2; i++)
		mirror_consume_host(&s, &peers[i]);
	for (unsigned i = 2; i < 5; i++)
		mirror_consume_gpu(&s, &peers[i], COMPLETE);
	count_from_here();
	feed_and_take(peers, 5);
	CHECK_EQ(s.n_reads, ROUNDS);
	CHECK_EQ(mirror_driver.n_submits, ROUNDS);
	CHECK_EQ(mirror_host(&s)->counts.published, ROUNDS);
	CHECK_EQ(mirror_gpu(&s)->counts.published, ROUNDS);
	CHECK(view_is_running(mirror_host(&s)) && view_is_running(mirror_gpu(&s)));
	CHECK_STR(mirror_host(&s)->reason, "copied from the captured memory by the CPU");
	CHECK_STR(mirror_gpu(&s)->reason, says);
	for (unsigned i = 0; i < 5; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

TEST(beside_host_readers_a_picture_is_read_once_and_uploaded_once_from_the_host_view)
{
	mirror_open(&s, MIRROR_UNMAPPED);
	need_imports();
	mirror_close(&s);
	check_both(MIRROR_MAPPED, false, "uploaded from the host view, without a copy by the CPU");
}

TEST(a_host_view_that_the_driver_cannot_import_is_uploaded_through_staging_memory)
{
	check_both(MIRROR_UNMAPPED, true,
		"uploaded from the host view through staging memory: the driver cannot import a "
		"memfd");
}

/* --- Nobody wants the mirror -------------------------------------------------------------------- */

TEST(nothing_is_uploaded_while_nobody_wants_it)
{
	struct peer host, gpu;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_host(&s, &host);
	feed_and_take(&host, 1);
	CHECK(mirror_gpu(&s)->generation == NULL);
	CHECK_EQ(mirror_gpu(&s)->counts.published, 0);
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	mirror_take(&s, &gpu, ROUNDS, s.last_number);
	peer_close(&gpu);
	count_from_here();
	feed_and_take(&host, 1);
	CHECK_EQ(mirror_driver.n_submits, 0);
	CHECK_EQ(mirror_gpu(&s)->counts.published, 1);
	CHECK(!view_is_running(mirror_gpu(&s)));
	CHECK_STR(mirror_gpu(&s)->reason, "not made: nobody wants it");
	/* who comes back is not given an old frame */
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	mirror_take(&s, &gpu, 2 * ROUNDS, s.last_number);
	peer_close(&gpu);
	peer_close(&host);
	mirror_close(&s);
}

static bool gpu_memory_is_freed(struct mirror_scene *scene)
{
	return scene->rig.catalog.gpu_budget.used_bytes == 0;
}

static unsigned linger_ms(void)
{
	return LINGER_MS * test_slowness();
}

/* A GPU client has had a frame, and leaves; the next picture is on its way if the work is held. */
static void begin_to_linger(enum mirror_source source, bool in_flight)
{
	struct peer peer;
	bridge_test_linger_ns = linger_ms() * NS_PER_MS;
	mirror_open(&s, source);
	mirror_consume_gpu(&s, &peer, COMPLETE);
	mirror_take(&s, &peer, 1, mirror_feed(&s));
	if (in_flight) {
		mirror_hold_work();
		mirror_offer(&s);
	}
	peer_close(&peer);
	CHECK(!gpu_memory_is_freed(&s));
}

TEST(gpu_memory_that_nobody_wants_is_freed_after_a_while)
{
	begin_to_linger(MIRROR_MAPPED, false);
	mirror_run_until(&s, gpu_memory_is_freed);
	CHECK(mirror_gpu(&s)->generation == NULL);
	mirror_feed(&s);
	CHECK_EQ(mirror_host(&s)->counts.published, 1);
	mirror_close(&s);
}

TEST(it_is_freed_too_if_the_cpu_copies_a_picture_just_then)
{
	begin_to_linger(MIRROR_UNMAPPED, false);
	s.holds_reads = true;
	mirror_offer(&s);
	mirror_run_ms(&s, 2 * linger_ms());
	CHECK(!gpu_memory_is_freed(&s));
	s.holds_reads = false;
	mirror_run_until(&s, gpu_memory_is_freed);
	CHECK_EQ(mirror_host(&s)->counts.published, 1);
	mirror_close(&s);
}

TEST(it_is_freed_too_if_the_gpu_copies_a_picture_just_then)
{
	begin_to_linger(MIRROR_MAPPED, true);
	mirror_run_until(&s, gpu_memory_is_freed);
	mirror_feed(&s);
	CHECK_EQ(mirror_host(&s)->counts.published, 1);
	mirror_close(&s);
}

TEST(a_client_that_comes_back_in_time_finds_the_same_memory)
{
	struct peer peer;
	begin_to_linger(MIRROR_MAPPED, false);
	uint32_t generation = mirror_gpu(&s)->generation->id;
	mirror_consume_gpu(&s, &peer, COMPLETE);
	CHECK_EQ(peer.generation, generation);
	mirror_run_ms(&s, 2 * linger_ms());
	CHECK_EQ(mirror_gpu(&s)->generation->id, generation);
	mirror_take(&s, &peer, 1, s.last_number);
	feed_and_take(&peer, 1);
	peer_close(&peer);
	mirror_close(&s);
}

/* --- A source in GPU memory --------------------------------------------------------------------- */

TEST(a_gpu_picture_is_read_back_once_for_all_host_readers_and_not_at_all_without)
{
	struct peer peers[4];
	mirror_open(&s, MIRROR_GPU);
	for (unsigned i = 0; i < 2; i++)
		mirror_consume_gpu(&s, &peers[i], COMPLETE);
	count_from_here();
	feed_and_take(peers, 2);
	CHECK_EQ(mirror_driver.n_submits, ROUNDS);
	CHECK_EQ(mirror_host(&s)->counts.published, 0);
	CHECK(mirror_host(&s)->generation == NULL);
	for (unsigned i = 2; i < 4; i++) {
		mirror_consume_host(&s, &peers[i]);
		mirror_take(&s, &peers[i], ROUNDS, s.last_number);
	}
	count_from_here();
	feed_and_take(peers, 4);
	CHECK_EQ(s.n_records, 2 * ROUNDS);
	CHECK_EQ(mirror_driver.n_submits, 2 * ROUNDS);
	CHECK_EQ(mirror_host(&s)->counts.published, 1 + ROUNDS);
	CHECK_STR(mirror_gpu(&s)->reason, "copied on the GPU");
	check_says(mirror_host(&s), "read back from the GPU");
	CHECK(view_is_running(mirror_host(&s)) && view_is_running(mirror_gpu(&s)));
	for (unsigned i = 0; i < 4; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

static struct capture *create_pattern(struct mirror_scene *scene)
{
	struct capture *capture;
	struct capture_place place = {
		.loop = scene->rig.loop,
		.name = "test",
		.gpu = scene->gpu,
	};
	CHECK_EQ(capture_gpu_pattern_create(&capture, &place, &scene->format, 200), 0);
	return capture;
}

/* However slow the test is, what it looks at is not taken back. */
static void consume_newest(struct peer *peer, Sluice__Memory memory)
{
	Sluice__Subscribe request = mirror_request(memory, COMPLETE);
	request.delivery = SLUICE__DELIVERY__DELIVERY_MAILBOX;
	request.max_holds = 1;
	peer_ready(peer, &s.rig, "consumer");
	peer_consume_as(peer, &request);
}

TEST(the_pattern_of_the_gpu_comes_to_readers_of_both_kinds)
{
	struct peer host, gpu;
	mirror_open_with(&s, MIRROR_GPU, create_pattern);
	consume_newest(&gpu, GPU_MEMORY);
	consume_newest(&host, SLUICE__MEMORY__MEMORY_HOST);
	for (uint64_t seq = 0, round = 0; round < ROUNDS; round++) {
		mirror_await(&s, &gpu, SLUICE__PACKET__BODY_FRAME);
		CHECK(gpu.packet->frame->seq > seq);
		seq = gpu.packet->frame->seq;
		mirror_check_picture(&s, mirror_gpu(&s), gpu.packet->frame->slot, (uint32_t)seq);
		peer_release_last(&gpu);
		mirror_await(&s, &host, SLUICE__PACKET__BODY_FRAME);
		mirror_check_picture(&s, mirror_host(&s), host.packet->frame->slot,
			(uint32_t)host.packet->frame->seq);
		peer_release_last(&host);
	}
	peer_close(&host);
	peer_close(&gpu);
	mirror_close(&s);
}

/* --- New formats, and no memory for them -------------------------------------------------------- */

TEST(a_new_format_reaches_the_clients_of_both_views)
{
	struct peer peers[2];
	mirror_open(&s, MIRROR_UNMAPPED);
	mirror_consume_host(&s, &peers[0]);
	mirror_consume_gpu(&s, &peers[1], COMPLETE);
	feed_and_take(peers, 2);
	mirror_resize(&s, 2 * MIRROR_SIDE, MIRROR_SIDE);
	for (unsigned i = 0; i < 2; i++) {
		mirror_await(&s, &peers[i], SLUICE__PACKET__BODY_GENERATION);
		CHECK_EQ(peers[i].packet->generation->width, 2 * MIRROR_SIDE);
		peer_bound(&peers[i], 0, "");
	}
	feed_and_take(peers, 2);
	for (unsigned i = 0; i < 2; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

/* One frame is lent and others wait when the memory goes: a late release must not find it. */
TEST(a_format_without_host_memory_takes_the_gpu_view_with_it_until_another_comes)
{
	struct peer peer;
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, COMPLETE);
	request.max_holds = 1;
	mirror_open(&s, MIRROR_UNMAPPED);
	peer_ready(&peer, &s.rig, "consumer");
	peer_consume_as(&peer, &request);
	for (unsigned i = 0; i < 3; i++)
		mirror_feed(&s);
	mirror_await_frame(&s, &peer, 1);
	mirror_resize(&s, 8192, 8192);
	CHECK(mirror_host(&s)->generation == NULL && mirror_gpu(&s)->generation == NULL);
	check_says(mirror_gpu(&s), "no memory for BGRx 8192x8192");
	CHECK_EQ(s.stream->state, STREAM_WAITING);
	peer_release_last(&peer);
	mirror_expect_silence(&s, &peer);
	mirror_resize(&s, 2 * MIRROR_SIDE, MIRROR_SIDE);
	mirror_await(&s, &peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&peer, 0, "");
	mirror_take(&s, &peer, 4, mirror_feed(&s));
	peer_close(&peer);
	mirror_close(&s);
}

TEST(a_format_without_gpu_memory_ends_the_gpu_view_alone)
{
	struct peer host, gpu;
	mirror_open(&s, MIRROR_UNMAPPED);
	mirror_consume_host(&s, &host);
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	s.rig.catalog.gpu_budget.limit_bytes = s.rig.catalog.gpu_budget.used_bytes;
	mirror_resize(&s, 4 * MIRROR_SIDE, 4 * MIRROR_SIDE);
	mirror_await_end(&s, &gpu, "no GPU memory for BGRx 256x256");
	CHECK_STR(mirror_gpu(&s)->reason, gpu.packet->ended->text);
	CHECK(gpu_memory_is_freed(&s));
	mirror_await(&s, &host, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&host, 0, "");
	feed_and_take(&host, 1);
	/* and nobody can have it */
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, COMPLETE);
	peer_ask(&gpu, &request);
	peer_expect_error(
		&gpu, 7, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "no GPU memory for BGRx 256x256");
	peer_close(&host);
	peer_close(&gpu);
	mirror_close(&s);
}

/* --- Frames that cannot be brought there -------------------------------------------------------- */

/* Until the view ends, with a picture every few ms that the host readers get: how many. */
static unsigned feed_until_end(struct peer *host)
{
	unsigned n = 0;
	for (uint64_t limit = clock_ns() + 20 * NS_PER_S; mirror_gpu(&s)->n_subscribers > 0; n++) {
		CHECK(clock_ns() < limit);
		uint32_t number = mirror_offer(&s);
		mirror_run_ms(&s, 10);
		if (host)
			mirror_take(&s, host, s.stream->next_seq - 1, number);
	}
	return n;
}

static bool map_is_tried(struct mirror_scene *scene)
{
	return mirror_driver.n_maps > 0;
}

static void check_three_tries(bool has_host_reader)
{
	struct peer host, gpu;
	mirror_open(&s, MIRROR_UNMAPPED);
	mirror_driver.refuses_imports = mirror_driver.refuses_maps = true;
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	if (has_host_reader)
		mirror_consume_host(&s, &host);
	count_from_here();
	uint64_t began = clock_ns();
	mirror_offer(&s);
	mirror_run_until(&s, map_is_tried);
	check_says(mirror_gpu(&s), "vkMapMemory: VK_ERROR_MEMORY_MAP_FAILED; tried again soon");
	if (has_host_reader)
		mirror_take(&s, &host, 1, s.last_number);
	CHECK(feed_until_end(has_host_reader ? &host : NULL) > 10);
	CHECK_EQ(mirror_driver.n_maps, 3);
	CHECK(clock_ns() - began >= 3 * NS_PER_S); /* 1 s after the first, 2 s after the second */
	mirror_await_end(
		&s, &gpu, "vkMapMemory: VK_ERROR_MEMORY_MAP_FAILED; it was tried three times");
	CHECK(mirror_host(&s)->counts.published >= 10);
	if (has_host_reader)
		peer_close(&host);
	peer_close(&gpu);
	mirror_close(&s);
}

TEST(an_upload_that_fails_is_tried_three_times_and_host_readers_miss_nothing)
{
	check_three_tries(true);
}

TEST(an_upload_that_fails_is_tried_three_times_without_host_readers_too)
{
	check_three_tries(false);
}

TEST(an_upload_that_failed_once_is_made_a_second_later)
{
	struct peer peer;
	mirror_open(&s, MIRROR_UNMAPPED);
	mirror_driver.refuses_imports = mirror_driver.refuses_maps = true;
	mirror_consume_gpu(&s, &peer, COMPLETE);
	mirror_offer(&s);
	check_says(mirror_gpu(&s), "tried again soon");
	mirror_driver.refuses_maps = false;
	mirror_run_ms(&s, 1100);
	feed_and_take(&peer, 1);
	check_says(mirror_gpu(&s), "uploaded through staging memory");
	peer_close(&peer);
	mirror_close(&s);
}

TEST(a_read_back_that_fails_is_tried_three_times_and_gpu_readers_miss_nothing)
{
	struct peer host, gpu;
	mirror_open(&s, MIRROR_GPU);
	mirror_driver.refuses_imports = mirror_driver.refuses_maps = true;
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	mirror_consume_host(&s, &host);
	count_from_here();
	while (mirror_host(&s)->n_subscribers > 0) {
		uint32_t number = mirror_offer(&s);
		mirror_run_ms(&s, 20);
		mirror_take(&s, &gpu, s.stream->next_seq - 1, number);
	}
	CHECK_EQ(mirror_driver.n_maps, 3);
	CHECK_EQ(mirror_gpu(&s)->counts.published, s.n_records);
	mirror_await_end(
		&s, &host, "vkMapMemory: VK_ERROR_MEMORY_MAP_FAILED; it was tried three times");
	peer_close(&host);
	peer_close(&gpu);
	mirror_close(&s);
}

/* --- The GPU is lost ---------------------------------------------------------------------------- */

static bool loss_is_heard(struct mirror_scene *scene)
{
	return scene->gpu_is_lost;
}

TEST(host_readers_miss_nothing_when_the_gpu_is_lost_and_comes_back)
{
	struct peer host, gpu, late;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_host(&s, &host);
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	mirror_take(&s, &host, 1, mirror_feed(&s));
	mirror_take(&s, &gpu, 1, s.last_number);
	/* nobody waits for work that has ended when it is looked at: the look finds the loss then */
	mirror_break_gpu();
	mirror_break_gpu_in("vkGetSemaphoreCounterValue");
	mirror_offer(&s);
	mirror_run_until(&s, loss_is_heard);
	mirror_take(&s, &host, 2, s.last_number);
	/* the loss comes while the CPU copies */
	s.holds_reads = true;
	mirror_offer(&s);
	mirror_drop_gpu(&s, "the GPU is lost: by a test");
	s.holds_reads = false;
	mirror_await_end(&s, &gpu, "the GPU is lost: by a test");
	CHECK_EQ(s.rig.catalog.gpu_budget.used_bytes, 0);
	CHECK(mirror_gpu(&s) == NULL);
	mirror_take(&s, &host, 3, s.last_number);
	feed_and_take(&host, 1);
	/* nothing is to be had there now */
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, COMPLETE);
	peer_ask(&gpu, &request);
	peer_expect_error(&gpu, 7, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "GPU memory");
	/* it comes back while the CPU copies */
	s.holds_reads = true;
	mirror_offer(&s);
	mirror_regain_gpu(&s);
	s.holds_reads = false;
	mirror_take(&s, &host, 4 + ROUNDS, s.last_number);
	mirror_consume_gpu(&s, &late, COMPLETE);
	mirror_take(&s, &late, 4 + ROUNDS, s.last_number);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t number = mirror_feed(&s);
		mirror_take(&s, &host, 5 + ROUNDS + i, number);
		mirror_take(&s, &late, 5 + ROUNDS + i, number);
	}
	peer_expect_nothing(&host);
	/* pictures come from there too */
	peer_close(&host);
	feed_and_take(&late, 1);
	mirror_consume_host(&s, &host);
	mirror_take(&s, &host, s.stream->next_seq - 1, s.last_number);
	peer_close(&host);
	peer_close(&gpu);
	peer_close(&late);
	mirror_close(&s);
}

TEST(pictures_go_the_cpus_way_again_when_the_gpu_that_took_them_all_is_lost)
{
	struct peer host, gpu;
	mirror_open(&s, MIRROR_MAPPED);
	need_imports();
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	feed_and_take(&gpu, 1);
	mirror_hold_work();
	mirror_offer(&s); /* one that the GPU reads, and one that waits */
	mirror_offer(&s);
	mirror_drop_gpu(&s, "the GPU is lost: by a test");
	mirror_await_end(&s, &gpu, "the GPU is lost: by a test");
	mirror_consume_host(&s, &host);
	mirror_await(&s, &host, SLUICE__PACKET__BODY_FRAME);
	mirror_check_picture(&s, mirror_host(&s), host.packet->frame->slot, s.last_number);
	peer_release_last(&host);
	feed_and_take(&host, 1);
	peer_close(&host);
	peer_close(&gpu);
	mirror_close(&s);
}
