/* The command line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/ladder.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

/* What a command line may ask for at most. */
enum {
	OPTIONS_TEXT_MAX = 4095,     /* bytes of any text */
	OPTIONS_STREAM_MAX = 64,     /* bytes of a stream's name */
	OPTIONS_BIT_RATE_MIN = 1000, /* bits per second */
	OPTIONS_BIT_RATE_MAX = 2000000000,
	OPTIONS_CRF_MAX = 63,
	OPTIONS_QP_MAX = 255,
	OPTIONS_GOP_MAX = 100000, /* frames */
	OPTIONS_B_FRAMES_MAX = 16,
	OPTIONS_RATE_MAX = 1000,        /* frames per second */
	OPTIONS_SECONDS_MAX = 31622400, /* a leap year */
	OPTIONS_FRAMES_MAX = 2000000000,
	OPTIONS_TIMEOUT_USUAL = 10, /* seconds */
	OPTIONS_FIFO_MAX = 32,
	OPTIONS_FIFO_USUAL = 4,
	OPTIONS_HOLDS_MAX = 16,
};

struct options {
	struct ladder ladder; /* no rungs: none */
	const char *rung;     /* of it: which this process is; NULL: all, or none */
	bool restart;         /* encode in a process that is started again when it dies */
	bool is_supervised;   /* this is that process */
	int64_t used_us;      /* time that the ones before it have had of limit_us */
	bool keep;            /* overwrite no file */
	const char *socket;   /* NULL: the usual one */
	const char *stream;
	const char *output;
	const char *muxer;        /* NULL: by the output's name */
	const char *stats_path;   /* NULL: none */
	const char *control_path; /* NULL: no socket */
	const char *tell_path;    /* NULL; else `output` is a command for who listens there */
	struct encoder_settings encoder;
	struct sluice_view_request view;
	int64_t segment_us;   /* a new file each; 0: one file */
	int64_t timeout_us;   /* for a server's answer */
	int64_t patience_us;  /* with a server that went away; 0: for ever */
	int64_t limit_us;     /* 0: none */
	int64_t limit_frames; /* 0: none */
	bool cfr;             /* the file has encoder.rate exactly, which is set */
	bool reconnect;       /* go on when the broker or the stream comes back */
	bool wait;            /* for the stream and the server, instead of failing */
	bool quiet;
	bool verbose;
};

enum options_result {
	OPTIONS_RUN = 0,
	OPTIONS_DONE = 1, /* --help or --version was printed: nothing else is to do */
};

/**
 * Read the command line. Not thread-safe (getopt).
 *
 * argv         [lend] options_out points into it; its order changes
 * options_out  untouched unless OPTIONS_RUN is returned
 *
 * An options_result, or -EINVAL or -ERANGE with a sentence.
 */
int options_parse(struct options *options_out, int argc, char **argv, struct problem *problem);
