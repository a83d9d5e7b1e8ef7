/* From what the user asked for to what nvJPEG is told. */
#pragma once

#include <stdbool.h>

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/problem.h"

/* What -qp takes: FFmpeg's scale for its own MJPEG encoder. */
enum { NVJPEG_QP_MIN = 2, NVJPEG_QP_MAX = 31 };

struct nvjpeg_settings {
	int quality; /* 1 to 100, as everywhere that libjpeg is known */
	bool optimized_huffman;
};

/* The quality whose quantiser tables are about as coarse as FFmpeg's of a -qp: 2 is 92, 5 is 80, 10 is
 * 60, 31 is 20. */
int nvjpeg_quality_of_qp(int qp);

/**
 * Read them. What nvJPEG has no use for is refused, but for -g: every picture is a key frame.
 *
 * settings_out  untouched unless 0 is returned
 *
 * 0, or -EINVAL with a sentence that names the option.
 */
int nvjpeg_settings_read(struct nvjpeg_settings *settings_out,
	const struct encoder_settings *settings, struct problem *problem);
