/* The parts of the PipeWire capture that need no daemon: what they take and what they refuse. */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <spa/buffer/meta.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/capture/pipewire.h"
#include "common/clock.h"
#include "common/fd.h"
#include "tests/test.h"

/* --- targets --- */

#define LONGEST                                                            \
	"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" \
	"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" \
	"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" \
	"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

static const struct {
	const char *rest;
	bool good;
	enum pipewire_target_kind kind;
	uint64_t number;
} targets[] = {
	{ "v4l2_input.pci-0000_00_14.0", true, PIPEWIRE_BY_NAME, 0 },
	{ "a name, with a comma", true, PIPEWIRE_BY_NAME, 0 },
	{ "38", true, PIPEWIRE_BY_SERIAL, 38 },
	{ "4294967296", true, PIPEWIRE_BY_SERIAL, 4294967296 },
	{ "id=36", true, PIPEWIRE_BY_ID, 36 },
	{ "id=4294967294", true, PIPEWIRE_BY_ID, 4294967294 },
	{ "id=4294967295", false, 0, 0 },
	{ "id=", false, 0, 0 },
	{ "id=-1", false, 0, 0 },
	{ "id=36x", false, 0, 0 },
	{ "0", false, 0, 0 },
	{ "", false, 0, 0 },
	{ "two\nlines", false, 0, 0 },
	{ LONGEST, true, PIPEWIRE_BY_NAME, 0 },
	{ LONGEST "n", false, 0, 0 },
	{ "x,remote-fd=", false, 0, 0 },
	{ "x,remote-fd=-1", false, 0, 0 },
	{ "x,remote-fd=1", false, 0, 0 },          /* stdout */
	{ "x,remote-fd=99999", false, 0, 0 },      /* not open */
	{ "x,remote-fd=4294967296", false, 0, 0 }, /* no descriptor */
	{ ",remote-fd=3", false, 0, 0 },
};

TEST(a_target_is_a_name_or_a_number_and_says_so_if_not)
{
	for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		const char *rest = targets[i].rest;
		struct pipewire_target t = { .remote_fd = -EBADF };
		char error[512] = "";
		int r = pipewire_target_parse(&t, rest, error, sizeof(error));
		CHECK_ROW(r == (targets[i].good ? 0 : -EINVAL), rest);
		CHECK_ROW(r == 0 || strlen(error) > 40, rest);
		CHECK_ROW(r < 0 || strcmp(t.name, rest) == 0, rest);
		CHECK_ROW(t.kind == targets[i].kind && t.number == targets[i].number, rest);
		CHECK_ROW(!t.has_remote, rest);
	}
}

static int parse_remote(struct pipewire_target *t, int fd)
{
	char error[512], spec[64];
	snprintf(spec, sizeof(spec), "x,remote-fd=%d", fd);
	return pipewire_target_parse(t, spec, error, sizeof(error));
}

