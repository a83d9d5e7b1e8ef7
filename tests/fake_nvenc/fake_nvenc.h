/*
 * A libnvidia-encode.so.1 without an NVENC engine, for tests of what feeds one. README.md says what it
 * does; this header is for its own files.
 *
 * One lock guards everything. What a handle stands for is never freed: its use after its end is seen.
 */
#pragma once

#include <ffnvcodec/nvEncodeAPI.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

/* --- record.c: what happened, and what is to fail ---------------------------------------------*/

enum count {
	COUNT_SESSIONS,
	COUNT_DESTROYED,
	COUNT_REGISTERED,
	COUNT_POINTERS, /* different ones, of each session */
	COUNT_UNREGISTERED,
	COUNT_MAPPED,
	COUNT_UNMAPPED,
	COUNT_ENCODED,
	COUNT_LOCKED,
	COUNT_UNLOCKED,
	COUNT_RECONFIGURED,
	COUNT_KEPT, /* pictures inside at once, at most */
	COUNT_MISUSES,
	COUNTS,
};

void record_count(enum count what);
void record_most(enum count what, uint64_t n);
void record_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void record_misuse(const char *call, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What FAKE_NVENC_FAIL says of this call of that function. */
NVENCSTATUS record_fault(const char *call);

/* --- pixels.c: memory of the device -----------------------------------------------------------*/

/* A picture as NVENC is told of it: one pointer, one pitch. */
struct picture {
	uint64_t ptr; /* of the device, or of the host */
	bool is_host;
	uint32_t width, height, pitch;
	NV_ENC_BUFFER_FORMAT format;
};

/* Is the context of a session the calling thread's? */
bool pixels_context_is_current(void *context);

/* Can it be used at all? */
bool pixels_context_is_alive(void *context);

/* Bytes of the rows of a picture, one after another; 0: a format that is not known. */
size_t pixels_size(const struct picture *picture);

/* Read them. False: that is no memory of the device, or not any more. */
bool pixels_read(const struct picture *picture, uint8_t *out);

/* --- codec.c: libx264 -------------------------------------------------------------------------*/

struct codec;

/* NULL: it cannot do it. */
struct codec *codec_create(const NV_ENC_INITIALIZE_PARAMS *params);

struct packet {
	uint8_t *bytes; /* [give] to free() */
	size_t size;
	bool is_key;
};

/* pixels [borrow] as pixels_read() gives them. */
bool codec_encode(struct codec *codec, const struct picture *picture, const uint8_t *pixels,
	bool wants_key, struct packet *out);

/* Parameter sets. [lend] */
const uint8_t *codec_header(const struct codec *codec, size_t *size_out);

struct codec *codec_destroy(struct codec *codec);

/* --- session.c ---------------------------------------------------------------------------------*/

enum state { STATE_OPEN, STATE_READY, STATE_ENDED };

enum { INPUTS_MAX = 256, OUTPUTS_MAX = 128 };

struct input {
	struct session *session;
	struct picture picture;
	bool is_registered; /* or, of the host, created */
	bool is_mapped;     /* or, of the host, locked */
	unsigned n_pending; /* outputs that were encoded from it and not locked yet */
	uint8_t *host;
};

struct output {
	struct session *session;
	bool is_alive;
	bool is_pending; /* encoded, not locked yet */
	bool is_locked;
	struct input *from;
	uint8_t *pixels; /* as they were when it was encoded */
	struct packet packet;
	uint64_t timestamp;
};

struct session {
	struct session *next;
	void *context;
	enum state state;
	NV_ENC_INITIALIZE_PARAMS params;
	NV_ENC_CONFIG config;
	struct codec *codec; /* NULL while it is only open */
	struct input inputs[INPUTS_MAX];
	struct output outputs[OUTPUTS_MAX];
	unsigned n_inputs, n_outputs;
	unsigned n_waiting; /* pictures since the last NV_ENC_SUCCESS */
	uint64_t n_encoded;
	bool is_flushed; /* the end was announced: what is inside may be dropped */
};

/* An entry point at work: it holds the lock until it returns. */
struct call {
	const char *name;
	NVENCSTATUS result; /* not NV_ENC_SUCCESS: return it, nothing else */
	struct session *session;
};

/* needs: the least state; with_context: the session's context must be the thread's */
struct call call_enter(const char *name, void *encoder, enum state needs, bool with_context);
void call_leave(struct call *call);

#define ENTER(var, encoder, needs, with_context) \
	_cleanup_(call_leave) struct call var = call_enter(__func__, encoder, needs, with_context)

/* False if it is not as wanted: a misuse, and the call's result is INVALID_VERSION. */
bool call_has_version(struct call *call, uint32_t version, uint32_t wanted);

/* How many pictures it keeps back, as its parameters say. */
unsigned session_group(const struct session *session);

/* --- input.c, output.c: under their names in the function list ---------------------------------*/

NVENCSTATUS nvEncRegisterResource(void *encoder, NV_ENC_REGISTER_RESOURCE *params);
NVENCSTATUS nvEncUnregisterResource(void *encoder, NV_ENC_REGISTERED_PTR registered);
NVENCSTATUS nvEncMapInputResource(void *encoder, NV_ENC_MAP_INPUT_RESOURCE *params);
NVENCSTATUS nvEncUnmapInputResource(void *encoder, NV_ENC_INPUT_PTR mapped);
NVENCSTATUS nvEncCreateInputBuffer(void *encoder, NV_ENC_CREATE_INPUT_BUFFER *params);
NVENCSTATUS nvEncDestroyInputBuffer(void *encoder, NV_ENC_INPUT_PTR buffer);
NVENCSTATUS nvEncLockInputBuffer(void *encoder, NV_ENC_LOCK_INPUT_BUFFER *params);
NVENCSTATUS nvEncUnlockInputBuffer(void *encoder, NV_ENC_INPUT_PTR buffer);

NVENCSTATUS nvEncCreateBitstreamBuffer(void *encoder, NV_ENC_CREATE_BITSTREAM_BUFFER *params);
NVENCSTATUS nvEncDestroyBitstreamBuffer(void *encoder, NV_ENC_OUTPUT_PTR buffer);
NVENCSTATUS nvEncEncodePicture(void *encoder, NV_ENC_PIC_PARAMS *params);
NVENCSTATUS nvEncLockBitstream(void *encoder, NV_ENC_LOCK_BITSTREAM *params);
NVENCSTATUS nvEncUnlockBitstream(void *encoder, NV_ENC_OUTPUT_PTR buffer);

/* What is left at a session's end. */
void inputs_end(const char *call, struct session *session);
void outputs_end(const char *call, struct session *session);
