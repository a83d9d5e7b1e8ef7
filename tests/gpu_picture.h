/* Pictures as the CPU draws them, to compare with the GPU's. */
#pragma once

#include <stdint.h>

#include "common/format.h"

enum { PICTURE_FORMATS = 14 };

/* The names of all formats. */
extern const char *const picture_formats[PICTURE_FORMATS];

/* "NV12 640x360", for CHECK_ROW. Lives until the next call. */
const char *picture_name(const struct video_format *format);

/* What broker/capture/pattern.c draws. [give] format->size_bytes, for free(). */
uint8_t *picture_of_pattern(const struct video_format *format, uint32_t number);

/* Where the two differ in a byte that is seen, not in the padding; -1: nowhere. */
long long picture_differs(const struct video_format *a_format, const uint8_t *a,
	const struct video_format *b_format, const uint8_t *b);

/* Fails the test unless these are the pixels of the pattern. */
void picture_check_pattern(
	const struct video_format *format, const uint8_t *pixels, uint32_t number);
