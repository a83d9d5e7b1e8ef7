/* What happened: for the line on the terminal, the summary, and the JSON file. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/histogram.h"

enum { STATS_GAPS_MAX = 100 };

struct stats_gap {
	uint64_t from, to; /* the first and the last number that the file does not have */
};

struct stats {
	uint64_t frames;   /* encoded, repeated ones not counted */
	uint64_t repeated; /* a picture that stood still, once a second */
	uint64_t torn;     /* thrown away: written again while it was read */
	uint64_t missed;   /* not sent to this view, or dropped on the way */
	uint64_t revoked;  /* taken back by the broker */
	uint64_t reconnects;
	uint64_t late;                /* packets that a server was away or too slow for */
	uint64_t republished;         /* times that a server was lost and found again */
	uint64_t first_seq, last_seq; /* if frames > 0 */
	uint64_t n_gaps;              /* all; the list may be shorter */
	struct stats_gap gap[STATS_GAPS_MAX];
	struct histogram encoding; /* captured to packet */
	struct histogram delivery; /* published to received */
	uint64_t packet_bytes;     /* before the container */
	uint64_t bytes;            /* of all files */
	uint64_t begin_ns, end_ns; /* of the recording; 0: nothing came */
	unsigned parts;            /* files */

	bool is_live; /* print a line from time to time */
	uint64_t next_line_ns, line_ns, line_frames, line_bytes;
};

/* A frame went into the encoder. */
void stats_add_frame(struct stats *stats, uint64_t seq, bool is_new_counting);

/* Print the line on stderr if it is time for one. */
void stats_print_live(struct stats *stats, uint64_t now_ns);

/* Print the one line that remains. */
void stats_print_summary(const struct stats *stats, const char *output);

/* 0 or negative errno. */
int stats_write_json(const struct stats *stats, FILE *file, const char *codec, const char *output);
