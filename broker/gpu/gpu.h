/*
 * A GPU, without a Vulkan type in sight: memory that other processes can import, and work on it.
 * The only folder that sees Vulkan is this one; it knows nothing of streams and clients.
 *
 * One thread, the loop's, calls everything here. Nothing blocks but what says so, and nothing waits
 * for anything that a client must signal. Work is submitted in order and ends in order; its end is
 * heard on the loop: the loop spins on the device's counter for a bounded time, and after that a
 * thread of the gpu's own blocks on it and writes an eventfd.
 *
 * Errors are negative errno; gpu_error() has the sentence, which names the Vulkan call and its
 * VkResult. VK_ERROR_DEVICE_LOST is -ENODEV and stays: every later call fails with it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/format.h"
#include "common/loop.h"

enum {
	GPU_UUID_BYTES = 16,
	GPU_NAME_MAX = 128,
	GPU_TEXT_MAX = 256,
	GPU_JOBS_MAX = 32,    /* submissions in flight */
	GPU_SIGNALS_MAX = 64, /* timelines that one submission signals */
};

struct gpu;
struct gpu_buffer;
struct gpu_timeline;

/* What a device is and can do. Never changes. */
struct gpu_info {
	char name[GPU_NAME_MAX]; /* "NVIDIA H200" */
	uint8_t device_uuid[GPU_UUID_BYTES];
	uint8_t driver_uuid[GPU_UUID_BYTES];
	bool is_cpu;       /* a software renderer */
	int64_t drm_major; /* of its render node, -1: it has none, or does not tell */
	int64_t drm_minor;
	bool can_timeline;            /* timeline semaphores can be exported (OPAQUE_FD) */
	bool can_sync_fd;             /* the end of a submission can be exported as a sync_file */
	bool can_import_host;         /* VK_EXT_external_memory_host */
	uint64_t host_align;          /* bytes: what an imported mapping must be aligned to */
	bool copies_by_shader;        /* which of the two ways to copy on the device was faster */
	char copy_text[GPU_TEXT_MAX]; /* that measurement as a sentence, for the log */
};

struct gpu_options {
	/* "auto": a discrete GPU, else an integrated or virtual one, else a CPU device; a number: the
	 * index as `vulkaninfo --summary` counts; else a UUID, with or without dashes */
	const char *which;
	/* How long the loop may spin for the end of a submission before a thread blocks on it; 0: it
	 * never spins. A spin that would not succeed (the usual time is longer) is not begun, but
	 * for one now and then; and none for a CPU device. */
	uint64_t spin_ns;
	/* VK_LAYER_KHRONOS_validation; what it calls an error ends the process (abort). For tests. */
	bool validation;
	/* On the loop, once: the device was found to be lost, by whatever call, and all work in flight
	 * has failed. It must not be destroyed from here. May be NULL. */
	void (*lost)(void *data);
	void *data;
};

/**
 * Open a device and measure how it copies best. Blocks for the time of driver start-up (hundreds of
 * milliseconds). libvulkan.so.1 is opened at run time: a machine without it has no GPU.
 *
 * loop     [borrow] until destroyed
 * options  [borrow] for the call
 * gpu_out  [give]
 * error    [borrow] room for a sentence, written on failure: which devices there are
 *
 * 0; -ENOENT: no such device, or no Vulkan at all; -EOPNOTSUPP: it cannot export memory; or
 * another negative errno.
 */
int gpu_create(struct gpu **gpu_out, struct loop *loop, const struct gpu_options *options,
	char *error, size_t error_size);

/* Blocks until the work in flight has ended (its done is not called), and frees every buffer and
 * timeline that was destroyed. All others must have been (asserted). Takes NULL. Returns NULL. */
struct gpu *gpu_destroy(struct gpu *gpu);

/* [lend] until gpu_destroy() */
const struct gpu_info *gpu_info(const struct gpu *gpu);

/* The sentence of the last failure: "vkAllocateMemory: VK_ERROR_OUT_OF_DEVICE_MEMORY". [lend] until
 * the next call that fails. Never NULL. */
const char *gpu_error(const struct gpu *gpu);

/* Is the device lost? Then all work in flight has failed, and only a new gpu can help. */
bool gpu_is_lost(const struct gpu *gpu);

/* Bytes of device-local memory that this process uses and may use (VK_EXT_memory_budget). False if
 * the driver does not tell. */
bool gpu_memory_usage(struct gpu *gpu, uint64_t *used_bytes_out, uint64_t *budget_bytes_out);

