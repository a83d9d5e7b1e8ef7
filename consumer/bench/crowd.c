#include "consumer/bench/crowd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "consumer/bench/stats.h"

enum {
	BATCH = 50, /* start so many, then wait for their first frames */
	PATIENCE_S = 20,
	END_PATIENCE_S = 5,
};

enum seat_state { SEAT_EMPTY, SEAT_TAKEN, SEAT_FAILED };

/* In shared memory: what all look at. */
struct board {
	_Atomic bool is_over;
	_Atomic bool is_timed;
	_Atomic unsigned span;              /* counts them; 0: none yet */
	_Atomic uint64_t from_ns, until_ns; /* the last one */
};

/* In shared memory, one for each consumer. */
struct seat {
	_Alignas(128) struct board *board;
	_Atomic unsigned state;
	uint32_t *samples; /* ns */
	unsigned samples_max;

	unsigned span; /* that what follows is of */
	unsigned n_samples;
	uint64_t frames, missing, spoiled;
	uint64_t first_seq, first_published_ns;
	uint64_t last_seq, last_published_ns;
	struct failure failure;
};

struct crowd {
	void *map;
	size_t map_bytes;
	struct board *board;
	struct seat *seats;
	uint32_t *samples;
	unsigned n; /* seats */
	unsigned n_started;
	int killed_by; /* the signal that ended a consumer before its time; 0: none */
	pid_t pid[];
};

/* --- in the consumer -------------------------------------------------------------------------- */

bool seat_is_over(const struct seat *seat)
{
	return atomic_load_explicit(&seat->board->is_over, memory_order_relaxed);
}

bool seat_is_timed(const struct seat *seat)
{
	return atomic_load_explicit(&seat->board->is_timed, memory_order_relaxed);
}

static bool in_span(const struct board *board, uint64_t published_ns)
{
	return published_ns >= atomic_load_explicit(&board->from_ns, memory_order_relaxed) &&
	       published_ns < atomic_load_explicit(&board->until_ns, memory_order_relaxed);
}

static void begin_span(struct seat *seat, unsigned span, const struct sighting *s)
{
	seat->span = span;
	seat->n_samples = 0;
	seat->frames = seat->missing = seat->spoiled = 0;
	seat->first_seq = s->seq;
	seat->first_published_ns = s->published_ns;
	seat->last_seq = s->seq - 1;
}

static void note_in_span(struct seat *seat, const struct sighting *s)
{
	unsigned span = atomic_load_explicit(&seat->board->span, memory_order_relaxed);
	if (seat->span != span)
		begin_span(seat, span, s);
	seat->frames++;
	seat->missing += s->seq - seat->last_seq - 1;
	seat->last_seq = s->seq;
	seat->last_published_ns = s->published_ns;
	seat->spoiled += !s->is_whole;
	uint64_t latency = s->received_ns - s->published_ns;
	if (seat->n_samples < seat->samples_max)
		seat->samples[seat->n_samples++] =
			latency < UINT32_MAX ? (uint32_t)latency : UINT32_MAX;
}

void seat_note(struct seat *seat, const struct sighting *s)
{
	if (in_span(seat->board, s->published_ns))
		note_in_span(seat, s);
	if (atomic_load_explicit(&seat->state, memory_order_relaxed) == SEAT_EMPTY)
		atomic_store(&seat->state, SEAT_TAKEN);
}

_Noreturn static void consume(struct seat *seat, crowd_fn fn, const char *socket)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the measuring process gets it too, and ends us */
	if (fn(seat, socket, &seat->failure) < 0)
		atomic_store(&seat->state, SEAT_FAILED);
	_exit(0);
}

/* --- in the process that measures ------------------------------------------------------------- */

