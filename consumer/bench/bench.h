/* What every file of sluice-bench uses: failures in words, interruptible pauses, a place to work in. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	BENCH_CONSUMERS_MAX = 4000, /* processes at a time */
	BENCH_PATH_MAX = 100,       /* bytes of a socket's path, with the NUL */
	BENCH_TEXT_MAX = 512,       /* bytes of a sentence, with the NUL */
};

/* A sentence for the person at the terminal: what could not be measured, and what to do. */
struct failure {
	char text[BENCH_TEXT_MAX];
};

/* Write the sentence. Returns r, so that failing is one line. */
int fail(struct failure *failure, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A line on stderr that says what is going on. */
void progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A signal asked us to end. */
extern volatile sig_atomic_t bench_interrupted;

/* Sleep until that CLOCK_MONOTONIC time. 0, or -EINTR with its sentence when we are to end. */
int pause_until(uint64_t at_ns, struct failure *failure);

/* Where the processes under test find each other. */
struct place {
	char dir[BENCH_PATH_MAX / 2]; /* private, removed at the end */
	const char *broker;           /* the program's path; NULL: look for it */
	const char *check;            /* that of sluice-cuda-check, likewise */
	unsigned n_subjects;          /* that have been started: each has its own socket */
};

/* Make the directory. The programs' paths are left alone. */
int place_init(struct place *place, struct failure *failure);

/* Remove it, and what the processes under test left in it. */
void place_finish(struct place *place);

/* What is shown to the consumers. */
struct scene {
	unsigned consumers;
	unsigned width;  /* pixels */
	unsigned height; /* pixels */
	unsigned fps;    /* 0: the next frame when everybody has given the last back; gpu only */
	bool gpu;        /* frames are in GPU memory */
};

/**
 * Become another program of ours: the one at `path`, or if that is NULL the one that was built or
 * installed with this program, else the one in $PATH. Returns only if it cannot be, errno says why.
 *
 * folder  where it is in the tree: "consumer/check"
 */
void program_exec(const char *path, const char *name, const char *folder, char *const *argv);