/* --- Memory ------------------------------------------------------------------------------------*/

enum gpu_memory_kind {
	GPU_EXPORTED, /* device-local, one dedicated allocation, exportable as OPAQUE_FD */
	GPU_PRIVATE,  /* device-local */
	GPU_STAGING, /* host-visible, cached where there is such memory, mapped for the buffer's life */
};

/**
 * Allocate. Device memory is cleared to zero before gpu_buffer_export() can be called: that is
 * submitted here, and gpu_buffer_export() waits for it.
 *
 * buffer_out  [give]
 *
 * 0, -ENOMEM (host or device memory), -ENODEV, -EIO.
 */
int gpu_buffer_create(struct gpu *gpu, enum gpu_memory_kind kind, uint64_t size_bytes,
	struct gpu_buffer **buffer_out);

/**
 * Make a mapping of this process a buffer, so that the device reads and writes it without a copy by
 * the CPU (VK_EXT_external_memory_host).
 *
 * map         [borrow] until gpu_buffer_destroy() and the end of all work with it; aligned to
 *             info.host_align
 * size_bytes  rounded up to host_align: the mapping must be as long
 *
 * 0; -EOPNOTSUPP: the driver cannot import this mapping, use GPU_STAGING; -ENODEV.
 */
int gpu_buffer_import_host(
	struct gpu *gpu, void *map, uint64_t size_bytes, struct gpu_buffer **buffer_out);

/* Freed at once, or when the work that uses it has ended. Takes NULL. Returns NULL. */
struct gpu_buffer *gpu_buffer_destroy(struct gpu_buffer *buffer);

/* Where GPU_STAGING is mapped, NULL for others. Reads and writes are coherent. */
void *gpu_buffer_map(const struct gpu_buffer *buffer);

/* Bytes that were asked for; that the driver allocated, and of which memory type: an importer must
 * say the same two. */
uint64_t gpu_buffer_size(const struct gpu_buffer *buffer);
uint64_t gpu_buffer_allocation_bytes(const struct gpu_buffer *buffer);
uint32_t gpu_buffer_memory_type(const struct gpu_buffer *buffer);

/**
 * A descriptor of GPU_EXPORTED memory; an import (Vulkan, CUDA) that succeeds consumes it. Each call
 * makes a new one: export once and dup. May block for the clearing of the memory, once.
 *
 * fd_out  [give] close-on-exec
 */
int gpu_buffer_export(struct gpu_buffer *buffer, int *fd_out);

/* --- Timelines ---------------------------------------------------------------------------------*/

/**
 * A timeline semaphore, at 0, that one client gets (OPAQUE_FD). Whoever has it can signal it too:
 * so nothing but that client depends on it. Only where info.can_timeline.
 *
 * timeline_out  [give]
 */
int gpu_timeline_create(struct gpu *gpu, struct gpu_timeline **timeline_out);

/* Freed when the work that signals it has ended. Takes NULL. Returns NULL. */
struct gpu_timeline *gpu_timeline_destroy(struct gpu_timeline *timeline);

/* As gpu_buffer_export(). */
int gpu_timeline_export(struct gpu_timeline *timeline, int *fd_out);

/* Its value now; UINT64_MAX if it cannot be read. Costs nanoseconds. */
uint64_t gpu_timeline_value(struct gpu_timeline *timeline);

/* --- Work --------------------------------------------------------------------------------------*/

/* A picture in a buffer: offsets are from the beginning of the buffer. */
struct gpu_picture {
	struct gpu_buffer *buffer;
	uint64_t offset[FORMAT_PLANES_MAX]; /* bytes */
	uint32_t stride[FORMAT_PLANES_MAX]; /* bytes from row to row */
};

/* The picture of a format laid out by format_layout() at the beginning of a buffer. */
struct gpu_picture gpu_picture_of(struct gpu_buffer *buffer, const struct video_format *format);

/* The colour stripes of the synthetic source, with a frame number stamped into them (common/stamp.h):
 * the same bytes as capture/pattern.c draws. */
struct gpu_draw {
	struct gpu_picture to;
	uint32_t number;
	uint32_t shift; /* pixels that the stripes have wandered to the left */
	bool only_number; /* the stripes are there, wandered as far: it is enough to draw around the number */
};

struct gpu_copy {
	struct gpu_picture from;
	struct gpu_picture to;
};

