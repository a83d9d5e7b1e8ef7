/*
 * Frames in GPU memory: how soon every consumer has read pixels of them, and what that costs. In turns
 * with what is beside it: the bare copy in one process, and bare datagrams to as many processes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "consumer/bench/cpu.h"
#include "consumer/bench/figures.h"
#include "consumer/bench/gpu_floor.h"
#include "consumer/bench/gpu_rows.h"
#include "consumer/sluice_consumer.h"

enum {
	PACED_FPS = 250,
	TRIES = 3, /* of one more consumer */
	WINDOWS_MAX = 5,
	PIXEL_BYTES = 4,
};

/* What waking up leaves behind is not to count. */
static const uint64_t settle_ns = 100 * NS_PER_MS;

/* In lock-step consumers poll so long for the next frame, where each has a processor. */
static const uint64_t spin_ns = NS_PER_MS;

struct size {
	unsigned width, height;
};

enum pace { LOCK_STEP, PACED, PACES };

static const unsigned pace_fps[PACES] = { 0, PACED_FPS };

static const char *const kinds[] = { "complete", "timeline", "sync-fd" };
enum { COMPLETE, KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* At most one of the brokers runs at a time; the other stands still. */
struct stage {
	const struct plan *plan;
	struct report *report;
	struct gpu_floor *floor;
	bool is_refused[KINDS]; /* not to be had here: not tried again */
	struct size size;
	struct subject *broker[PACES];
	double cpu_alone_us; /* of the paced broker for a frame with one consumer; 0: not known */
	unsigned consumers;
	uint64_t spin_ns[PACES];
	struct echo *echo[PACES];
};

DEFINE_CLEANUP(struct sluice *, sluice_close);

/* --- a round ------------------------------------------------------------------------------------ */

/* The broker's processor time, and when that was. */
struct instant {
	struct cpu_time cpu;
	uint64_t at_ns;
};

static int look(const struct subject *broker, struct instant *instant_out, struct failure *failure)
{
	int r = cpu_read(broker->pid, &instant_out->cpu);
	instant_out->at_ns = clock_ns();
	return r < 0 ? fail(failure, r, "cannot read the broker's processor time: %s", strerror(-r))
		     : 0;
}

/* Frames are as many as the consumers saw. */
static double cpu_for_frame_us(
	const struct instant *from, const struct instant *to, const struct readers_report *seen)
{
	double frames = seen->fps * (double)(to->at_ns - from->at_ns) / NS_PER_S;
	return (double)cpu_between(&from->cpu, &to->cpu).all_ns / 1e3 / frames;
}

static int judge(const struct readers_report *seen, struct failure *failure)
{
	if (seen->wrong > 0)
		return fail(failure, -EBADMSG,
			"%.0f frames had wrong pixels: this is a bug in Sluice", seen->wrong);
	if (seen->fps <= 0)
		return fail(failure, -ENODATA, "gpu: no frames came in a whole round");
	return 0;
}

/* While both run. The first report ends what came before. */
static int watch(const struct subject *broker, struct readers *readers, uint64_t window_ns,
	struct readers_report *seen_out, double *cpu_us_out, struct failure *failure)
{
	struct instant from, to;
	int r = pause_until(clock_ns() + settle_ns, failure);
	if (r == 0)
		r = readers_report(readers, seen_out, failure);
	if (r == 0)
		r = look(broker, &from, failure);
	if (r == 0)
		r = pause_until(clock_ns() + window_ns, failure);
	if (r == 0)
		r = look(broker, &to, failure);
	if (r == 0)
		r = readers_report(readers, seen_out, failure);
	if (r == 0)
		r = judge(seen_out, failure);
	if (r == 0)
		*cpu_us_out = cpu_for_frame_us(&from, &to, seen_out);
	return r;
}

static int measure_floors(
	struct stage *s, enum pace pace, struct gpu_floors *floors_out, struct failure *failure)
{
	uint64_t bytes = (uint64_t)s->size.width * s->size.height * PIXEL_BYTES;
	int r = gpu_floor_measure(s->floor, bytes, &floors_out->copy_us, failure);
	return r < 0 ? r
		     : echo_measure(s->echo[pace], pace_fps[pace], s->plan->window_ns / 2,
			       &floors_out->echo, failure);
}

static int run_round(struct stage *s, enum pace pace, struct readers *readers,
	struct gpu_rounds *rounds, struct failure *failure)
{
	struct readers_report seen;
	struct gpu_floors floors;
	double cpu_us = 0;
	subject_resume(s->broker[pace]);
	readers_resume(readers);
	int r = -ENODATA;
	/* a machine that is busy elsewhere may show no frame in a short one */
	for (unsigned i = 0; r == -ENODATA && i < WINDOWS_MAX; i++)
		r = watch(s->broker[pace], readers, s->plan->window_ns, &seen, &cpu_us, failure);
	readers_pause(readers);
	subject_pause(s->broker[pace]);
	if (r == 0)
		r = measure_floors(s, pace, &floors, failure);
	if (r == 0)
		gpu_rounds_add(rounds, &seen, &floors, cpu_us);
	return r;
}

/* --- one more consumer -------------------------------------------------------------------------- */

/* Of all numbers that are called so. */
static double sum_of(const char *json, const char *key)
{
	double sum = 0;
	while ((json = strstr(json, key))) {
		json += strlen(key);
		sum += strtod(json, NULL);
	}
	return sum;
}

static int read_used_bytes(const struct subject *broker, double *bytes_out, struct failure *failure)
{
	_cleanup_(sluice_closep) struct sluice *conn = NULL;
	_cleanup_free_ char *json = NULL;
	struct sluice_options options = { .socket = broker->socket, .name = "sluice-bench" };
	int r = sluice_connect(&conn, &options);
	if (r < 0)
		return fail(failure, r, "%s", sluice_error(NULL));
	r = sluice_status_json(conn, &json);
	if (r < 0)
		return fail(failure, r, "%s", sluice_error(conn));
	/* of all devices, as their drivers tell; what does not tell is counted by the broker */
	double bytes = sum_of(json, "\"used_bytes\":");
	*bytes_out = bytes > 0 ? bytes : sum_of(json, "\"gpu_memory_bytes\":");
	return 0;
}

static struct readers_request request_of(
	const struct stage *s, enum pace pace, unsigned kind, unsigned n)
{
	return (struct readers_request){
		.socket = s->broker[pace]->socket,
		.readiness = kinds[kind],
		.n = n,
		.spin_ns = s->spin_ns[pace],
	};
}

static int join_once(struct stage *s, struct gpu_beginning *beginning, struct failure *failure)
{
	_cleanup_(readers_destroyp) struct readers *one = NULL;
	struct readers_request request = request_of(s, PACED, COMPLETE, 1);
	double before = 0, with = 0;
	int r = read_used_bytes(s->broker[PACED], &before, failure);
	if (r == 0)
		r = readers_create(&one, s->plan->place, &request, failure);
	if (r == 0)
		r = read_used_bytes(s->broker[PACED], &with, failure);
	if (r < 0)
		return r;
	series_add(&beginning->one_more, readers_first(one)->first_ms, 0);
	series_add(&beginning->bytes, with - before, 0);
	return 0;
}

/* One more joins those that are there, again and again. */
static int join(struct stage *s, const struct gpu_leg *leg, struct readers *readers,
	struct failure *failure)
{
	struct gpu_beginning beginning = { 0 };
	int r = 0;
	series_add(&beginning.together, readers_first(readers)->first_ms, 0);
	series_add(&beginning.import, readers_first(readers)->import_ms, 0);
	subject_resume(s->broker[PACED]);
	readers_resume(readers);
	for (unsigned i = 0; r == 0 && i < TRIES; i++)
		r = join_once(s, &beginning, failure);
	if (r == 0)
		gpu_rows_of_beginning(s->report, leg, &beginning);
	return r;
}

/* --- legs: one broker, one kind of readiness ---------------------------------------------------- */

static int run_leg(struct stage *s, enum pace pace, unsigned kind, struct readers *readers,
	struct failure *failure)
{
	struct gpu_rounds rounds = { 0 };
	struct gpu_leg leg = {
		.readiness = kinds[kind],
		.scene = {
			.consumers = s->consumers,
			.width = s->size.width,
			.height = s->size.height,
			.fps = pace_fps[pace],
			.gpu = true,
		},
	};
	int r = 0;
	for (unsigned i = 0; r == 0 && i < s->plan->gpu_rounds; i++)
		r = run_round(s, pace, readers, &rounds, failure);
	if (r < 0)
		return r;
	gpu_rows_of_rounds(s->report, &leg, &rounds);
	if (pace != PACED || kind != COMPLETE)
		return 0;
	gpu_rows_of_cpu(s->report, &leg, &rounds, &s->cpu_alone_us);
	return join(s, &leg, readers, failure);
}

static void tell_refused(struct stage *s, unsigned kind, const struct readers *readers)
{
	const char *note = readers_first(readers)->note;
	progress("gpu: %s is left out, because it is not granted%s%s", kinds[kind],
		note[0] ? ": " : "", note);
	s->is_refused[kind] = true;
}

static int try_leg(struct stage *s, enum pace pace, unsigned kind, struct failure *failure)
{
	_cleanup_(readers_destroyp) struct readers *readers = NULL;
	struct readers_request request = request_of(s, pace, kind, s->consumers);
	subject_resume(s->broker[pace]);
	int r = readers_create(&readers, s->plan->place, &request, failure);
	if (r < 0)
		return r;
	if (readers_first(readers)->is_granted)
		r = run_leg(s, pace, kind, readers, failure);
	else
		tell_refused(s, kind, readers);
	/* consumers take their leave of a broker that runs, which then stands still again */
	subject_resume(s->broker[pace]);
	readers = readers_destroy(readers);
	subject_pause(s->broker[pace]);
	return r;
}

static int run_legs(struct stage *s, struct failure *failure)
{
	int r = 0;
	for (unsigned i = 0; r == 0 && i < KINDS * PACES; i++) {
		unsigned kind = i / PACES;
		if (!s->is_refused[kind])
			r = try_leg(s, (enum pace)(i % PACES), kind, failure);
	}
	return r;
}

/* --- the numbers of consumers ------------------------------------------------------------------- */

static uint64_t spin_for(unsigned consumers)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN); /* one is the broker's, one is left over */
	return (long)consumers + 2 <= processors ? spin_ns : 0;
}

