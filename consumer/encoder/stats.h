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

/* A moment, to measure from. */
struct stats_mark {
	uint64_t ns, frames, bytes; /* ns 0: none yet */
};

struct stats_speed {
	double fps, kbit_s;
};

enum { STATS_TEXT_MAX = 512 /* bytes of a line, with the NUL */ };

struct stats {
	const char *codec; /* [borrow] its name */
	uint64_t frames;   /* encoded, repeated ones not counted */
	uint64_t repeated; /* of a picture that is in the file already */
	uint64_t unused;   /* with --cfr: pictures that came and no frame shows */
	uint64_t torn;     /* thrown away: written again while it was read */
	uint64_t skipped;  /* not sent, as was wished: a newer one came, or the rate was limited */
	uint64_t
		dropped; /* every one was wished for, but this process was too slow for the queue */
	uint64_t paced;  /* of those skipped: for the sake of --max-rate */
	uint64_t excused; /* of those paced: numbers between two that are in the file */
	uint64_t revoked; /* taken back by the broker */
	uint64_t reconnects;
	uint64_t late;                /* packets that a server was away or too slow for */
	uint64_t republished;         /* times that a server was lost and found again */
	uint64_t first_seq, last_seq; /* if frames > 0 */
	uint64_t n_gaps;              /* all; the list may be shorter */
	struct stats_gap gap[STATS_GAPS_MAX];
	struct histogram encoding;  /* captured to packet */
	struct histogram recent[2]; /* of these: the last seconds, and those before */
	uint64_t recent_ns;         /* when the last seconds began; 0: nothing came yet */
	struct histogram delivery;  /* published to received */
	uint64_t packet_bytes;      /* before the container */
	uint64_t bytes;             /* of all files */
	uint64_t begin_ns, end_ns;  /* of the recording; 0: nothing came */
	unsigned parts;             /* files */

	bool is_live;  /* print a line from time to time */
	bool rewrites; /* always the same line: stderr is a terminal, or shown on one */
	uint64_t next_line_ns;
	struct stats_mark line,
		second;           /* the last line, and the beginning of the second that runs */
	struct stats_speed speed; /* of the last second that is complete */
};

/* A frame went into the encoder. */
void stats_add_frame(struct stats *stats, uint64_t seq, bool is_new_counting);

/* A packet came out, so long after its picture was captured. */
void stats_add_latency(struct stats *stats, uint64_t ns);

/* To be called all the time: measures, and prints the line on stderr if it is time for one. */
void stats_print_live(struct stats *stats, uint64_t now_ns);

/* The line, for people, with the latency of the last 5 to 10 s. Counts of what should not happen are
 * left out while they are 0. */
void stats_format_line(
	const struct stats *stats, struct stats_speed speed, char text[STATS_TEXT_MAX]);

/* The same as a JSON object in one line, with the speed of the last second. */
void stats_format_json(const struct stats *stats, char *text, size_t size);

/* Print the one line that remains. */
void stats_print_summary(const struct stats *stats, const char *output);

/* 0 or negative errno. */
int stats_write_json(const struct stats *stats, FILE *file, const char *codec, const char *output);
