/*
 * SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end. A second breaks a write that blocks;
 * where a write waits for somebody else, a server or a reader, so does the end of some seconds.
 *
 * Within a second of the first another is the same wish: systemd signals a supervisor and its
 * children, and the supervisor passes on what it gets.
 */
#pragma once

#include <stdbool.h>

enum { STOP_GRACE_S = 3 };

/* Take the signals, and ignore SIGPIPE: a reader that went away is an error of the output. */
int stop_install(void);

/* An orderly end was asked for. */
bool stop_is_asked(void);

/* Nothing more may be waited for. For an AVIOInterruptCB; data is not used. */
int stop_is_overdue(void *data);

/* The same for a file, which waits for nobody: only a second signal cuts it off. */
int stop_is_insisted_on(void *data);