TEST(a_remote_must_be_a_socket_and_is_closed_for_children)
{
	struct pipewire_target t;
	int pipes[2], pair[2];
	CHECK_EQ(pipe(pipes), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	CHECK_EQ(parse_remote(&t, pipes[0]), -EINVAL);
	CHECK_EQ(fcntl(pipes[0], F_GETFD), 0); /* as it was */
	CHECK_EQ(parse_remote(&t, pair[0]), 0);
	CHECK(t.has_remote);
	CHECK_EQ(t.remote_fd, pair[0]);
	CHECK_EQ(fcntl(pair[0], F_GETFD), FD_CLOEXEC);
	CHECK_STR(t.name, "x");
	close(pipes[0]);
	close(pipes[1]);
	close(pair[0]);
	close(pair[1]);
}

/* --- where the planes are --- */

struct place {
	const char *name;
	uint32_t fourcc;
	struct frame_rect crop;
	unsigned n_chunks;
	struct pipewire_chunk chunk;
	const char *why;                /* part of it; NULL: sound */
	struct pipewire_plane plane[3]; /* that are found then */
};

enum {
	W = 320,
	H = 240,
	ROW = W * 4,
	FULL = ROW * H,
	LUMA = W * H,
	YUV = LUMA * 3 / 2,
	ALL = 1 << 20,
};

#define WHOLE              \
	{                  \
		0, 0, W, H \
	}

static const struct place places[] = {
	{ "tight", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 0, FULL, ROW }, NULL, { { 0, 0, ROW } } },
	{ "stride 0", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 0, FULL, 0 }, NULL, { { 0, 0, ROW } } },
	{ "offset", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 64, FULL, ROW }, NULL,
		{ { 0, 64, ROW } } },
	{ "crop", DRM_FORMAT_XRGB8888, { 10, 20, 30, 40 }, 1, { ALL, 0, FULL, ROW }, NULL,
		{ { 0, 25640 /* 20 rows and 10 pixels */, ROW } } },
	{ "NV12", DRM_FORMAT_NV12, { 10, 20, 30, 40 }, 1, { ALL, 0, YUV, W }, NULL,
		{ { 0, 6410, W }, { 0, LUMA + 3210, W } } },
	{ "I420", DRM_FORMAT_YUV420, WHOLE, 1, { ALL, 0, YUV, W }, NULL,
		{ { 0, 0, W }, { 0, LUMA, W / 2 }, { 0, LUMA * 5 / 4, W / 2 } } },
	{ "three blocks", DRM_FORMAT_YUV420, WHOLE, 3, { ALL, 8, LUMA, W }, NULL,
		{ { 0, 8, W }, { 1, 8, W }, { 2, 8, W } } },
	{ "the last row needs no padding", DRM_FORMAT_XRGB8888, WHOLE, 1,
		{ (ROW + 64) * H - 64, 0, (ROW + 64) * H - 64, ROW + 64 }, NULL,
		{ { 0, 0, ROW + 64 } } },
	{ "but a byte less is too short", DRM_FORMAT_XRGB8888, WHOLE, 1,
		{ ALL, 0, (ROW + 64) * H - 65, ROW + 64 }, "larger than", { { 0 } } },
	{ "memory a byte too short", DRM_FORMAT_XRGB8888, WHOLE, 1, { FULL - 1, 0, FULL, ROW },
		"does not fit", { { 0 } } },
	{ "offset out of memory", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, UINT32_MAX, FULL, ROW },
		"does not fit", { { 0 } } },
	{ "huge stride", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 0, UINT32_MAX, INT32_MAX },
		"larger than", { { 0 } } },
	{ "short stride", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 0, FULL, ROW - 1 },
		"shorter than a row", { { 0 } } },
	{ "negative stride", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 0, FULL, -ROW }, "negative",
		{ { 0 } } },
	{ "most negative stride", DRM_FORMAT_XRGB8888, WHOLE, 1, { ALL, 0, FULL, INT32_MIN },
		"negative", { { 0 } } },
	{ "NV12 without its chroma", DRM_FORMAT_NV12, WHOLE, 1, { ALL, 0, LUMA, W }, "larger than",
		{ { 0 } } },
	{ "two blocks of three", DRM_FORMAT_YUV420, WHOLE, 2, { ALL, 0, LUMA, W }, "blocks",
		{ { 0 } } },
};

static void check_place(const struct place *c)
{
	struct video_format format;
	struct pipewire_chunk chunks[] = { c->chunk, c->chunk, c->chunk };
	struct pipewire_plane plane[FORMAT_PLANES_MAX] = { { 99, 99, 99 } };
	CHECK_EQ(format_layout(c->fourcc, W, H, &format), 0);
	const char *why = pipewire_locate(&format, &c->crop, chunks, c->n_chunks, plane);
	CHECK_ROW(!why == !c->why, c->name);
	CHECK_ROW(!why || strstr(why, c->why), why);
	CHECK_ROW(!why || plane[0].memory == 99, c->name);
	for (unsigned p = 0; p < format.n_planes && !why; p++)
		CHECK_ROW(plane[p].memory == c->plane[p].memory &&
				  plane[p].offset == c->plane[p].offset &&
				  plane[p].stride == c->plane[p].stride,
			c->name);
}

TEST(planes_are_found_within_their_memory_or_refused)
{
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		check_place(&places[i]);
}

