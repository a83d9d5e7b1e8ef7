/* NVENC, beyond what encoder.h has: can it be used on this GPU? */
#pragma once

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/problem.h"

/**
 * Open the codec for small pictures in a context, and close it again.
 *
 * settings  [borrow] whose codec is one of NVENC's
 * context   [borrow] CUcontext
 *
 * 0, or negative with a sentence that has the driver's reason.
 */
int nvenc_try(const struct encoder_settings *settings, void *context, struct problem *problem);
