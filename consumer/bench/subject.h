/*
 * What is measured: a process that sends frames to consumers. There are two kinds: a real
 * sluice-broker, and the floor, which is the least that any process must do to send as many
 * datagrams of the same size and read as many answers.
 */
#pragma once

#include <sys/types.h>

#include "common/cleanup.h"
#include "consumer/bench/bench.h"
#include "consumer/bench/crowd.h"

struct subject {
	pid_t pid;
	char socket[BENCH_PATH_MAX];
};

struct subject_kind {
	const char *name;

	/* Start the process, and wait until it listens. subject_out [give] to subject_destroy(). */
	int (*start)(struct subject **subject_out, struct place *place, const struct scene *scene,
		struct failure *failure);

	/* What each of its consumers does. */
	crowd_fn consume;
};

extern const struct subject_kind subject_broker; /* broker.c */
extern const struct subject_kind subject_floor;  /* floor.c */
extern const struct subject_kind subject_unixfd; /* unixfd.c */

/**
 * For the kinds: run main_fn in a new process and wait until it listens on subject->socket.
 *
 * main_fn  does not return; what it is given is [borrow]
 */
int subject_start(struct subject **subject_out, struct place *place, const char *name,
	void (*main_fn)(const struct subject *, const void *), const void *data,
	struct failure *failure);

/* The process stands still, or goes on. */
void subject_pause(struct subject *subject);
void subject_resume(struct subject *subject);

/* Ends the process. Takes NULL. Returns NULL. */
struct subject *subject_destroy(struct subject *subject);

DEFINE_CLEANUP(struct subject *, subject_destroy);
