/* The rows of the figure gpu: what was measured of so many consumers, and how it is called. */
#pragma once

#include "consumer/bench/echo.h"
#include "consumer/bench/readers.h"
#include "consumer/bench/report.h"

/* The scene is shown to consumers with one kind of readiness. */
struct gpu_leg {
	struct scene scene;
	const char *readiness;
};

/* What there is below one round. */
struct gpu_floors {
	double copy_us;
	struct echo_report echo;
};

/* A leg's rounds. */
struct gpu_rounds {
	struct series read, p99, rate;      /* us; us; frames/s */
	struct series copy, receive, fetch; /* us, of read */
	struct series cpu; /* us of the broker for a frame; of the floor for one more */
};

/* How consumers begin. */
struct gpu_beginning {
	struct series together; /* ms, the slowest of those that begin at once */
	struct series import;   /* ms of that, for the stream's memory */
	struct series one_more; /* ms */
	struct series bytes; /* of GPU memory that the broker has more, while there is one more */
};

/* broker_cpu_us is its processor time for one frame. */
void gpu_rounds_add(struct gpu_rounds *rounds, const struct readers_report *readers,
	const struct gpu_floors *floors, double broker_cpu_us);

/* All of them but processor time. Sorts. */
void gpu_rows_of_rounds(
	struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds);

/**
 * Processor time.
 *
 * alone_us  [borrow] the broker's time for a frame with one consumer; 0: not known. Written if that is
 *           what this leg measured
 */
void gpu_rows_of_cpu(struct report *report, const struct gpu_leg *leg, struct gpu_rounds *rounds,
	double *alone_us);

void gpu_rows_of_beginning(
	struct report *report, const struct gpu_leg *leg, struct gpu_beginning *beginning);
