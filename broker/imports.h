/*
 * Mappings of this process that a GPU reads and writes directly, each imported once. When the driver
 * refuses one, there is another way for all of them until it is tried again; after the third refusal it
 * is not.
 */
#pragma once

#include "broker/gpu/gpu.h"
#include "common/backoff.h"

enum { IMPORTS_MAX = 64 };

/* Zeroed, with gpu. */
struct imports {
	struct gpu *gpu; /* NULL: nothing can be imported */
	struct backoff refused;
	unsigned n;
	struct import {
		void *map;
		struct gpu_buffer *buffer;
	} import[IMPORTS_MAX];
};

/* The mapping as a buffer, or NULL: it cannot be. [lend] until it is forgotten. map [borrow] as long. */
struct gpu_buffer *imports_get(struct imports *imports, void *map, uint64_t size_bytes);

/* The mapping is about to go. No GPU work may be using it. */
void imports_forget(struct imports *imports, const void *map);

/* All of them are. */
void imports_clear(struct imports *imports);
