/* A build without Vulkan: there is no GPU, and nothing else here is ever called. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/gpu/gpu.h"

int gpu_create(struct gpu **gpu_out, struct loop *loop, const struct gpu_options *options,
	char *error, size_t error_size)
{
	snprintf(error, error_size, "built without Vulkan");
	return -ENOENT;
}

struct gpu *gpu_destroy(struct gpu *gpu)
{
	return NULL;
}

const struct gpu_info *gpu_info(const struct gpu *gpu)
{
	abort();
}

const char *gpu_error(const struct gpu *gpu)
{
	return "built without Vulkan";
}

bool gpu_is_lost(const struct gpu *gpu)
{
	return true;
}

bool gpu_memory_usage(struct gpu *gpu, uint64_t *used_bytes_out, uint64_t *budget_bytes_out)
{
	return false;
}

int gpu_buffer_create(struct gpu *gpu, enum gpu_memory_kind kind, uint64_t size_bytes,
	struct gpu_buffer **buffer_out)
{
	return -ENODEV;
}

int gpu_buffer_import_host(
	struct gpu *gpu, void *map, uint64_t size_bytes, struct gpu_buffer **buffer_out)
{
	return -ENODEV;
}

struct gpu_buffer *gpu_buffer_destroy(struct gpu_buffer *buffer)
{
	return NULL;
}

void *gpu_buffer_map(const struct gpu_buffer *buffer)
{
	return NULL;
}

uint64_t gpu_buffer_size(const struct gpu_buffer *buffer)
{
	return 0;
}

uint64_t gpu_buffer_allocation_bytes(const struct gpu_buffer *buffer)
{
	return 0;
}

uint32_t gpu_buffer_memory_type(const struct gpu_buffer *buffer)
{
	return 0;
}

int gpu_buffer_export(struct gpu_buffer *buffer, int *fd_out)
{
	return -ENODEV;
}

int gpu_timeline_create(struct gpu *gpu, struct gpu_timeline **timeline_out)
{
	return -ENODEV;
}

struct gpu_timeline *gpu_timeline_destroy(struct gpu_timeline *timeline)
{
	return NULL;
}

int gpu_timeline_export(struct gpu_timeline *timeline, int *fd_out)
{
	return -ENODEV;
}

uint64_t gpu_timeline_value(struct gpu_timeline *timeline)
{
	return UINT64_MAX;
}

struct gpu_picture gpu_picture_of(struct gpu_buffer *buffer, const struct video_format *format)
{
	return (struct gpu_picture){ .buffer = buffer };
}

bool gpu_can_convert(
	const struct video_format *from, const struct video_format *to, const char **why_out)
{
	if (why_out)
		*why_out = "built without Vulkan";
	return false;
}

int gpu_submit(struct gpu *gpu, const struct gpu_work *work, gpu_job *job_out, int *sync_fd_out)
{
	return -ENODEV;
}

void gpu_cancel(struct gpu *gpu, gpu_job job)
{
}

void gpu_wait(struct gpu *gpu, gpu_job job)
{
}

int gpu_measure_copy(struct gpu *gpu, uint64_t size_bytes, unsigned rounds, uint64_t *median_ns_out)
{
	return -ENODEV;
}

#ifdef SLUICE_FAULTS
bool gpu_fault_early;

bool gpu_fault(const char *function, int vk_result, unsigned nth, bool for_ever)
{
	return false;
}
#endif
