/* Views of another format and size, as many as there may be, and what becomes of them at the end. */
#include "tests/mirror_scene.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "broker/cpu_job.h"
#include "broker/request.h"
#include "broker/subscription.h"
#include "common/clock.h"

enum { SIDE = 160, HALF = SIDE / 2 };

#define COMPLETE    SLUICE__READINESS__READINESS_COMPLETE
#define HOST_MEMORY SLUICE__MEMORY__MEMORY_HOST
#define GPU_MEMORY  SLUICE__MEMORY__MEMORY_OPAQUE_FD

static struct mirror_scene s;

static void open_scene(enum mirror_source source)
{
	mirror_open(&s, source);
	mirror_resize(&s, SIDE, SIDE);
}

static struct view *view_of(const struct peer *peer)
{
	struct view *view;
	list_for_each(view, &s.stream->converted, link)
		if (view->id == peer->view)
			return view;
	return &s.stream->native;
}

static Sluice__Subscribe request_of(Sluice__Memory memory, uint32_t fourcc, uint32_t side)
{
	Sluice__Subscribe m = mirror_request(memory, COMPLETE);
	m.fourcc = fourcc;
	m.width = m.height = side;
	return m;
}

static void consume(struct peer *peer, Sluice__Memory memory, uint32_t fourcc, uint32_t side)
{
	Sluice__Subscribe m = request_of(memory, fourcc, side);
	peer_ready(peer, &s.rig, "consumer");
	peer_subscribe(peer, &m);
	peer_expect(peer, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(peer, 0, "");
}

static void take_as(struct peer *peer, uint64_t seq, uint32_t number)
{
	mirror_await_frame(&s, peer, seq);
	mirror_check_picture(&s, view_of(peer), peer->packet->frame->slot, number);
	peer_release_last(peer);
}

static void take(struct peer *peer, uint32_t number)
{
	take_as(peer, s.stream->next_seq - 1, number);
}

/* --- Places ----------------------------------------------------------------------------------- */

TEST(the_last_place_is_not_taken_from_the_view_that_is_being_made)
{
	struct peer peers[5];
	open_scene(MIRROR_GPU);
	/* two places each, for the one on the GPU that is read back */
	for (unsigned i = 0; i < 3; i++)
		consume(&peers[i], HOST_MEMORY, DRM_FORMAT_NV12, (uint32_t)HALF << i);
	consume(&peers[3], HOST_MEMORY, DRM_FORMAT_YUYV, HALF); /* the CPU's */
	CHECK_EQ(s.stream->n_converted, 7);
	consume(&peers[4], HOST_MEMORY, DRM_FORMAT_YUV420, HALF);
	CHECK_EQ(s.stream->n_converted, 8);
	CHECK(view_of(&peers[4])->from == &s.stream->mirror);
	uint32_t number = mirror_feed(&s);
	for (unsigned i = 0; i < 5; i++)
		take(&peers[i], number);
	for (unsigned i = 0; i < 5; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

TEST(another_user_has_half_of_the_places)
{
	struct peer peers[REQUEST_VIEWS_PER_USER], more;
	open_scene(MIRROR_UNMAPPED);
	s.rig.server->own_uid = getuid() + 1;
	s.rig.access.n_rules = 1;
	s.rig.access.rule[0] = (struct access_rule){ false, getuid(), ROLE_ALL };
	rig_configure(&s.rig);
	for (uint32_t i = 0; i < REQUEST_VIEWS_PER_USER; i++)
		consume(&peers[i], HOST_MEMORY, DRM_FORMAT_NV12, HALF + 2 * i);
	/* one that it has already is no other one */
	consume(&more, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, SIDE);
	peer_ask(&more, &m);
	peer_expect_error(&more, m.request, SLUICE__ERROR_CODE__ERROR_LIMIT, "have 4 converted");
	CHECK_EQ(s.stream->n_converted, REQUEST_VIEWS_PER_USER);
	s.rig.server->own_uid = getuid();
	peer_subscribe(&more, &m);
	peer_close(&more);
	for (unsigned i = 0; i < REQUEST_VIEWS_PER_USER; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

TEST(a_conversion_takes_nothing_from_the_queues_of_others)
{
	struct peer small, own;
	open_scene(MIRROR_UNMAPPED);
	consume(&small, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	Sluice__Subscribe m = mirror_request(HOST_MEMORY, COMPLETE);
	m.fifo_depth = RIG_SLOTS - POOL_UNRESERVED_MIN;
	peer_ready(&own, &s.rig, "consumer");
	peer_subscribe(&own, &m);
	peer_expect(&own, SLUICE__PACKET__BODY_GENERATION);
	peer_close(&own);
	peer_close(&small);
	mirror_close(&s);
}

/* --- Memory ----------------------------------------------------------------------------------- */

TEST(what_is_too_much_for_a_user_is_not_made)
{
	struct peer peer;
	open_scene(MIRROR_GPU);
	uint64_t host = s.rig.catalog.budget.used_bytes, gpu = s.rig.catalog.gpu_budget.used_bytes;
	s.rig.limits.bytes_per_user = 2 << 20;
	rig_configure(&s.rig);
	peer_ready(&peer, &s.rig, "consumer");
	for (uint32_t side = 2048; side < 2054; side += 2) {
		Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, side);
		peer_ask(&peer, &m);
		peer_expect_error(
			&peer, m.request, SLUICE__ERROR_CODE__ERROR_LIMIT, "memory-per-user");
	}
	CHECK_EQ(s.stream->n_converted, 0);
	CHECK_EQ(s.rig.catalog.budget.used_bytes, host);
	CHECK_EQ(s.rig.catalog.gpu_budget.used_bytes, gpu);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(what_was_made_for_a_view_that_there_is_no_memory_for_is_freed)
{
	struct peer peer;
	Sluice__Subscribe m = request_of(HOST_MEMORY, DRM_FORMAT_NV12, SIDE);
	open_scene(MIRROR_GPU);
	uint64_t gpu = s.rig.catalog.gpu_budget.used_bytes;
	s.rig.catalog.budget.limit_bytes = s.rig.catalog.budget.used_bytes;
	peer_ready(&peer, &s.rig, "consumer");
	peer_ask(&peer, &m);
	peer_expect_error(&peer, m.request, SLUICE__ERROR_CODE__ERROR_NO_VIEW, "no memory for ");
	CHECK_EQ(s.rig.catalog.gpu_budget.used_bytes, gpu);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(memory_of_a_view_that_nobody_wants_is_there_for_others)
{
	struct peer peer;
	struct memory_budget *budget = &s.rig.catalog.budget;
	open_scene(MIRROR_UNMAPPED);
	consume(&peer, HOST_MEMORY, DRM_FORMAT_NV12, 2 * SIDE);
	budget->limit_bytes = budget->used_bytes;
	peer_close(&peer);
	CHECK_EQ(budget->used_bytes, budget->limit_bytes); /* it lingers */
	consume(&peer, HOST_MEMORY, DRM_FORMAT_NV12, SIDE);
	CHECK_EQ(s.stream->n_converted, 1);
	peer_close(&peer);
	/* for the stream itself, too */
	budget->limit_bytes = budget->used_bytes;
	mirror_resize(&s, SIDE + 2, SIDE + 2);
	CHECK(s.stream->native.generation != NULL);
	CHECK_EQ(s.stream->n_converted, 0);
	mirror_close(&s);
}

/* --- Slow ones and fast ones ------------------------------------------------------------------ */

enum { SLOW_MS = 100 /* more than what counts as slow */ };

static unsigned bytes_of(const struct peer *peer)
{
	return (unsigned)view_of(peer)->generation->format.size_bytes;
}

static void feed_and_take(struct peer *peer, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		take(peer, mirror_feed(&s));
}

TEST(conversions_that_do_not_end_shut_out_no_other_view)
{
	struct peer slow[2], small, gpu;
	open_scene(MIRROR_UNMAPPED);
	lane_fault_hold_scale_bytes = 256 * SIDE; /* lines of a small picture have 256 bytes too */
	/* each begins with another frame, and keeps its slot */
	for (unsigned i = 0; i < 2; i++) {
		mirror_feed(&s);
		consume(&slow[i], HOST_MEMORY, DRM_FORMAT_NV12, SIDE + 2 * i);
	}
	consume(&small, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	mirror_await_frame(&s, &small, s.stream->next_seq - 1);
	peer_release_last(&small);
	feed_and_take(&small, 3);
	mirror_consume_gpu(&s, &gpu, COMPLETE);
	feed_and_take(&small, 3);
	CHECK(s.stream->mirror.counts.published >= 3);
	CHECK_EQ(view_of(&slow[1])->counts.published, 0);
	lane_fault_hold_scale_bytes = 0;
	mirror_await_frame(&s, &slow[1], 2);
	for (unsigned i = 0; i < 2; i++)
		peer_close(&slow[i]);
	peer_close(&small);
	peer_close(&gpu);
	mirror_close(&s);
}

static struct peer *middle;

static bool has_two(struct mirror_scene *scene)
{
	(void)scene;
	return view_of(middle)->counts.published == 2;
}

TEST(of_few_slots_one_is_left_for_those_that_are_fast)
{
	struct peer holder, big, mid, small;
	open_scene(MIRROR_UNMAPPED);
	Sluice__Subscribe m = mirror_request(HOST_MEMORY, COMPLETE);
	m.delivery = SLUICE__DELIVERY__DELIVERY_MAILBOX;
	m.reserved_holds = RIG_SLOTS - POOL_UNRESERVED_MIN - VIEW_READ_MIN;
	peer_ready(&holder, &s.rig, "holder");
	peer_subscribe(&holder, &m);
	peer_expect(&holder, SLUICE__PACKET__BODY_GENERATION);
	peer_bound(&holder, 0, "");
	consume(&big, HOST_MEMORY, DRM_FORMAT_NV12, 2 * SIDE);
	consume(&mid, HOST_MEMORY, DRM_FORMAT_NV12, SIDE);
	consume(&small, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	middle = &mid;
	lane_fault_slow_scale_bytes = bytes_of(&mid);
	lane_fault_slow_scale_ms = SLOW_MS;
	feed_and_take(&small, 1);
	mirror_await_frame(&s, &mid, 1);
	mirror_await_frame(&s, &big, 1);
	lane_fault_hold_scale_bytes = bytes_of(&big);
	feed_and_take(&small, 1);
	mirror_run_until(&s, has_two);
	feed_and_take(&small, 3);
	CHECK_EQ(view_of(&mid)->counts.published, 2);
	lane_fault_hold_scale_bytes = 0;
	mirror_await_frame(&s, &big, 2);
	lane_fault_slow_scale_ms = lane_fault_slow_scale_bytes = 0;
	peer_close(&holder);
	peer_close(&big);
	peer_close(&mid);
	peer_close(&small);
	mirror_close(&s);
}

/* --- A GPU with too much to do -------------------------------------------------------------------- */

static void fill_gpu(void)
{
	struct video_format format;
	struct gpu_buffer *from, *to;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, 16, 16, &format), 0);
	CHECK_EQ(gpu_buffer_create(s.gpu, GPU_STAGING, format.size_bytes, &from), 0);
	CHECK_EQ(gpu_buffer_create(s.gpu, GPU_STAGING, format.size_bytes, &to), 0);
	struct gpu_copy copy = {
		.from = gpu_picture_of(from, &format),
		.to = gpu_picture_of(to, &format),
	};
	struct gpu_work work = { .format = &format, .copy = &copy };
	int r = 0;
	mirror_hold_work();
	while (r == 0)
		r = gpu_submit(s.gpu, &work, NULL, NULL);
	CHECK_EQ(r, -EBUSY);
	gpu_buffer_destroy(from);
	gpu_buffer_destroy(to);
}

TEST(a_picture_that_finds_the_gpu_full_is_not_lost)
{
	struct peer own, made;
	open_scene(MIRROR_GPU);
	mirror_consume_gpu(&s, &own, COMPLETE);
	consume(&made, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	uint32_t number = mirror_feed(&s);
	take(&own, number);
	take(&made, number);
	fill_gpu();
	number = mirror_offer(&s);
	mirror_run_ms(&s, MIRROR_QUIET_MS);
	peer_expect_nothing(&own);
	mirror_let_work_end();
	take_as(&own, 2, number);
	take_as(&made, 2, number);
	peer_close(&own);
	peer_close(&made);
	mirror_close(&s);
}

/* --- The end ---------------------------------------------------------------------------------- */

TEST(a_stream_that_is_removed_ends_converted_views_too)
{
	struct peer peer;
	open_scene(MIRROR_UNMAPPED);
	consume(&peer, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	s.bridge = bridge_destroy(s.bridge);
	rig_remove_stream(&s.rig, s.stream);
	peer_expect(&peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_STREAM_GONE);
	peer_close(&peer);
	s.gpu = gpu_destroy(s.gpu);
	rig_finish(&s.rig);
}

/* As source.c does when the GPU of the stream is lost. */
static void lose_gpu(void)
{
	s.bridge = bridge_destroy(s.bridge);
	stream_end_views(s.stream, "the GPU is lost");
	s.gpu = gpu_destroy(s.gpu);
}

TEST(nothing_of_a_gpu_stream_outlives_its_gpu)
{
	struct peer gpu, host, cpu;
	open_scene(MIRROR_GPU);
	consume(&gpu, GPU_MEMORY, DRM_FORMAT_NV12, HALF); /* what the next one is read back from */
	consume(&host, HOST_MEMORY, DRM_FORMAT_NV12, HALF);
	consume(&cpu, HOST_MEMORY, DRM_FORMAT_YUYV, HALF);
	lose_gpu();
	struct peer *peers[] = { &gpu, &host, &cpu };
	for (unsigned i = 0; i < 3; i++) {
		peer_expect(peers[i], SLUICE__PACKET__BODY_ENDED);
		CHECK_STR(peers[i]->packet->ended->text, "the GPU is lost");
		peer_close(peers[i]);
	}
	CHECK_EQ(s.stream->n_converted, 0);
	rig_remove_stream(&s.rig, s.stream);
	CHECK_EQ(s.rig.catalog.gpu_budget.used_bytes + s.rig.catalog.budget.used_bytes, 0);
	rig_finish(&s.rig);
}