static const struct {
	const char *name;
	struct spa_region region;
	bool some;
	struct frame_rect rect;
} clips[] = {
	{ "inside", { { 1, 2 }, { 3, 4 } }, true, { 1, 2, 3, 4 } },
	{ "over the edge", { { -5, -5 }, { W + 10, 6 } }, true, { 0, 0, W, 1 } },
	{ "as large as it gets", { { INT32_MIN, 0 }, { UINT32_MAX, UINT32_MAX } }, true,
		{ 0, 0, W, H } },
	{ "left of it", { { -5, 0 }, { 5, 5 } }, false, { 0, 0, 0, 0 } },
	{ "right of it", { { W, 0 }, { 5, 5 } }, false, { 0, 0, 0, 0 } },
	{ "far right", { { INT32_MAX, 0 }, { UINT32_MAX, 5 } }, false, { 0, 0, 0, 0 } },
	{ "empty", { { 5, 5 }, { 0, 5 } }, false, { 0, 0, 0, 0 } },
};

TEST(regions_are_clipped)
{
	for (unsigned i = 0; i < sizeof(clips) / sizeof(clips[0]); i++) {
		struct frame_rect rect = { 0, 0, 0, 0 };
		CHECK_ROW(pipewire_clip(&clips[i].region, W, H, &rect) == clips[i].some,
			clips[i].name);
		CHECK_ROW(memcmp(&rect, &clips[i].rect, sizeof(rect)) == 0, clips[i].name);
	}
}

/* --- time --- */

