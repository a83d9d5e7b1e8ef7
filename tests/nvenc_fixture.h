/*
 * For tests of NVENC: what a broker would lend, an encoder over both doubles, and a decoder that knows
 * what it should see. All fail the test by themselves.
 */
#pragma once

#include <ffnvcodec/dynlink_cuda.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/format.h"
#include "consumer/encoder/encoder.h"

enum { WIDTH = 64, HEIGHT = 48, SLOTS = 8 };

struct slot {
	CUdeviceptr ptr;
	struct sluice_frame frame;
	bool is_held;
};

struct pool {
	struct video_format format;
	struct slot slot[SLOTS];
	uint64_t generation;
	unsigned next;
};

extern struct problem problem;
extern CUcontext context;
extern unsigned n_held, n_held_most; /* frames that are lent, now and at most */
extern bool is_revoked;              /* frames are not what they were any more */
extern const struct encoder_settings usual;

void open_gpu(void);
void close_gpu(void);

/* Memory for pictures. generation: of the frames. */
void fill_pool(struct pool *pool, const struct video_format *format, uint64_t generation);
struct pool open_pool(uint32_t fourcc, uint64_t generation);
void close_pool(struct pool *pool);

/* A frame, whose picture says its number. [lend] */
struct sluice_frame *lend(struct pool *pool, unsigned number);

/* The decoder, of which there is one; open_encoder() and finish() do it too. n: pictures that came out. */
void open_decoder(bool is_rgb);
void close_decoder(unsigned n);

/* For the pool's pictures. [give] */
struct encoder *open_encoder(const struct pool *pool, const struct encoder_settings *settings);

/* Load and encode a picture, and look at those that are ready. */
void encode(struct encoder *encoder, struct pool *pool, unsigned number);
void decode_ready(struct encoder *encoder);

/* encoder [take]; n pictures came out of it. */
void finish(struct encoder *encoder, unsigned n);

/* fn in a process of its own; fail: FAKE_NVENC_FAIL. [lend] NVENC's log, until the next call */
const char *log_of(void (*fn)(void), const char *fail);

/* The text is in the log. */
void expect(const char *log, const char *text);
