/* The step of a lane that the CPU does: for the lane's worker thread, which touches nothing else. */
#pragma once

#include "broker/capture/capture.h"
#include "broker/scale.h"

struct cpu_job {
	struct capture_buffer *buffer; /* to be read; NULL: copy from `from` */
	const uint8_t *from;
	uint8_t *to;
	struct video_format format;
	uint64_t seq;
	struct scaler **scaler; /* convert from from_format; NULL: it is the same */
	struct video_format from_format;
};

/* What worker_post() takes; data is a struct cpu_job. 0 or negative errno. */
int cpu_job_run(void *data);

#ifdef SLUICE_FAULTS
#include <stdatomic.h>

/* Test: wait this long after a slot was written before it is published, in ms; after a conversion by the CPU
 * that long, if the picture has as many bytes as this at least. */
extern unsigned lane_fault_slow_ms, lane_fault_slow_scale_ms, lane_fault_slow_scale_bytes;

/* Test: a conversion by the CPU into as many bytes or more does not end until this is 0 again, which it is
 * mostly. */
extern atomic_uint lane_fault_hold_scale_bytes;
#endif
