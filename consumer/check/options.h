/* The command line of sluice-cuda-check. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "consumer/sluice_consumer.h"

enum { EXIT_USAGE = 2 };

struct options {
	const char *socket; /* NULL: the library's default */
	const char *stream;
	struct sluice_view_request request;
	uint64_t frames;    /* 0: no limit */
	uint64_t time_ns;   /* 0: no limit */
	uint64_t spin_ns;   /* the socket is looked at for so long before sleeping */
	uint64_t hold_ns;   /* a frame is kept for so long, then read and given back */
	bool release_after; /* with sluice_frame_release_after() */
	bool json;
	bool quiet;
};

/* Strings are [lend] from argv. Ends the process: with 0 for --help and --version, with EXIT_USAGE
 * and a sentence for what is wrong. */
void options_parse(int argc, char **argv, struct options *options_out);
