/* A device of our own: created with what it can do, destroyed when nothing uses it any more. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/gpu/device.h"

enum { FAMILIES_MAX = 16, EXTENSIONS_MAX = 8 };

int gpu_fail(struct gpu *gpu, int error, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(gpu->error, sizeof(gpu->error), fmt, args);
	va_end(args);
	return error;
}

int gpu_result(struct gpu *gpu, const char *call, VkResult result)
{
	if (result >= 0)
		return 0;
	gpu_fail(gpu, 0, "%s: %s", call, vk_result_name(result));
	if (result == VK_ERROR_DEVICE_LOST)
		gpu_lose(gpu);
	return vk_errno(result);
}

void gpu_lose(struct gpu *gpu)
{
	if (gpu->lost)
		return;
	gpu->lost = true;
	ending_kick(gpu);
}

int gpu_check(struct gpu *gpu)
{
	return gpu->lost ? -ENODEV : 0;
}

const struct gpu_info *gpu_info(const struct gpu *gpu)
{
	return &gpu->info;
}

const char *gpu_error(const struct gpu *gpu)
{
	return gpu->error;
}

bool gpu_is_lost(const struct gpu *gpu)
{
	return gpu->lost;
}

bool gpu_memory_usage(struct gpu *gpu, uint64_t *used_bytes_out, uint64_t *budget_bytes_out)
{
	VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT,
	};
	VkPhysicalDeviceMemoryProperties2 memory = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
		.pNext = &budget,
	};
	if (!gpu->has_budget)
		return false;
	gpu->vk.GetPhysicalDeviceMemoryProperties2(gpu->vk.physical, &memory);
	uint64_t used = 0, allowed = 0;
	for (uint32_t i = 0; i < memory.memoryProperties.memoryHeapCount; i++) {
		if (!(memory.memoryProperties.memoryHeaps[i].flags &
			    VK_MEMORY_HEAP_DEVICE_LOCAL_BIT))
			continue;
		used += budget.heapUsage[i];
		allowed += budget.heapBudget[i];
	}
	*used_bytes_out = used;
	*budget_bytes_out = allowed;
	return true;
}

/* The first that computes: copies too, by the specification. One that only transfers is slow: an
 * H200 takes four times as long there. */
static int find_family(struct gpu *gpu)
{
	VkQueueFamilyProperties families[FAMILIES_MAX];
	uint32_t n = FAMILIES_MAX;
	gpu->vk.GetPhysicalDeviceQueueFamilyProperties(gpu->vk.physical, &n, families);
	for (uint32_t i = 0; i < n; i++) {
		if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT))
			continue;
		gpu->family = i;
		return 0;
	}
	return gpu_fail(gpu, -EOPNOTSUPP, "%s has no queue that computes", gpu->info.name);
}

/* Which extensions to enable, of those that are there. */
struct extensions {
	unsigned n;
	const char *name[EXTENSIONS_MAX];
	bool priority;
};

static bool enable(struct gpu *gpu, struct extensions *e, const char *name)
{
	if (!device_has(gpu, gpu->vk.physical, name))
		return false;
	assert(e->n < EXTENSIONS_MAX);
	e->name[e->n++] = name;
	return true;
}

static void choose_extensions(struct gpu *gpu, struct extensions *e)
{
	enable(gpu, e, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
	enable(gpu, e, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME);
	gpu->info.can_import_host = enable(gpu, e, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
	gpu->has_budget = enable(gpu, e, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
	/* the same structure under an older name */
	e->priority = enable(gpu, e, VK_KHR_GLOBAL_PRIORITY_EXTENSION_NAME) ||
		      enable(gpu, e, VK_EXT_GLOBAL_PRIORITY_EXTENSION_NAME);
}

/* Ahead of those who wait for our copies, where the system permits it. */
static int create_device(struct gpu *gpu, const struct extensions *e)
{
	VkDeviceQueueGlobalPriorityCreateInfoKHR high = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_GLOBAL_PRIORITY_CREATE_INFO_KHR,
		.globalPriority = VK_QUEUE_GLOBAL_PRIORITY_HIGH_KHR,
	};
	float one = 1;
	VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.pNext = e->priority ? &high : NULL,
		.queueFamilyIndex = gpu->family,
		.queueCount = 1,
		.pQueuePriorities = &one,
	};
	VkPhysicalDeviceVulkan12Features features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		.timelineSemaphore = VK_TRUE,
		.bufferDeviceAddress = VK_TRUE,
	};
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.pNext = &features,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.enabledExtensionCount = e->n,
		.ppEnabledExtensionNames = e->name,
	};
	struct vk *vk = &gpu->vk;
	if (e->priority &&
		VK_RAW(vk, CreateDevice, vk->physical, &info, NULL, &vk->device) == VK_SUCCESS)
		return 0;
	queue.pNext = NULL;
	return VK(gpu, CreateDevice, vk->physical, &info, NULL, &vk->device);
}

