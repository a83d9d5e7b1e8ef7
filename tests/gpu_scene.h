/* A picture that a GPU draws with a number in it and copies to where the CPU reads it. */
#pragma once

#include "common/stamp.h"
#include "tests/gpu_fixture.h"

enum { LONG_SPIN_NS = 1000000000 };

struct scene {
	struct gpu_fixture f;
	struct video_format format;
	struct gpu_buffer *drawn;
	struct gpu_buffer *host;
	struct gpu_draw draw;
	struct gpu_copy copy;
	struct gpu_work work;
};

/* spin_ns counts for CPU devices too, where SLUICE_FAULTS is on. */
void scene_open(struct scene *s, uint64_t spin_ns);
void scene_close(struct scene *s);

/* Draw a number and copy it: what gpu_submit() returns. */
int scene_submit(struct scene *s, uint32_t number, gpu_job *job);

/* What the CPU sees. */
enum stamp_result scene_read_stamp(struct scene *s, uint32_t *number);
void scene_check_stamp(struct scene *s, uint32_t expected);
