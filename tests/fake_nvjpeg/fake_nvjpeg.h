/*
 * A libnvjpeg.so.12 without a GPU. README.md says what it does; this header is for its own files.
 */
#pragma once

#include <ffnvcodec/dynlink_cuda.h>
#include <libavcodec/avcodec.h>
#include <stdbool.h>
#include <stdint.h>

#include "consumer/encoder/nvjpeg_api.h"

#define NVJPEG_EXPORT __attribute__((visibility("default")))

/* --- record.c: what happened, and what is to fail ------------------------------------------- */

enum count {
	COUNT_HANDLES,
	COUNT_HANDLES_DESTROYED,
	COUNT_STATES,
	COUNT_STATES_DESTROYED,
	COUNT_PARAMS,
	COUNT_PARAMS_DESTROYED,
	COUNT_ENCODES,
	COUNT_PICTURES, /* fetched */
	COUNT_POINTERS, /* different ones that were encoded from */
	COUNT_MISUSES,
	COUNTS,
};

void record_count(enum count what);

/* A line of the log. */
void record_misuse(const char *call, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What FAKE_NVJPEG_FAIL says of this call of that function. */
enum nvjpeg_status record_fault(const char *call);

/* A picture was encoded from there. */
void record_pointer(const void *pointer);

/* --- object.c ------------------------------------------------------------------------------- */

enum kind { KIND_HANDLE, KIND_STATE, KIND_PARAMS, KINDS };

/* Never freed: a handle that was destroyed stays known. */
struct object {
	enum kind kind;
	bool dead;
	CUcontext ctx;
	struct object *handle; /* that it was made with; of a handle: itself */
	struct object *next;
};

/* A new object, `size` bytes that begin with a struct object. handle NULL: it is one. */
void *object_create(enum kind kind, struct object *handle, size_t size);

/* Alive, of this kind, and the current context is the one it was made in. handle NULL: of any. */
bool object_check(const char *call, const void *object, enum kind kind, const void *handle);

/* Are there objects of this handle? */
bool object_has_any(const struct object *handle);

/* At exit. */
void object_record_leaks(void);

/* --- jpeg.c --------------------------------------------------------------------------------- */

/* CUDA's functions; NULL: there is no driver. */
struct driver {
	CUresult (*get_current)(CUcontext *ctx);
	tcuMemcpy2DAsync_v2 *copy;
	tcuStreamQuery *query;
	tcuStreamSynchronize *synchronize;
};
const struct driver *driver_get(void);

struct nvjpeg_handle {
	struct object object;
};

struct nvjpeg_params {
	struct object object;
	int quality, encoding, sampling; /* 0: never set, but encoding */
	bool has_sampling, optimized;
};

enum phase { PHASE_NOTHING, PHASE_ENCODED, PHASE_MEASURED };

struct nvjpeg_state {
	struct object object;
	enum phase phase;
	void *stream; /* of the last picture */
	int width, height;
	uint8_t *pixels; /* of the last picture, when the stream has come so far */
	size_t size;
	struct nvjpeg_params params; /* as it was then */
	AVPacket *jpeg;
};

/* Queue the copies of a picture's planes into state->pixels. */
enum nvjpeg_status jpeg_read(struct nvjpeg_state *state, const struct nvjpeg_image *image);

/* Encode them, when the stream has come so far. */
enum nvjpeg_status jpeg_make(struct nvjpeg_state *state);