static int run_count(struct stage *s, unsigned consumers, struct failure *failure)
{
	progress("gpu: %ux%u, %u %s", s->size.width, s->size.height, consumers,
		consumers == 1 ? "consumer" : "consumers");
	s->consumers = consumers;
	s->spin_ns[LOCK_STEP] = spin_for(consumers);
	int r = 0;
	for (unsigned i = 0; r == 0 && i < PACES; i++)
		r = echo_create(&s->echo[i], consumers, s->spin_ns[i], failure);
	if (r == 0)
		r = run_legs(s, failure);
	for (unsigned i = 0; i < PACES; i++)
		s->echo[i] = echo_destroy(s->echo[i]);
	return r;
}

/* --- the sizes ---------------------------------------------------------------------------------- */

static unsigned most_consumers(const struct plan *plan)
{
	unsigned most = 0;
	for (unsigned i = 0; i < plan->n_gpu_counts; i++)
		most = plan->gpu_counts[i] > most ? plan->gpu_counts[i] : most;
	return most;
}

static int start_brokers(struct stage *s, struct failure *failure)
{
	struct scene scene = {
		.consumers = most_consumers(s->plan),
		.width = s->size.width,
		.height = s->size.height,
		.gpu = true,
	};
	int r = 0;
	for (unsigned i = 0; r == 0 && i < PACES; i++) {
		scene.fps = pace_fps[i];
		r = subject_broker.start(&s->broker[i], s->plan->place, &scene, failure);
		if (r == 0)
			subject_pause(s->broker[i]);
	}
	return r;
}

