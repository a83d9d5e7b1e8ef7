#include "consumer/encoder/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "consumer/encoder/now.h"
#include "consumer/encoder/say.h"

#define TERMINAL_EVERY_NS (NS_PER_S / 2)
#define LOG_EVERY_NS      (5 * NS_PER_S)
#define RECENT_NS         (5 * NS_PER_S)

/*
 * Numbers that were left out because the user wanted so are none that the file lacks. How many there
 * were is known for all frames together.
 */
static bool is_paced(struct stats *stats, uint64_t n)
{
	uint64_t left = stats->paced - stats->excused;
	stats->excused += n < left ? n : left;
	return n <= left;
}

void stats_add_frame(struct stats *stats, uint64_t seq, bool is_new_counting)
{
	uint64_t expected = stats->last_seq + 1;
	if (stats->frames++ == 0)
		stats->first_seq = seq;
	else if (seq > expected && !is_new_counting && !is_paced(stats, seq - expected)) {
		if (stats->n_gaps < STATS_GAPS_MAX)
			stats->gap[stats->n_gaps] = (struct stats_gap){ expected, seq - 1 };
		stats->n_gaps++;
	}
	stats->last_seq = seq;
}

void stats_add_latency(struct stats *stats, uint64_t ns)
{
	histogram_add(&stats->encoding, ns);
	histogram_add(&stats->recent[0], ns);
}

static void pass_recent(struct stats *stats, uint64_t now_ns)
{
	if (now_ns < (stats->recent_ns ? stats->recent_ns : stats->begin_ns) + RECENT_NS)
		return;
	stats->recent[1] = stats->recent[0];
	stats->recent[0] = (struct histogram){ 0 };
	stats->recent_ns = now_ns;
}

/* While a picture stands still, nothing has a latency. */
static struct histogram recent_latency(const struct stats *stats)
{
	const struct histogram *more = &stats->recent[1];
	struct histogram sum = stats->recent[0];
	sum.count += more->count;
	sum.max_ns = more->max_ns > sum.max_ns ? more->max_ns : sum.max_ns;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		sum.bucket[i] += more->bucket[i];
	return sum;
}

static double seconds(uint64_t ns)
{
	return (double)ns / (double)NS_PER_S;
}

static double percentile_ms(const struct histogram *h, double share)
{
	return (double)histogram_percentile(h, share) / (double)NS_PER_MS;
}

static double per_second(uint64_t n, uint64_t ns)
{
	return ns ? (double)n / seconds(ns) : 0;
}

static uint64_t frames_in_file(const struct stats *stats)
{
	return stats->frames + stats->repeated;
}

static struct stats_mark mark_now(const struct stats *stats, uint64_t now_ns)
{
	return (struct stats_mark){ now_ns, frames_in_file(stats), stats->packet_bytes };
}

/* From the mark, or if there is none from the beginning, until now. */
static struct stats_speed speed_since(
	const struct stats *stats, const struct stats_mark *mark, uint64_t now_ns)
{
	uint64_t ns = now_ns - (mark->ns ? mark->ns : stats->begin_ns);
	return (struct stats_speed){
		.fps = per_second(frames_in_file(stats) - mark->frames, ns),
		.kbit_s = per_second(stats->packet_bytes - mark->bytes, ns) * 8 / 1000,
	};
}

static void measure(struct stats *stats, uint64_t now_ns)
{
	if (now_ns < (stats->second.ns ? stats->second.ns : stats->begin_ns) + NS_PER_S)
		return;
	stats->speed = speed_since(stats, &stats->second, now_ns);
	stats->second = mark_now(stats, now_ns);
}

void stats_format_line(
	const struct stats *stats, struct stats_speed speed, char text[STATS_TEXT_MAX])
{
	const struct {
		const char *name;
		uint64_t value;
		bool is_rare;
	} counts[] = {
		{ "skipped", stats->skipped, false },
		{ "dropped", stats->dropped, false },
		{ "revoked", stats->revoked, false },
		{ "torn", stats->torn, true },
		{ "repeated", stats->repeated, true },
		{ "unused", stats->unused, true },
		{ "reconnects", stats->reconnects, true },
		{ "late", stats->late, true },
		{ "republished", stats->republished, true },
	};
	const struct histogram latency = recent_latency(stats);
	int n = snprintf(text, STATS_TEXT_MAX,
		"frame %" PRIu64 "  %.1f fps  %.0f kbit/s  latency p50 %.1f ms p99 %.1f ms",
		frames_in_file(stats), speed.fps, speed.kbit_s, percentile_ms(&latency, 0.5),
		percentile_ms(&latency, 0.99));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && n < STATS_TEXT_MAX; i++)
		if (counts[i].value || !counts[i].is_rare)
			n += snprintf(text + n, (size_t)(STATS_TEXT_MAX - n), "  %s %" PRIu64,
				counts[i].name, counts[i].value);
}

/* A line that is longer than the terminal is wide would not stay one line. */
static unsigned terminal_columns(void)
{
	struct winsize size;
	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u
									       : STATS_TEXT_MAX;
}

void stats_print_live(struct stats *stats, uint64_t now_ns)
{
	char text[STATS_TEXT_MAX];
	if (!stats->begin_ns)
		return;
	measure(stats, now_ns);
	pass_recent(stats, now_ns);
	if (!stats->is_live || now_ns < stats->next_line_ns)
		return;
	if (stats->line.ns) {
		stats_format_line(stats, speed_since(stats, &stats->line, now_ns), text);
		char line[STATS_TEXT_MAX + 16];
		if (stats->rewrites)
			snprintf(line, sizeof(line), "\r\033[K%.*s", (int)terminal_columns(), text);
		else
			snprintf(line, sizeof(line), "%s\n", text);
		say_text(line);
	}
	stats->line = mark_now(stats, now_ns);
	stats->next_line_ns = now_ns + (stats->rewrites ? TERMINAL_EVERY_NS : LOG_EVERY_NS);
}

