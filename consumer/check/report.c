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
	span->read.n = span->copy.n = span->receive.n = span->fetch.n = 0;
	span->cpu_ns = cpu_ns();
}

void span_add(struct span *span, const struct sluice_frame *frame, uint64_t now_ns)
{
	if (span->frames++ == 0)
		span->first_ns = now_ns;
	span->last_ns = now_ns;
	samples_add(&span->read, frame->captured_ns, now_ns);
	samples_add(&span->copy, frame->captured_ns, frame->published_ns);
	samples_add(&span->receive, frame->published_ns, frame->received_ns);
	samples_add(&span->fetch, frame->received_ns, now_ns);
}

void tally_note_view(struct tally *tally, const struct sluice_view *view)
{
	tally->granted.memory = sluice_view_memory(view);
	tally->granted.readiness = sluice_view_readiness(view);
	sluice_view_get_stats(view, &tally->granted.stats);
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

static double ms(uint64_t ns)
{
	return (double)ns / (double)NS_PER_MS;
}

static void print_json(const struct tally *t)
{
	const struct granted *g = &t->granted;
	printf("{\"frames\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"torn\":%" PRIu64
	       ",\"backwards\":%" PRIu64 ",\"revoked\":%" PRIu64 ",\"missed\":%" PRIu64
	       ",\"early\":%" PRIu64,
		t->frames, t->wrong, t->torn, t->backwards, t->revoked, g->stats.missed, t->early);
	printf(",\"counted\":%" PRIu64 ",\"fps\":%.1f,\"cpu_us\":%.1f", t->span.frames,
		rate(&t->span), cpu_per_frame_us(&t->span));
	printf(",\"start_ms\":%.2f,\"import_ms\":%.2f,\"first_ms\":%.2f", ms(t->start_ns),
		ms(g->stats.import_ns), ms(t->first_ns));
	printf(",\"lost_ms\":%.2f,\"end_ms\":%.2f", ms(t->lost_ns), ms(t->end_ns));
	printf(",\"memory\":\"%s\",\"readiness\":\"%s\"", memory_word(g->memory),
		readiness_word(g->readiness));
	print_json_samples("read_us", &t->span.read);
	print_json_samples("copy_us", &t->span.copy);
	print_json_samples("receive_us", &t->span.receive);
	print_json_samples("fetch_us", &t->span.fetch);
	puts("}");
}

static void print_samples(const char *name, const struct samples *s)
{
	printf("%-34s p50 %8.1f us  p90 %8.1f us  p99 %8.1f us  max %9.1f us\n", name,
		samples_us(s, 0.5), samples_us(s, 0.9), samples_us(s, 0.99), samples_us(s, 1));
}

static void print_words(const struct tally *t)
{
	const struct granted *g = &t->granted;
	printf("%" PRIu64 " frames, %" PRIu64 " wrong (%" PRIu64 " of them torn), %" PRIu64
	       " out of order, %" PRIu64 " revoked, %" PRIu64 " missed\n",
		t->frames, t->wrong, t->torn, t->backwards, t->revoked, g->stats.missed);
	printf("%s memory, %s: %.1f frames/s, %.1f us of processor time for each; the first came "
	       "%.2f ms after subscribing, %.2f ms of it for the import\n",
		memory_word(g->memory), readiness_word(g->readiness), rate(&t->span),
		cpu_per_frame_us(&t->span), ms(t->first_ns), ms(g->stats.import_ns));
	print_samples("copy submitted until pixels read", &t->span.read);
	print_samples("  of it: submitted until published", &t->span.copy);
	print_samples("  of it: published until received", &t->span.receive);
	print_samples("  of it: received until read", &t->span.fetch);
	if (t->lost_ns)
		printf("the end was noticed %.2f ms after the last frame, and took %.2f ms\n",
			ms(t->lost_ns), ms(t->end_ns));
}

void report_print(struct tally *tally, bool as_json)
{
	samples_sort(&tally->span.read);
	samples_sort(&tally->span.copy);
	samples_sort(&tally->span.receive);
	samples_sort(&tally->span.fetch);
	if (as_json)
		print_json(tally);
	else
		print_words(tally);
	if (fflush(stdout) != 0)
		err(EXIT_FAILURE, "cannot write the report");
}
