#include "tests/mirror_scene.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vulkan/vulkan_core.h>

#include "broker/gpu_slots.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/stamp.h"

/* Where a picture lies in its mapping: nowhere that a slot's layout would put it. */
enum { MAPPED_OFFSET = 4096 + 256, MAPPED_GAP = 64, FIRST_NUMBER = 1000, LIMIT_S = 10 };

/* --- The source ------------------------------------------------------------------------------- */

/* Runs on the worker. */
static int buffer_read(struct capture_buffer *base, uint8_t *pixels,
	const struct video_format *format, uint64_t seq)
{
	struct mirror_buffer *b = container_of(base, struct mirror_buffer, base);
	while (b->scene->holds_reads)
		usleep(1000);
	stamp_draw(pixels, format, b->number);
	b->scene->n_reads++;
	return 0;
}

static void buffer_record(struct capture_buffer *base, const struct gpu_picture *to, uint64_t seq,
	struct gpu_work *work)
{
	struct mirror_buffer *b = container_of(base, struct mirror_buffer, base);
	b->draw = (struct gpu_draw){ .to = *to, .number = b->number };
	work->draw = &b->draw;
	b->scene->n_records++;
}

static struct mirror_scene *of_capture(struct capture *capture)
{
	return container_of(capture, struct mirror_scene, capture);
}

static int source_start(struct capture *capture)
{
	if (of_capture(capture)->format.fourcc)
		capture->listener->format(capture->listener_data, &of_capture(capture)->format);
	return 0;
}

static void source_give_back(struct capture *capture, struct capture_buffer *base)
{
	struct mirror_buffer *b = container_of(base, struct mirror_buffer, base);
	CHECK(b->lent);
	b->lent = false;
}

static void unmap(struct mirror_buffer *b)
{
	if (!b->writable)
		return;
	munmap(b->mapping.map, b->mapping.size_bytes);
	munmap(b->writable, b->mapping.size_bytes);
	b->writable = NULL;
	b->base.mapping = NULL;
}

static void take_back(struct mirror_scene *s, struct mirror_buffer *b)
{
	s->capture.listener->revoke(s->capture.listener_data, &b->base);
	CHECK(!b->lent);
	unmap(b);
}

static struct capture *source_destroy(struct capture *capture)
{
	struct mirror_scene *s = of_capture(capture);
	for (unsigned i = 0; i < MIRROR_BUFFERS; i++)
		take_back(s, &s->buffer[i]);
	return NULL;
}

static const struct capture_ops source_ops = {
	.start = source_start,
	.give_back = source_give_back,
	.destroy = source_destroy,
};

/* How the picture lies in its mapping. */
static struct video_format mapped_format(const struct mirror_scene *s)
{
	struct video_format f = s->format;
	f.offset[0] = MAPPED_OFFSET;
	f.stride[0] += MAPPED_GAP;
	f.size_bytes = MAPPED_OFFSET + (uint64_t)f.stride[0] * f.height;
	return f;
}

/* Sealed, and the broker can only read it. */
static void map(struct mirror_scene *s, struct mirror_buffer *b)
{
	struct video_format f = mapped_format(s);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = (f.size_bytes + page - 1) / page * page;
	int fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	b->writable = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b->mapping = (struct capture_mapping){
		.map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0),
		.size_bytes = size,
		.offset = { f.offset[0] },
		.stride = { f.stride[0] },
	};
	CHECK(b->writable != MAP_FAILED && b->mapping.map != MAP_FAILED);
	b->base.mapping = &b->mapping;
	close(fd);
}

static struct capture *create_source(struct mirror_scene *s)
{
	s->capture.ops = &source_ops;
	for (unsigned i = 0; i < MIRROR_BUFFERS; i++) {
		struct mirror_buffer *b = &s->buffer[i];
		b->scene = s;
		if (s->source == MIRROR_GPU)
			b->base.record = buffer_record;
		else
			b->base.read = buffer_read;
		if (s->source == MIRROR_MAPPED)
			map(s, b);
	}
	return &s->capture;
}

static struct mirror_buffer *find_free(struct mirror_scene *s)
{
	for (unsigned i = 1; i <= MIRROR_BUFFERS; i++) {
		struct mirror_buffer *b = &s->buffer[(s->last_number + i) % MIRROR_BUFFERS];
		if (!b->lent)
			return b;
	}
	test_fail(__FILE__, __LINE__, "the bridge has all buffers");
}

