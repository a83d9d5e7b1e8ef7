/* The recording: frames of a source, through an encoder, into one file or several. */
#pragma once

#include <libavformat/avformat.h>

#include "consumer/encoder/options.h"
#include "consumer/encoder/problem.h"
#include "consumer/encoder/stats.h"

/**
 * Record until the options' limit, a stop, or a failure; the file is finished in every case.
 *
 * options  [borrow]
 * format   the container, from parts_check_output()
 * stats    [borrow] zeroed, but for is_live; filled in every outcome
 *
 * 0: complete, or negative with a sentence.
 */
int record(const struct options *options, const AVOutputFormat *format, struct stats *stats,
	struct problem *problem);
