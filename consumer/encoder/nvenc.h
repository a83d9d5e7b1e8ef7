/* NVENC, beyond what encoder.h has: can it be used on this GPU? */
#pragma once

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/problem.h"

/**
 * Open the codec for such pictures, and close it again.
 *
 * settings  [borrow] whose codec is one of NVENC's
 * format    [borrow] with a context
 *
 * 0, or negative with a sentence that has the driver's reason.
 */
int nvenc_try(const struct encoder_settings *settings, const struct picture_format *format,
	struct problem *problem);
