#include "consumer/check/vulkan.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DEVICES_MAX = 16, FAMILIES_MAX = 16, EXTENSIONS_MAX = 512 };

int vulkan_fail(char *error, const char *call, VkResult result)
{
	snprintf(error, READER_TEXT_MAX, "%s: VkResult %d", call, (int)result);
	return -EIO;
}

/* --- The instance ------------------------------------------------------------------------------*/

static int open_library(struct vulkan *v, char *error)
{
	/* it stays: drivers and their threads do not like to be unloaded */
	v->library = dlopen("libvulkan.so.1", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	if (v->library)
		*(void **)&v->GetInstanceProcAddr = dlsym(v->library, "vkGetInstanceProcAddr");
	if (v->GetInstanceProcAddr)
		return 0;
	const char *why = dlerror();
	snprintf(error, READER_TEXT_MAX, "libvulkan.so.1 cannot be opened: %s", why ? why : "?");
	return -ENOENT;
}

static int load_instance(struct vulkan *v, char *error)
{
#define X(name)                                                                        \
	v->name = (PFN_vk##name)v->GetInstanceProcAddr(v->instance, "vk" #name);       \
	if (!v->name) {                                                                \
		snprintf(error, READER_TEXT_MAX, "libvulkan.so.1 has no vk%s", #name); \
		return -ENOENT;                                                        \
	}
	VULKAN_INSTANCE_FUNCTIONS(X)
#undef X
	return 0;
}

static int create_instance(struct vulkan *v, char *error)
{
	VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.pApplicationName = "sluice-cuda-check",
		.apiVersion = VK_API_VERSION_1_2,
	};
	VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app,
	};
	PFN_vkCreateInstance create =
		(PFN_vkCreateInstance)v->GetInstanceProcAddr(NULL, "vkCreateInstance");
	VkResult result =
		create ? create(&info, NULL, &v->instance) : VK_ERROR_INITIALIZATION_FAILED;
	if (result != VK_SUCCESS)
		return vulkan_fail(error, "vkCreateInstance", result);
	return load_instance(v, error);
}

/* --- The device --------------------------------------------------------------------------------*/

static bool has_uuid(struct vulkan *v, VkPhysicalDevice physical, const uint8_t *uuid)
{
	VkPhysicalDeviceIDProperties id = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &id,
	};
	v->GetPhysicalDeviceProperties2(physical, &properties);
	return memcmp(id.deviceUUID, uuid, VK_UUID_SIZE) == 0;
}

static int find_physical(struct vulkan *v, const uint8_t *uuid, char *error)
{
	VkPhysicalDevice all[DEVICES_MAX];
	uint32_t n = DEVICES_MAX;
	VkResult result = v->EnumeratePhysicalDevices(v->instance, &n, all);
	if (result < 0)
		return vulkan_fail(error, "vkEnumeratePhysicalDevices", result);
	for (uint32_t i = 0; i < n; i++)
		if (has_uuid(v, all[i], uuid)) {
			v->physical = all[i];
			return 0;
		}
	snprintf(error, READER_TEXT_MAX,
		"none of the %u Vulkan devices here is the GPU of the stream", n);
	return -ENOENT;
}

/* Every queue that draws or computes can copy. */
static void find_family(struct vulkan *v)
{
	VkQueueFamilyProperties all[FAMILIES_MAX];
	uint32_t n = FAMILIES_MAX;
	v->GetPhysicalDeviceQueueFamilyProperties(v->physical, &n, all);
	while (v->family + 1 < n &&
		!(all[v->family].queueFlags & (VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT)))
		v->family++;
}

static bool has_extension(struct vulkan *v, const char *name)
{
	static VkExtensionProperties all[EXTENSIONS_MAX];
	uint32_t n = EXTENSIONS_MAX;
	if (v->EnumerateDeviceExtensionProperties(v->physical, NULL, &n, all) < 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(all[i].extensionName, name) == 0)
			return true;
	return false;
}

static int load_device(struct vulkan *v, char *error)
{
	const char *missing = NULL;
#define X(name)                                                              \
	v->name = (PFN_vk##name)v->GetDeviceProcAddr(v->device, "vk" #name); \
	missing = v->name ? missing : "vk" #name;
	VULKAN_DEVICE_FUNCTIONS(X)
#undef X
	if (!missing)
		return 0;
	snprintf(error, READER_TEXT_MAX, "the Vulkan driver has no %s", missing);
	return -ENOENT;
}

static int create_device(struct vulkan *v, char *error)
{
	const char *extensions[2] = { VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME };
	bool has_semaphores = has_extension(v, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME);
	float priority = 1;
	find_family(v);
	extensions[1] = VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME;
	VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueFamilyIndex = v->family,
		.queueCount = 1,
		.pQueuePriorities = &priority,
	};
	VkPhysicalDeviceTimelineSemaphoreFeatures features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
		.timelineSemaphore = VK_TRUE,
	};
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.pNext = &features, /* of Vulkan 1.2, so every device has it */
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.enabledExtensionCount = has_semaphores ? 2 : 1,
		.ppEnabledExtensionNames = extensions,
	};
	VkResult result = v->CreateDevice(v->physical, &info, NULL, &v->device);
	if (result != VK_SUCCESS)
		return vulkan_fail(error, "vkCreateDevice", result);
	int r = load_device(v, error);
	if (r == 0)
		v->GetDeviceQueue(v->device, v->family, 0, &v->queue);
	return r;
}

