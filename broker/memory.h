/*
 * Host memory that the broker lends: a memfd, sealed so that nobody can shrink it under a reader and
 * no client can map it writable. The budget of all of it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct memory {
	int fd;
	void *map; /* the broker's own mapping, writable */
	size_t size_bytes;
};

struct memory_budget {
	uint64_t limit_bytes;
	uint64_t used_bytes;
};

/**
 * Make a zeroed, sealed memfd and map it.
 *
 * name        for people: /proc/PID/fd shows it
 * memory_out  [give] to memory_finish()
 *
 * 0, -ENOMEM, -EMFILE or another negative errno. Pages are not touched: cheap for any size.
 */
int memory_init(struct memory *memory_out, const char *name, size_t size_bytes);

/* Unmaps and closes; who has mapped it keeps the pages. Takes a zeroed or finished one. */
void memory_finish(struct memory *memory);
