/* Inside broker/gpu: the two ways to copy. */
#pragma once

#include "broker/gpu/device.h"

enum copy_way {
	COPY_BY_COMMAND = 1, /* vkCmdCopyBuffer */
	COPY_BY_SHADER = 2,
};

/* Rows in two buffers; offsets from their beginnings, in bytes. */
struct region {
	uint64_t from;
	uint64_t to;
	uint64_t row_bytes;
	uint32_t rows; /* 1: the strides do not matter */
	uint32_t from_stride;
	uint32_t to_stride;
};

/* What a copy consists of: as few regions as there can be, at most one for each plane. Pure. */
unsigned copy_regions(
	const struct video_format *format, const struct gpu_copy *copy, struct region *regions);

/* Record one; the shader only where its places are multiples of a word. */
void copy_region(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_copy *copy,
	const struct region *region, enum copy_way way);

#ifdef SLUICE_FAULTS
/* Test: all copies go this way. 0: as measured. */
extern enum copy_way gpu_test_copy_way;
#endif
