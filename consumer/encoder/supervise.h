/*
 * A supervisor: some child processes, started again when they die.
 *
 * It knows nothing of what they do. A child tells that its work has begun by a byte on descriptor
 * SUPERVISE_READY_FD, and how it ended by its exit status:
 *
 *	0                     complete: not started again
 *	2                     it was told something wrong, which it would be again: all are ended
 *	3                     it cannot go on, nor could it after another start: given up
 *	any other, or signal  started again after a delay, which doubles each time and is the first
 *	                      one again after a start that did its work for a while
 *
 * One that was never ready is given up after SUPERVISE_STARTS starts; the others go on.
 *
 * SIGINT, SIGTERM and SIGHUP are passed on, and nothing is started any more; a second one is passed
 * on too, and whoever is still there some seconds later is killed; a third kills at once. SIGUSR1 is
 * passed on. If the supervisor is killed, the children get SIGTERM.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "consumer/encoder/child.h"
#include "consumer/encoder/console.h"

enum {
	SUPERVISE_MAX = CONSOLE_SPEAKERS_MAX, /* children */
	SUPERVISE_READY_FD = CHILD_READY_FD,
	SUPERVISE_STARTS = 5,
	SUPERVISE_STATUS_FINAL = 3,
};

enum supervise_result {
	SUPERVISE_COMPLETE = 0, /* each child's last run was */
	SUPERVISE_FAILED = 1,
	SUPERVISE_USAGE = 2,
};

/* A start of one of them. */
struct supervise_start {
	unsigned child;
	unsigned number;           /* 0: the first */
	uint64_t working_since_ns; /* when it was first ready, CLOCK_MONOTONIC; 0: never yet */
};

struct supervise_times {
	uint64_t delay_ns;     /* before the first start that is one more */
	uint64_t delay_max_ns; /* doubled up to this */
	uint64_t health_ns;    /* after so long at work, a death counts as the first again */
	uint64_t grace_ns;     /* for those who were told to end at once */
};

struct supervise_plan {
	const char *program; /* whose sentences these are */
	unsigned n;          /* children, 1 to SUPERVISE_MAX */
	/* of each child, before each line it says on stderr; NULL: there is one, which has our stderr */
	const char *const *name;
	/* Become the program; runs in the child process, returns if that failed. */
	void (*execute)(void *data, const struct supervise_start *start);
	void *data;
	struct supervise_times times;
};

/* What people want. */
extern const struct supervise_times supervise_times_usual;

/**
 * Run them until all are complete, given up or ended. Blocks until then. Once per process: it takes
 * the signals. Standard error gets the sentences.
 *
 * plan  [borrow]
 *
 * A supervise_result; or negative errno: there was nothing to start.
 */
int supervise(const struct supervise_plan *plan);