static int run_size(struct stage *s, const struct size *size, struct failure *failure)
{
	s->size = *size;
	s->cpu_alone_us = 0;
	int r = start_brokers(s, failure);
	for (unsigned i = 0; r == 0 && i < s->plan->n_gpu_counts; i++)
		r = run_count(s, s->plan->gpu_counts[i], failure);
	for (unsigned i = 0; i < PACES; i++)
		s->broker[i] = subject_destroy(s->broker[i]);
	return r;
}

static int run_sizes(struct stage *s, struct failure *failure)
{
	static const struct size quick = { 640, 360 };
	static const struct size sizes[] = { { 3840, 2160 }, { 1920, 1080 }, { 1280, 720 } };
	int r = 0;
	if (s->report->is_quick)
		return run_size(s, &quick, failure);
	for (unsigned i = 0; r == 0 && i < sizeof(sizes) / sizeof(sizes[0]); i++)
		r = run_size(s, &sizes[i], failure);
	return r;
}

int figure_gpu(struct report *report, const struct plan *plan, struct failure *failure)
{
	_cleanup_(gpu_floor_destroyp) struct gpu_floor *floor = NULL;
	int r = gpu_floor_create(&floor, failure);
	if (r < 0)
		return r;
	struct stage stage = { .plan = plan, .report = report, .floor = floor };
	progress("gpu: measured on %s%s", gpu_floor_name(floor),
		gpu_floor_is_cpu(floor) ? ", which is a software renderer" : "");
	return run_sizes(&stage, failure);
}
