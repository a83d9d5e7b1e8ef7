/*
 * One generation of a view's memory: the control page, which is always mapped, and the slots, as an
 * importer has them. Counted: the view and each of its frames hold one reference, so a frame
 * outlives the generation that it is of.
 */
#pragma once

#include <stdatomic.h>

#include "common/format.h"
#include "common/list.h"
#include "consumer/importer.h"
#include "proto/control.h"

struct mapping {
	struct list link; /* importer::leaving, without a reference */
	unsigned n_refs;
	unsigned epoch;  /* of the view, whose subscription it is of */
	uint32_t id;     /* the broker's, unique within a session */
	uint64_t number; /* ours, unique within the connection: what the user sees */
	struct video_format format;
	unsigned n_slots;
	uint64_t data_offset; /* bytes: where in a slot its pixels begin */
	struct slot_layout layout;
	const struct control_page *control;
	struct importer *importer;
	unsigned n_imported; /* of the slots */
	struct slot_memory slot[WIRE_SLOTS_MAX];

	bool has_timeline;
	uint64_t timeline;  /* reaches the number of each frame */
	uint64_t announced; /* number of the newest frame that came before its pixels */
	unsigned n_signals; /* of our own, for a broker that will not */
	/* the timeline no longer tells whether pixels are there */
	_Atomic bool is_signalled;
};

/**
 * Check everything that the broker says and gives, and import it.
 *
 * fds          [take] in every outcome: imported memory needs no descriptor
 * importer     [borrow] attached; the mapping takes a reference of its own. If it is the timeline
 *              that cannot be imported, can_timeline becomes false
 * readiness    what was agreed upon
 * error        [borrow] the sentence, if not 0
 * mapping_out  [give] one reference
 *
 * 0; -EPROTO: the broker is wrong; another negative errno: it cannot be imported here.
 */
int mapping_create(struct mapping **mapping_out, const Sluice__Generation *generation,
	struct fdset *fds, struct importer *importer, enum sluice_readiness readiness,
	struct error *error);

struct mapping *mapping_ref(struct mapping *mapping);

/* Given up with the last reference, or by mappings_leave() where that would block now. Takes NULL.
 * Returns NULL. */
struct mapping *mapping_unref(struct mapping *mapping);

/* Give up those of importer::leaving that block nobody any more. Never blocks. */
void mappings_leave(struct list *leaving);

/* All of them. Blocks until the GPU work has ended that is in their way. */
void mappings_finish(struct list *leaving);

/**
 * Let everything go on that waits for the timeline: the broker may never signal it. Each call
 * signals a larger value than the one before, as work of the broker that is still under way may set
 * it back. Takes NULL. Never blocks.
 */
void mapping_free_waits(struct mapping *mapping);

/* The broker described memory wrongly. Returns -EPROTO. */
int mapping_wrong(struct error *error, const char *what);

/* --- import_host.c: also for the control page -------------------------------------------------*/

/* 0, -EPROTO, -ENOMEM */
int host_map(int fd, size_t size_bytes, const void **map_out, struct error *error);

/* Takes NULL. */
void host_unmap(const void *map, size_t size_bytes);

DEFINE_CLEANUP(struct mapping *, mapping_unref);
