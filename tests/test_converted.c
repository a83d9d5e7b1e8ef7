/* Views of another format and size: what each is made from, once for all who want it, and when not. */
#include "tests/mirror_scene.h"

#include <drm_fourcc.h>
#include <string.h>

#include "broker/lane.h"
#include "common/clock.h"

/* Stamps stay readable where blocks of whole pixels become blocks of whole pixels. */
enum { ROUNDS = 4, LINGER_MS = 100, SLOW_MS = 200, SIDE = 160, HALF = SIDE / 2 };

#define COMPLETE    SLUICE__READINESS__READINESS_COMPLETE
#define HOST_MEMORY SLUICE__MEMORY__MEMORY_HOST
#define GPU_MEMORY  SLUICE__MEMORY__MEMORY_OPAQUE_FD

static struct mirror_scene s;

static void open_scene(enum mirror_source source)
{
	mirror_open(&s, source);
	mirror_resize(&s, SIDE, SIDE);
}

/* --- Views ------------------------------------------------------------------------------------ */

static struct view *view_of_id(uint32_t id)
{
	struct view *view;
	if (s.stream->native.id == id)
		return &s.stream->native;
	list_for_each(view, &s.stream->converted, link)
		if (view->id == id)
			return view;
	return &s.stream->mirror;
}

static struct view *view_of(const struct peer *peer)
{
	return view_of_id(peer->view);
}

/* The converted view in GPU memory. */
static struct view *converted_on_gpu(void)
{
	struct view *view;
	list_for_each(view, &s.stream->converted, link)
		if (view->source.ops->kind == MEMORY_OPAQUE_FD)
			return view;
	return NULL;
}

static void check_says(const struct view *view, const char *says)
{
	CHECK_ROW(strstr(view->reason, says), view->reason);
}

static bool is_complete(const struct view *view)
{
	const struct slot *newest = view->generation ? view->generation->pool.newest : NULL;
	return !view_is_running(view) ||
	       (newest && newest->complete && newest->seq == s.stream->next_seq - 1);
}

static bool is_fed(struct mirror_scene *scene)
{
	const struct view *view;
	list_for_each(view, &scene->stream->converted, link)
		if (!is_complete(view))
			return false;
	return is_complete(&scene->stream->native) && is_complete(&scene->stream->mirror);
}

static uint32_t feed(void)
{
	uint32_t number = mirror_offer(&s);
	mirror_run_until(&s, is_fed);
	return number;
}

static void take(struct peer *peer, uint32_t number)
{
	mirror_await_frame(&s, peer, s.stream->next_seq - 1);
	mirror_check_picture(&s, view_of(peer), peer->packet->frame->slot, number);
	peer_release_last(peer);
}

static void feed_and_take(struct peer *peers, unsigned n_peers)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t number = feed();
		for (unsigned i = 0; i < n_peers; i++)
			take(&peers[i], number);
	}
}

/* --- Peers ------------------------------------------------------------------------------------ */

static Sluice__Subscribe request_of(
	Sluice__Memory memory, uint32_t fourcc, uint32_t width, uint32_t height)
{
	Sluice__Subscribe m = mirror_request(memory, COMPLETE);
	m.fourcc = fourcc;
	m.width = width;
	m.height = height;
	return m;
}

static void bind_generation(struct peer *peer, uint32_t fourcc, uint32_t width, uint32_t height)
{
	peer_expect(peer, SLUICE__PACKET__BODY_GENERATION);
	CHECK_EQ(peer->packet->generation->fourcc, fourcc);
	CHECK_EQ(peer->packet->generation->width, width);
	CHECK_EQ(peer->packet->generation->height, height);
	peer_bound(peer, 0, "");
}

/* NV12 of this size; 0: the stream's. */
static void consume(struct peer *peer, Sluice__Memory memory, uint32_t side)
{
	Sluice__Subscribe m = request_of(memory, DRM_FORMAT_NV12, side, side);
	uint32_t made = side ? side : s.format.width;
	peer_ready(peer, &s.rig, "consumer");
	peer_subscribe(peer, &m);
	bind_generation(peer, DRM_FORMAT_NV12, made, made);
}

static void check_shared(const struct peer *a, const struct peer *b)
{
	CHECK_EQ(a->view, b->view);
	CHECK_EQ(view_of(a)->counts.published, ROUNDS);
	CHECK_EQ(view_of(a)->n_subscribers, 2);
}

/* --- What is made from what --------------------------------------------------------------------- */

