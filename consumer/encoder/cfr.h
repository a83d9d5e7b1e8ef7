/*
 * A constant frame rate from pictures that come when they like: which of them is seen when.
 *
 * Frame i of the file is at i/rate, and shows the newest picture that was captured until half a frame
 * after that, counted from the first picture. The half keeps a source of the same rate, whose times
 * always jitter, from being repeated and dropped by turns.
 *
 * Pure arithmetic on whole numbers: nothing adds up in hours, and no clock is read. The caller tells
 * of pictures (cfr_add()) and of time that passed without one (cfr_pass(), cfr_end()), and writes the
 * frames that each of them makes due, all of the picture that was the newest before the call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cfr {
	uint64_t num, den; /* frames per second */
	uint64_t begin_ns; /* when the first picture is of */
	uint64_t next;     /* number of the next frame */
	bool is_shown;     /* the newest picture is in the file */

	uint64_t repeated; /* frames that show what the one before shows */
	uint64_t dropped;  /* pictures that no frame shows */
};

/* How many frames are due, from number first on. */
struct cfr_frames {
	uint64_t first, n;
};

/**
 * The first picture of a file. It is frame 0, due at once. The two counts go on from file to file: the
 * caller zeroes them once.
 *
 * num, den  frames per second, both more than 0 and less than 2^31
 */
struct cfr_frames cfr_begin(struct cfr *cfr, uint64_t num, uint64_t den, uint64_t pts_ns);

/* Another picture, which is the newest now. A time before the last one counts as now. The frames that
 * it makes due show the picture before it. */
struct cfr_frames cfr_add(struct cfr *cfr, uint64_t pts_ns);

/* The picture that was added last cannot be had after all: the one that is in the file stays. */
void cfr_lose(struct cfr *cfr);

/* It is pts_ns by the pictures' clock, and no picture until then is still on its way. */
struct cfr_frames cfr_pass(struct cfr *cfr, uint64_t pts_ns);

/**
 * No picture will follow, and the file ends at pts_ns: all frames of times before that.
 *
 * is_exact  no frame more, even if the newest picture is in none of them; else it gets one
 */
struct cfr_frames cfr_end(struct cfr *cfr, uint64_t pts_ns, bool is_exact);

/* When cfr_pass() will have something next. */
uint64_t cfr_next_ns(const struct cfr *cfr);
