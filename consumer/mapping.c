#include "consumer/mapping.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Offsets of planes are 32 bits wide: no picture needs more. */
static const uint64_t slot_bytes_max = UINT32_MAX;

static int wrong(struct error *error, const char *what)
{
	error_set(error, SLUICE_ERROR_PROTOCOL,
		"the broker described a view's memory wrongly: %s; this is a bug in the broker",
		what);
	return -EPROTO;
}

enum { COLOUR_NOT_KNOWN = 2 }; /* ITU-T H.273 */

static uint8_t colour_number(uint32_t n)
{
	return n <= UINT8_MAX ? (uint8_t)n : COLOUR_NOT_KNOWN;
}

static struct format_colour read_colour(const Sluice__Colour *colour)
{
	if (!colour)
		return (struct format_colour){ COLOUR_NOT_KNOWN, COLOUR_NOT_KNOWN, COLOUR_NOT_KNOWN,
			false };
	return (struct format_colour){
		.primaries = colour_number(colour->primaries),
		.transfer = colour_number(colour->transfer),
		.matrix = colour_number(colour->matrix),
		.full_range = colour->full_range,
	};
}

static int read_format(
	const Sluice__Generation *g, struct video_format *format_out, struct error *error)
{
	if (g->n_offset != g->n_stride || g->n_offset > FORMAT_PLANES_MAX)
		return wrong(error, "the numbers of planes disagree");
	struct video_format format = {
		.fourcc = g->fourcc,
		.width = g->width,
		.height = g->height,
		.n_planes = (unsigned)g->n_offset,
		.size_bytes = g->size_bytes,
		.colour = read_colour(g->colour),
	};
	for (unsigned p = 0; p < format.n_planes; p++) {
		format.offset[p] = g->offset[p];
		format.stride[p] = g->stride[p];
	}
	int r = format_check(&format);
	if (r == -EOPNOTSUPP) {
		error_set(error, SLUICE_ERROR_NO_VIEW,
			"this version of libsluice does not know the stream's pixel format 0x%08x",
			format.fourcc);
		return r;
	}
	if (r < 0)
		return wrong(error, "a plane does not fit the picture's memory");
	*format_out = format;
	return 0;
}

static int check_numbers(const Sluice__Generation *g, const struct fdset *fds, struct error *error)
{
	if (g->memory != SLUICE__MEMORY__MEMORY_HOST ||
		g->readiness != SLUICE__READINESS__READINESS_COMPLETE)
		return wrong(error, "a kind of memory that was not asked for");
	if (g->slots < WIRE_SLOTS_MIN || g->slots > WIRE_SLOTS_MAX)
		return wrong(error, "a number of slots outside the limits");
	if (fds->n != g->slots + 1)
		return wrong(error, "the number of descriptors is not that of the slots");
	if (g->size_bytes > slot_bytes_max || g->data_offset > slot_bytes_max - g->size_bytes)
		return wrong(error, "a slot is larger than any picture");
	return 0;
}

/* Memory that can be truncated under a mapping would kill the reader with SIGBUS. */
static int check_memory(int fd, size_t size_bytes, struct error *error)
{
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return wrong(error, "its memory is not sealed against shrinking");
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size < size_bytes)
		return wrong(error, "its memory is smaller than the broker said");
	return 0;
}

static int map(int fd, size_t size_bytes, const void **map_out, struct error *error)
{
	int r = check_memory(fd, size_bytes, error);
	if (r < 0)
		return r;
	void *p = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		error_set(error, SLUICE_ERROR_NONE, "cannot map %zu bytes of a view's memory: %s",
			size_bytes, strerror(errno));
		return -ENOMEM;
	}
	*map_out = p;
	return 0;
}

static int map_control(struct mapping *m, int fd, struct error *error)
{
	const void *p = NULL;
	int r = map(fd, control_page_bytes(m->n_slots), &p, error);
	if (r < 0)
		return r;
	m->control = p;
	if (m->control->magic != CONTROL_MAGIC || m->control->version != CONTROL_VERSION)
		return wrong(error, "its control page is of another version");
	if (m->control->n_slots != m->n_slots || m->control->generation != m->id)
		return wrong(error, "its control page belongs to another generation");
	return 0;
}

static int map_slots(struct mapping *m, const struct fdset *fds, struct error *error)
{
	for (unsigned i = 0; i < m->n_slots; i++) {
		const void *p = NULL;
		int r = map(fds->fd[i + 1], m->slot_bytes, &p, error);
		if (r < 0)
			return r;
		m->slot[i] = p;
	}
	return 0;
}

int mapping_create(struct mapping **mapping_out, const Sluice__Generation *g, struct fdset *fds_in,
	struct error *error)
{
	_cleanup_fdset_ struct fdset fds = *fds_in;
	fds_in->n = 0;
	int r = check_numbers(g, &fds, error);
	if (r < 0)
		return r;
	_cleanup_(mapping_unrefp) struct mapping *m = calloc(1, sizeof(*m));
	if (!m) {
		error_set(error, SLUICE_ERROR_NONE, "out of memory");
		return -ENOMEM;
	}
	m->n_refs = 1;
	m->id = g->generation;
	m->n_slots = g->slots;
	m->data_offset = g->data_offset;
	m->slot_bytes = (size_t)(g->data_offset + g->size_bytes);
	r = read_format(g, &m->format, error);
	if (r < 0)
		return r;
	r = map_control(m, fds.fd[0], error);
	if (r < 0)
		return r;
	r = map_slots(m, &fds, error);
	if (r < 0)
		return r;
	*mapping_out = TAKE_PTR(m);
	return 0;
}

struct mapping *mapping_ref(struct mapping *m)
{
	m->n_refs++;
	return m;
}

static void unmap(const void *p, size_t size_bytes)
{
	if (p)
		munmap((void *)p, size_bytes);
}

struct mapping *mapping_unref(struct mapping *m)
{
	if (!m || --m->n_refs > 0)
		return NULL;
	unmap(m->control, control_page_bytes(m->n_slots));
	for (unsigned i = 0; i < m->n_slots; i++)
		unmap(m->slot[i], m->slot_bytes);
	free(m);
	return NULL;
}