TEST(a_host_view_of_a_host_stream_is_converted_by_the_cpu_once_for_all)
{
	struct peer peers[3];
	open_scene(MIRROR_UNMAPPED);
	consume(&peers[0], HOST_MEMORY, 0);
	consume(&peers[1], HOST_MEMORY, SIDE); /* the same now, not after a resize */
	consume(&peers[2], HOST_MEMORY, 0);
	feed_and_take(peers, 3);
	check_shared(&peers[0], &peers[2]);
	CHECK(peers[1].view != peers[0].view);
	check_says(view_of(&peers[0]), "converted by the CPU (libswscale)");
	CHECK_EQ(s.stream->native.n_dependents, 2);
	CHECK_EQ(s.n_reads, ROUNDS);
	CHECK(!s.stream->mirror.generation);
	for (unsigned i = 0; i < 3; i++)
		peer_close(&peers[i]);
	CHECK_EQ(s.stream->native.n_dependents, 0);
	mirror_close(&s);
}

TEST(a_gpu_view_of_a_host_stream_is_converted_on_the_gpu)
{
	struct peer peers[2];
	open_scene(MIRROR_UNMAPPED);
	consume(&peers[0], GPU_MEMORY, 0);
	consume(&peers[1], GPU_MEMORY, 0);
	feed_and_take(peers, 2);
	check_shared(&peers[0], &peers[1]);
	check_says(view_of(&peers[0]), "converted on the GPU");
	CHECK(view_of(&peers[0])->from == &s.stream->mirror);
	/* the native view is for nobody: pictures go straight to the GPU */
	check_says(&s.stream->native, "rests: nobody wants it");
	CHECK_EQ(s.stream->native.counts.published, 0);
	peer_close(&peers[0]);
	peer_close(&peers[1]);
	CHECK_EQ(s.stream->mirror.n_dependents, 0);
	CHECK(!view_is_running(&s.stream->mirror));
	mirror_close(&s);
}

TEST(of_a_gpu_stream_only_the_small_picture_is_read_back)
{
	struct peer peers[2];
	open_scene(MIRROR_GPU);
	consume(&peers[0], HOST_MEMORY, HALF);
	consume(&peers[1], HOST_MEMORY, HALF);
	feed_and_take(peers, 2);
	check_shared(&peers[0], &peers[1]);
	const struct view *gpu = converted_on_gpu();
	CHECK(view_of(&peers[0])->from == gpu && gpu->from == &s.stream->native);
	check_says(view_of(&peers[0]), "read back from the GPU");
	check_says(gpu, "converted on the GPU");
	CHECK_EQ(gpu->counts.published, ROUNDS);
	CHECK(!s.stream->mirror.generation);
	CHECK_EQ(gpu->n_subscribers, 0);
	peer_close(&peers[0]);
	CHECK_EQ(gpu->n_dependents, 1);
	peer_close(&peers[1]);
	CHECK(!view_is_running(gpu) && !view_is_wanted(gpu));
	mirror_close(&s);
}

TEST(what_the_gpu_cannot_make_is_made_by_the_cpu)
{
	struct peer peer;
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_YUYV, 0, 0);
	open_scene(MIRROR_GPU);
	peer_ready(&peer, &s.rig, "consumer");
	peer_subscribe(&peer, &m);
	bind_generation(&peer, DRM_FORMAT_YUYV, SIDE, SIDE);
	feed_and_take(&peer, 1);
	check_says(view_of(&peer), "converted by the CPU");
	CHECK(view_of(&peer)->from == &s.stream->mirror);
	peer_close(&peer);
	CHECK(!view_is_wanted(&s.stream->mirror));
	mirror_close(&s);
}

TEST(who_comes_later_has_the_newest_frame_at_once)
{
	struct peer peer;
	open_scene(MIRROR_GPU);
	uint32_t number = mirror_feed(&s);
	consume(&peer, HOST_MEMORY, HALF);
	take(&peer, number);
	peer_close(&peer);
	mirror_feed(&s);
	number = mirror_feed(&s);
	/* what the view still has is old */
	consume(&peer, HOST_MEMORY, HALF);
	take(&peer, number);
	mirror_expect_silence(&s, &peer);
	peer_close(&peer);
	mirror_close(&s);
}

static bool is_fed_natively(struct mirror_scene *scene)
{
	return is_complete(&scene->stream->native);
}

