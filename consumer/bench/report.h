/* What was measured: rows for a table that people read, and the same as JSON. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "consumer/bench/bench.h"

enum { REPORT_ROWS_MAX = 1280, ROUNDS_MAX = 100 };

enum target {
	TARGET_NONE,
	TARGET_RATIO_AT_MOST,
	TARGET_RATIO_AT_LEAST,
	TARGET_AT_MOST, /* of what was measured itself, as are those below */
	TARGET_AT_LEAST,
	TARGET_ZERO,
};

struct row {
	const char *figure; /* "cpu": as --only has it */
	char what[96];
	const char *unit;
	double measured;
	const char *beside_name; /* what it is compared with, "floor"; NULL: nothing */
	double beside;
	double ratio_low, ratio_high; /* half of the rounds lie between */
	enum target target;
	double bound;
};

struct report {
	unsigned n_rows;
	struct row rows[REPORT_ROWS_MAX];
	unsigned rounds;
	double round_seconds; /* of each */
	double watch_seconds; /* for lost frames */
	bool is_quick;
};

/* The same quantity in each round, in both that are compared. Zeroed, then filled. */
struct series {
	unsigned n;
	double measured[ROUNDS_MAX];
	double beside[ROUNDS_MAX];
};

void series_add(struct series *series, double measured, double beside);

struct pair {
	double measured, beside;
};

/* Of all rounds. Sorts. */
struct pair series_medians(struct series *series);

/**
 * Add a row: medians of the rounds. Its figure, what, unit, beside_name and target are the caller's.
 *
 * row     [borrow]
 * series  [borrow] is sorted
 *
 * Returns the row. [lend] with the report.
 */
struct row *report_add(struct report *report, const struct row *row, struct series *series);

/* Without a target too: nothing was missed. */
bool row_is_met(const struct row *row);

void report_print(const struct report *report, FILE *out);

/* 0, or negative errno with a sentence. */
int report_write_json(const struct report *report, const char *path, struct failure *failure);