void stats_format_json(const struct stats *stats, char *text, size_t size)
{
	const struct histogram latency = recent_latency(stats);
	snprintf(text, size,
		"{ \"frames\": %" PRIu64 ", \"repeated\": %" PRIu64 ", \"unused\": %" PRIu64
		", \"skipped\": %" PRIu64 ", \"dropped\": %" PRIu64 ", \"revoked\": %" PRIu64
		", \"torn\": %" PRIu64 ", \"reconnects\": %" PRIu64 ", \"late\": %" PRIu64
		", \"republished\": %" PRIu64 ", \"fps\": %.1f"
		", \"kbit_s\": %.0f, \"latency_ms\": { \"p50\": %.3f, \"p99\": %.3f }"
		", \"parts\": %u }",
		stats->frames, stats->repeated, stats->unused, stats->skipped, stats->dropped,
		stats->revoked, stats->torn, stats->reconnects, stats->late, stats->republished,
		stats->speed.fps, stats->speed.kbit_s, percentile_ms(&latency, 0.5),
		percentile_ms(&latency, 0.99), stats->parts);
}

/* ", late 3", if there were any. */
static void add_count(char *text, size_t size, const char *name, uint64_t count)
{
	size_t n = strlen(text);
	if (count)
		snprintf(text + n, size - n, ", %s %" PRIu64, name, count);
}

void stats_print_summary(const struct stats *stats, const char *output)
{
	uint64_t ns = stats->end_ns - stats->begin_ns;
	char text[SAY_MAX], more[32] = "", counts[160] = "";
	if (stats->parts > 1)
		snprintf(more, sizeof(more), " and %u more", stats->parts - 1);
	add_count(counts, sizeof(counts), "repeated", stats->repeated);
	add_count(counts, sizeof(counts), "unused", stats->unused);
	add_count(counts, sizeof(counts), "late", stats->late);
	add_count(counts, sizeof(counts), "republished", stats->republished);
	snprintf(text, sizeof(text),
		"%s%.2048s%s: %" PRIu64 " frames in %.1f s (%.1f fps), %.2f MB, %.0f kbit/s, "
		"latency p50 %.1f ms p99 %.1f ms, skipped %" PRIu64 ", dropped %" PRIu64
		", revoked %" PRIu64 ", torn %" PRIu64 "%s\n",
		stats->rewrites && stats->line.ns ? "\r\033[K" : "", output, more, stats->frames,
		seconds(ns), per_second(stats->frames, ns), (double)stats->bytes / 1e6,
		per_second(stats->packet_bytes, ns) * 8 / 1000,
		percentile_ms(&stats->encoding, 0.5), percentile_ms(&stats->encoding, 0.99),
		stats->skipped, stats->dropped, stats->revoked, stats->torn, counts);
	say_text(text);
}

static void write_string(FILE *file, const char *text)
{
	fputc('"', file);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(file, "\\%c", *c);
		else if (*c < 0x20)
			fprintf(file, "\\u%04x", *c);
		else
			fputc(*c, file);
	}
	fputc('"', file);
}

static void write_latency(FILE *file, const char *name, const struct histogram *h, const char *end)
{
	fprintf(file, "    \"%s\": { \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f }%s\n", name,
		percentile_ms(h, 0.5), percentile_ms(h, 0.99),
		(double)h->max_ns / (double)NS_PER_MS, end);
}

static void write_gaps(const struct stats *stats, FILE *file)
{
	uint64_t n = stats->n_gaps < STATS_GAPS_MAX ? stats->n_gaps : STATS_GAPS_MAX;
	fprintf(file, "  \"n_gaps\": %" PRIu64 ",\n  \"gaps\": [", stats->n_gaps);
	for (uint64_t i = 0; i < n; i++)
		fprintf(file, "%s[%" PRIu64 ", %" PRIu64 "]", i ? ", " : "", stats->gap[i].from,
			stats->gap[i].to);
	fprintf(file, "],\n");
}

static void write_counts(const struct stats *stats, FILE *file)
{
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{ "frames", stats->frames },
		{ "repeated", stats->repeated },
		{ "unused", stats->unused },
		{ "missed", stats->skipped + stats->dropped },
		{ "skipped", stats->skipped },
		{ "dropped", stats->dropped },
		{ "revoked", stats->revoked },
		{ "torn", stats->torn },
		{ "reconnects", stats->reconnects },
		{ "late", stats->late },
		{ "republished", stats->republished },
		{ "first_seq", stats->first_seq },
		{ "last_seq", stats->last_seq },
		{ "bytes", stats->bytes },
		{ "parts", stats->parts },
	};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		fprintf(file, "  \"%s\": %" PRIu64 ",\n", counts[i].name, counts[i].value);
}

int stats_write_json(const struct stats *stats, FILE *file, const char *codec, const char *output)
{
	fprintf(file, "{\n  \"output\": ");
	write_string(file, output);
	fprintf(file, ",\n  \"codec\": ");
	write_string(file, codec);
	fprintf(file, ",\n");
	write_counts(stats, file);
	write_gaps(stats, file);
	fprintf(file, "  \"latency_ms\": {\n");
	write_latency(file, "capture_to_packet", &stats->encoding, ",");
	write_latency(file, "published_to_received", &stats->delivery, "");
	fprintf(file, "  },\n  \"seconds\": %.3f\n}\n", seconds(stats->end_ns - stats->begin_ns));
	return fflush(file) == 0 && !ferror(file) ? 0 : -EIO;
}