/* Three pictures while the first is still being converted. */
static void feed_three(struct peer *peer, uint32_t numbers[3])
{
	lane_fault_slow_scale_ms = SLOW_MS;
	for (unsigned i = 0; i < 3; i++) {
		numbers[i] = mirror_offer(&s);
		mirror_run_until(&s, is_fed_natively);
	}
	CHECK(view_of(peer)->counts.published == 0); /* or the machine is too slow to tell */
}

TEST(who_wants_every_frame_misses_none_that_comes_during_a_conversion)
{
	struct peer peer;
	uint32_t numbers[3];
	open_scene(MIRROR_UNMAPPED);
	consume(&peer, HOST_MEMORY, HALF);
	feed_three(&peer, numbers);
	for (unsigned i = 0; i < 3; i++) {
		mirror_await_frame(&s, &peer, s.stream->next_seq - 3 + i);
		mirror_check_picture(&s, view_of(&peer), peer.packet->frame->slot, numbers[i]);
		peer_release_last(&peer);
	}
	CHECK_EQ(view_of(&peer)->counts.superseded, 0);
	peer_close(&peer);
	lane_fault_slow_scale_ms = 0;
	mirror_close(&s);
}

TEST(who_wants_the_newest_frame_does_not_wait_for_older_ones)
{
	struct peer peer;
	uint32_t numbers[3];
	open_scene(MIRROR_UNMAPPED);
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, HALF, HALF);
	m.delivery = SLUICE__DELIVERY__DELIVERY_MAILBOX;
	peer_ready(&peer, &s.rig, "consumer");
	peer_subscribe(&peer, &m);
	bind_generation(&peer, DRM_FORMAT_NV12, HALF, HALF);
	feed_three(&peer, numbers);
	mirror_await_frame(
		&s, &peer, s.stream->next_seq - 3); /* was begun when it was the newest */
	peer_release_last(&peer);
	take(&peer, numbers[2]);
	CHECK_EQ(view_of(&peer)->counts.published, 2);
	peer_close(&peer);
	lane_fault_slow_scale_ms = 0;
	mirror_close(&s);
}

TEST(the_streams_own_form_costs_nothing_whoever_names_it)
{
	struct peer peers[2];
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_XRGB8888, SIDE, SIDE);
	open_scene(MIRROR_UNMAPPED);
	peer_ready(&peers[0], &s.rig, "consumer");
	peer_subscribe(&peers[0], &m);
	CHECK_EQ(peers[0].view, s.stream->native.id);
	m.height = 0; /* what keeps the proportions */
	peer_ready(&peers[1], &s.rig, "consumer");
	peer_subscribe(&peers[1], &m);
	CHECK_EQ(peers[1].view, s.stream->native.id);
	CHECK_EQ(s.stream->n_converted, 0);
	peer_close(&peers[0]);
	peer_close(&peers[1]);
	mirror_close(&s);
}

/* --- Another size of the stream ------------------------------------------------------------------ */

static void check_resize(enum mirror_source source, Sluice__Memory memory)
{
	struct peer fixed, own;
	open_scene(source);
	consume(&fixed, memory, HALF);
	consume(&own, memory, 0);
	uint32_t number = feed();
	take(&fixed, number);
	take(&own, number);
	uint32_t generation = view_of(&fixed)->generation->id;
	mirror_resize(&s, 2 * SIDE, 2 * SIDE);
	bind_generation(&own, DRM_FORMAT_NV12, 2 * SIDE, 2 * SIDE);
	CHECK_EQ(view_of(&fixed)->generation->id, generation);
	number = feed();
	take(&own, number);
	take(&fixed, number);
	/* it has become what was asked for: still the same view */
	mirror_resize(&s, HALF, HALF);
	bind_generation(&own, DRM_FORMAT_NV12, HALF, HALF);
	number = feed();
	take(&fixed, number);
	take(&own, number);
	peer_expect_nothing(&fixed);
	peer_close(&fixed);
	peer_close(&own);
	mirror_close(&s);
}

TEST(a_size_that_was_asked_for_stays_and_one_that_was_not_follows_the_stream)
{
	check_resize(MIRROR_UNMAPPED, HOST_MEMORY);
	check_resize(MIRROR_UNMAPPED, GPU_MEMORY);
	check_resize(MIRROR_GPU, HOST_MEMORY);
	check_resize(MIRROR_GPU, GPU_MEMORY);
}