/*
 * A picture in another format and size, made in one pass: formats, colours and sizes may all differ.
 * A side that gets smaller: each sample is the mean of the area that it covers; else it is interpolated
 * linearly. Chroma is sited left, both of a source and of a target: on every second luma sample across,
 * between two down. In the source's size it is filtered as zimg's bilinear does, by 1-2-1 across and
 * 1-3-3-1 down. Results are rounded to the nearest. The same format, size and colour: an exact copy.
 *
 * colour.matrix and colour.full_range of YUV are obeyed; RGBA16F whose colour.transfer is linear (8) is
 * clamped to 0..1 and gets sRGB's transfer, other values are taken as they are. Primaries stay.
 */
struct gpu_convert {
	const struct video_format *from_format;
	const struct video_format *to_format;
	struct gpu_picture from;
	struct gpu_picture to;
};

/* Can the device make the one of the other? Formats from anybody: strides and offsets are not looked at.
 * why_out [lend] for ever: if not, a sentence; may be NULL. Pure. */
bool gpu_can_convert(
	const struct video_format *from, const struct video_format *to, const char **why_out);

struct gpu_signal {
	struct gpu_timeline *timeline;
	uint64_t value; /* larger than its last */
};

/* On the loop: 0, or negative errno if the device was lost. Buffers and timelines of the work may be
 * destroyed here, and new work submitted. */
typedef void (*gpu_done_fn)(void *data, int result);

/* One submission: draw, then copy, then convert, then signal. Each part may be missing. */
struct gpu_work {
	const struct video_format *format; /* of the pictures that are drawn and copied */
	const struct gpu_draw *draw;       /* NULL: none */
	const struct gpu_copy *copy;       /* NULL: none */
	const struct gpu_convert *convert; /* NULL: none */
	unsigned n_signals;                /* 0 to GPU_SIGNALS_MAX */
	const struct gpu_signal *signals;
	bool want_sync_fd; /* only where info.can_sync_fd */
	gpu_done_fn done;  /* may be NULL */
	void *data;
};

/* Names a submission until it has ended; 0 is none. */
typedef uint64_t gpu_job;

/**
 * Submit. It begins after all that was submitted before. Never blocks, never allocates,
 * except that the first drawing of a kind of format, and the first conversion of a pair of kinds,
 * compiles its shader (some milliseconds).
 *
 * work         [borrow] for the call; its buffers and timelines may be destroyed at once: they live
 *              until it has ended
 * job_out      for gpu_cancel() and gpu_wait(); may be NULL
 * sync_fd_out  [give] a sync_file that is signalled at its end, if want_sync_fd; -EBADF if it has
 *              ended already. May be NULL
 *
 * 0; -EBUSY: GPU_JOBS_MAX are in flight; -ENODEV; another negative errno: nothing was submitted.
 */
int gpu_submit(struct gpu *gpu, const struct gpu_work *work, gpu_job *job_out, int *sync_fd_out);

/* Its done is not called any more; the work itself goes on. Nothing for one that has ended. */
void gpu_cancel(struct gpu *gpu, gpu_job job);

/* Block until a submission has ended, for when memory that it reads is about to go: our own work, so
 * milliseconds. Its done is called from the loop later, unless it is cancelled. */
void gpu_wait(struct gpu *gpu, gpu_job job);

/* --- Measuring ---------------------------------------------------------------------------------*/

/**
 * The least that a copy on this device takes: one submission of it, between two buffers made for this, and
 * the wait for its end by polling; again and again. Nothing else may be in flight (asserted). Blocks.
 *
 * rounds         1 to GPU_ROUNDS_MAX
 * median_ns_out  of one round
 */
enum { GPU_ROUNDS_MAX = 1000 };
int gpu_measure_copy(
	struct gpu *gpu, uint64_t size_bytes, unsigned rounds, uint64_t *median_ns_out);

DEFINE_CLEANUP(struct gpu *, gpu_destroy);
DEFINE_CLEANUP(struct gpu_buffer *, gpu_buffer_destroy);
DEFINE_CLEANUP(struct gpu_timeline *, gpu_timeline_destroy);

#ifdef SLUICE_FAULTS
/* Test: from now on, the n-th call (from 1; 0: none) of a Vulkan function that returns a VkResult
 * fails with this one, and all after it if `for_ever`. Of all devices. Replaces what was said of that
 * function before. False if there is no such function. */
bool gpu_fault(const char *function, int vk_result, unsigned nth, bool for_ever);

/* Test: the end of a submission is announced before it has ended. */
extern bool gpu_fault_early;
#endif
