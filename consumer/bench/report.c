#include "consumer/bench/report.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "consumer/bench/stats.h"
#include "consumer/json.h"

enum { WHAT_WIDTH = 46 }; /* columns, at least */

static bool has_ratio(const struct row *row)
{
	return row->beside_name && row->beside > 0;
}

static double ratio_of(const struct row *row)
{
	return row->measured / row->beside;
}

bool row_is_met(const struct row *row)
{
	switch (row->target) {
	case TARGET_RATIO_AT_MOST:
		return has_ratio(row) && ratio_of(row) <= row->bound;
	case TARGET_RATIO_AT_LEAST:
		return has_ratio(row) && ratio_of(row) >= row->bound;
	case TARGET_AT_MOST:
		return row->measured <= row->bound;
	case TARGET_AT_LEAST:
		return row->measured >= row->bound;
	case TARGET_ZERO:
		return row->measured == 0;
	default:
		return true;
	}
}

void series_add(struct series *series, double measured, double beside)
{
	assert(series->n < ROUNDS_MAX);
	series->measured[series->n] = measured;
	series->beside[series->n] = beside;
	series->n++;
}

struct pair series_medians(struct series *series)
{
	return (struct pair){
		.measured = stats_median(series->measured, series->n),
		.beside = stats_median(series->beside, series->n),
	};
}

/* Before the series is sorted. */
static void find_spread(struct row *row, const struct series *series)
{
	double ratios[ROUNDS_MAX];
	for (unsigned i = 0; i < series->n; i++)
		ratios[i] = series->beside[i] > 0 ? series->measured[i] / series->beside[i] : 0;
	stats_sort(ratios, series->n);
	row->ratio_low = stats_percentile(ratios, series->n, 0.25);
	row->ratio_high = stats_percentile(ratios, series->n, 0.75);
}

struct row *report_add(struct report *report, const struct row *row, struct series *series)
{
	assert(report->n_rows < REPORT_ROWS_MAX);
	struct row *added = &report->rows[report->n_rows++];
	*added = *row;
	find_spread(added, series);
	struct pair medians = series_medians(series);
	added->measured = medians.measured;
	added->beside = medians.beside;
	return added;
}

/* --- the table -------------------------------------------------------------------------------- */

static const char *target_text(const struct row *row, char *buf, size_t size)
{
	static const char *const form[] = {
		[TARGET_NONE] = "",
		[TARGET_RATIO_AT_MOST] = "at most %.2f",
		[TARGET_RATIO_AT_LEAST] = "at least %.2f",
		[TARGET_AT_MOST] = "at most %.0f %s",
		[TARGET_AT_LEAST] = "at least %.0f %s",
		[TARGET_ZERO] = "none",
	};
	snprintf(buf, size, form[row->target], row->bound, row->unit);
	return buf;
}

/* As wide as the longest of them needs. */
static int what_width(const struct report *report)
{
	int width = WHAT_WIDTH;
	for (unsigned i = 0; i < report->n_rows; i++) {
		int n = (int)strlen(report->rows[i].what);
		width = n > width ? n : width;
	}
	return width;
}

static void print_row(const struct row *row, int width, FILE *out)
{
	char measured[32], beside[48] = "", ratio[48] = "", target[32];
	bool is_whole = row->target == TARGET_ZERO;
	snprintf(measured, sizeof(measured), "%.*f %s", is_whole ? 0 : 2, row->measured, row->unit);
	if (row->beside_name)
		snprintf(beside, sizeof(beside), "%.*f %s", is_whole ? 0 : 2, row->beside,
			row->beside_name);
	if (has_ratio(row) && !is_whole)
		snprintf(ratio, sizeof(ratio), "%.2f (%.2f to %.2f)", ratio_of(row), row->ratio_low,
			row->ratio_high);
	target_text(row, target, sizeof(target));
	fprintf(out, "%-9s %-*s %13s %15s  %-22s %-18s%s\n", row->figure, width, row->what,
		measured, beside, ratio, target,
		row->target == TARGET_NONE ? ""
		: row_is_met(row)          ? "met"
					   : "missed");
}

void report_print(const struct report *report, FILE *out)
{
	int width = what_width(report);
	fprintf(out, "%-9s %-*s %13s %15s  %-22s %s\n", "figure", width, "of", "measured",
		"beside it", "ratio (half of rounds)", "target");
	for (unsigned i = 0; i < report->n_rows; i++) {
		const struct row *row = &report->rows[i];
		if (i > 0 && strcmp(row->figure, row[-1].figure) != 0)
			fputc('\n', out);
		print_row(row, width, out);
	}
	if (report->is_quick)
		fputs("\n--quick: too short to be believed; it shows that everything runs.\n", out);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void write_target(struct json *json, const struct row *row)
{
	static const char *const kind[] = {
		[TARGET_RATIO_AT_MOST] = "at_most",
		[TARGET_RATIO_AT_LEAST] = "at_least",
		[TARGET_AT_MOST] = "value_at_most",
		[TARGET_AT_LEAST] = "value_at_least",
		[TARGET_ZERO] = "value",
	};
	if (row->target == TARGET_NONE)
		return;
	json_open(json, "target", '{');
	json_real(json, kind[row->target], row->bound);
	json_bool(json, "met", row_is_met(row));
	json_close(json, '}');
}

static void write_row(struct json *json, const struct row *row)
{
	json_open(json, NULL, '{');
	json_string(json, "figure", row->figure);
	json_string(json, "of", row->what);
	json_string(json, "unit", row->unit);
	json_real(json, "measured", row->measured);
	if (row->beside_name) {
		json_open(json, "beside", '{');
		json_string(json, "name", row->beside_name);
		json_real(json, "measured", row->beside);
		json_close(json, '}');
	}
	if (has_ratio(row)) {
		json_real(json, "ratio", ratio_of(row));
		json_real(json, "ratio_low", row->ratio_low);
		json_real(json, "ratio_high", row->ratio_high);
	}
	write_target(json, row);
	json_close(json, '}');
}

static void write_machine(struct json *json)
{
	struct utsname name;
	if (uname(&name) < 0)
		return;
	json_open(json, "machine", '{');
	json_string(json, "system", name.sysname);
	json_string(json, "kernel", name.release);
	json_string(json, "processor", name.machine);
	json_number(json, "cores", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	json_close(json, '}');
}

static void write_document(struct json *json, const struct report *report)
{
	char date[32];
	time_t now = time(NULL);
	struct tm tm;
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	json_open(json, NULL, '{');
	json_string(json, "program", "sluice-bench " SLUICE_VERSION);
	json_string(json, "date", date);
	write_machine(json);
	json_bool(json, "quick", report->is_quick);
	json_number(json, "rounds", report->rounds);
	json_real(json, "round_seconds", report->round_seconds);
	json_real(json, "watch_seconds", report->watch_seconds);
	json_open(json, "figures", '[');
	for (unsigned i = 0; i < report->n_rows; i++)
		write_row(json, &report->rows[i]);
	json_close(json, ']');
	json_close(json, '}');
}

int report_write_json(const struct report *report, const char *path, struct failure *failure)
{
	FILE *out = fopen(path, "we");
	if (!out)
		return fail(failure, -errno, "cannot write %s: %s", path, strerror(errno));
	struct json json = { .out = out };
	write_document(&json, report);
	fputc('\n', out);
	bool ok = !ferror(out);
	if (fclose(out) != 0 || !ok)
		return fail(failure, -EIO, "cannot write %s: %s", path, strerror(errno));
	return 0;
}
