/*
 * FFmpeg's messages. The first one that says "error" explains a failure better than the number that
 * the call returns, so it is kept for the sentence; the rest is printed with --verbose alone.
 */
#pragma once

#include <stdbool.h>

#include "consumer/encoder/problem.h"

/* Take over FFmpeg's log. verbose: print all of it on stderr. */
void avlog_install(bool verbose);

/*
 * Keep what this thread's own calls say to itself: another thread's avlog_forget() does not touch
 * it, and its failures are not explained by it.
 */
void avlog_keep_apart(void);

/* Before a call whose failure shall be explained: what was said so far is forgotten. */
void avlog_forget(void);

/**
 * "WHAT: REASON", where the reason is what FFmpeg said since avlog_forget(), or else what the
 * number means.
 *
 * averror  negative; FFmpeg's numbers that are no errno value become -EIO
 *
 * Returns a negative errno.
 */
int avlog_problem(struct problem *problem, int averror, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
