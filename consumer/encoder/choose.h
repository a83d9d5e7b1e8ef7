/* Which encoder, and what it asks the broker for: decided when the stream is known. */
#pragma once

#include <stdbool.h>

#include "common/cleanup.h"
#include "consumer/encoder/gpu.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

enum { CHOICE_TEXT_BYTES = PROBLEM_MAX + 256 };

struct choice {
	struct encoder_settings encoder;
	struct sluice_view_request request;
	struct gpu *gpu;              /* of the request's context; NULL: none */
	char text[CHOICE_TEXT_BYTES]; /* which encoder, and why; empty: the user chose it himself */
};

/* "auto": NVENC if it opens on the stream's GPU, else libx264. */
bool choose_is_auto(const char *codec);

/* The codec to check the output with, before anything is chosen. */
const char *choose_likely_codec(const char *codec);

/* Is there anything wrong with what is to encode, whatever the stream is like? 0, or negative with a
 * sentence; -EINVAL: the options. */
int choose_check(const struct options *options, struct problem *problem);

/**
 * Decide.
 *
 * choice   [borrow] zeroed; to be emptied with choice_finish() in every outcome
 * options  [borrow] until choice_finish()
 * info     [borrow] the stream; NULL: there is none of that name
 *
 * 0, or negative with a sentence: no encoder can be had that is as the options want it.
 */
int choose(struct choice *choice, const struct options *options,
	const struct sluice_stream_info *info, struct problem *problem);

void choice_finish(struct choice *choice);
