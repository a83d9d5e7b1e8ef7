/* One rung of a ladder, in the process that encodes it: what --ladder and --rung change of the rest. */
#pragma once

#include "common/cleanup.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/problem.h"

/* Names that the options point to. */
struct rung_paths {
	char *output;
	char *stats;
	char *control;
};

/**
 * Make the options those of their rung: size, format, bit rate, codec, and names with the rung's in
 * them. Does nothing if they have none.
 *
 * paths_out  [give] to rung_paths_free(), in every outcome
 *
 * 0; -EINVAL with a sentence; or -ENOMEM with one.
 */
int rung_apply(struct options *options, struct rung_paths *paths_out, struct problem *problem);

void rung_paths_free(struct rung_paths *paths);
