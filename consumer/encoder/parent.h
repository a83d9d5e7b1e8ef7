/* --ladder and --restart: the process above those that encode. It opens no encoder and no stream. */
#pragma once

#include <stdbool.h>

#include "consumer/encoder/options.h"
#include "consumer/encoder/problem.h"

/* This process shall not encode but have others do so. */
bool parent_is_wanted(const struct options *options);

/**
 * Run an encoder for each rung, or one alone, until they are complete. Blocks until then.
 *
 * argv  [borrow] as options_parse() left it
 *
 * An exit status, or negative with a sentence; -EINVAL: what was asked for does not fit together.
 */
int parent_run(const struct options *options, int argc, char *const *argv, struct problem *problem);
