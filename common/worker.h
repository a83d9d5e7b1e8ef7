/*
 * One helper thread that runs one job at a time: it copies or draws pixels that were handed to it.
 *
 * The owner thread posts a job and hears of its end on its event loop. The thread touches only what
 * the job was given. All functions are for the owner thread.
 */
#pragma once

#include <stdbool.h>

#include "common/loop.h"

struct worker;

/* Runs on the helper thread. Returns a result of the job's own making. */
typedef int (*worker_job_fn)(void *job);

/* Runs on the owner's loop when the job has ended. */
typedef void (*worker_done_fn)(void *data, int result);

/**
 * Start the thread.
 *
 * loop        [borrow] until worker_destroy()
 * name        of the thread, 15 characters at most
 * worker_out  [give]
 */
int worker_create(struct worker **worker_out, struct loop *loop, const char *name,
	worker_done_fn done, void *data);

/**
 * Run a job. job [lend] to the thread until done() is called or worker_wait() returns.
 * Only while the worker is idle (asserted). Never blocks.
 */
void worker_post(struct worker *worker, worker_job_fn fn, void *job);

/* A job was posted and its done() has not been called. */
bool worker_busy(const struct worker *worker);

/**
 * Block until the job that is running, if any, has ended: for when its memory is about to go away.
 * done() is still called from the loop afterwards.
 */
void worker_wait(struct worker *worker);

/* Waits for the running job, then ends the thread; done() is not called. Takes NULL. Returns NULL. */
struct worker *worker_destroy(struct worker *worker);

DEFINE_CLEANUP(struct worker *, worker_destroy);
