/*
 * The one copy of a frame: out of captured memory into a slot, by the very function that the broker
 * uses on its worker thread, beside memcpy() of as many bytes between the same two mappings.
 */
#include <assert.h>
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "broker/capture/pipewire.h"
#include "common/clock.h"
#include "common/fd.h"
#include "consumer/bench/figures.h"

enum {
	ROUNDS = 31,
	WARM_COPIES = 2,
	PAGE = 4096,
};

static const double bound = 0.8;

struct copy_case {
	const char *what;
	uint32_t fourcc;
	uint32_t width, height;
	bool is_sealed; /* the producer cannot shrink it: it is read through a mapping */
	bool is_beside_pread;
	enum target target;
};

/* clang-format off */
static const struct copy_case cases[] = {
	{ "3840x2160 BGRx, sealed: mapped", DRM_FORMAT_XRGB8888, 3840, 2160, true, false,
		TARGET_RATIO_AT_LEAST },
	{ "1366x768 BGRx, sealed: mapped, row by row", DRM_FORMAT_XRGB8888, 1366, 768, true, false,
		TARGET_RATIO_AT_LEAST },
	{ "1920x1080 NV12, sealed: mapped, row by row", DRM_FORMAT_NV12, 1920, 1080, true, false,
		TARGET_RATIO_AT_LEAST },
	{ "3840x2160 BGRx, not sealed: pread", DRM_FORMAT_XRGB8888, 3840, 2160, false, true,
		TARGET_RATIO_AT_LEAST },
	{ "3840x2160 BGRx, not sealed: pread", DRM_FORMAT_XRGB8888, 3840, 2160, false, false,
		TARGET_NONE },
};
/* clang-format on */

/* Shared memory of our own, filled so that its pages are there. */
struct area {
	int fd;
	void *map;
	size_t bytes;
};

static void area_finish(struct area *area)
{
	if (area->map)
		munmap(area->map, area->bytes);
	fd_closep(&area->fd);
}

static int area_init(struct area *area, size_t bytes, struct failure *failure)
{
	*area = (struct area){ .bytes = bytes };
	area->fd = memfd_create("sluice-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (area->fd >= 0 && ftruncate(area->fd, (off_t)bytes) == 0)
		area->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, area->fd, 0);
	if (!area->map || area->map == MAP_FAILED) {
		area->map = NULL;
		return fail(failure, -ENOMEM, "no memory for a picture of %zu bytes", bytes);
	}
	memset(area->map, 0x55, bytes);
	return 0;
}

/* A picture as a producer lays it out, without padding, and the slot that it is copied to. */
struct copy {
	struct area source, slot;
	struct pipewire_memory memory;
	struct video_format format; /* of the slot */
	size_t payload_bytes;
};

static void copy_finish(struct copy *c)
{
	pipewire_memory_detach(&c->memory);
	area_finish(&c->source);
	area_finish(&c->slot);
}

static size_t payload_of(const struct video_format *format)
{
	size_t bytes = 0;
	for (unsigned p = 0; p < format->n_planes; p++)
		bytes += (size_t)format_row_bytes(format, p) * format_rows(format, p);
	return bytes;
}

static int copy_init(struct copy *c, const struct copy_case *what, struct failure *failure)
{
	*c = (struct copy){ .source.fd = -EBADF, .slot.fd = -EBADF, .memory.fd = -EBADF };
	int r = format_layout(what->fourcc, what->width, what->height, &c->format);
	if (r < 0)
		return fail(failure, r, "%s: no such picture", what->what);
	c->payload_bytes = payload_of(&c->format);
	r = area_init(&c->slot, c->format.size_bytes, failure);
	if (r == 0)
		r = area_init(&c->source, (c->payload_bytes + PAGE - 1) / PAGE * PAGE, failure);
	if (r < 0)
		return r;
	if (what->is_sealed && fcntl(c->source.fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return fail(failure, -errno, "cannot seal memory: %s", strerror(errno));
	struct spa_data data = {
		.type = SPA_DATA_MemFd,
		.fd = c->source.fd,
		.maxsize = (uint32_t)c->source.bytes,
	};
	pipewire_memory_attach(&c->memory, &data);
	return c->memory.problem ? fail(failure, -EINVAL, "%s", c->memory.problem) : 0;
}

static int copy_as_the_broker(struct copy *c)
{
	uint64_t offset = 0;
	for (unsigned p = 0; p < c->format.n_planes; p++) {
		uint32_t row = format_row_bytes(&c->format, p);
		struct pipewire_block block = {
			.memory = &c->memory,
			.offset = offset,
			.stride = row,
			.rows = format_rows(&c->format, p),
			.row_bytes = row,
		};
		int r = pipewire_memory_copy(
			(uint8_t *)c->slot.map + c->format.offset[p], c->format.stride[p], &block);
		if (r < 0)
			return r;
		offset += (uint64_t)row * block.rows;
	}
	return 0;
}

static int copy_plainly(struct copy *c)
{
	assert(c->slot.map && c->source.map);
	memcpy(c->slot.map, c->source.map, c->payload_bytes);
	__asm__ volatile("" ::: "memory"); /* it is not left out */
	return 0;
}

static int copy_by_pread(struct copy *c)
{
	ssize_t n = pread(c->source.fd, c->slot.map, c->payload_bytes, 0);
	return n == (ssize_t)c->payload_bytes ? 0 : -EIO;
}

/* GB/s, or negative errno. */
static double speed_of(struct copy *c, int (*copy)(struct copy *))
{
	uint64_t begin = clock_ns();
	int r = copy(c);
	uint64_t ns = clock_ns() - begin;
	return r < 0 ? r : (double)c->payload_bytes / (double)ns;
}

static int run_case(
	struct copy *c, int (*other)(struct copy *), struct series *series, struct failure *failure)
{
	for (int i = -WARM_COPIES; i < ROUNDS; i++) {
		double broker = speed_of(c, copy_as_the_broker);
		double plain = speed_of(c, other);
		if (broker < 0)
			return fail(failure, (int)broker, "the copy failed: %s",
				strerror(-(int)broker));
		if (i >= 0)
			series_add(series, broker, plain);
	}
	return 0;
}

static int measure(struct report *report, const struct copy_case *what, struct failure *failure)
{
	_cleanup_(copy_finish) struct copy copy;
	struct series series = { 0 };
	struct row row = {
		.figure = "copy",
		.unit = "GB/s",
		.beside_name = what->is_beside_pread ? "pread" : "memcpy",
		.target = what->target,
		.bound = bound,
	};
	snprintf(row.what, sizeof(row.what), "%s", what->what);
	progress("copy: %s", what->what);
	int r = copy_init(&copy, what, failure);
	if (r == 0)
		r = run_case(&copy, what->is_beside_pread ? copy_by_pread : copy_plainly, &series,
			failure);
	if (r == 0)
		report_add(report, &row, &series);
	return r;
}

int figure_copy(struct report *report, const struct plan *plan, struct failure *failure)
{
	int r = 0;
	for (unsigned i = 0; r == 0 && i < sizeof(cases) / sizeof(cases[0]); i++)
		r = measure(report, &cases[i], failure);
	return r;
}
