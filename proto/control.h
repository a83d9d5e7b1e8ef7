/*
 * The control page of a generation: a sealed memfd that the broker writes and clients map read-only.
 *
 * For each slot it says which frame the slot holds, 0 before anyone may write into it. A reader that
 * finds its frame's number there after it has read the pixels knows that they were whole.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONTROL_MAGIC = 0x43554c53 /* "SLUC" */, CONTROL_VERSION = 1, CONTROL_LINE = 64 };

struct control_slot {
	_Atomic uint64_t seq;
	char pad[CONTROL_LINE -
		 sizeof(uint64_t)]; /* a cache line each: readers do not disturb others */
};

struct control_page {
	uint32_t magic;
	uint32_t version;
	uint32_t n_slots;
	uint32_t generation;
	char pad[CONTROL_LINE - 4 * sizeof(uint32_t)];
	struct control_slot slot[];
};

static inline size_t control_page_bytes(unsigned n_slots)
{
	return sizeof(struct control_page) + n_slots * sizeof(struct control_slot);
}

/* Writer: the slot's pixels are about to change. Ordered before every later write. */
static inline void control_begin_write(struct control_page *page, unsigned slot)
{
	atomic_store_explicit(&page->slot[slot].seq, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

/* Writer: the slot holds frame `seq` now. Ordered after every earlier write. */
static inline void control_end_write(struct control_page *page, unsigned slot, uint64_t seq)
{
	atomic_store_explicit(&page->slot[slot].seq, seq, memory_order_release);
}

/* Reader: does the slot still hold frame `seq`? Ordered after every earlier read of its pixels. */
static inline bool control_holds(const struct control_page *page, unsigned slot, uint64_t seq)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&page->slot[slot].seq, memory_order_acquire) == seq;
}
