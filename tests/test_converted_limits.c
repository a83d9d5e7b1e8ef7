/* Views of another format and size, as many as there may be, and what becomes of them at the end. */
#include "tests/mirror_scene.h"

#include <drm_fourcc.h>
#include <string.h>

#include "broker/lane.h"
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

static void take(struct peer *peer, uint32_t number)
{
	mirror_await_frame(&s, peer, s.stream->next_seq - 1);
	mirror_check_picture(&s, view_of(peer), peer->packet->frame->slot, number);
	peer_release_last(peer);
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
