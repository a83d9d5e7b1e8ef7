#include "consumer/mapping.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Offsets of planes are 32 bits wide: no picture needs more. */
static const uint64_t slot_bytes_max = UINT32_MAX;

/* What drivers round up to is far less. */
static const uint64_t allocation_bytes_max = 2 * (uint64_t)UINT32_MAX;

enum { MEMORY_TYPES_MAX = 32 }; /* VK_MAX_MEMORY_TYPES */

int mapping_wrong(struct error *error, const char *what)
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
		return mapping_wrong(error, "the numbers of planes disagree");
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
		return mapping_wrong(error, "a plane does not fit the picture's memory");
	*format_out = format;
	return 0;
}

/* Of memory on a GPU. */
static int check_allocation(const Sluice__Generation *g, struct error *error)
{
	if (g->allocation_bytes < g->data_offset + g->size_bytes)
		return mapping_wrong(error, "an allocation is smaller than what is in it");
	if (g->allocation_bytes > allocation_bytes_max)
		return mapping_wrong(error, "an allocation is larger than any picture");
	if (g->memory_type >= MEMORY_TYPES_MAX)
		return mapping_wrong(error, "a type of memory that no device has");
	return 0;
}

static int check_numbers(const Sluice__Generation *g, const struct fdset *fds,
	const struct importer_ops *ops, enum sluice_readiness readiness, struct error *error)
{
	if (g->memory != ops->wire_memory || (unsigned)g->readiness != (unsigned)readiness)
		return mapping_wrong(error, "a kind of memory that was not asked for");
	if (g->slots < WIRE_SLOTS_MIN || g->slots > WIRE_SLOTS_MAX)
		return mapping_wrong(error, "a number of slots outside the limits");
	if (fds->n != g->slots + 1 + (readiness == SLUICE_TIMELINE ? 1 : 0))
		return mapping_wrong(error, "the number of descriptors is not that of the slots");
	if (g->size_bytes > slot_bytes_max || g->data_offset > slot_bytes_max - g->size_bytes)
		return mapping_wrong(error, "a slot is larger than any picture");
	return ops->memory == SLUICE_MEMORY_HOST ? 0 : check_allocation(g, error);
}

static int map_control(struct mapping *m, int fd, struct error *error)
{
	const void *p = NULL;
	int r = host_map(fd, control_page_bytes(m->n_slots), &p, error);
	if (r < 0)
		return r;
	m->control = p;
	if (m->control->magic != CONTROL_MAGIC || m->control->version != CONTROL_VERSION)
		return mapping_wrong(error, "its control page is of another version");
	if (m->control->n_slots != m->n_slots || m->control->generation != m->id)
		return mapping_wrong(error, "its control page belongs to another generation");
	return 0;
}

static int import_slots(struct mapping *m, struct fdset *fds, struct error *error)
{
	struct importer *importer = m->importer;
	int r = 0;
	for (unsigned i = 0; i < m->n_slots && r == 0; i++) {
		int fd = fdset_steal(fds, i + 1);
		r = importer->ops->import(importer, &m->layout, &fd, &m->slot[i], error);
		m->n_imported += r == 0;
	}
	return r;
}

static int import_timeline(struct mapping *m, struct fdset *fds, struct error *error)
{
	struct importer *importer = m->importer;
	int fd = fdset_steal(fds, m->n_slots + 1);
	int r = importer->ops->import_timeline(importer, &fd, &m->timeline, error);
	m->has_timeline = r == 0;
	if (r == 0)
		return 0;
	importer->can_timeline = false;
	snprintf(importer->timeline_text, sizeof(importer->timeline_text), "%.*s", WIRE_TEXT_MAX,
		error->text);
	return r;
}

static int import_all(struct mapping *m, struct fdset *fds, struct error *error)
{
	int r = map_control(m, fds->fd[0], error);
	if (r < 0)
		return r;
	r = import_slots(m, fds, error);
	if (r < 0 || fds->n == m->n_slots + 1)
		return r;
	return import_timeline(m, fds, error);
}

int mapping_create(struct mapping **mapping_out, const Sluice__Generation *g, struct fdset *fds_in,
	struct importer *importer, enum sluice_readiness readiness, struct error *error)
{
	_cleanup_fdset_ struct fdset fds = *fds_in;
	fds_in->n = 0;
	int r = check_numbers(g, &fds, importer->ops, readiness, error);
	if (r < 0)
		return r;
	_cleanup_(mapping_unrefp) struct mapping *m = calloc(1, sizeof(*m));
	if (!m) {
		error_set(error, SLUICE_ERROR_NONE, "out of memory");
		return -ENOMEM;
	}
	list_init(&m->link);
	m->n_refs = 1;
	m->id = g->generation;
	m->n_slots = g->slots;
	m->data_offset = g->data_offset;
	m->layout = (struct slot_layout){
		.bytes = (size_t)(g->data_offset + g->size_bytes),
		.allocation_bytes = g->allocation_bytes,
		.memory_type = g->memory_type,
	};
	m->importer = importer_ref(importer);
	r = read_format(g, &m->format, error);
	if (r < 0)
		return r;
	r = import_all(m, &fds, error);
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

static void drop(struct mapping *m)
{
	struct importer *importer = m->importer;
	list_remove(&m->link);
	if (m->has_timeline)
		importer->ops->drop_timeline(importer, m->timeline);
	for (unsigned i = 0; i < m->n_imported; i++)
		importer->ops->drop(importer, &m->layout, &m->slot[i]);
	host_unmap(m->control, control_page_bytes(m->n_slots));
	importer_unref(importer);
	free(m);
}

/* Drivers may finish all work of a context before they give up memory of it. */
static bool is_blocked(const struct mapping *m)
{
	const struct importer *importer = m->importer;
	return m->n_imported > 0 && importer->ops->is_waiting &&
	       importer->ops->is_waiting(importer);
}

struct mapping *mapping_unref(struct mapping *m)
{
	if (!m || --m->n_refs > 0)
		return NULL;
	if (is_blocked(m))
		list_insert(m->importer->leaving, &m->link);
	else
		drop(m);
	return NULL;
}

void mappings_leave(struct list *leaving)
{
	struct mapping *m, *next;
	list_for_each_safe(m, next, leaving, link) {
		if (!is_blocked(m))
			drop(m);
	}
}

void mappings_finish(struct list *leaving)
{
	struct mapping *m, *next;
	list_for_each_safe(m, next, leaving, link)
		drop(m);
}

void mapping_free_waits(struct mapping *m)
{
	if (!m || !m->has_timeline || m->announced == 0)
		return;
	atomic_store(&m->is_signalled, true);
	m->importer->ops->signal(m->importer, m->timeline, m->announced + m->n_signals);
	m->n_signals++;
}
