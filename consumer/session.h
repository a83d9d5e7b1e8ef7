/* What arrives from the broker, and when to try again. */
#pragma once

#include "consumer/conn.h"

/* Connect and send Hello. 0 or negative, with the sentence; -EAGAIN: try again soon. */
int session_begin(struct sluice *conn);

/**
 * Read what has arrived, send what waits, and try again where it is time. Never blocks.
 *
 * done  stop as soon as this is so: the rest is for the next call. NULL: read on
 *
 * 0, or negative: the connection is dead.
 */
int session_process(struct sluice *conn, conn_done_fn done, const void *arg);

/* The session is over for the reason in conn->error: wait for the next, or die with result r. */
int session_lose(struct sluice *conn, int r);
