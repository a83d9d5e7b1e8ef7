/*
 * A frame number drawn into the pixels, so that a reader can prove which frame it has and that it
 * is whole.
 *
 * Bands of black and white blocks run across the picture, one every eighth of its height. Each band
 * spells the same 40 bits, most significant first: the frame number modulo 2^32 and an 8-bit check.
 * A block is up to 16 × 16 pixels, so the stamp survives lossy video encoders, and a frame that was
 * overwritten while it was read shows two different numbers or a wrong check.
 */
#pragma once

#include <stdint.h>

#include "common/format.h"

enum {
	STAMP_BITS = 40,
	STAMP_BANDS = 8,
	STAMP_SIDE_MIN = 40, /* pixels: the narrowest picture that can carry a stamp */
};

enum stamp_result {
	STAMP_OK = 0,
	STAMP_NONE = 1, /* no band has a valid check: not a stamped picture, or too damaged */
	STAMP_TORN = 2, /* the bands disagree: parts of two frames, or a damaged picture */
};

/* Where the blocks are. */
struct stamp_grid {
	uint32_t block; /* pixels, width and height of a block */
	uint32_t pitch; /* pixels, from band to band */
};

struct stamp_grid stamp_grid(uint32_t width, uint32_t height);

/* The bits of a number and its check, STAMP_BITS of them. */
uint64_t stamp_code(uint32_t number);

/* Bytes from pixel to pixel in the first plane of a format that format_info() knows. */
unsigned stamp_step(uint32_t fourcc);

/* Can a picture of this size carry a stamp? */
bool stamp_fits(const struct video_format *format);

/* Draw into a frame. pixels [borrow], format->size_bytes long. Only if stamp_fits(). */
void stamp_draw(uint8_t *pixels, const struct video_format *format, uint32_t number);

/**
 * Read the number back from all bands.
 *
 * pixels      [borrow] format->size_bytes long
 * number_out  untouched unless STAMP_OK
 */
enum stamp_result stamp_read(
	const uint8_t *pixels, const struct video_format *format, uint32_t *number_out);

/* The same from rows of the first plane that were fetched alone: one through the middle of each band,
 * pitch_bytes apart, blocks as stamp_grid() says. Only for formats that format_info() knows. */
enum stamp_result stamp_read_rows(const uint8_t *rows, size_t pitch_bytes, uint32_t fourcc,
	uint32_t block, uint32_t *number_out);

/* The same from a plane of luma (or any 8-bit channel): samples `step` bytes apart. */
enum stamp_result stamp_read_luma(const uint8_t *luma, uint32_t stride, unsigned step,
	uint32_t width, uint32_t height, uint32_t *number_out);
