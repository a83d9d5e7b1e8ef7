/* Views that are made from another: what is not made because nobody would have it, and when a source that goes by
 * its readers goes on. */
#include "tests/mirror_scene.h"

#include <drm_fourcc.h>

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

static bool is_complete(const struct view *view)
{
	const struct slot *newest = view->generation ? view->generation->pool.newest : NULL;
	return !view_is_running(view) ||
	       (newest && newest->complete && newest->seq == s.stream->next_seq - 1);
}

static void take(struct peer *peer, uint32_t number)
{
	mirror_await_frame(&s, peer, s.stream->next_seq - 1);
	mirror_check_picture(&s, view_of(peer), peer->packet->frame->slot, number);
	peer_release_last(peer);
}

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

static bool is_fed_natively(struct mirror_scene *scene)
{
	return is_complete(&scene->stream->native);
}

/* --- A source that goes by its readers ------------------------------------------------------------ */

/* The next picture when all have given back the last one. */
static struct capture *create_unpaced_pattern(struct mirror_scene *scene)
{
	struct capture *capture;
	struct capture_place place = {
		.loop = scene->rig.loop,
		.name = "test",
		.gpu = scene->gpu,
	};
	CHECK_EQ(capture_gpu_pattern_create(&capture, &place, &scene->format, 0), 0);
	return capture;
}

/* Each frame is kept for a while: it neither goes on meanwhile nor waits for its own limit, 1 s, then. */
static void check_goes_by(Sluice__Memory memory, uint32_t fourcc)
{
	enum { FRAMES = 20 };
	struct peer peer;
	mirror_open_with(&s, MIRROR_GPU, create_unpaced_pattern);
	Sluice__Subscribe m = request_of(memory, fourcc, 0, 0);
	m.delivery = SLUICE__DELIVERY__DELIVERY_MAILBOX;
	m.max_holds = 1;
	peer_ready(&peer, &s.rig, "consumer");
	peer_subscribe(&peer, &m);
	bind_generation(&peer, fourcc, MIRROR_SIDE, MIRROR_SIDE);
	uint64_t began = clock_ns();
	for (unsigned i = 0; i < FRAMES; i++) {
		mirror_await(&s, &peer, SLUICE__PACKET__BODY_FRAME);
		mirror_run_ms(&s, 20);
		peer_release_last(&peer);
	}
	uint64_t seconds = (clock_ns() - began) / NS_PER_S;
	CHECK(seconds < FRAMES / 2);
	CHECK(s.stream->next_seq <= FRAMES + seconds + 4);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(a_source_that_goes_by_its_readers_goes_by_those_of_a_converted_view_too)
{
	check_goes_by(HOST_MEMORY, DRM_FORMAT_NV12);
}

TEST(a_source_that_goes_by_its_readers_goes_by_those_of_its_mirror_too)
{
	check_goes_by(HOST_MEMORY, DRM_FORMAT_XRGB8888);
}

/* --- Maximum frame rates -------------------------------------------------------------------------- */

/* At most so often. */
static void consume(struct peer *peer, Sluice__Memory memory, uint64_t min_interval_ns)
{
	Sluice__Subscribe m = request_of(memory, DRM_FORMAT_NV12, HALF, HALF);
	m.min_interval_ns = min_interval_ns;
	peer_ready(peer, &s.rig, "consumer");
	peer_subscribe(peer, &m);
	bind_generation(peer, DRM_FORMAT_NV12, HALF, HALF);
}

/* Of many pictures in a second the first is made and, later, the last: for whoever wants no more. */
static void check_slow(enum mirror_source source, Sluice__Memory memory)
{
	enum { PICTURES = 12 };
	struct peer slow[2], peer;
	uint32_t number;
	open_scene(source);
	consume(&slow[0], memory, NS_PER_S);
	consume(&slow[1], memory, NS_PER_S);
	number = mirror_offer(&s);
	for (unsigned i = 0; i < 2; i++)
		take(&slow[i], number);
	for (unsigned i = 1; i < PICTURES; i++) {
		mirror_offer(&s);
		mirror_run_until(&s, is_fed_natively);
	}
	unsigned n_made = view_of(&slow[0])->counts.published;
	CHECK(n_made < PICTURES / 2);
	for (unsigned i = 0; i < 2; i++) {
		/* on a slow machine there were some between */
		do {
			mirror_await(&s, &slow[i], SLUICE__PACKET__BODY_FRAME);
			peer_release_last(&slow[i]);
		} while (slow[i].packet->frame->seq < PICTURES);
		CHECK(slow[i].packet->frame->paced > 0);
	}
	CHECK(view_of(&slow[0])->counts.published <= n_made + 2);
	/* whoever comes then has the newest at once, though none was made of it */
	mirror_offer(&s);
	mirror_run_until(&s, is_fed_natively);
	number = mirror_offer(&s);
	mirror_run_until(&s, is_fed_natively);
	consume(&peer, memory, 0);
	take(&peer, number);
	peer_close(&peer);
	peer_close(&slow[0]);
	peer_close(&slow[1]);
	mirror_close(&s);
}

TEST(what_nobody_is_due_to_have_is_not_made_by_the_cpu)
{
	check_slow(MIRROR_UNMAPPED, HOST_MEMORY);
}

TEST(what_nobody_is_due_to_have_is_not_made_on_the_gpu_and_not_read_back)
{
	check_slow(MIRROR_GPU, HOST_MEMORY);
}

TEST(what_nobody_is_due_to_have_is_not_made_on_the_gpu)
{
	check_slow(MIRROR_GPU, GPU_MEMORY);
}
