/*
 * One generation of a view's memory, mapped read-only: the control page and the slots. Counted: the
 * view and each of its frames hold one reference, so a frame outlives the generation that it is of.
 */
#pragma once

#include "common/format.h"
#include "consumer/error.h"
#include "proto/control.h"
#include "proto/wire.h"

struct mapping {
	unsigned n_refs;
	uint32_t id;     /* the broker's, unique within a session */
	uint64_t number; /* ours, unique within the connection: what the user sees */
	struct video_format format;
	unsigned n_slots;
	uint64_t data_offset; /* bytes: where in a slot its pixels begin */
	size_t slot_bytes;    /* mapped of each slot */
	const struct control_page *control;
	const uint8_t *slot[WIRE_SLOTS_MAX];
};

/**
 * Check everything that the broker says and gives, and map it.
 *
 * fds          [take] in every outcome: mapped memory needs no descriptor
 * error        [borrow] the sentence, if not 0
 * mapping_out  [give] one reference
 *
 * 0; -EPROTO: the broker is wrong; another negative errno: it cannot be mapped here.
 */
int mapping_create(struct mapping **mapping_out, const Sluice__Generation *generation,
	struct fdset *fds, struct error *error);

struct mapping *mapping_ref(struct mapping *mapping);

/* Unmapped with the last reference. Takes NULL. Returns NULL. */
struct mapping *mapping_unref(struct mapping *mapping);

/* Where the pixels of a slot begin. */
static inline const uint8_t *mapping_pixels(const struct mapping *mapping, unsigned slot)
{
	return mapping->slot[slot] + mapping->data_offset;
}

DEFINE_CLEANUP(struct mapping *, mapping_unref);
