/*
 * One immutable set of slots: a pool, the memory of its slots, and the control page that readers
 * map. A resize makes a new generation; the pages of the old one live until the last process that
 * mapped them lets go.
 */
#pragma once

#include "broker/pool.h"
#include "broker/slots.h"
#include "common/cleanup.h"
#include "common/format.h"

struct control_page;

struct generation {
	uint32_t id; /* unique in this broker, from 1 */
	struct video_format format;
	struct pool pool;
	struct memory control;
	struct slot_memory slot[POOL_SLOTS_MAX];
	unsigned n_made; /* slots that have memory */
	struct slot_source source;
	uint64_t bytes; /* charged to the source's budget */
};

/**
 * source          [borrow] copied; what it points to, until destroyed
 * generation_out  [give]
 * why_out         [lend] the source's sentence, until its next failure; NULL: the errno says it all
 *
 * 0; -EDQUOT when the budget does not allow it; or what the source returns.
 */
int generation_create(struct generation **generation_out, const struct video_format *format,
	unsigned n_slots, const struct slot_source *source, const char **why_out);

/* Every hold in it is dropped without a word first. Takes NULL. Returns NULL. */
struct generation *generation_destroy(struct generation *generation);

/* Bytes that such a generation takes. */
uint64_t generation_bytes(const struct video_format *format, unsigned n_slots);

/* The memory of a slot, format.size_bytes long. [lend] until generation_destroy() */
const struct slot_memory *generation_slot(
	const struct generation *generation, const struct slot *slot);

/* The same where it is host memory. */
uint8_t *generation_pixels(const struct generation *generation, const struct slot *slot);

/* The one page that says which slot holds which frame. [lend] until generation_destroy() */
struct control_page *generation_control(const struct generation *generation);

DEFINE_CLEANUP(struct generation *, generation_destroy);
