#include "consumer/encoder/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "consumer/encoder/now.h"

#define TERMINAL_EVERY_NS (NS_PER_S / 2)
#define LOG_EVERY_NS      (5 * NS_PER_S)

void stats_add_frame(struct stats *stats, uint64_t seq, bool is_new_counting)
{
	uint64_t expected = stats->last_seq + 1;
	if (stats->frames++ == 0)
		stats->first_seq = seq;
	else if (seq > expected && !is_new_counting) {
		if (stats->n_gaps < STATS_GAPS_MAX)
			stats->gap[stats->n_gaps] = (struct stats_gap){ expected, seq - 1 };
		stats->n_gaps++;
	}
	stats->last_seq = seq;
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

void stats_print_live(struct stats *stats, uint64_t now_ns)
{
	bool is_terminal = isatty(STDERR_FILENO);
	if (!stats->is_live || !stats->begin_ns || now_ns < stats->next_line_ns)
		return;
	uint64_t elapsed = stats->line_ns ? now_ns - stats->line_ns : 0;
	if (elapsed)
		fprintf(stderr,
			"%sframe %" PRIu64
			"  %.1f fps  %.0f kbit/s  latency p50 %.1f ms p99 %.1f ms  "
			"missed %" PRIu64 "  revoked %" PRIu64 "  torn %" PRIu64 "%s",
			is_terminal ? "\r\033[K" : "", stats->frames,
			per_second(stats->frames - stats->line_frames, elapsed),
			per_second(stats->packet_bytes - stats->line_bytes, elapsed) * 8 / 1000,
			percentile_ms(&stats->encoding, 0.5), percentile_ms(&stats->encoding, 0.99),
			stats->missed, stats->revoked, stats->torn, is_terminal ? "" : "\n");
	stats->line_ns = now_ns;
	stats->line_frames = stats->frames;
	stats->line_bytes = stats->packet_bytes;
	stats->next_line_ns = now_ns + (is_terminal ? TERMINAL_EVERY_NS : LOG_EVERY_NS);
}

void stats_print_summary(const struct stats *stats, const char *output)
{
	uint64_t ns = stats->end_ns - stats->begin_ns;
	if (isatty(STDERR_FILENO) && stats->line_ns)
		fputs("\r\033[K", stderr);
	fprintf(stderr, "%s", output);
	if (stats->parts > 1)
		fprintf(stderr, " and %u more", stats->parts - 1);
	fprintf(stderr,
		": %" PRIu64 " frames in %.1f s (%.1f fps), %.2f MB, %.0f kbit/s, "
		"latency p50 %.1f ms p99 %.1f ms, missed %" PRIu64 ", revoked %" PRIu64
		", torn %" PRIu64 "\n",
		stats->frames, seconds(ns), per_second(stats->frames, ns),
		(double)stats->bytes / 1e6, per_second(stats->packet_bytes, ns) * 8 / 1000,
		percentile_ms(&stats->encoding, 0.5), percentile_ms(&stats->encoding, 0.99),
		stats->missed, stats->revoked, stats->torn);
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
		{ "missed", stats->missed },
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
