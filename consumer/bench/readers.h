/*
 * The consumers of GPU memory: processes of sluice-cuda-check, which verifies each frame and says how
 * long it took. Each reports when it is told to (SIGUSR1), and begins anew.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/bench/bench.h"

struct readers;

/* What is asked for. */
struct readers_request {
	const char *socket;
	const char *readiness; /* "complete", "timeline", "sync-fd" */
	unsigned n;
	uint64_t spin_ns; /* they poll for a frame for so long before they sleep */
};

/* How they began. */
struct readers_first {
	double first_ms;  /* from subscribing to the first frame's pixels, of the slowest */
	double import_ms; /* that importing the stream's memory took, of the slowest */
	bool is_granted;  /* all have the readiness that was asked for */
	char note[BENCH_TEXT_MAX]; /* what the first one says to that; "": nothing */
};

/* What they saw since the last report: the means over all of them. Times are their p50s. */
struct readers_report {
	double read_us;    /* from the submission of the copy to pixels read */
	double copy_us;    /* of it: until published */
	double receive_us; /* from there until received */
	double fetch_us;   /* from there until read */
	double read_p99_us;
	double fps;
	double wrong; /* frames with wrong pixels or out of order, of all of them, from the beginning */
};

/**
 * Start them all at once, and wait until each has its first frame. The broker must be running.
 *
 * readers_out  [give]
 * place        [borrow] until destroyed
 * request      [borrow] for the call
 */
int readers_create(struct readers **readers_out, struct place *place,
	const struct readers_request *request, struct failure *failure);

/* [lend] until destroyed */
const struct readers_first *readers_first(const struct readers *readers);

/* What they saw since they reported last. They and the broker must be running. */
int readers_report(
	struct readers *readers, struct readers_report *report_out, struct failure *failure);

/* They stand still, or go on. */
void readers_pause(struct readers *readers);
void readers_resume(struct readers *readers);

/* Ends the processes. Takes NULL. Returns NULL. */
struct readers *readers_destroy(struct readers *readers);

DEFINE_CLEANUP(struct readers *, readers_destroy);
