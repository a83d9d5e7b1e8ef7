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
