#include "consumer/encoder/cfr.h"

#include "consumer/encoder/now.h"

/* Wide enough for any time at any rate: a remainder is never lost. */
__extension__ typedef unsigned __int128 wide;

/* In units of 1/(2 num) ns, times are whole numbers: frame i is at i steps, plus half of one. */
static wide step_of(const struct cfr *cfr)
{
	return (wide)2 * cfr->den * NS_PER_S;
}

/* Frames of times before `ns` after the first picture. */
static uint64_t frames_before(const struct cfr *cfr, uint64_t ns)
{
	wide at = (wide)ns * 2 * cfr->num, step = step_of(cfr);
	return at <= step / 2 ? 0 : (uint64_t)((at - step / 2 + step - 1) / step);
}

/* Frames of times until `ns`, that one included. */
static uint64_t frames_until(const struct cfr *cfr, uint64_t ns)
{
	wide at = (wide)ns * 2 * cfr->num, step = step_of(cfr);
	return at < step / 2 ? 0 : (uint64_t)((at - step / 2) / step + 1);
}

static uint64_t since_begin(const struct cfr *cfr, uint64_t pts_ns)
{
	return pts_ns > cfr->begin_ns ? pts_ns - cfr->begin_ns : 0;
}

/* The newest picture is shown up to frame `end`, which is not its any more. */
static struct cfr_frames show_until(struct cfr *cfr, uint64_t end)
{
	struct cfr_frames due = { .first = cfr->next };
	if (end <= cfr->next)
		return due;
	due.n = end - cfr->next;
	cfr->repeated += due.n - !cfr->is_shown;
	cfr->is_shown = true;
	cfr->next = end;
	return due;
}

struct cfr_frames cfr_begin(struct cfr *cfr, uint64_t num, uint64_t den, uint64_t pts_ns)
{
	cfr->num = num;
	cfr->den = den;
	cfr->begin_ns = pts_ns;
	cfr->next = 0;
	cfr->is_shown = false;
	return show_until(cfr, 1);
}

struct cfr_frames cfr_add(struct cfr *cfr, uint64_t pts_ns)
{
	struct cfr_frames due = show_until(cfr, frames_before(cfr, since_begin(cfr, pts_ns)));
	cfr->dropped += !cfr->is_shown;
	cfr->is_shown = false;
	return due;
}

void cfr_lose(struct cfr *cfr)
{
	cfr->is_shown = true;
}

struct cfr_frames cfr_pass(struct cfr *cfr, uint64_t pts_ns)
{
	return show_until(cfr, frames_until(cfr, since_begin(cfr, pts_ns)));
}

struct cfr_frames cfr_end(struct cfr *cfr, uint64_t pts_ns, bool is_exact)
{
	/* times as the file has them: without the half */
	wide at = (wide)since_begin(cfr, pts_ns) * 2 * cfr->num, step = step_of(cfr);
	uint64_t end = (uint64_t)((at + step - 1) / step);
	if (!is_exact && !cfr->is_shown && end <= cfr->next)
		end = cfr->next + 1;
	struct cfr_frames due = show_until(cfr, end);
	cfr->dropped += !cfr->is_shown;
	cfr->is_shown = true;
	return due;
}

uint64_t cfr_next_ns(const struct cfr *cfr)
{
	wide at = cfr->next * step_of(cfr) + step_of(cfr) / 2, unit = (wide)2 * cfr->num;
	return cfr->begin_ns + (uint64_t)((at + unit - 1) / unit);
}
