/* Which device: by what the user wrote, or the best one that can do what we need. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/gpu/device.h"
#include "common/uuid.h"

enum { DEVICES_MAX = 16 };

struct candidate {
	VkPhysicalDevice physical;
	VkPhysicalDeviceProperties2 properties;
	VkPhysicalDeviceIDProperties id;
	const char *lacks; /* NULL: it can do what we need */
};

bool device_has(struct gpu *gpu, VkPhysicalDevice physical, const char *extension)
{
	struct vk *vk = &gpu->vk;
	uint32_t n = 0;
	if (VK_RAW(vk, EnumerateDeviceExtensionProperties, physical, NULL, &n, NULL) < 0)
		return false;
	_cleanup_free_ VkExtensionProperties *all = calloc(n ? n : 1, sizeof(*all));
	if (!all || VK_RAW(vk, EnumerateDeviceExtensionProperties, physical, NULL, &n, all) < 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(all[i].extensionName, extension) == 0)
			return true;
	return false;
}

static bool can_export_memory(struct gpu *gpu, VkPhysicalDevice physical)
{
	VkPhysicalDeviceExternalBufferInfo ask = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
		.usage = BUFFER_USAGE,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	VkExternalBufferProperties can = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES,
	};
	gpu->vk.GetPhysicalDeviceExternalBufferProperties(physical, &ask, &can);
	return can.externalMemoryProperties.externalMemoryFeatures &
	       VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT;
}

/* What it lacks in words; NULL: nothing. */
static const char *find_lack(struct gpu *gpu, const struct candidate *c)
{
	if (c->properties.properties.apiVersion < VK_API_VERSION_1_2)
		return "it lacks Vulkan 1.2";
	VkPhysicalDeviceVulkan12Features features12 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
	};
	VkPhysicalDeviceFeatures2 features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
		.pNext = &features12,
	};
	gpu->vk.GetPhysicalDeviceFeatures2(c->physical, &features);
	if (!features12.timelineSemaphore)
		return "it lacks timeline semaphores";
	if (!features12.bufferDeviceAddress)
		return "it lacks buffer device addresses";
	if (!device_has(gpu, c->physical, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME) ||
		!can_export_memory(gpu, c->physical))
		return "it cannot export memory to other processes";
	return NULL;
}

static void examine(struct gpu *gpu, struct candidate *c)
{
	c->id.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES;
	c->properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
	c->properties.pNext = &c->id;
	gpu->vk.GetPhysicalDeviceProperties2(c->physical, &c->properties);
	c->lacks = find_lack(gpu, c);
}

/* Hexadecimal digits, and dashes wherever they stand. */
static bool parse_uuid(const char *text, uint8_t *uuid)
{
	unsigned n = 0;
	memset(uuid, 0, VK_UUID_SIZE);
	for (; *text; text++) {
		if (*text == '-')
			continue;
		if (!isxdigit((unsigned char)*text) || n == 2 * VK_UUID_SIZE)
			return false;
		unsigned digit = isdigit((unsigned char)*text)
					 ? (unsigned)(*text - '0')
					 : (unsigned)(tolower((unsigned char)*text) - 'a' + 10);
		uuid[n / 2] = (uint8_t)(uuid[n / 2] << 4 | digit);
		n++;
	}
	return n == 2 * VK_UUID_SIZE;
}

/* Higher is better; 0 for what auto never takes. */
static int rank(const struct candidate *c)
{
	if (c->lacks)
		return 0;
	switch (c->properties.properties.deviceType) {
	case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
		return 5;
	case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
		return 4;
	case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
		return 3;
	case VK_PHYSICAL_DEVICE_TYPE_CPU:
		return 1;
	default:
		return 2;
	}
}

static int pick_best(const struct candidate *all, unsigned n)
{
	int best = -1;
	for (unsigned i = 0; i < n; i++)
		if (rank(&all[i]) > (best < 0 ? 0 : rank(&all[best])))
			best = (int)i;
	return best;
}

