/* The form that a client asks a stream's frames to have, and the format that it makes of the stream's own. */
#pragma once

#include "common/format.h"

enum form_range {
	FORM_RANGE_USUAL,   /* limited for YUV that is made from RGB, else the stream's own */
	FORM_RANGE_LIMITED, /* YUV alone */
	FORM_RANGE_FULL,
};

/* Zeroed: the stream's own form. */
struct form {
	uint32_t fourcc; /* 0: the stream's own */
	uint32_t
		width; /* pixels; 0: the stream's own, or with the other side given what keeps the */
	uint32_t height; /* proportions */
	uint8_t matrix; /* of YUV, H.273: 1, 6 or 9; 0: the stream's own, or BT.709 if that is RGB */
	enum form_range range;
};

/* Can any stream have it? why_out [lend] for ever: if not, a sentence. */
bool form_is_sound(const struct form *form, const char **why_out);

/* Is it what this one is already? */
bool form_is_own(const struct form *form, const struct video_format *own);

/* Does it ask for nothing but what the stream is, whatever that is? */
bool form_is_any(const struct form *form);

/* Name what is usual for this stream, so that it is the same as one that names it. */
void form_settle(struct form *form, const struct video_format *own);

/* Do they make the same of every stream? */
bool form_equal(const struct form *a, const struct form *b);

/**
 * The format that it makes of the stream's own.
 *
 * format_out  untouched unless 0 is returned
 *
 * 0, or what format_layout() returns.
 */
int form_resolve(
	const struct form *form, const struct video_format *own, struct video_format *format_out);
