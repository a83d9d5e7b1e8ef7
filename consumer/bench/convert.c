/*
 * Pictures that the GPU converts: how long one takes, beside the time in which as many bytes as it reads
 * and writes are copied.
 */
#include <drm_fourcc.h>
#include <errno.h>
#include <stdio.h>

#include "consumer/bench/figures.h"
#include "consumer/bench/gpu_floor.h"

enum { BT709 = 1 };

/* At least so much of the bandwidth of a copy. */
static const double least_percent = 70;

struct size {
	uint32_t width, height;
};

static const struct job {
	uint32_t fourcc; /* of the target */
	bool is_smaller;
	bool has_target;
} jobs[] = {
	{ DRM_FORMAT_NV12, false, true },
	{ DRM_FORMAT_P010, false, false },
	{ DRM_FORMAT_YUV420, false, false },
	{ DRM_FORMAT_NV12, true, false },
};

/* Without padding. */
static double bytes_of(const struct video_format *format)
{
	double bytes = 0;
	for (unsigned p = 0; p < format->n_planes; p++)
		bytes += (double)format_row_bytes(format, p) * format_rows(format, p);
	return bytes;
}

/* What is measured of one job. */
struct measured {
	struct series time;    /* us */
	struct series percent; /* of the floor's bandwidth */
	struct series copy;    /* GB/s, read and written */
};

static int run_round(struct gpu_floor *floor, const struct video_format *from,
	const struct video_format *to, struct measured *m, struct failure *failure)
{
	double convert_us, copy_us;
	int r = gpu_floor_convert(floor, from, to, &convert_us, &copy_us, failure);
	if (r < 0)
		return r;
	/* the copy moves the padding of its rows too, which is not there with these sizes */
	double floor_us = copy_us * (bytes_of(from) + bytes_of(to)) / (2 * bytes_of(from));
	series_add(&m->time, convert_us, floor_us);
	series_add(&m->percent, 100 * floor_us / convert_us, 0);
	series_add(&m->copy, 2 * bytes_of(from) / (copy_us * 1e3), 0);
	return 0;
}

static struct row row_of(const char *pair, const char *quantity, const char *unit)
{
	struct row row = { .figure = "convert", .unit = unit };
	snprintf(row.what, sizeof(row.what), "%s: %s", pair, quantity);
	return row;
}

static void add_rows(struct report *report, const struct job *job, const char *pair, bool is_cpu,
	struct measured *m)
{
	struct row time = row_of(pair, "time", "us");
	struct row percent = row_of(pair, "of the copy's bandwidth", "%");
	struct row copy = row_of(pair, "the copy's bandwidth", "GB/s");
	time.beside_name = "floor";
	if (job->has_target && !is_cpu) {
		percent.target = TARGET_AT_LEAST;
		percent.bound = least_percent;
	}
	report_add(report, &time, &m->time);
	report_add(report, &percent, &m->percent);
	report_add(report, &copy, &m->copy);
}

static int run_job(struct gpu_floor *floor, struct report *report, const struct plan *plan,
	const struct job *job, struct failure *failure)
{
	static const struct size quick = { 320, 180 }, usual = { 3840, 2160 };
	const struct size *size = report->is_quick ? &quick : &usual;
	unsigned by = job->is_smaller ? 3 : 1;
	struct video_format from, to;
	struct measured m = { 0 };
	char from_text[48], to_text[48], pair[80];
	format_layout(DRM_FORMAT_XRGB8888, size->width, size->height, &from);
	format_layout(job->fourcc, size->width / by, size->height / by, &to);
	to.colour.matrix = BT709;
	snprintf(pair, sizeof(pair), "%.32s to %.32s",
		format_describe(&from, from_text, sizeof(from_text)),
		format_describe(&to, to_text, sizeof(to_text)));
	int r = 0;
	for (unsigned i = 0; r == 0 && i < plan->gpu_rounds; i++)
		r = bench_interrupted ? fail(failure, -EINTR, "interrupted")
				      : run_round(floor, &from, &to, &m, failure);
	if (r == 0)
		add_rows(report, job, pair, gpu_floor_is_cpu(floor), &m);
	return r;
}

int figure_convert(struct report *report, const struct plan *plan, struct failure *failure)
{
	_cleanup_(gpu_floor_destroyp) struct gpu_floor *floor = NULL;
	int r = gpu_floor_create(&floor, failure);
	if (r < 0)
		return r;
	progress("convert: measured on %s%s", gpu_floor_name(floor),
		gpu_floor_is_cpu(floor) ? ", which is a software renderer" : "");
	for (unsigned i = 0; r == 0 && i < sizeof(jobs) / sizeof(jobs[0]); i++)
		r = run_job(floor, report, plan, &jobs[i], failure);
	return r;
}
