/* sluice-encode as a process that runs beside the test. */
#pragma once

#include <sys/types.h>

#include "tests/e2e.h"

struct encode_process {
	pid_t pid;
	char said_path[256]; /* what it says on stderr */
};

/* A file in the test's folder. Lives until the fourth next call. */
const char *in_tmp(const char *name);

/* line: arguments with spaces between them, of which %s is the broker's socket and %t the test's
 * folder. */
void encode_start(
	struct encode_process *process, const struct broker_process *broker, const char *line);

/* Wait for its end. The exit status, or -signal. */
int encode_await(struct encode_process *process);

/* What it has said so far. Lives until the next call. */
const char *encode_said(const struct encode_process *process);

/* Wait until it has said so. */
void encode_await_text(const struct encode_process *process, const char *text);

/* A child of it with that argument; 0: none runs now. */
pid_t encode_child(const struct encode_process *process, const char *argument);

/* A number of a statistics file in the test's folder. */
double encode_stat(const char *name, const char *key);
