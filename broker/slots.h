/*
 * Where the slots of a generation come from: host memory, or a GPU's. What decides (pool, stream,
 * generation) sees slots through this alone, and so runs without any GPU.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broker/memory.h"

struct gpu_buffer; /* broker/gpu/gpu.h; opaque here */
struct gpu_timeline;

enum memory_kind {
	MEMORY_HOST,      /* a sealed memfd */
	MEMORY_OPAQUE_FD, /* memory of a GPU */
};

/* One slot's memory. */
struct slot_memory {
	int fd;                    /* readers get a copy of it */
	void *map;                 /* host: the broker's own mapping, writable; else NULL */
	struct gpu_buffer *buffer; /* GPU; else NULL */
	uint64_t data_offset;      /* bytes: where in a mapping of the fd the pixels begin */
	uint64_t allocation_bytes; /* GPU: as the driver made it */
	uint32_t memory_type;      /* GPU */
};

/* The GPU that a source's slots are on, for those who are to import them. */
struct slot_device {
	char name[129];
	uint8_t uuid[16];
	uint8_t driver_uuid[16];
	bool has_drm;
	uint32_t drm_major;
	uint32_t drm_minor;
	bool can_timeline;
	bool can_sync_fd;
};

struct slot_ops {
	enum memory_kind kind;
	/* memory_out [give] to unmake. 0; -ENOMEM, -EMFILE, or another negative errno: why() says it. */
	int (*make)(void *data, uint64_t size_bytes, struct slot_memory *memory_out);
	void (*unmake)(void *data, struct slot_memory *memory);
	/* The sentence for the last failure, or NULL: the errno says it all. May be NULL. */
	const char *(*why)(void *data);
	/* GPU only: a timeline that one reader gets, and its descriptor [give]. */
	int (*make_timeline)(void *data, struct gpu_timeline **timeline_out, int *fd_out);
	void (*unmake_timeline)(void *data, struct gpu_timeline *timeline);
};

/* Plain data: copied freely. ops NULL: there are no slots of this kind. */
struct slot_source {
	const struct slot_ops *ops;
	void *data;                       /* [borrow] of the ops */
	struct memory_budget *budget;     /* [borrow] */
	const struct slot_device *device; /* [borrow]; NULL: host */
};

/* Sealed memfds. budget [borrow] for as long as the source is used. */
struct slot_source slots_host(struct memory_budget *budget);