TEST(a_view_that_cannot_be_made_any_more_ends_with_the_reason)
{
	struct peer peer;
	open_scene(MIRROR_UNMAPPED);
	consume(&peer, HOST_MEMORY, 600);
	feed();
	mirror_await_frame(&s, &peer, 1);
	mirror_resize(&s, 2, 2);
	CHECK_EQ(view_of(&peer)->n_subscribers, 1);
	mirror_resize(&s, 1, 1);
	mirror_await_end(&s, &peer, "the sizes are too far apart; formats that can: ");
	CHECK_EQ(s.stream->native.n_dependents, 0);
	peer_close(&peer);
	mirror_close(&s);
}

/* --- Memory and places --------------------------------------------------------------------------- */

static bool is_forgotten(struct mirror_scene *scene)
{
	return scene->stream->n_converted == 0 && !scene->stream->mirror.generation;
}

TEST(a_view_that_nobody_wants_is_freed_after_a_while_with_what_it_was_made_from)
{
	struct peer peer;
	bridge_test_linger_ns = LINGER_MS * NS_PER_MS;
	open_scene(MIRROR_UNMAPPED);
	consume(&peer, GPU_MEMORY, HALF);
	feed_and_take(&peer, 1);
	uint32_t id = peer.view;
	peer_close(&peer);
	CHECK(view_of_id(id)->generation != NULL);
	consume(&peer, GPU_MEMORY, HALF); /* within that while: the same */
	CHECK_EQ(peer.view, id);
	mirror_run_ms(&s, 2 * LINGER_MS);
	CHECK_EQ(s.stream->n_converted, 1);
	peer_close(&peer);
	mirror_run_until(&s, is_forgotten);
	CHECK_EQ(s.rig.catalog.gpu_budget.used_bytes, 0);
	mirror_close(&s);
}

TEST(of_more_forms_than_there_may_be_one_that_nobody_wants_goes_and_else_the_next_is_refused)
{
	struct peer peers[STREAM_CONVERTED_MAX + 1];
	open_scene(MIRROR_UNMAPPED);
	for (unsigned i = 0; i < STREAM_CONVERTED_MAX; i++)
		consume(&peers[i], HOST_MEMORY, HALF + 2 * i);
	struct peer *last = &peers[STREAM_CONVERTED_MAX];
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_YUV420, 0, 0);
	peer_ready(last, &s.rig, "consumer");
	peer_ask(last, &m);
	peer_expect_error(
		last, m.request, SLUICE__ERROR_CODE__ERROR_LIMIT, "has 8 converted views already");
	uint32_t gone = peers[3].view;
	peer_close(&peers[3]);
	peer_subscribe(last, &m);
	bind_generation(last, DRM_FORMAT_YUV420, SIDE, SIDE);
	CHECK(view_of_id(gone) == &s.stream->mirror); /* not found */
	uint32_t number = feed();
	take(last, number);
	take(&peers[0], number);
	for (unsigned i = 0; i <= STREAM_CONVERTED_MAX; i++)
		if (i != 3)
			peer_close(&peers[i]);
	mirror_close(&s);
}

TEST(a_conversion_needs_slots_that_are_not_reserved)
{
	struct peer holder, peer;
	Sluice__Subscribe m = mirror_request(HOST_MEMORY, COMPLETE);
	open_scene(MIRROR_UNMAPPED);
	m.delivery = SLUICE__DELIVERY__DELIVERY_MAILBOX;
	m.reserved_holds = RIG_SLOTS - POOL_UNRESERVED_MIN - 1; /* the mirror has its one */
	peer_ready(&holder, &s.rig, "holder");
	peer_subscribe(&holder, &m);
	peer_expect(&holder, SLUICE__PACKET__BODY_GENERATION);
	m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, 0, 0);
	peer_ready(&peer, &s.rig, "consumer");
	peer_ask(&peer, &m);
	peer_expect_error(&peer, m.request, SLUICE__ERROR_CODE__ERROR_ADMISSION,
		"of the stream's 8 slots 4 are reserved, and a conversion needs one more: start the "
		"broker with --slots 9");
	peer_close(&holder);
	peer_subscribe(&peer, &m);
	bind_generation(&peer, DRM_FORMAT_NV12, SIDE, SIDE);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(memory_of_converted_views_counts_like_any_other)
{
	struct peer peer;
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, 4096, 4096);
	open_scene(MIRROR_UNMAPPED);
	s.rig.catalog.budget.limit_bytes = s.rig.catalog.budget.used_bytes + (1 << 20);
	peer_ready(&peer, &s.rig, "consumer");
	peer_ask(&peer, &m);
	peer_expect_error(&peer, m.request, SLUICE__ERROR_CODE__ERROR_NO_VIEW,
		"no memory for NV12 4096x4096");
	CHECK_EQ(s.stream->native.n_dependents, 0);
	peer_close(&peer);
	mirror_close(&s);
}

