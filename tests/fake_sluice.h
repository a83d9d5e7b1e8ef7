/*
 * libsluice, replaced at link time: a broker that plays a script. Frames carry a stamp with their
 * number, their times are FAKE_FRAME_NS apart, and nothing waits for the clock unless the script
 * says so.
 */
#pragma once

#include <stdint.h>

enum { FAKE_FRAME_NS = 31234567 /* about 32 a second, and on no round grid */ };

enum fake_kind {
	FAKE_FRAMES,      /* n frames of the format that is set */
	FAKE_LIVE_FRAMES, /* the same, one each FAKE_FRAME_NS of real time */
	FAKE_TORN,        /* n frames that are not whole any more when they are asked about */
	FAKE_FORMAT,      /* from here on: fourcc, width, height; a new generation */
	FAKE_SKIP,        /* n numbers are not sent */
	FAKE_PACED,       /* n numbers are left out for the sake of --max-rate */
	FAKE_BACK,        /* the next frame's time is n ms before the last one's */
	FAKE_LEAP,        /* the next frame's time is n ms later than it should be */
	FAKE_OLD,         /* the next frame comes n ms late: it is of a picture that stands still */
	FAKE_AGAIN,       /* the last frame is sent once more */
	FAKE_STILL,       /* nothing comes for n ms of real time */
	FAKE_WAITING,     /* the source is gone */
	FAKE_LIVE,        /* it is back */
	FAKE_REMOVED,     /* the stream is removed */
	FAKE_GONE,        /* the broker is gone */
	FAKE_INTERRUPT,   /* this process gets SIGINT, and n times more */
};

struct fake_step {
	enum fake_kind kind;
	unsigned n;
	uint32_t fourcc, width, height;
};

/* What the next sluice_connect() finds. steps [borrow]. Past the end nothing comes any more. */
void fake_play(const struct fake_step *steps, unsigned n_steps);

/* Frames that were taken and not released. */
unsigned fake_held(void);
