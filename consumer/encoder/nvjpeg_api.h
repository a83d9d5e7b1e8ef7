/*
 * NVIDIA's nvJPEG, as far as an encoder needs it. The library comes with CUDA, not with the driver,
 * and is opened at run time; what is declared here is the same in its versions 11, 12 and 13.
 *
 * Everything of it works in the CUDA context that is current in the calling thread.
 */
#pragma once

#include <stddef.h>

#include "consumer/encoder/problem.h"

struct nvjpeg_handle;
struct nvjpeg_state;  /* an encoder's memory */
struct nvjpeg_params; /* what it shall do */

enum nvjpeg_status {
	NVJPEG_SUCCESS = 0,
	NVJPEG_NOT_INITIALIZED = 1,
	NVJPEG_INVALID_PARAMETER = 2,
	NVJPEG_BAD_JPEG = 3,
	NVJPEG_JPEG_NOT_SUPPORTED = 4,
	NVJPEG_ALLOCATOR_FAILURE = 5,
	NVJPEG_EXECUTION_FAILED = 6,
	NVJPEG_ARCH_MISMATCH = 7,
	NVJPEG_INTERNAL_ERROR = 8,
	NVJPEG_IMPLEMENTATION_NOT_SUPPORTED = 9,
	NVJPEG_INCOMPLETE_BITSTREAM = 10,
};

enum { NVJPEG_SAMPLING_420 = 2 };         /* chroma: half as wide and half as high, rounded up */
enum { NVJPEG_ENCODING_BASELINE = 0xc0 }; /* the number of JPEG's marker */
enum { NVJPEG_QUALITY_MAX = 100 };        /* of 1 to … */

enum { NVJPEG_PLANES_MAX = 4 };

/* A picture in device memory. */
struct nvjpeg_image {
	unsigned char *plane[NVJPEG_PLANES_MAX]; /* CUdeviceptr */
	size_t pitch[NVJPEG_PLANES_MAX];         /* bytes from row to row */
};

/* The library's functions. stream is a CUstream. */
struct nvjpeg_api {
	enum nvjpeg_status (*create)(struct nvjpeg_handle **handle);
	enum nvjpeg_status (*destroy)(struct nvjpeg_handle *handle);
	enum nvjpeg_status (*state_create)(
		struct nvjpeg_handle *handle, struct nvjpeg_state **state, void *stream);
	enum nvjpeg_status (*state_destroy)(struct nvjpeg_state *state);
	enum nvjpeg_status (*params_create)(
		struct nvjpeg_handle *handle, struct nvjpeg_params **params, void *stream);
	enum nvjpeg_status (*params_destroy)(struct nvjpeg_params *params);
	enum nvjpeg_status (*set_quality)(struct nvjpeg_params *params, int quality, void *stream);
	enum nvjpeg_status (*set_encoding)(
		struct nvjpeg_params *params, int encoding, void *stream);
	enum nvjpeg_status (*set_huffman)(
		struct nvjpeg_params *params, int optimized, void *stream);
	enum nvjpeg_status (*set_sampling)(
		struct nvjpeg_params *params, int sampling, void *stream);

	/* Queue the encoding of a picture of three planes. sampling is what the picture has. */
	enum nvjpeg_status (*encode_yuv)(struct nvjpeg_handle *handle, struct nvjpeg_state *state,
		const struct nvjpeg_params *params, const struct nvjpeg_image *image, int sampling,
		int width, int height, void *stream);

	/* What was encoded last. data NULL: how long it is; else length is the room that there is, and
	 * becomes what was written, when the stream has come so far. */
	enum nvjpeg_status (*retrieve)(struct nvjpeg_handle *handle, struct nvjpeg_state *state,
		unsigned char *data, size_t *length, void *stream);
};

/**
 * Open the library: the file that $SLUICE_NVJPEG names, or else the newest of libnvjpeg.so.13, .12
 * and .11 that the loader finds. It stays open, as its own threads may end after its last use.
 *
 * api_out  lives for ever
 *
 * 0, or -ENOENT with a sentence that says what was tried. Not thread-safe.
 */
int nvjpeg_api_load(const struct nvjpeg_api **api_out, struct problem *problem);

/* "NVJPEG_STATUS_ALLOCATOR_FAILURE". Lives for ever. */
const char *nvjpeg_status_name(enum nvjpeg_status status);