/* --- What the rows are copied with, and where to -----------------------------------------------*/

/* Memory that the CPU reads: cached, where there is such a type. UINT32_MAX: none. */
static uint32_t pick_memory_type(struct vulkan *v, uint32_t allowed)
{
	const VkMemoryPropertyFlags needed =
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
	VkPhysicalDeviceMemoryProperties all;
	uint32_t found = UINT32_MAX;
	v->GetPhysicalDeviceMemoryProperties(v->physical, &all);
	for (uint32_t i = 0; i < all.memoryTypeCount; i++) {
		VkMemoryPropertyFlags flags = all.memoryTypes[i].propertyFlags;
		if (!(allowed & 1u << i) || (flags & needed) != needed)
			continue;
		if (flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
			return i;
		if (found == UINT32_MAX)
			found = i;
	}
	return found;
}

static int map_staging(struct vulkan *v, char *error)
{
	VkMemoryRequirements needs;
	void *map = NULL;
	v->GetBufferMemoryRequirements(v->device, v->staging, &needs);
	VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.allocationSize = needs.size,
		.memoryTypeIndex = pick_memory_type(v, needs.memoryTypeBits),
	};
	if (info.memoryTypeIndex == UINT32_MAX)
		return vulkan_fail(
			error, "memory that the CPU can read", VK_ERROR_FEATURE_NOT_PRESENT);
	VkResult result = v->AllocateMemory(v->device, &info, NULL, &v->staging_memory);
	if (result == VK_SUCCESS)
		result = v->BindBufferMemory(v->device, v->staging, v->staging_memory, 0);
	if (result == VK_SUCCESS)
		result = v->MapMemory(v->device, v->staging_memory, 0, VK_WHOLE_SIZE, 0, &map);
	v->map = map;
	return result == VK_SUCCESS ? 0 : vulkan_fail(error, "vkMapMemory", result);
}

static int create_staging(struct vulkan *v, char *error)
{
	VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.size = READER_BYTES_MAX,
		.usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT,
	};
	VkResult result = v->CreateBuffer(v->device, &info, NULL, &v->staging);
	return result == VK_SUCCESS ? map_staging(v, error)
				    : vulkan_fail(error, "vkCreateBuffer", result);
}

static int create_commands(struct vulkan *v, char *error)
{
	VkCommandPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
		.queueFamilyIndex = v->family,
	};
	VkCommandBufferAllocateInfo commands = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandBufferCount = 1,
	};
	VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	VkResult result = v->CreateCommandPool(v->device, &pool, NULL, &v->pool);
	commands.commandPool = v->pool;
	if (result == VK_SUCCESS)
		result = v->AllocateCommandBuffers(v->device, &commands, &v->commands);
	if (result == VK_SUCCESS)
		result = v->CreateFence(v->device, &fence, NULL, &v->fence);
	return result == VK_SUCCESS ? 0 : vulkan_fail(error, "vkCreateCommandPool", result);
}

int vulkan_init(struct vulkan *v, const uint8_t *uuid, char *error)
{
	int r = open_library(v, error);
	if (r == 0)
		r = create_instance(v, error);
	if (r == 0)
		r = find_physical(v, uuid, error);
	if (r == 0)
		r = create_device(v, error);
	if (r == 0)
		r = create_staging(v, error);
	if (r == 0)
		r = create_commands(v, error);
	return r;
}

void vulkan_finish(struct vulkan *v)
{
	if (v->device && v->WaitForFences) { /* the last that is loaded */
		v->DestroyFence(v->device, v->fence, NULL);
		v->DestroyCommandPool(v->device, v->pool, NULL);
		v->DestroyBuffer(v->device, v->staging, NULL);
		v->FreeMemory(v->device, v->staging_memory, NULL);
		v->DestroyDevice(v->device, NULL);
	}
	if (v->instance && v->DestroyInstance)
		v->DestroyInstance(v->instance, NULL);
	if (v->library)
		dlclose(v->library);
}
