/*
 * The floor under what goes from process to process: bare datagrams of the broker's size to so many
 * processes, and a bare answer from each. The next one goes out when all have answered, or at a tick.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/bench/bench.h"

struct echo;

/* Medians of the rounds. */
struct echo_report {
	double deliver_us; /* from the first send to a process having it, mean over the processes */
	double round_us;   /* from there until all have answered */
	double cpu_us;     /* processor time of the sender for one datagram and its answer */
};

/**
 * Start the processes.
 *
 * echo_out  [give]
 * spin_ns   so long they poll before they sleep; 0: they sleep at once
 */
int echo_create(struct echo **echo_out, unsigned n, uint64_t spin_ns, struct failure *failure);

/* Send for window_ns: fps times a second, or with fps 0 as fast as answers come. */
int echo_measure(struct echo *echo, unsigned fps, uint64_t window_ns,
	struct echo_report *report_out, struct failure *failure);

/* Ends the processes. Takes NULL. Returns NULL. */
struct echo *echo_destroy(struct echo *echo);

DEFINE_CLEANUP(struct echo *, echo_destroy);
