/* Run a program to its end and read what it wrote. */
#pragma once

#include <sys/resource.h>

enum { PROGRAM_OUTPUT_MAX = 65536 };

struct program {
	int status;                   /* exit status, or 128 + the signal that ended it */
	char out[PROGRAM_OUTPUT_MAX]; /* text, cut */
	char err[PROGRAM_OUTPUT_MAX];
};

/* argv ends with NULL. file_limit: bytes that a file may have, 0: any. */
void program_run(struct program *program, const char *const *argv, rlim_t file_limit);
