#include "tests/exported_memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

#include "tests/test.h"

struct exported_memory {
	VkInstance instance;
	VkPhysicalDevice gpu;
	VkDevice device;
	VkDeviceMemory memory;
	void *bytes;
	uint8_t uuid[VK_UUID_SIZE];
};

static void create_instance(struct exported_memory *m)
{
	const VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.apiVersion = VK_API_VERSION_1_1 };
	const VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app };
	uint32_t n = 1;
	if (vkCreateInstance(&info, NULL, &m->instance) != VK_SUCCESS ||
		vkEnumeratePhysicalDevices(m->instance, &n, &m->gpu) < 0 || n == 0)
		test_skip("no Vulkan device; install mesa-vulkan-drivers");
	VkPhysicalDeviceIDProperties id = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id
	};
	vkGetPhysicalDeviceProperties2(m->gpu, &properties);
	memcpy(m->uuid, id.deviceUUID, sizeof(m->uuid));
}

/* Whichever version of Mesa, or GPU, it is. */
static void name_to_cuda(const uint8_t uuid[VK_UUID_SIZE])
{
	char text[2 * VK_UUID_SIZE + 1];
	for (unsigned i = 0; i < VK_UUID_SIZE; i++)
		sprintf(text + 2 * i, "%02x", uuid[i]);
	setenv("FAKE_CUDA_DEVICES", text, 0);
}

static void create_device(struct exported_memory *m)
{
	const float priority = 1;
	const VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueCount = 1,
		.pQueuePriorities = &priority };
	const char *const extension = VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME;
	const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.enabledExtensionCount = 1,
		.ppEnabledExtensionNames = &extension };
	CHECK_EQ(vkCreateDevice(m->gpu, &info, NULL, &m->device), VK_SUCCESS);
}

/* What lavapipe keeps for its next device is found by leak checkers only while it is loaded. */
static void keep_driver(void)
{
	void *driver = dlopen("libvulkan_lvp.so", RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
	if (driver)
		dlclose(driver);
}

static void allocate(struct exported_memory *m, size_t size)
{
	const VkExportMemoryAllocateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT
	};
	const VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &export,
		.allocationSize = size };
	CHECK_EQ(vkAllocateMemory(m->device, &info, NULL, &m->memory), VK_SUCCESS);
	CHECK_EQ(vkMapMemory(m->device, m->memory, 0, VK_WHOLE_SIZE, 0, &m->bytes), VK_SUCCESS);
}

struct exported_memory *exported_memory_create(size_t size)
{
	struct exported_memory *m = calloc(1, sizeof(*m));
	CHECK(m);
	create_instance(m);
	name_to_cuda(m->uuid);
	create_device(m);
	keep_driver();
	allocate(m, size);
	return m;
}

struct exported_memory *exported_memory_destroy(struct exported_memory *memory)
{
	if (!memory)
		return NULL;
	vkFreeMemory(memory->device, memory->memory, NULL);
	vkDestroyDevice(memory->device, NULL);
	vkDestroyInstance(memory->instance, NULL);
	free(memory);
	return NULL;
}

int exported_memory_fd(const struct exported_memory *memory)
{
	PFN_vkGetMemoryFdKHR get =
		(PFN_vkGetMemoryFdKHR)vkGetDeviceProcAddr(memory->device, "vkGetMemoryFdKHR");
	const VkMemoryGetFdInfoKHR info = { .sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
		.memory = memory->memory,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT };
	int fd = -1;
	CHECK(get && get(memory->device, &info, &fd) == VK_SUCCESS);
	return fd;
}

unsigned char *exported_memory_bytes(const struct exported_memory *memory)
{
	return memory->bytes;
}

const uint8_t *exported_memory_device_uuid(const struct exported_memory *memory)
{
	return memory->uuid;
}
