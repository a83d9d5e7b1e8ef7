/* Inside broker/gpu: how long commands take. */
#pragma once

#include "broker/gpu/device.h"

/* Submit, and poll for the end as frames are heard of. Nothing else may be in flight; what the commands
 * use is not kept alive. */
int measure_commands(struct gpu *gpu, VkCommandBuffer commands, uint64_t *ns_out);

/* Begin to record in the first job's buffer. */
int measure_begin(struct gpu *gpu, VkCommandBuffer *commands_out);

/* Sorts. */
uint64_t measure_median(uint64_t *ns, unsigned n);
