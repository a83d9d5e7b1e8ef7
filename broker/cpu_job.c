#include "broker/cpu_job.h"

#include <string.h>

#ifdef SLUICE_FAULTS
#include <unistd.h>

unsigned lane_fault_slow_ms, lane_fault_slow_scale_ms, lane_fault_slow_scale_bytes;
atomic_uint lane_fault_hold_scale_bytes;

static bool is_held(const struct cpu_job *job)
{
	unsigned bytes = lane_fault_hold_scale_bytes;
	return job->scaler && bytes && job->format.size_bytes >= bytes;
}

static void be_slow(const struct cpu_job *job)
{
	while (is_held(job))
		usleep(1000);
	if (!job->scaler)
		usleep(lane_fault_slow_ms * 1000);
	else if (job->format.size_bytes >= lane_fault_slow_scale_bytes)
		usleep(lane_fault_slow_scale_ms * 1000);
}
#endif

static int convert(struct cpu_job *job)
{
	struct scaler **scaler = job->scaler;
	int r = 0;
	if (*scaler && !scaler_fits(*scaler, &job->from_format, &job->format))
		*scaler = scaler_destroy(*scaler);
	if (!*scaler)
		r = scaler_create(scaler, &job->from_format, &job->format);
	return r < 0 ? r : scaler_run(*scaler, job->from, job->to);
}

int cpu_job_run(void *data)
{
	struct cpu_job *job = data;
	int r = 0;
	if (job->buffer)
		r = job->buffer->read(job->buffer, job->to, &job->format, job->seq);
	else if (job->scaler)
		r = convert(job);
	else
		memcpy(job->to, job->from, job->format.size_bytes);
#ifdef SLUICE_FAULTS
	be_slow(job);
#endif
	return r;
}