static bool can_export_semaphore(
	struct gpu *gpu, VkSemaphoreType type, VkExternalSemaphoreHandleTypeFlagBits handle)
{
	VkSemaphoreTypeCreateInfo kind = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = type,
	};
	VkPhysicalDeviceExternalSemaphoreInfo ask = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
		.pNext = &kind,
		.handleType = handle,
	};
	VkExternalSemaphoreProperties can = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES,
	};
	if (!gpu->vk.GetSemaphoreFdKHR)
		return false;
	gpu->vk.GetPhysicalDeviceExternalSemaphoreProperties(gpu->vk.physical, &ask, &can);
	return can.externalSemaphoreFeatures & VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT;
}

/* What it can do beyond what is required. */
static void find_abilities(struct gpu *gpu)
{
	VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT,
	};
	VkPhysicalDeviceVulkan11Properties limits = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES,
		.pNext = gpu->info.can_import_host ? &host : NULL,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &limits,
	};
	VkPhysicalDeviceMemoryProperties2 memory = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
	};
	gpu->vk.GetPhysicalDeviceProperties2(gpu->vk.physical, &properties);
	gpu->vk.GetPhysicalDeviceMemoryProperties2(gpu->vk.physical, &memory);
	gpu->memory = memory.memoryProperties;
	gpu->allocation_max = limits.maxMemoryAllocationSize;
	gpu->info.host_align = host.minImportedHostPointerAlignment;
	gpu->info.can_timeline = can_export_semaphore(
		gpu, VK_SEMAPHORE_TYPE_TIMELINE, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT);
	gpu->info.can_sync_fd = can_export_semaphore(
		gpu, VK_SEMAPHORE_TYPE_BINARY, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT);
}

static int open_device(struct gpu *gpu, const struct gpu_options *options)
{
	struct extensions extensions = { 0 };
	int r = instance_open(gpu, options->validation);
	if (r < 0)
		return r;
#ifdef SLUICE_FAULTS
	if (gpu_test_instance_hook)
		gpu_test_instance_hook(&gpu->vk);
#endif
	r = pick_device(gpu, options->which ? options->which : "auto");
	if (r < 0)
		return r;
	r = find_family(gpu);
	if (r < 0)
		return r;
	choose_extensions(gpu, &extensions);
	r = create_device(gpu, &extensions);
	if (r < 0)
		return r;
	if (vk_load_device(&gpu->vk) < 0)
		return gpu_fail(gpu, -ENOENT, "the driver lacks functions of Vulkan 1.2");
#ifdef SLUICE_FAULTS
	vk_keep_loaded();
	if (gpu_test_hook)
		gpu_test_hook(&gpu->vk);
#endif
	gpu->vk.GetDeviceQueue(gpu->vk.device, gpu->family, 0, &gpu->queue);
	find_abilities(gpu);
	return 0;
}

static int create_parts(struct gpu *gpu, const struct gpu_options *options)
{
	int r = ending_create(gpu, options->spin_ns);
	if (r < 0)
		return r;
	r = queue_create(gpu);
	if (r < 0)
		return r;
	r = copy_create(gpu);
	if (r < 0)
		return r;
	return measure_copies(gpu);
}

int gpu_create(struct gpu **gpu_out, struct loop *loop, const struct gpu_options *options,
	char *error, size_t error_size)
{
	_cleanup_(gpu_destroyp) struct gpu *gpu = calloc(1, sizeof(*gpu));
	if (!gpu) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	gpu->loop = loop;
	gpu->on_lost = options->lost;
	gpu->on_lost_data = options->data;
	gpu->ending.kick_fd = -EBADF;
	list_init(&gpu->dying);
	int r = open_device(gpu, options);
	if (r == 0)
		r = create_parts(gpu, options);
	if (r < 0) {
		if (!gpu->error[0])
			gpu_fail(gpu, r, "%s", strerror(-r));
		snprintf(error, error_size, "%s", gpu->error);
		return r;
	}
	*gpu_out = TAKE_PTR(gpu);
	return 0;
}

struct gpu *gpu_destroy(struct gpu *gpu)
{
	if (!gpu)
		return NULL;
	assert(gpu->n_objects == 0);
	/* a lost device says so, which counts as the end of the work too */
	if (gpu->vk.device && gpu->vk.DeviceWaitIdle)
		VK_RAW(&gpu->vk, DeviceWaitIdle, gpu->vk.device);
	ending_destroy(gpu);
	queue_destroy(gpu);
	shader_destroy(gpu, &gpu->copy_wide);
	shader_destroy(gpu, &gpu->copy_word);
	convert_destroy(gpu);
	for (unsigned i = 0; i < ROW_KINDS; i++)
		shader_destroy(gpu, &gpu->draw[i]);
	instance_close(gpu);
	free(gpu);
	return NULL;
}
