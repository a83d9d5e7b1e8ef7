/*
 * vulkan_uuid: the UUIDs of this machine's Vulkan devices, a line each, as FAKE_CUDA_DEVICES wants them.
 * For scripts, which cannot know which version of Mesa there is. Exit status: 0, or 77: there is none.
 */
#include <stdio.h>
#include <vulkan/vulkan.h>

#include "common/uuid.h"

enum { EXIT_SKIP = 77, DEVICES_MAX = 16 };

static void print_uuid(VkPhysicalDevice device)
{
	VkPhysicalDeviceIDProperties id = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &id,
	};
	vkGetPhysicalDeviceProperties2(device, &properties);
	char text[UUID_TEXT_SIZE];
	puts(uuid_text(id.deviceUUID, text));
}

int main(void)
{
	VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.apiVersion = VK_API_VERSION_1_1,
	};
	VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app,
	};
	VkInstance instance;
	VkPhysicalDevice devices[DEVICES_MAX];
	uint32_t n = DEVICES_MAX;
	if (vkCreateInstance(&info, NULL, &instance) != VK_SUCCESS)
		return EXIT_SKIP;
	if (vkEnumeratePhysicalDevices(instance, &n, devices) < 0)
		n = 0;
	for (uint32_t i = 0; i < n; i++)
		print_uuid(devices[i]);
	vkDestroyInstance(instance, NULL);
	return n > 0 ? 0 : EXIT_SKIP;
}
