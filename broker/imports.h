/*
 * Mappings of this process that a GPU reads and writes directly, each imported once. One that the
 * driver refuses is remembered too, so that it is not tried again for each frame.
 */
#pragma once

#include "broker/gpu/gpu.h"

enum { IMPORTS_MAX = 64 };

struct imports {
	struct gpu *gpu; /* NULL: nothing can be imported */
	unsigned n;
	struct import {
		void *map;
		struct gpu_buffer *buffer; /* NULL: refused */
	} import[IMPORTS_MAX];
};

/* The mapping as a buffer, or NULL: it cannot be. [lend] until it is forgotten. map [borrow] as long. */
struct gpu_buffer *imports_get(struct imports *imports, void *map, uint64_t size_bytes);

/* The mapping is about to go. No GPU work may be using it. */
void imports_forget(struct imports *imports, const void *map);

/* All of them are. */
void imports_clear(struct imports *imports);