TEST(implausible_time_stamps_are_replaced_by_now)
{
	static const uint64_t now = 1000 * NS_PER_S;
	static const struct {
		const char *name;
		int64_t pts;
		uint64_t result;
	} rows[] = {
		{ "a moment ago", 999 * (int64_t)NS_PER_S, 999 * NS_PER_S },
		{ "now", 1000 * (int64_t)NS_PER_S, now },
		{ "none", -1, now },
		{ "zero", 0, now },
		{ "the smallest", INT64_MIN, now },
		{ "the future", 1001 * (int64_t)NS_PER_S, now },
		{ "the end of time", INT64_MAX, now },
		{ "another clock", 33 * (int64_t)NS_PER_MS, now },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_ROW(pipewire_pts(rows[i].pts, now) == rows[i].result, rows[i].name);
}

/* --- damage --- */

TEST(damage_beyond_the_limit_is_everything)
{
	struct spa_meta_region regions[FRAME_DAMAGE_MAX + 1];
	struct spa_meta meta = { SPA_META_VideoDamage, sizeof(regions), regions };
	struct spa_buffer buffer = { .n_metas = 1, .metas = &meta };
	struct frame_rect crop = { 100, 0, 100, H };
	struct pipewire_damage damage, sum = { 0 };
	for (unsigned i = 0; i < FRAME_DAMAGE_MAX + 1; i++)
		regions[i].region = SPA_REGION(100 + (int)i, 0, 5, 5);
	pipewire_damage_read(&damage, &buffer, &crop);
	CHECK(damage.all && damage.n == 0);
	regions[FRAME_DAMAGE_MAX].region = SPA_REGION(0, 0, 0, 0);
	pipewire_damage_read(&damage, &buffer, &crop);
	CHECK(!damage.all);
	CHECK_EQ(damage.n, FRAME_DAMAGE_MAX);
	CHECK_EQ(damage.rect[3].x, 3); /* seen from the crop */
	pipewire_damage_add(&sum, &damage);
	CHECK_EQ(sum.n, FRAME_DAMAGE_MAX);
	pipewire_damage_add(&sum, &damage); /* the same again is nothing new */
	CHECK_EQ(sum.n, FRAME_DAMAGE_MAX);
	damage.rect[0].width++;
	pipewire_damage_add(&sum, &damage);
	CHECK(sum.all && sum.n == 0);
}

TEST(no_word_of_damage_is_everything)
{
	struct spa_meta_region none = { 0 };
	struct spa_meta meta = { SPA_META_VideoDamage, sizeof(none), &none };
	struct spa_buffer buffer = { .n_metas = 0, .metas = &meta };
	struct frame_rect crop = WHOLE;
	struct pipewire_damage damage;
	pipewire_damage_read(&damage, &buffer, &crop);
	CHECK(damage.all);
	buffer.n_metas = 1; /* it has the list, and the list is empty */
	pipewire_damage_read(&damage, &buffer, &crop);
	CHECK(damage.all);
}

/* --- memory --- */

enum { BYTES = 3 * 4096 };

static int memfd(unsigned seals)
{
	uint8_t bytes[BYTES];
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	for (unsigned i = 0; i < BYTES; i++)
		bytes[i] = (uint8_t)(i / 16);
	CHECK_EQ(write(fd, bytes, BYTES), BYTES);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static struct spa_data data_of(int fd)
{
	return (struct spa_data){ .type = SPA_DATA_MemFd, .fd = fd, .maxsize = BYTES };
}

static void check_copies(const struct pipewire_memory *m)
{
	uint8_t out[64] = { 0 };
	struct pipewire_block block = { m, 4, 32, 2, 16 };
	CHECK_EQ(pipewire_memory_copy(out, 16, &block), 0);
	CHECK_EQ(out[0], 104 / 16);
	CHECK_EQ(out[16], (104 + 32) / 16);
	block.stride = 16;
	CHECK_EQ(pipewire_memory_copy(out, 16, &block), 0);
	CHECK_EQ(out[31], (104 + 31) / 16);
}

static void check_attached(unsigned seals, bool mapped)
{
	struct pipewire_memory m;
	int fd = memfd(seals);
	struct spa_data data = data_of(fd);
	data.mapoffset = 100; /* not at a page */
	data.maxsize = 2 * BYTES;
	pipewire_memory_attach(&m, &data);
	CHECK(!m.problem);
	CHECK_EQ(m.data != NULL, mapped);
	CHECK_EQ(m.limit, BYTES - 100); /* what is really there */
	check_copies(&m);
	pipewire_memory_detach(&m);
	CHECK(m.problem);
	close(fd);
}

TEST(memory_is_mapped_only_if_nobody_can_shrink_it)
{
	check_attached(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, true);
	check_attached(F_SEAL_SHRINK, true);
	check_attached(F_SEAL_GROW, false);
	check_attached(F_SEAL_SEAL, false);
}

TEST(memory_that_was_truncated_is_stale)
{
	struct pipewire_memory m;
	uint8_t out[4096];
	int fd = memfd(0);
	struct spa_data data = data_of(fd);
	pipewire_memory_attach(&m, &data);
	struct pipewire_block whole = { &m, 4096, 1024, 4, 1024 };
	struct pipewire_block rows = { &m, 4096, 1024, 4, 512 };
	CHECK_EQ(pipewire_memory_copy(out, 1024, &whole), 0);
	CHECK_EQ(ftruncate(fd, 4096 + 3 * 1024), 0);
	CHECK_EQ(pipewire_memory_copy(out, 1024, &whole), -ESTALE);
	CHECK_EQ(pipewire_memory_copy(out, 512, &rows), -ESTALE);
	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(pipewire_memory_copy(out, 512, &rows), -ESTALE);
	pipewire_memory_detach(&m);
	close(fd);
}

static void check_problem(const struct spa_data *data, const char *problem)
{
	struct pipewire_memory m;
	pipewire_memory_attach(&m, data);
	CHECK_ROW(m.problem, problem);
	CHECK_ROW(strstr(m.problem, problem), m.problem);
	CHECK(!m.data && !m.map);
	pipewire_memory_detach(&m);
}

TEST(what_is_no_memory_is_refused)
{
	int pipes[2];
	CHECK_EQ(pipe(pipes), 0);
	int fd = memfd(F_SEAL_SHRINK);
	int empty = memfd_create("empty", MFD_CLOEXEC);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct spa_data data = data_of(pipes[0]);
	check_problem(&data, "no shared memory");
	data = data_of(file);
	check_problem(&data, "no shared memory");
	data = data_of(-1);
	check_problem(&data, "without memory");
	data.fd = 1ll << 40;
	check_problem(&data, "without memory");
	data = data_of(empty);
	check_problem(&data, "of no size");
	data = data_of(fd);
	data.mapoffset = UINT32_MAX;
	check_problem(&data, "of no size");
	data = data_of(fd);
	data.type = SPA_DATA_DmaBuf;
	check_problem(&data, "DMA-BUF");
	data.type = SPA_DATA_MemPtr;
	check_problem(&data, "without memory");
	data.type = 77;
	check_problem(&data, "unknown kind");
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
	close(empty);
	close(file);
}
