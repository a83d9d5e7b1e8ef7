#include "consumer/bench/figures.h"

/* Processor time in a turn for one consumer and frame. */
struct share {
	double busy, alone; /* us */
};

static struct share share_of(const struct turn *turn, unsigned consumers)
{
	double unit = 1e-3 / consumers;
	return (struct share){ turn->busy_ns * unit, turn->alone_ns * unit };
}

void fanout_cost_add(struct fanout_cost *cost, const struct turn *measured,
	const struct turn *beside, unsigned consumers)
{
	struct share m = share_of(measured, consumers), b = share_of(beside, consumers);
	series_add(&cost->busy, m.busy, b.busy);
	series_add(&cost->alone, m.alone, b.alone);
	series_add(&cost->cost, m.busy - m.alone, b.busy - b.alone);
}

void fanout_cost_report(struct report *report, const struct row *row, struct fanout_cost *cost)
{
	struct pair busy = series_medians(&cost->busy), alone = series_medians(&cost->alone);
	struct row *added = report_add(report, row, &cost->cost);
	added->measured = busy.measured - alone.measured;
	added->beside = busy.beside - alone.beside;
}