/* --- The GPU goes and comes back ------------------------------------------------------------------ */

TEST(when_the_gpu_is_lost_what_it_makes_ends_and_what_the_cpu_makes_goes_on)
{
	struct peer gpu, host;
	open_scene(MIRROR_UNMAPPED);
	consume(&gpu, GPU_MEMORY, HALF);
	consume(&host, HOST_MEMORY, 0);
	feed_and_take(&gpu, 1);
	peer_skip_to(&host, SLUICE__PACKET__BODY_FRAME);
	mirror_drop_gpu(&s, "the GPU is lost");
	mirror_await_end(&s, &gpu, "the GPU is lost");
	CHECK_EQ(s.stream->n_converted, 1);
	uint32_t number = feed();
	while (host.packet->frame->seq < s.stream->next_seq - 1) {
		peer_release_last(&host);
		peer_skip_to(&host, SLUICE__PACKET__BODY_FRAME);
	}
	mirror_check_picture(&s, view_of(&host), host.packet->frame->slot, number);
	peer_close(&gpu);
	mirror_regain_gpu(&s);
	consume(&gpu, GPU_MEMORY, HALF);
	take(&gpu, number);
	feed_and_take(&gpu, 1);
	peer_close(&gpu);
	peer_close(&host);
	mirror_close(&s);
}

/* --- What is not sound ------------------------------------------------------------------------------ */

static const struct wrong {
	uint32_t fourcc, width, height, matrix;
	int range;
	const char *says;
} wrongs[] = {
	{ 0x20202020, 0, 0, 0, 0, "its format is not known here; formats are BGRx, " },
	{ 0, FORMAT_SIDE_MAX + 1, 1, 0, 0, "a picture has 1 to 16384 pixels a side" },
	{ 0, 1, UINT32_MAX, 0, 0, "a picture has 1 to 16384 pixels a side" },
	{ DRM_FORMAT_NV12, 0, 0, 2, 0, "the matrix is 1 (BT.709)" },
	{ DRM_FORMAT_NV12, 0, 0, 257, 0, "the matrix is 1 (BT.709)" },
	{ DRM_FORMAT_NV12, 0, 0, UINT32_MAX, 0, "the matrix is 1 (BT.709)" },
	{ DRM_FORMAT_NV12, 0, 0, 0, 3, "the range is the usual one" },
	{ DRM_FORMAT_NV12, 0, 0, 0, -1, "the range is the usual one" },
	{ DRM_FORMAT_ARGB8888, 0, 0, 0, 1, "RGB has the full range" },
	{ DRM_FORMAT_NV12, FORMAT_SIDE_MAX, FORMAT_SIDE_MAX, 0, 0, "too far apart" },
};

TEST(what_cannot_be_made_is_refused_with_the_reason_and_leaves_nothing)
{
	struct peer peer;
	open_scene(MIRROR_UNMAPPED);
	mirror_resize(&s, 16, 16);
	peer_ready(&peer, &s.rig, "consumer");
	for (unsigned i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		const struct wrong *row = &wrongs[i];
		Sluice__Subscribe m = request_of(HOST_MEMORY, row->fourcc, row->width, row->height);
		m.matrix = row->matrix;
		m.range = (Sluice__Range)row->range;
		peer_ask(&peer, &m);
		peer_expect_error(&peer, m.request, SLUICE__ERROR_CODE__ERROR_NO_VIEW, row->says);
		CHECK_EQ(s.stream->native.n_dependents, 0);
	}
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, 0, 0);
	m.min_interval_ns = UINT64_MAX;
	peer_ask(&peer, &m);
	peer_expect_error(&peer, m.request, SLUICE__ERROR_CODE__ERROR_LIMIT, "one in an hour");
	m.min_interval_ns = 0;
	m.reserved_holds = RIG_SLOTS;
	peer_ask(&peer, &m);
	peer_expect_error(&peer, m.request, SLUICE__ERROR_CODE__ERROR_ADMISSION, "do not fit");
	CHECK(s.stream->n_converted <= 1); /* what was tried lingers for its back-off */
	peer_close(&peer);
	mirror_close(&s);
}
