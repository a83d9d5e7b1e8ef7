/* The instance: the loader, and the validation layer in tests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/gpu/device.h"
#include "common/log.h"

static const char validation_layer[] = "VK_LAYER_KHRONOS_validation";

/* What the layer calls an error is a mistake of ours: it must not pass a test. */
static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
	VkDebugUtilsMessageTypeFlagsEXT types, const VkDebugUtilsMessengerCallbackDataEXT *message,
	void *data)
{
	(void)severity;
	(void)types;
	(void)data;
	log_error("Vulkan: %s", message->pMessage);
	abort();
}

static const VkDebugUtilsMessengerCreateInfoEXT messenger_info = {
	.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
	.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
	.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
	.pfnUserCallback = on_message,
};

static bool has_validation(struct gpu *gpu)
{
	VkLayerProperties layers[64];
	uint32_t n = sizeof(layers) / sizeof(layers[0]);
	if (VK_RAW(&gpu->vk, EnumerateInstanceLayerProperties, &n, layers) < 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(layers[i].layerName, validation_layer) == 0)
			return true;
	return false;
}

int instance_open(struct gpu *gpu, bool validation)
{
	struct vk *vk = &gpu->vk;
	if (vk_open(vk) < 0)
		return gpu_fail(gpu, -ENOENT,
			"there is no Vulkan on this machine: libvulkan.so.1 cannot be opened");
	if (validation && !has_validation(gpu))
		return gpu_fail(gpu, -ENOENT,
			"%s is not installed (Debian's package vulkan-validationlayers)",
			validation_layer);
	const char *layers[] = { validation_layer };
	const char *extensions[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME };
	VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.pApplicationName = "sluice-broker",
		.apiVersion = VK_API_VERSION_1_2,
	};
	VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pNext = validation ? &messenger_info : NULL,
		.pApplicationInfo = &app,
		.enabledLayerCount = validation,
		.ppEnabledLayerNames = layers,
		.enabledExtensionCount = validation,
		.ppEnabledExtensionNames = extensions,
	};
	int r = VK(gpu, CreateInstance, &info, NULL, &vk->instance);
	if (r < 0)
		return r;
	if (vk_load_instance(vk) < 0)
		return gpu_fail(gpu, -ENOENT, "this machine's Vulkan lacks functions of 1.1");
	if (!validation)
		return 0;
	return VK(gpu, CreateDebugUtilsMessengerEXT, vk->instance, &messenger_info, NULL,
		&gpu->messenger);
}

void instance_close(struct gpu *gpu)
{
	struct vk *vk = &gpu->vk;
	/* after the device: the layer reports what was left when that is destroyed */
	if (vk->device)
		vk->DestroyDevice(vk->device, NULL);
	vk->device = VK_NULL_HANDLE;
	if (gpu->messenger)
		vk->DestroyDebugUtilsMessengerEXT(vk->instance, gpu->messenger, NULL);
	vk_close(vk);
}