uint32_t mirror_offer(struct mirror_scene *s)
{
	struct mirror_buffer *b = find_free(s);
	struct video_format mapped = mapped_format(s);
	uint64_t now = clock_ns();
	b->number = ++s->last_number;
	b->lent = true;
	b->base.info = (struct frame_info){ .pts_ns = now, .captured_ns = now };
	if (b->writable)
		stamp_draw(b->writable + mapped.offset[0], &mapped, b->number);
	s->capture.listener->buffer(s->capture.listener_data, &b->base);
	return b->number;
}

void mirror_revoke_last(struct mirror_scene *s)
{
	for (unsigned i = 0; i < MIRROR_BUFFERS; i++)
		if (s->buffer[i].number == s->last_number)
			take_back(s, &s->buffer[i]);
}

void mirror_resize(struct mirror_scene *s, uint32_t width, uint32_t height)
{
	CHECK(s->source != MIRROR_MAPPED);
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, width, height, &s->format), 0);
	s->capture.listener->format(s->capture.listener_data, &s->format);
}

/* --- The stream ------------------------------------------------------------------------------- */

static void on_gpu_lost(void *data)
{
	((struct mirror_scene *)data)->gpu_is_lost = true;
}

/* With Vulkan's validation layer. */
static void open_gpu(struct mirror_scene *s)
{
	char error[GPU_TEXT_MAX];
	struct gpu_options options = { .validation = true, .lost = on_gpu_lost, .data = s };
	mirror_driver_play();
	int r = gpu_create(&s->gpu, s->rig.loop, &options, error, sizeof(error));
	if (r == -ENOENT)
		test_skip(error);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "gpu_create: %s", error);
	gpu_slots_describe(s->gpu, &s->device);
	s->gpu_is_lost = false;
}

static struct slot_source slots_of_gpu(struct mirror_scene *s)
{
	return gpu_slots(s->gpu, &s->device, &s->rig.catalog.gpu_budget);
}

static void set_memory(struct mirror_scene *s)
{
	bool is_gpu = s->source == MIRROR_GPU;
	struct slot_source host = slots_host(&s->rig.catalog.budget), gpu = slots_of_gpu(s);
	stream_set_memory(s->stream, is_gpu ? &gpu : &host, is_gpu ? &host : &gpu);
}

static void open_scene(struct mirror_scene *s, enum mirror_source source,
	struct capture *(*capture)(struct mirror_scene *s))
{
	log_set_level(LOG_LEVEL_ERROR);
	s->source = source;
	s->last_number = FIRST_NUMBER;
	rig_init(&s->rig);
	s->rig.catalog.gpu_budget.limit_bytes = s->rig.catalog.budget.limit_bytes;
	open_gpu(s);
	s->stream = rig_add_stream(&s->rig, "test");
	set_memory(s);
	CHECK_EQ(bridge_create(&s->bridge, s->rig.loop, capture(s), s->stream, s->gpu), 0);
}

void mirror_open_with(struct mirror_scene *s, enum mirror_source source,
	struct capture *(*capture)(struct mirror_scene *s))
{
	memset(s, 0, sizeof(*s));
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, MIRROR_SIDE, MIRROR_SIDE, &s->format), 0);
	open_scene(s, source, capture);
}

void mirror_open(struct mirror_scene *s, enum mirror_source source)
{
	mirror_open_with(s, source, create_source);
}

void mirror_open_empty(struct mirror_scene *s)
{
	memset(s, 0, sizeof(*s));
	open_scene(s, MIRROR_UNMAPPED, create_source);
}

void mirror_close(struct mirror_scene *s)
{
	s->holds_reads = false;
	if (s->gpu)
		mirror_let_work_end();
	CHECK_EQ(s->rig.server->n_clients, 0);
	CHECK_EQ(s->stream->native.n_subscribers + s->stream->mirror.n_subscribers, 0);
	s->bridge = bridge_destroy(s->bridge);
	rig_remove_stream(&s->rig, s->stream);
	CHECK_EQ(s->rig.catalog.gpu_budget.used_bytes, 0);
	s->gpu = gpu_destroy(s->gpu);
	rig_finish(&s->rig);
}

struct view *mirror_host(struct mirror_scene *s)
{
	return stream_view(s->stream, MEMORY_HOST);
}

