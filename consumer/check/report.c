#include "consumer/check/report.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void span_begin(struct span *span)
{
	span->frames = 0;
	span->captured.n = span->published.n = span->received.n = 0;
	span->cpu_ns = cpu_ns();
}

void span_add(struct span *span, const struct sluice_frame *frame, uint64_t now_ns)
{
	if (span->frames++ == 0)
		span->first_ns = now_ns;
	span->last_ns = now_ns;
	samples_add(&span->captured, frame->captured_ns, now_ns);
	samples_add(&span->published, frame->published_ns, frame->received_ns);
	samples_add(&span->received, frame->received_ns, now_ns);
}

static const char *memory_word(enum sluice_memory memory)
{
	static const char *const words[] = { "host", "cuda", "vulkan" };
	return words[memory];
}

static const char *readiness_word(enum sluice_readiness readiness)
{
	static const char *const words[] = { "complete", "timeline", "sync-fd" };
	return words[readiness];
}

static double rate(const struct span *span)
{
	double s = (double)(span->last_ns - span->first_ns) / NS_PER_S;
	return span->frames > 1 && s > 0 ? (double)(span->frames - 1) / s : 0;
}

static double cpu_per_frame_us(const struct span *span)
{
	return span->frames ? (double)(cpu_ns() - span->cpu_ns) / 1e3 / (double)span->frames : 0;
}

static void print_json_samples(const char *name, const struct samples *s)
{
	printf(",\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name,
		samples_us(s, 0.5), samples_us(s, 0.9), samples_us(s, 0.99), samples_us(s, 1));
}

static void print_json(const struct tally *t, const struct sluice_view *view,
	const struct sluice_view_stats *stats)
{
	printf("{\"frames\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"torn\":%" PRIu64
	       ",\"backwards\":%" PRIu64 ",\"revoked\":%" PRIu64 ",\"missed\":%" PRIu64,
		t->frames, t->wrong, t->torn, t->backwards, t->revoked, stats->missed);
	printf(",\"counted\":%" PRIu64
	       ",\"fps\":%.1f,\"cpu_us\":%.1f,\"start_ms\":%.2f,\"first_ms\":%.2f",
		t->span.frames, rate(&t->span), cpu_per_frame_us(&t->span),
		(double)t->start_ns / 1e6, (double)t->first_ns / 1e6);
	printf(",\"memory\":\"%s\",\"readiness\":\"%s\"", memory_word(sluice_view_memory(view)),
		readiness_word(sluice_view_readiness(view)));
	print_json_samples("read_us", &t->span.captured);
	print_json_samples("receive_us", &t->span.published);
	print_json_samples("fetch_us", &t->span.received);
	puts("}");
}

static void print_samples(const char *name, const struct samples *s)
{
	printf("%-34s p50 %8.1f us  p90 %8.1f us  p99 %8.1f us  max %9.1f us\n", name,
		samples_us(s, 0.5), samples_us(s, 0.9), samples_us(s, 0.99), samples_us(s, 1));
}

static void print_words(const struct tally *t, const struct sluice_view *view,
	const struct sluice_view_stats *stats)
{
	printf("%" PRIu64 " frames, %" PRIu64 " wrong (%" PRIu64 " of them torn), %" PRIu64
	       " out of order, %" PRIu64 " revoked, %" PRIu64 " missed\n",
		t->frames, t->wrong, t->torn, t->backwards, t->revoked, stats->missed);
	printf("%s memory, %s: %.1f frames/s, %.1f us of processor time for each; the first came "
	       "%.2f ms after subscribing\n",
		memory_word(sluice_view_memory(view)), readiness_word(sluice_view_readiness(view)),
		rate(&t->span), cpu_per_frame_us(&t->span), (double)t->first_ns / 1e6);
	print_samples("copy submitted until pixels read", &t->span.captured);
	print_samples("  of it: published until received", &t->span.published);
	print_samples("  of it: received until read", &t->span.received);
}

void report_print(struct tally *tally, const struct sluice_view *view, bool as_json)
{
	struct sluice_view_stats stats;
	sluice_view_get_stats(view, &stats);
	samples_sort(&tally->span.captured);
	samples_sort(&tally->span.published);
	samples_sort(&tally->span.received);
	if (as_json)
		print_json(tally, view, &stats);
	else
		print_words(tally, view, &stats);
	if (fflush(stdout) != 0)
		err(EXIT_FAILURE, "cannot write the report");
}
