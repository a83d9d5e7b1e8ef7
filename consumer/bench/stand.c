#include "consumer/bench/stand.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "consumer/bench/cpu.h"

/* Each consumer has seen every slot once, and has its pages. */
static const uint64_t warm_ns = 300 * NS_PER_MS;

/* What waking up leaves behind must be over before anything is watched. */
static const uint64_t settle_ns = 50 * NS_PER_MS;

/* The last frames of the span are still on their way when it ends. */
static const uint64_t drain_ns = 100 * NS_PER_MS;

/* More are not kept: enough for percentiles. */
static const uint64_t sampled_ns = NS_PER_S;

struct stand {
	struct scene scene;
	struct subject *alone; /* sends to nobody */
	struct subject *busy;
	struct crowd *crowd;
};

int stand_create(struct stand **stand_out, const struct subject_kind *kind, struct place *place,
	const struct scene *scene, struct failure *failure)
{
	_cleanup_(stand_destroyp) struct stand *s = calloc(1, sizeof(*s));
	if (!s)
		return fail(failure, -ENOMEM, "out of memory");
	s->scene = *scene;
	unsigned samples = (unsigned)(sampled_ns * scene->fps / NS_PER_S);
	int r = kind->start(&s->alone, place, scene, failure);
	if (r < 0)
		return r;
	subject_pause(s->alone);
	r = kind->start(&s->busy, place, scene, failure);
	if (r == 0)
		r = crowd_create(&s->crowd, scene->consumers, samples, kind->consume,
			s->busy->socket, failure);
	if (r == 0)
		r = pause_until(clock_ns() + warm_ns, failure);
	if (r < 0)
		return r;
	subject_pause(s->busy);
	*stand_out = TAKE_PTR(s);
	return 0;
}

static int read_cpu(const struct subject *s, struct cpu_time *cpu_out, struct failure *failure)
{
	int r = cpu_read(s->pid, cpu_out);
	return r < 0 ? fail(failure, r, "cannot read the processor time of process %d: %s",
			       (int)s->pid, strerror(-r))
		     : 0;
}

static int spend(const struct subject *s, uint64_t from_ns, uint64_t until_ns,
	struct cpu_time *spent_out, struct failure *failure)
{
	struct cpu_time before, after;
	int r = pause_until(from_ns, failure);
	if (r == 0)
		r = read_cpu(s, &before, failure);
	if (r == 0)
		r = pause_until(until_ns, failure);
	if (r == 0)
		r = read_cpu(s, &after, failure);
	if (r < 0)
		return r;
	*spent_out = cpu_between(&before, &after);
	return 0;
}

static int watch(struct subject *subject, uint64_t from_ns, uint64_t window_ns,
	struct cpu_time *spent_out, struct failure *failure)
{
	uint64_t until = from_ns + window_ns;
	subject_resume(subject);
	int r = spend(subject, from_ns, until, spent_out, failure);
	if (r == 0)
		r = pause_until(until + drain_ns, failure);
	subject_pause(subject);
	return r;
}

static int watch_crowd(const struct stand *s, uint64_t window_ns, bool is_timed,
	struct cpu_time *spent_out, struct failure *failure)
{
	uint64_t from = clock_ns() + settle_ns;
	crowd_watch(s->crowd, from, from + window_ns, is_timed);
	return watch(s->busy, from, window_ns, spent_out, failure);
}

int stand_turn(struct stand *s, uint64_t window_ns, struct turn *turn_out, struct failure *failure)
{
	struct cpu_time alone, busy;
	struct turn turn;
	int r = watch(s->alone, clock_ns() + settle_ns, window_ns, &alone, failure);
	if (r == 0)
		r = watch_crowd(s, window_ns, true, &busy, failure);
	if (r == 0)
		r = crowd_tally(s->crowd, s->scene.fps, &turn.tally, failure);
	if (r != 0)
		return r;
	double made = (double)window_ns / NS_PER_S * s->scene.fps;
	double sent = (double)turn.tally.frames / s->scene.consumers;
	turn.alone_all_ns = (double)alone.all_ns / made;
	turn.alone_ns = (double)(alone.all_ns - alone.copy_ns) / made;
	turn.busy_all_ns = (double)busy.all_ns / sent;
	turn.busy_ns = (double)(busy.all_ns - busy.copy_ns) / sent;
	*turn_out = turn;
	return 0;
}

int stand_watch(
	struct stand *s, uint64_t window_ns, struct tally *tally_out, struct failure *failure)
{
	struct cpu_time unused;
	int r = watch_crowd(s, window_ns, false, &unused, failure);
	return r < 0 ? r : crowd_tally(s->crowd, s->scene.fps, tally_out, failure);
}

struct stand *stand_destroy(struct stand *s)
{
	if (!s)
		return NULL;
	s->crowd = crowd_destroy(s->crowd);
	s->busy = subject_destroy(s->busy);
	s->alone = subject_destroy(s->alone);
	free(s);
	return NULL;
}
