/* The streams of this broker, in the order in which they were added, and their common memory. */
#pragma once

#include "broker/stream.h"

enum { CATALOG_STREAMS_MAX = 64 };

struct catalog {
	unsigned n_streams;
	struct stream *stream[CATALOG_STREAMS_MAX];
	struct memory_budget budget;     /* of host memory */
	struct memory_budget gpu_budget; /* of all GPUs together */
};

/* stream [borrow] until catalog_remove(). 0, -EEXIST, or -EDQUOT at CATALOG_STREAMS_MAX. */
int catalog_add(struct catalog *catalog, struct stream *stream);

/* The others keep their order. */
void catalog_remove(struct catalog *catalog, struct stream *stream);

/* NULL if there is none of that name. */
struct stream *catalog_find(const struct catalog *catalog, const char *name);

/* "a, b, c" for people, or "none". Returns buf. */
char *catalog_names(const struct catalog *catalog, char *buf, size_t size);
