/*
 * The floor under a frame in GPU memory: one process that opens the GPU as the broker does, submits a
 * copy and waits for its end, again and again, with nothing else to do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/format.h"
#include "consumer/bench/bench.h"

struct gpu_floor;

/**
 * Start the process, and wait until it has the GPU.
 *
 * floor_out  [give]
 *
 * 0, or negative with a sentence: which GPUs there are, if none is fit.
 */
int gpu_floor_create(struct gpu_floor **floor_out, struct failure *failure);

/* The GPU's name. [lend] until destroyed */
const char *gpu_floor_name(const struct gpu_floor *floor);

/* It is a software renderer. */
bool gpu_floor_is_cpu(const struct gpu_floor *floor);

/* The median of many copies of so many bytes. Nothing else should use the GPU. Blocks. */
int gpu_floor_measure(
	struct gpu_floor *floor, uint64_t size_bytes, double *us_out, struct failure *failure);

/* The medians of a conversion and of copies of its source, in turns. Nothing else should use the GPU.
 * Blocks. */
int gpu_floor_convert(struct gpu_floor *floor, const struct video_format *from,
	const struct video_format *to, double *convert_us_out, double *copy_us_out,
	struct failure *failure);

/* Ends the process. Takes NULL. Returns NULL. */
struct gpu_floor *gpu_floor_destroy(struct gpu_floor *floor);

DEFINE_CLEANUP(struct gpu_floor *, gpu_floor_destroy);
