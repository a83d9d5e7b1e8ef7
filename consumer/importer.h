/*
 * How a view's memory gets into this process: plain mapping, CUDA, or a Vulkan device of the caller.
 *
 * An importer is one device, opened for one view. Counted: the view and its mappings have one
 * reference each, since memory outlives the session that it came with. What another device made is
 * not refused by drivers: importer_attach() compares.
 */
#pragma once

#include <stdbool.h>

#include "common/cleanup.h"
#include "common/uuid.h"
#include "common/list.h"
#include "consumer/error.h"

struct importer;

struct device_id {
	uint8_t uuid[WIRE_UUID_BYTES];
	uint8_t driver_uuid[WIRE_UUID_BYTES]; /* Vulkan's */
	char name[129];
};

/* What an import must be told of a slot. */
struct slot_layout {
	size_t bytes;              /* from the beginning of the memory to the end of the pixels */
	uint64_t allocation_bytes; /* GPU memory: of the allocation */
	uint32_t memory_type;      /* Vulkan: memoryTypeIndex */
};

/* An imported slot. */
struct slot_memory {
	const uint8_t *map; /* host memory; NULL for others */
	uint64_t handle;    /* CUdeviceptr or VkBuffer; 0 for others */
	uint64_t memory;    /* CUexternalMemory or VkDeviceMemory */
};

/*
 * One kind of memory. Descriptors are [take] in every outcome. 0 or negative errno with the
 * sentence. Those that need a stream or a timeline are NULL where there is no such thing.
 */
struct importer_ops {
	enum sluice_memory memory;
	Sluice__Memory wire_memory;

	/* Use this device from now on, of which `importer->uuid` may be a list. */
	int (*attach)(
		struct importer *importer, const struct device_id *device, struct error *error);
	/* Frees the importer. */
	void (*close)(struct importer *importer);

	int (*import)(struct importer *importer, const struct slot_layout *layout, int *fd,
		struct slot_memory *slot_out, struct error *error);
	void (*drop)(struct importer *importer, const struct slot_layout *layout,
		struct slot_memory *slot);

	int (*import_timeline)(
		struct importer *importer, int *fd, uint64_t *timeline_out, struct error *error);
	/* No wait for it may be pending. */
	void (*drop_timeline)(struct importer *importer, uint64_t timeline);
	/* Raise it to a value, whatever the broker does. Never blocks. */
	void (*signal)(struct importer *importer, uint64_t timeline, uint64_t value);

	/* Make a stream wait for the value. Never blocks. */
	int (*wait_in)(struct importer *importer, void *stream, uint64_t timeline, uint64_t value,
		struct error *error);
	/* Call fn when what is in the stream now has ended, on a thread of the driver. */
	int (*call_after)(struct importer *importer, void *stream, void (*fn)(void *data),
		void *data, struct error *error);
	/* 1: all that is in the stream has ended; 0: not yet. */
	int (*query)(struct importer *importer, void *stream, struct error *error);
	/* Does a stream of the device, of any connection, still wait for a timeline? Until it does
	 * not, drop() and finish() may block. */
	bool (*is_waiting)(const struct importer *importer);
	/* What call_after() was to call is called no more: the caller destroyed the context. */
	bool (*is_dead)(const struct importer *importer);
	/* Block until all work on the device that this process has queued has ended. */
	void (*finish)(struct importer *importer);
};

struct importer {
	const struct importer_ops *ops;
	unsigned n_refs;
	struct list *leaving; /* mapping::link: those that cannot be dropped yet */
	bool is_given;        /* the context or device is the caller's */
	bool is_attached;     /* to device */
	struct device_id device;
	void *context; /* CUcontext, once attached */
	bool can_timeline;
	char timeline_text[WIRE_TEXT_MAX + 1]; /* why not */
	unsigned n_uuids;
	uint8_t uuid[WIRE_DEVICES_MAX][WIRE_UUID_BYTES]; /* of the devices that there are */
};

/**
 * Find the devices of a kind of memory: nothing for host memory.
 *
 * request       [borrow] for the call: memory, cuda_context, vulkan
 * leaving       [borrow] until the importer is closed
 * importer_out  [give] one reference
 * error         [borrow] the sentence, if not 0
 *
 * 0; -EOPNOTSUPP: no driver, no device, or not built in; -EINVAL: what the caller gave cannot be
 * used; -ENOMEM. May block for the driver's start.
 */
int importer_open(struct importer **importer_out, const struct sluice_view_request *request,
	struct list *leaving, struct error *error);

/**
 * Use the device that the broker named.
 *
 * importer  [borrow] replaced if it is attached to another device or driver already
 *
 * 0; -ENODEV: the context or device that the caller gave is another, or of another driver;
 * -EOPNOTSUPP: there is no such device here; -EIO, -ENOMEM. May block for the making of a context.
 */
int importer_attach(
	struct importer **importer, const struct device_id *device, struct error *error);

struct importer *importer_ref(struct importer *importer);

/* Closed with the last reference. Takes NULL. Returns NULL. */
struct importer *importer_unref(struct importer *importer);

/* "host memory", "CUDA memory" */
const char *importer_memory_name(enum sluice_memory memory);

/* The sentence that two devices differ; ours says what is compared: "the CUDA context". Returns
 * -ENODEV. */
int importer_other_device(const struct device_id *wanted, const struct device_id *found,
	const char *ours, struct error *error);

DEFINE_CLEANUP(struct importer *, importer_unref);

/* --- One for each file import_*.c: importer_out [give] -----------------------------------------*/

int importer_open_host(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error);
int importer_open_cuda(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error);
int importer_open_vulkan(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error);
