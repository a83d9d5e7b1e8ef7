#include "broker/gpu_slots.h"

#include <stdio.h>
#include <string.h>

#include "common/fd.h"

static int make(void *data, uint64_t size_bytes, struct slot_memory *memory_out)
{
	struct gpu *gpu = data;
	_cleanup_(gpu_buffer_destroyp) struct gpu_buffer *buffer = NULL;
	int r = gpu_buffer_create(gpu, GPU_EXPORTED, size_bytes, &buffer);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd = -EBADF;
	r = gpu_buffer_export(buffer, &fd);
	if (r < 0)
		return r;
	*memory_out = (struct slot_memory){
		.fd = fd_take(&fd),
		.allocation_bytes = gpu_buffer_allocation_bytes(buffer),
		.memory_type = gpu_buffer_memory_type(buffer),
	};
	memory_out->buffer = TAKE_PTR(buffer);
	return 0;
}

static void unmake(void *data, struct slot_memory *memory)
{
	(void)data;
	fd_closep(&memory->fd);
	memory->buffer = gpu_buffer_destroy(memory->buffer);
}

static const char *why(void *data)
{
	return gpu_error(data);
}

static int make_timeline(void *data, struct gpu_timeline **timeline_out, int *fd_out)
{
	_cleanup_(gpu_timeline_destroyp) struct gpu_timeline *timeline = NULL;
	int r = gpu_timeline_create(data, &timeline);
	if (r < 0)
		return r;
	r = gpu_timeline_export(timeline, fd_out);
	if (r < 0)
		return r;
	*timeline_out = TAKE_PTR(timeline);
	return 0;
}

static void unmake_timeline(void *data, struct gpu_timeline *timeline)
{
	(void)data;
	gpu_timeline_destroy(timeline);
}

static const struct slot_ops ops = {
	.kind = MEMORY_OPAQUE_FD,
	.make = make,
	.unmake = unmake,
	.why = why,
	.make_timeline = make_timeline,
	.unmake_timeline = unmake_timeline,
};

void gpu_slots_describe(const struct gpu *gpu, struct slot_device *device_out)
{
	const struct gpu_info *info = gpu_info(gpu);
	*device_out = (struct slot_device){
		.has_drm = info->drm_major >= 0,
		.drm_major = info->drm_major >= 0 ? (uint32_t)info->drm_major : 0,
		.drm_minor = info->drm_minor >= 0 ? (uint32_t)info->drm_minor : 0,
		.can_timeline = info->can_timeline,
		.can_sync_fd = info->can_sync_fd,
	};
	snprintf(device_out->name, sizeof(device_out->name), "%s", info->name);
	memcpy(device_out->uuid, info->device_uuid, sizeof(device_out->uuid));
	memcpy(device_out->driver_uuid, info->driver_uuid, sizeof(device_out->driver_uuid));
}

struct slot_source gpu_slots(
	struct gpu *gpu, const struct slot_device *device, struct memory_budget *budget)
{
	return (struct slot_source){ .ops = &ops, .data = gpu, .budget = budget, .device = device };
}
