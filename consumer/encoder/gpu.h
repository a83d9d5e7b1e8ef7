/*
 * One NVIDIA GPU, as far as encoders need it: found by its UUID, its context kept alive, pictures
 * copied on it. NVIDIA's driver is opened at run time.
 */
#pragma once

#include <libavutil/frame.h>
#include <stdint.h>
#include <string.h>

#include "common/cleanup.h"
#include "consumer/encoder/problem.h"

struct gpu;

/**
 * Find a GPU and keep its primary context.
 *
 * uuid     [borrow] 16 bytes
 * gpu_out  [give]
 *
 * 0; -ENODEV: CUDA has no such device here; or another negative errno. All with a sentence.
 */
int gpu_find(struct gpu **gpu_out, const uint8_t *uuid, struct problem *problem);

/**
 * The GPU of a context.
 *
 * context  [borrow] CUcontext; a device's primary one for the call, another until gpu_close()
 * gpu_out  [give]
 */
int gpu_of_context(struct gpu **gpu_out, void *context, struct problem *problem);

/* CUcontext. [lend] until gpu_close(). */
void *gpu_context(const struct gpu *gpu);

/* "NVIDIA H100". [lend] until gpu_close(). */
const char *gpu_name(const struct gpu *gpu);

/**
 * Copy a picture on the GPU, and wait until that is done.
 *
 * to, from  [borrow] data are CUdeviceptr; width, height and hw_frames_ctx are those of `to`
 *
 * 0, or -EIO with a sentence.
 */
int gpu_copy(const struct gpu *gpu, AVFrame *to, const AVFrame *from, struct problem *problem);

/* FFmpeg and nvJPEG want pointers; a CUdeviceptr is a number to everybody but the driver. */
static inline uint8_t *gpu_pointer(uint64_t device_ptr)
{
	uint8_t *pointer;
	_Static_assert(sizeof(pointer) == sizeof(device_ptr), "as CUDA has it");
	memcpy(&pointer, &device_ptr, sizeof(pointer));
	return pointer;
}

/* Takes NULL. Returns NULL. */
struct gpu *gpu_close(struct gpu *gpu);

DEFINE_CLEANUP(struct gpu *, gpu_close);
