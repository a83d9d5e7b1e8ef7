/*
 * `-c nvjpeg` over the doubles of libcuda and libnvjpeg, without a broker: frames in memory of the CUDA
 * double, and libsluice replaced at link time. Each test in a process of its own, at whose end both
 * doubles have seen everything destroyed and nothing misused.
 *
 *	NVJPEG_TEST(a_sentence)
 *	{
 *	}
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/format.h"
#include "consumer/encoder/encoder.h"
#include "tests/test.h"

/* For with_doubles(): FAKE_CUDA_FAIL and FAKE_NVJPEG_FAIL, each may be NULL. */
struct faults {
	const char *cuda, *nvjpeg;
};

void with_doubles(void (*body)(void), const struct faults *faults);

#define NVJPEG_TEST(name)                          \
	static void nvjpeg_##name(void);           \
	TEST(name)                                 \
	{                                          \
		with_doubles(nvjpeg_##name, NULL); \
	}                                          \
	static void nvjpeg_##name(void)

/* Slots of I420, full range, in CUDA memory. */
enum { SLOTS_MAX = 4 };

struct slots {
	struct video_format format;
	void *context; /* CUcontext */
	uint64_t slot[SLOTS_MAX];
	unsigned n;
};

void slots_init(struct slots *slots, uint32_t width, uint32_t height, unsigned n);
void slots_finish(struct slots *slots);

/* The pixels of a slot: the CPU's and the GPU's are the same here. */
uint8_t *slots_pixels(const struct slots *slots, unsigned i);

/* Draw a picture that changes slowly and carries the number, and lend it. */
struct sluice_frame slots_draw(const struct slots *slots, unsigned i, uint32_t number);

struct picture_format slots_format(const struct slots *slots);

/* What the encoder did with frames: each is released once, and read before that. */
extern unsigned n_released;
extern bool is_whole; /* what sluice_frame_valid() says */

/* Open an encoder for the slots, with these settings. */
struct encoder *open_encoder(const struct slots *slots, const struct encoder_settings *settings);

/* load, encode and receive: the one packet that comes of it, at these ticks. */
AVPacket *encode_frame(struct encoder *encoder, struct sluice_frame *frame, int64_t ticks);

/* dB of the worst plane of a decoded packet against the slot. NAN: it is no such picture. */
double psnr_of(const AVPacket *packet, const struct slots *slots, unsigned i);

/* The number in a decoded packet; UINT32_MAX: none. */
uint32_t number_of(const AVPacket *packet);

/* A number of libnvjpeg's double so far: "picture" lines of its log. */
bool was_encoded_from(uint64_t address);
unsigned count_of_addresses(void);
