/*
 * JPEGs made on the GPU, by nvJPEG in a CUDA stream of its own: planes in device memory in, a file's
 * bytes in host memory out.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/encoder/nvjpeg_settings.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

struct nvjpeg_gpu;

/* Is there what nvjpeg_gpu_create() opens? 0, or negative with a sentence that says what is missing. */
int nvjpeg_gpu_check(struct problem *problem);

/**
 * Make an encoder. May take some 100 ms.
 *
 * context   [borrow] CUcontext; a device's primary one for the call, another until
 *           nvjpeg_gpu_destroy()
 * settings  [borrow]
 * gpu_out   [give]
 *
 * 0, or negative with a sentence.
 */
int nvjpeg_gpu_create(struct nvjpeg_gpu **gpu_out, void *context,
	const struct nvjpeg_settings *settings, struct problem *problem);

/**
 * Encode a picture, and wait until it is: its memory is not read any more then, whatever is returned.
 *
 * frame       [borrow] in the CUDA context, of three planes with 4:2:0 chroma
 * length_out  bytes of the JPEG
 *
 * 0, or negative with a sentence.
 */
int nvjpeg_gpu_encode(struct nvjpeg_gpu *gpu, const struct sluice_frame *frame, size_t *length_out,
	struct problem *problem);

/**
 * Fetch what was encoded last.
 *
 * data    length bytes, which is what nvjpeg_gpu_encode() said
 *
 * 0, or negative with a sentence.
 */
int nvjpeg_gpu_fetch(struct nvjpeg_gpu *gpu, uint8_t *data, size_t length, struct problem *problem);

/* Takes NULL. Returns NULL. */
struct nvjpeg_gpu *nvjpeg_gpu_destroy(struct nvjpeg_gpu *gpu);

DEFINE_CLEANUP(struct nvjpeg_gpu *, nvjpeg_gpu_destroy);
