/*
 * Consumer processes, and what they saw. Each has a seat in memory that is shared with the process
 * that measures; it notes frames there, and looks there whether it is time to go.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/bench/bench.h"

enum { SEAT_LOOK_MS = 200 }; /* a consumer looks at seat_is_over() at least so often */

struct crowd;
struct seat;

/* A frame as a consumer got it. */
struct sighting {
	uint64_t seq;
	uint64_t published_ns;
	uint64_t received_ns;
	bool is_whole; /* not overwritten while it was read */
};

/**
 * What a consumer does in its process: note frames until seat_is_over().
 *
 * socket  [borrow] path of who sends the frames
 *
 * 0, or negative with a sentence.
 */
typedef int (*crowd_fn)(struct seat *seat, const char *socket, struct failure *failure);

/* Consumer: the measuring process waits for the first one. */
void seat_note(struct seat *seat, const struct sighting *sighting);
bool seat_is_over(const struct seat *seat);

/* Consumer: the time it takes is measured. Then it does nothing that the floor does not do. */
bool seat_is_timed(const struct seat *seat);

/**
 * Start n consumers and wait until each has its first frame.
 *
 * crowd_out  [give] to crowd_destroy()
 * samples    latencies that each can note at most
 */
int crowd_create(struct crowd **crowd_out, unsigned n, unsigned samples, crowd_fn fn,
	const char *socket, struct failure *failure);

/* Count the frames that will be published in this span, and forget the one before. */
void crowd_watch(struct crowd *crowd, uint64_t from_ns, uint64_t until_ns, bool is_timed);

/* What all saw of the frames that were published in the span. */
struct tally {
	uint64_t frames;  /* taken by all consumers together */
	uint64_t missing; /* numbers that were skipped between two frames of a consumer */
	uint64_t spoiled; /* overwritten while they were read */
	uint64_t late;    /* frames that the source was too late to make */
	double p50_ns;    /* published to received */
	double p99_ns;
};

/* Add up, once nothing is sent any more. -ECHILD with a sentence when a consumer has failed. */
int crowd_tally(
	struct crowd *crowd, unsigned fps, struct tally *tally_out, struct failure *failure);

/* Ends the processes. Takes NULL. Returns NULL. */
struct crowd *crowd_destroy(struct crowd *crowd);

DEFINE_CLEANUP(struct crowd *, crowd_destroy);