struct view *mirror_gpu(struct mirror_scene *s)
{
	return stream_view(s->stream, MEMORY_OPAQUE_FD);
}

/* --- Pixels ----------------------------------------------------------------------------------- */

/* Copied to where the CPU can see it. */
static enum stamp_result read_gpu_stamp(struct mirror_scene *s, struct gpu_buffer *from,
	const struct video_format *format, uint32_t *number)
{
	struct gpu_buffer *seen;
	gpu_job job;
	CHECK_EQ(gpu_buffer_create(s->gpu, GPU_STAGING, format->size_bytes, &seen), 0);
	struct gpu_copy copy = {
		.from = gpu_picture_of(from, format),
		.to = gpu_picture_of(seen, format),
	};
	struct gpu_work work = { .format = format, .copy = &copy };
	CHECK_EQ(gpu_submit(s->gpu, &work, &job, NULL), 0);
	gpu_wait(s->gpu, job);
	enum stamp_result r = stamp_read(gpu_buffer_map(seen), format, number);
	gpu_buffer_destroy(seen);
	return r;
}

void mirror_check_picture(
	struct mirror_scene *s, const struct view *view, unsigned slot, uint32_t number)
{
	const struct generation *g = view->generation;
	const struct slot_memory *memory = &g->slot[slot];
	struct mirror_driver before = mirror_driver;
	uint32_t found = 0;
	mirror_driver.refuses_maps = false; /* it is not asked for the broker */
	CHECK(!mirror_driver.holds_work);
	enum stamp_result r = memory->map ? stamp_read(memory->map, &g->format, &found)
					  : read_gpu_stamp(s, memory->buffer, &g->format, &found);
	CHECK_EQ(r, STAMP_OK);
	CHECK_EQ(found, number);
	mirror_driver = before;
}

/* --- Time ------------------------------------------------------------------------------------- */

void mirror_run_ms(struct mirror_scene *s, unsigned ms)
{
	rig_run_ms(&s->rig, ms);
}

static uint64_t time_limit(void)
{
	return clock_ns() + LIMIT_S * NS_PER_S * test_slowness();
}

void mirror_run_until(struct mirror_scene *s, bool (*is_so)(struct mirror_scene *s))
{
	for (uint64_t limit = time_limit(); !is_so(s); rig_run_ms(&s->rig, 1))
		CHECK(clock_ns() < limit);
}

static bool is_complete_in(const struct view *view)
{
	const struct generation *g = view->generation;
	if (!g || !view_is_running(view))
		return true;
	const struct slot *newest = g->pool.newest;
	return newest && newest->complete && newest->seq == view->stream->next_seq - 1;
}

static bool is_fed(struct mirror_scene *s)
{
	for (unsigned i = 0; i < MIRROR_BUFFERS; i++)
		if (s->buffer[i].lent)
			return false;
	return is_complete_in(&s->stream->native) && is_complete_in(&s->stream->mirror);
}

uint32_t mirror_feed(struct mirror_scene *s)
{
	uint32_t number = mirror_offer(s);
	mirror_run_until(s, is_fed);
	return number;
}

/* --- Peers ------------------------------------------------------------------------------------ */

Sluice__Subscribe mirror_request(Sluice__Memory memory, Sluice__Readiness readiness)
{
	Sluice__Subscribe m = rig_request();
	m.memory = memory;
	m.readiness = readiness;
	m.delivery = SLUICE__DELIVERY__DELIVERY_FIFO;
	m.fifo_depth = m.max_holds = MIRROR_HOLDS;
	return m;
}

void mirror_consume(struct mirror_scene *s, struct peer *peer, Sluice__Memory memory,
	Sluice__Readiness readiness)
{
	Sluice__Subscribe m = mirror_request(memory, readiness);
	peer_ready(peer, &s->rig, "consumer");
	peer_subscribe(peer, &m);
	CHECK_EQ(peer->packet->subscribed->memory, memory);
	CHECK_EQ(peer->packet->subscribed->readiness, readiness);
	CHECK_STR(peer->packet->subscribed->note, "");
	peer_expect(peer, SLUICE__PACKET__BODY_GENERATION);
	CHECK_EQ(peer->packet->generation->readiness, readiness);
	peer_bound(peer, 0, "");
}

