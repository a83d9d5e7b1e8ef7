/* The command line. */
#pragma once

#include <stdbool.h>

#include "consumer/bench/figures.h"

enum { EXIT_USAGE = 2 };

struct options {
	bool is_quick;
	unsigned figures; /* FIGURE_ bits */
	unsigned rounds;
	unsigned gpu_rounds; /* likewise, of gpu */
	unsigned seconds;
	unsigned n_counts;
	unsigned counts[COUNTS_MAX];
	bool has_counts;    /* they were asked for */
	const char *json;   /* path; NULL: none */
	const char *broker; /* path; NULL: look for it */
	const char *check;  /* likewise */
};

enum { OPTIONS_EXIT = 1 }; /* --help or --version: printed, nothing more to do */

/* 0, OPTIONS_EXIT, or -EINVAL after a sentence on stderr. Strings are [lend] from argv. */
int options_parse(struct options *options_out, int argc, char **argv);

/* On stdout. */
void help_print(void);
