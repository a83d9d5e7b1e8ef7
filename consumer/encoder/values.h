/*
 * Values as people write them: "4M", "30000/1001", "720p". Each function reads the whole text or
 * nothing: false leaves what it would have written as it was.
 */
#pragma once

#include <libavutil/rational.h>
#include <stdbool.h>
#include <stdint.h>

bool value_whole(const char *text, int64_t min, int64_t max, int64_t *out);

bool value_real(const char *text, double min, double max, double *out);

/* "800k", "4M": k, M and G are thousands of each other. */
bool value_bits(const char *text, int64_t min, int64_t max, int64_t *out);

/* "30", "30000/1001", "ntsc": more than 0. */
bool value_rate(const char *text, int64_t max, AVRational *out);

/* "90", "1:30", "500ms": more than 0. */
bool value_duration(const char *text, int64_t max_s, int64_t *us_out);

/**
 * "1280x720"; "720p" and "hd720"; "1280x" and "1280x-1": one side. Sides of 1 to max pixels.
 *
 * width_out, height_out  0: not given
 */
bool value_size(const char *text, int64_t max, uint32_t *width_out, uint32_t *height_out);

/* "NV12", "bgr0": a name of common/format.h's, or FFmpeg's of a format that this program reads. */
bool value_format(const char *text, uint32_t *fourcc_out);
