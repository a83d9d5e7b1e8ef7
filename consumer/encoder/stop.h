/*
 * SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, and gives it some seconds; the second, or
 * the end of those seconds, breaks a write that blocks.
 */
#pragma once

#include <stdbool.h>

enum { STOP_GRACE_S = 3 };

/* Take the signals, and ignore SIGPIPE: a reader that went away is an error of the output. */
int stop_install(void);

/* An orderly end was asked for. */
bool stop_is_asked(void);

/* Nothing more may be waited for. An output_interrupt_fn; data is not used. */
int stop_is_overdue(void *data);
