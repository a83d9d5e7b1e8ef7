/*
 * A stand: one kind of sender, twice - once with its consumers, once with none - of which at most one
 * runs at a time. All others are stopped (SIGSTOP), so that several stands can be watched in turns, a
 * short while each: what disturbs the machine meanwhile disturbs all of them alike.
 */
#pragma once

#include "consumer/bench/subject.h"

/* What was seen in one turn. Processor time of the process that sends: per frame, ns. */
struct turn {
	double alone_all_ns; /* sent to nobody */
	double alone_ns;     /* of it, without the threads that make pixels */
	double busy_all_ns;  /* sent to the consumers */
	double busy_ns;
	struct tally tally;
};

struct stand;

/* Start the processes, and stop them. stand_out [give] to stand_destroy(). */
int stand_create(struct stand **stand_out, const struct subject_kind *kind, struct place *place,
	const struct scene *scene, struct failure *failure);

/* Watch it for window_ns without consumers, then as long with them. */
int stand_turn(
	struct stand *stand, uint64_t window_ns, struct turn *turn_out, struct failure *failure);

/* What its consumers see in a longer time without a break. */
int stand_watch(
	struct stand *stand, uint64_t window_ns, struct tally *tally_out, struct failure *failure);

/* Takes NULL. Returns NULL. */
struct stand *stand_destroy(struct stand *stand);

DEFINE_CLEANUP(struct stand *, stand_destroy);