static int map(struct crowd *c, unsigned samples, struct failure *failure)
{
	size_t seats_at = sizeof(struct seat);
	size_t samples_at = seats_at + c->n * sizeof(struct seat);
	c->map_bytes = samples_at + (size_t)c->n * samples * sizeof(uint32_t);
	void *map =
		mmap(NULL, c->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return fail(failure, -errno, "no memory for what %u consumers see", c->n);
	c->map = map;
	c->board = map;
	c->seats = (struct seat *)((char *)map + seats_at);
	c->samples = (uint32_t *)((char *)map + samples_at);
	for (unsigned i = 0; i < c->n; i++) {
		c->seats[i].board = c->board;
		c->seats[i].samples = c->samples + (size_t)i * samples;
		c->seats[i].samples_max = samples;
	}
	return 0;
}

static int check_seats(const struct crowd *c, unsigned *ready_out, struct failure *failure)
{
	unsigned ready = 0;
	for (unsigned i = 0; i < c->n_started; i++) {
		unsigned state = atomic_load(&c->seats[i].state);
		if (state == SEAT_FAILED)
			return fail(failure, -ECHILD, "consumer %u of %u: %.400s", i + 1, c->n,
				c->seats[i].failure.text);
		ready += state == SEAT_TAKEN;
	}
	*ready_out = ready;
	return 0;
}

static int wait_for_seats(const struct crowd *c, struct failure *failure)
{
	uint64_t deadline = clock_ns() + PATIENCE_S * NS_PER_S;
	unsigned ready = 0;
	while (clock_ns() < deadline) {
		int r = check_seats(c, &ready, failure);
		if (r < 0 || ready == c->n_started)
			return r;
		r = pause_until(clock_ns() + NS_PER_MS, failure);
		if (r < 0)
			return r;
	}
	return fail(failure, -ETIMEDOUT, "only %u of %u consumers got a frame within %d s", ready,
		c->n_started, PATIENCE_S);
}

static int start_one(struct crowd *c, crowd_fn fn, const char *socket, struct failure *failure)
{
	struct seat *seat = &c->seats[c->n_started];
	pid_t pid = fork();
	if (pid < 0)
		return fail(failure, -errno,
			"cannot start consumer %u: %s; raise the limit of processes or ask for "
			"fewer with --consumers",
			c->n_started + 1, strerror(errno));
	if (pid == 0)
		consume(seat, fn, socket);
	c->pid[c->n_started++] = pid;
	return 0;
}

int crowd_create(struct crowd **crowd_out, unsigned n, unsigned samples, crowd_fn fn,
	const char *socket, struct failure *failure)
{
	_cleanup_(crowd_destroyp) struct crowd *c = calloc(1, sizeof(*c) + n * sizeof(pid_t));
	if (!c)
		return fail(failure, -ENOMEM, "out of memory");
	c->n = n;
	int r = map(c, samples, failure);
	while (r == 0 && c->n_started < n) {
		r = start_one(c, fn, socket, failure);
		if (r == 0 && (c->n_started % BATCH == 0 || c->n_started == n))
			r = wait_for_seats(c, failure);
	}
	if (r < 0)
		return r;
	*crowd_out = TAKE_PTR(c);
	return 0;
}

void crowd_watch(struct crowd *c, uint64_t from_ns, uint64_t until_ns, bool is_timed)
{
	atomic_store(&c->board->is_timed, is_timed);
	atomic_fetch_add(&c->board->span, 1);
	atomic_store(&c->board->until_ns, until_ns);
	atomic_store(&c->board->from_ns, from_ns);
}

/* Frames that should have been made between the first and the last of the span and were not. */
static uint64_t late_frames(const struct seat *seat, unsigned fps)
{
	uint64_t ns = seat->last_published_ns - seat->first_published_ns;
	uint64_t due = (ns * fps + NS_PER_S / 2) / NS_PER_S;
	uint64_t made = seat->last_seq - seat->first_seq;
	return due > made ? due - made : 0;
}

static void reap_one(struct crowd *c, unsigned i)
{
	int status = 0;
	pid_t pid = waitpid(c->pid[i], &status, WNOHANG);
	if (pid == 0)
		return;
	c->pid[i] = 0;
	if (pid > 0 && WIFSIGNALED(status))
		c->killed_by = WTERMSIG(status);
}

static bool reap(struct crowd *c)
{
	unsigned left = 0;
	for (unsigned i = 0; i < c->n_started; i++) {
		if (c->pid[i] > 0)
			reap_one(c, i);
		left += c->pid[i] > 0;
	}
	return left == 0;
}

/* They look at the board at least every SEAT_LOOK_MS. */
static void end_processes(struct crowd *c)
{
	uint64_t deadline = clock_ns() + END_PATIENCE_S * NS_PER_S;
	atomic_store(&c->board->is_over, true);
	while (!reap(c) && clock_ns() < deadline)
		usleep(2000);
	for (unsigned i = 0; i < c->n_started; i++)
		if (c->pid[i] > 0) {
			kill(c->pid[i], SIGKILL);
			waitpid(c->pid[i], NULL, 0);
			c->pid[i] = 0;
		}
}

/* Close the gaps between the seats' samples. Returns how many there are. */
static size_t pack_samples(struct crowd *c)
{
	size_t n = 0;
	for (unsigned i = 0; i < c->n; i++) {
		memmove(c->samples + n, c->seats[i].samples,
			c->seats[i].n_samples * sizeof(uint32_t));
		n += c->seats[i].n_samples;
	}
	return n;
}

int crowd_tally(struct crowd *c, unsigned fps, struct tally *tally_out, struct failure *failure)
{
	struct tally t = { 0 };
	unsigned ready;
	reap(c);
	int r = check_seats(c, &ready, failure);
	if (r < 0)
		return r;
	if (c->killed_by)
		return fail(failure, -ECHILD, "a consumer was ended by signal %d (%s)",
			c->killed_by, strsignal(c->killed_by));
	for (unsigned i = 0; i < c->n; i++) {
		const struct seat *seat = &c->seats[i];
		if (seat->span != atomic_load(&c->board->span))
			return fail(failure, -ECHILD,
				"consumer %u of %u got no frame at all while it was watched", i + 1,
				c->n);
		uint64_t late = late_frames(seat, fps);
		t.late = late > t.late ? late : t.late;
		t.frames += seat->frames;
		t.missing += seat->missing;
		t.spoiled += seat->spoiled;
	}
	size_t n = pack_samples(c);
	stats_sort_u32(c->samples, n);
	t.p50_ns = stats_percentile_u32(c->samples, n, 0.50);
	t.p99_ns = stats_percentile_u32(c->samples, n, 0.99);
	*tally_out = t;
	return 0;
}

struct crowd *crowd_destroy(struct crowd *c)
{
	if (!c)
		return NULL;
	if (c->map) {
		end_processes(c);
		munmap(c->map, c->map_bytes);
	}
	free(c);
	return NULL;
}
