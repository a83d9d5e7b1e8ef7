/* How soon a new consumer has its first frame. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/fd.h"
#include "consumer/bench/figures.h"
#include "consumer/bench/floor.h"
#include "consumer/bench/subject.h"
#include "consumer/sluice_consumer.h"

enum { TRIES = 30, TRIES_QUICK = 5, PATIENCE_MS = 5000, SETTLE_MS = 300 };

DEFINE_CLEANUP(struct sluice *, sluice_close);

static int wait_for_frame(struct sluice *conn, struct failure *failure)
{
	struct sluice_view *view;
	struct sluice_frame *frame;
	int r = sluice_subscribe(conn, "bench", NULL, &view);
	if (r >= 0)
		r = sluice_wait(conn, PATIENCE_MS);
	if (r > 0)
		r = sluice_view_next(view, &frame);
	if (r < 0)
		return fail(failure, r, "%s", sluice_error(conn));
	if (r == 0)
		return fail(failure, -ETIMEDOUT, "no first frame within %d ms", PATIENCE_MS);
	return 0;
}

static int time_broker(const struct subject *s, double *ms_out, struct failure *failure)
{
	_cleanup_(sluice_closep) struct sluice *conn = NULL;
	struct sluice_options options = { .socket = s->socket, .name = "sluice-bench" };
	uint64_t begin = clock_ns();
	int r = sluice_connect(&conn, &options);
	if (r < 0)
		return fail(failure, r, "%s", sluice_error(NULL));
	r = wait_for_frame(conn, failure);
	*ms_out = (double)(clock_ns() - begin) * 1e-6;
	return r;
}

static int time_floor(const struct subject *s, double *ms_out, struct failure *failure)
{
	struct floor_message message;
	uint64_t begin = clock_ns();
	_cleanup_fd_ int fd = floor_connect(s->socket);
	if (fd < 0)
		return fail(failure, fd, "the floor's server: %s", strerror(-fd));
	int r;
	while ((r = floor_receive(fd, &message)) == 0)
		;
	*ms_out = (double)(clock_ns() - begin) * 1e-6;
	return r < 0 ? fail(failure, r, "the floor's server: %s", strerror(-r)) : 0;
}

static int try_all(struct series *series, const struct subject *broker, const struct subject *floor,
	unsigned tries, struct failure *failure)
{
	int r = pause_until(clock_ns() + SETTLE_MS * NS_PER_MS, failure);
	for (unsigned i = 0; r == 0 && i < tries; i++) {
		double of_broker = 0, of_floor = 0;
		r = time_broker(broker, &of_broker, failure);
		if (r == 0)
			r = time_floor(floor, &of_floor, failure);
		if (r == 0)
			series_add(series, of_broker, of_floor);
	}
	return r;
}

static int measure(struct report *report, const struct plan *plan, const struct scene *scene,
	const char *what, struct failure *failure)
{
	_cleanup_(subject_destroyp) struct subject *broker = NULL, *floor = NULL;
	struct series series = { 0 };
	struct row row = { .figure = "first", .unit = "ms", .beside_name = "floor" };
	unsigned tries = report->is_quick ? TRIES_QUICK : TRIES;
	snprintf(row.what, sizeof(row.what), "connect to first frame, %s", what);
	progress("%s", row.what);
	int r = subject_broker.start(&broker, plan->place, scene, failure);
	if (r == 0)
		r = subject_floor.start(&floor, plan->place, scene, failure);
	if (r == 0)
		r = try_all(&series, broker, floor, tries, failure);
	if (r == 0)
		report_add(report, &row, &series);
	return r;
}

int figure_first(struct report *report, const struct plan *plan, struct failure *failure)
{
	static const struct scene small = { .consumers = 1, .width = 64, .height = 64, .fps = 30 };
	static const struct scene large = {
		.consumers = 1, .width = 3840, .height = 2160, .fps = 30
	};
	int r = measure(report, plan, &small, "64x64", failure);
	return r < 0 ? r : measure(report, plan, &large, "3840x2160", failure);
}