/* The index of what the user wrote, -1: no such device. */
static int pick_named(const struct candidate *all, unsigned n, const char *which)
{
	uint8_t uuid[VK_UUID_SIZE];
	if (strlen(which) <= 3 && strspn(which, "0123456789") == strlen(which) && *which) {
		unsigned index = (unsigned)strtoul(which, NULL, 10);
		return index < n ? (int)index : -1;
	}
	if (!parse_uuid(which, uuid))
		return -1;
	for (unsigned i = 0; i < n; i++)
		if (memcmp(all[i].id.deviceUUID, uuid, VK_UUID_SIZE) == 0)
			return (int)i;
	return -1;
}

/* "no GPU is called "7": 0: NVIDIA H200 (2c1f…-…), 1: …" */
static int refuse(struct gpu *gpu, const struct candidate *all, unsigned n, const char *which)
{
	char list[GPU_TEXT_MAX] = "";
	size_t at = 0;
	for (unsigned i = 0; i < n && at < sizeof(list); i++) {
		char uuid[UUID_TEXT_SIZE];
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%u: %.64s (%s)%s%s",
			i ? ", " : "", i, all[i].properties.properties.deviceName,
			uuid_text(all[i].id.deviceUUID, uuid), all[i].lacks ? ", but " : "",
			all[i].lacks ? all[i].lacks : "");
	}
	if (n == 0)
		return gpu_fail(gpu, -ENOENT, "Vulkan finds no device on this machine");
	if (strcmp(which, "auto") == 0)
		return gpu_fail(gpu, -EOPNOTSUPP, "no device can be used: %s", list);
	return gpu_fail(gpu, -ENOENT, "there is no GPU \"%.40s\"; there are %s", which, list);
}

/* Where its render node is: says which device it is to programs that know nothing of Vulkan. */
static void find_drm_node(struct gpu *gpu)
{
	VkPhysicalDeviceDrmPropertiesEXT drm = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRM_PROPERTIES_EXT,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &drm,
	};
	gpu->info.drm_major = gpu->info.drm_minor = -1;
	if (!device_has(gpu, gpu->vk.physical, VK_EXT_PHYSICAL_DEVICE_DRM_EXTENSION_NAME))
		return;
	gpu->vk.GetPhysicalDeviceProperties2(gpu->vk.physical, &properties);
	if (!drm.hasRender)
		return;
	gpu->info.drm_major = drm.renderMajor;
	gpu->info.drm_minor = drm.renderMinor;
}

static void describe(struct gpu *gpu, const struct candidate *c)
{
	struct gpu_info *info = &gpu->info;
	snprintf(info->name, sizeof(info->name), "%.*s", GPU_NAME_MAX - 1,
		c->properties.properties.deviceName);
	memcpy(info->device_uuid, c->id.deviceUUID, GPU_UUID_BYTES);
	memcpy(info->driver_uuid, c->id.driverUUID, GPU_UUID_BYTES);
	info->is_cpu = c->properties.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
	find_drm_node(gpu);
}

int pick_device(struct gpu *gpu, const char *which)
{
	struct candidate all[DEVICES_MAX] = { 0 };
	VkPhysicalDevice physical[DEVICES_MAX] = { 0 };
	uint32_t n = DEVICES_MAX;
	int r = VK(gpu, EnumeratePhysicalDevices, gpu->vk.instance, &n, physical);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		all[i].physical = physical[i];
		examine(gpu, &all[i]);
	}
	bool is_auto = strcmp(which, "auto") == 0;
	int i = is_auto ? pick_best(all, n) : pick_named(all, n, which);
	if (i < 0)
		return refuse(gpu, all, n, which);
	if (all[i].lacks)
		return gpu_fail(gpu, -EOPNOTSUPP, "%.64s cannot be used: %s",
			all[i].properties.properties.deviceName, all[i].lacks);
	gpu->vk.physical = all[i].physical;
	describe(gpu, &all[i]);
	return 0;
}
