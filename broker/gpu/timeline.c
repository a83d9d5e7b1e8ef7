/* Timeline semaphores for clients: each is one client's alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "broker/gpu/device.h"

static void timeline_free(struct gpu *gpu, struct used *used)
{
	struct gpu_timeline *t = (struct gpu_timeline *)used;
	gpu->vk.DestroySemaphore(gpu->vk.device, t->semaphore, NULL);
	free(t);
}

int gpu_timeline_create(struct gpu *gpu, struct gpu_timeline **timeline_out)
{
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	if (!gpu->info.can_timeline)
		return gpu_fail(
			gpu, -EOPNOTSUPP, "%s cannot export timeline semaphores", gpu->info.name);
	_cleanup_free_ struct gpu_timeline *t = calloc(1, sizeof(*t));
	if (!t)
		return gpu_fail(gpu, -ENOMEM, "out of memory");
	*t = (struct gpu_timeline){ .used.free = timeline_free, .gpu = gpu };
	list_init(&t->used.link);
	VkExportSemaphoreCreateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.pNext = &export,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
	};
	VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = &type,
	};
	r = VK(gpu, CreateSemaphore, gpu->vk.device, &info, NULL, &t->semaphore);
	if (r < 0)
		return r;
	gpu->n_objects++;
	*timeline_out = TAKE_PTR(t);
	return 0;
}

struct gpu_timeline *gpu_timeline_destroy(struct gpu_timeline *t)
{
	if (!t)
		return NULL;
	t->gpu->n_objects--;
	queue_retire(t->gpu, &t->used);
	return NULL;
}

int gpu_timeline_export(struct gpu_timeline *t, int *fd_out)
{
	struct gpu *gpu = t->gpu;
	int fd = -EBADF;
	VkSemaphoreGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
		.semaphore = t->semaphore,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	r = VK(gpu, GetSemaphoreFdKHR, gpu->vk.device, &info, &fd);
	if (r < 0)
		return r;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	*fd_out = fd;
	return 0;
}

uint64_t gpu_timeline_value(struct gpu_timeline *t)
{
	uint64_t value = 0;
	if (t->gpu->lost ||
		VK(t->gpu, GetSemaphoreCounterValue, t->gpu->vk.device, t->semaphore, &value) < 0)
		return UINT64_MAX;
	return value;
}
