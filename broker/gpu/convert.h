/* Inside broker/gpu: what a conversion consists of. */
#pragma once

#include "broker/gpu/device.h"

/* The arguments of both shaders. */
struct convert_arguments {
	uint64_t from[3]; /* addresses of the planes */
	uint64_t to[3];
	uint32_t from_stride[2]; /* in words: of the first plane, and of the others */
	uint32_t to_stride[2];
	uint32_t from_size; /* width, and height << 16 */
	uint32_t to_size;
	float alpha_scale;
	float alpha_bias;
	float rows[3]
		  [4]; /* from the source's numbers to the target's, in the order of their bits; and
			     what is added */
};

/* colour.c: fill in the matrix and what becomes of alpha. Pure. False: that matrix is not known. */
bool convert_colours(const struct video_format *from, const struct video_format *to,
	struct convert_arguments *arguments);

/* Which one it is; CONVERT_KINDS: it can neither be read nor made. */
enum convert_kind convert_kind_of(const struct video_format *format);

/* The same numbers in the same places: a copy. Pure. */
bool convert_is_copy(const struct video_format *from, const struct video_format *to);
