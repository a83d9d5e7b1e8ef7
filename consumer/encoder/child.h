/*
 * One child process of a supervisor: start it, hear what it says, learn how it ended.
 *
 * It ends with its parent (SIGTERM), and has a process group of its own: Ctrl-C reaches the parent
 * alone, which passes it on once. Its stderr is a pipe that never makes it wait, or the parent's.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { CHILD_READY_FD = 3 /* where it writes a byte when its work has begun */ };

struct child {
	pid_t pid; /* 0: it does not run */
	int error_fd;
	int ready_fd;
	bool is_ready; /* since its last start */
	uint64_t started_ns;
};

/* Becomes the program; returns if that failed. Runs in the child process. */
typedef void (*child_execute_fn)(void *data);

/* A child that does not run. */
void child_init(struct child *child);

/**
 * Start it.
 *
 * mask         signals that it has blocked
 * takes_error  its stderr is child->error_fd
 * execute      called with data in the new process
 *
 * 0 or negative errno.
 */
int child_start(struct child *child, const sigset_t *mask, bool takes_error,
	child_execute_fn execute, void *data);

/* What it said on stderr since the last call, at most size bytes; 0: nothing waits. Never blocks. */
size_t child_read(struct child *child, char *data, size_t size);

/* Look whether it is ready by now. Never blocks. */
bool child_look_ready(struct child *child);

/* true: it has ended, with this status of waitpid()'s. Read what is left before child_forget(). */
bool child_has_ended(struct child *child, int *status_out);

/* Close what was open for it. */
void child_forget(struct child *child);

/* In a child: its work has begun. Later calls do nothing. Never blocks. */
void child_tell_ready(void);