void mirror_consume_host(struct mirror_scene *s, struct peer *peer)
{
	mirror_consume(s, peer, SLUICE__MEMORY__MEMORY_HOST, SLUICE__READINESS__READINESS_COMPLETE);
}

void mirror_consume_gpu(struct mirror_scene *s, struct peer *peer, Sluice__Readiness readiness)
{
	mirror_consume(s, peer, SLUICE__MEMORY__MEMORY_OPAQUE_FD, readiness);
}

/* peer_expect() can say what came instead, only if it is the one that receives. */
static void wait_for_packet(struct mirror_scene *s, struct peer *peer)
{
	unsigned char byte;
	for (uint64_t limit = time_limit(); recv(peer->fd, &byte, 1, MSG_PEEK) < 0;
		rig_run_ms(&s->rig, 1)) {
		CHECK_EQ(errno, EAGAIN);
		if (clock_ns() > limit)
			return;
	}
}

void mirror_await(struct mirror_scene *s, struct peer *peer, int body)
{
	wait_for_packet(s, peer);
	peer_expect(peer, body);
}

static void await_frame(struct mirror_scene *s, struct peer *peer, uint64_t seq, unsigned n_fds)
{
	wait_for_packet(s, peer);
	peer_expect_frame(peer, seq);
	CHECK_EQ(peer->packet->frame->view, peer->view);
	CHECK_EQ(peer->fds.n, n_fds);
}

void mirror_await_frame(struct mirror_scene *s, struct peer *peer, uint64_t seq)
{
	await_frame(s, peer, seq, 0);
	CHECK(peer->packet->frame->copied_ns > 0);
}

void mirror_await_early(struct mirror_scene *s, struct peer *peer, uint64_t seq, unsigned n_fds)
{
	await_frame(s, peer, seq, n_fds);
	CHECK_EQ(peer->packet->frame->copied_ns, 0);
}

void mirror_take(struct mirror_scene *s, struct peer *peer, uint64_t seq, uint32_t number)
{
	mirror_await_frame(s, peer, seq);
	const struct view *view = &s->stream->native;
	if (peer->view != view->id)
		view = &s->stream->mirror;
	mirror_check_picture(s, view, peer->packet->frame->slot, number);
	peer_release_last(peer);
}

void mirror_await_end(struct mirror_scene *s, struct peer *peer, const char *says)
{
	mirror_await(s, peer, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(peer->packet->ended->view, peer->view);
	CHECK_ROW(strstr(peer->packet->ended->text, says), peer->packet->ended->text);
}

void mirror_expect_silence(struct mirror_scene *s, struct peer *peer)
{
	rig_run_ms(&s->rig, MIRROR_QUIET_MS);
	peer_expect_nothing(peer);
}

struct gpu_timeline *mirror_timeline(struct mirror_scene *s, unsigned nth)
{
	struct subscriber *subscriber;
	list_for_each(subscriber, &mirror_gpu(s)->subscribers, link)
		if (nth-- == 0)
			return subscriber->timeline;
	return NULL;
}

void mirror_await_value(struct mirror_scene *s, struct gpu_timeline *timeline, uint64_t value)
{
	for (uint64_t limit = time_limit(); gpu_timeline_value(timeline) < value;
		rig_run_ms(&s->rig, 1))
		CHECK(clock_ns() < limit);
	CHECK_EQ(gpu_timeline_value(timeline), value);
}

/* --- Losing the GPU --------------------------------------------------------------------------- */

void mirror_break_gpu_in(const char *function)
{
	CHECK(gpu_fault(function, VK_ERROR_DEVICE_LOST, 1, true));
}

void mirror_break_gpu(void)
{
	mirror_break_gpu_in("vkWaitSemaphores");
}

void mirror_drop_gpu(struct mirror_scene *s, const char *reason)
{
	mirror_let_work_end();
	bridge_drop_gpu(s->bridge, reason);
	s->gpu = gpu_destroy(s->gpu);
}

void mirror_regain_gpu(struct mirror_scene *s)
{
	CHECK(gpu_fault("vkWaitSemaphores", VK_SUCCESS, 0, false));
	CHECK(gpu_fault("vkGetSemaphoreCounterValue", VK_SUCCESS, 0, false));
	open_gpu(s);
	struct slot_source gpu = slots_of_gpu(s);
	stream_set_mirror(s->stream, &gpu);
	CHECK_EQ(bridge_regain_gpu(s->bridge, s->gpu), 0);
}
