/*
 * What a running recording can be told: through a socket (--control), line by line, and by SIGUSR1.
 *
 * Everything happens in control_poll(), which never waits: a client that floods, stalls or talks
 * nonsense costs the recording microseconds, and in the end itself its connection.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/encoder/problem.h"

enum {
	CONTROL_CLIENTS_MAX = 4,
	CONTROL_LINE_MAX = 256,    /* bytes of a command, with its end */
	CONTROL_ANSWER_MAX = 2048, /* bytes of an answer, with its end */
};

enum control_command {
	CONTROL_KEY,      /* the next picture is a key frame */
	CONTROL_BIT_RATE, /* another bit rate from here on */
	CONTROL_STATS,    /* what happened so far */
	CONTROL_QUIT,     /* finish the file and end */
};

/**
 * A command came.
 *
 * bit_rate  bits per second, of CONTROL_BIT_RATE
 * answer    [borrow] of CONTROL_STATS: the line, without its end
 *
 * 0, or negative with a sentence, which becomes the answer.
 */
typedef int (*control_fn)(void *data, enum control_command command, int64_t bit_rate,
	char answer[CONTROL_ANSWER_MAX], struct problem *problem);

struct control;

/**
 * Listen. The socket is its owner's alone (mode 0600). One that a dead process left is replaced.
 *
 * path         [borrow] NULL: no socket, signals only
 * control_out  [give]
 *
 * 0; -EADDRINUSE: somebody listens there; -EEXIST: that is no socket; or another negative errno. All
 * with a sentence.
 */
int control_create(struct control **control_out, const char *path, control_fn fn, void *data,
	struct problem *problem);

/* Do what was asked since the last call. Never blocks. */
void control_poll(struct control *control);

/* Removes the socket. Takes NULL. Returns NULL. */
struct control *control_destroy(struct control *control);

DEFINE_CLEANUP(struct control *, control_destroy);

/* Take SIGUSR1: a key frame, please. 0 or negative errno. */
int control_install(void);

/**
 * The other side: send one command and print the answer on stdout. Blocks for some seconds at most.
 *
 * 0, or negative with a sentence; an answer that is an error is one.
 */
int control_tell(const char *path, const char *command, struct problem *problem);
