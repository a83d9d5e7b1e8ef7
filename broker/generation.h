/*
 * One immutable set of slots: a pool, the memory of its slots, and the control page that readers
 * map. A resize makes a new generation; the pages of the old one live until the last process that
 * mapped them lets go.
 */
#pragma once

#include "broker/memory.h"
#include "broker/pool.h"
#include "common/cleanup.h"
#include "common/format.h"

struct control_page;

struct generation {
	uint32_t id; /* unique in this broker, from 1 */
	struct video_format format;
	struct pool pool;
	struct memory control;
	struct memory slot[POOL_SLOTS_MAX];
	struct memory_budget *budget;
	uint64_t bytes; /* charged to the budget */
};

/**
 * budget          [borrow] until destroyed
 * generation_out  [give]
 *
 * 0; -EDQUOT when the budget does not allow it; -ENOMEM, -EMFILE or another negative errno.
 */
int generation_create(struct generation **generation_out, const struct video_format *format,
	unsigned n_slots, struct memory_budget *budget);

/* Every hold in it is dropped without a word first. Takes NULL. Returns NULL. */
struct generation *generation_destroy(struct generation *generation);

/* Bytes that such a generation takes. */
uint64_t generation_bytes(const struct video_format *format, unsigned n_slots);

/* The pixels of a slot, format.size_bytes long. [lend] until generation_destroy() */
uint8_t *generation_pixels(const struct generation *generation, const struct slot *slot);

/* The one page that says which slot holds which frame. [lend] until generation_destroy() */
struct control_page *generation_control(const struct generation *generation);

DEFINE_CLEANUP(struct generation *, generation_destroy);
