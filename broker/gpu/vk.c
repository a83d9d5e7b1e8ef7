#include "broker/gpu/vk.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

int vk_open(struct vk *vk)
{
	vk->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!vk->library)
		return -ENOENT;
	vk->GetInstanceProcAddr =
		(PFN_vkGetInstanceProcAddr)dlsym(vk->library, "vkGetInstanceProcAddr");
	if (!vk->GetInstanceProcAddr)
		return -ENOENT;
#define LOAD(name)                                                                    \
	vk->name = (PFN_vk##name)vk->GetInstanceProcAddr(VK_NULL_HANDLE, "vk" #name); \
	if (!vk->name)                                                                \
		return -ENOENT;
	VK_GLOBAL_FUNCTIONS(LOAD)
#undef LOAD
	return 0;
}

int vk_load_instance(struct vk *vk)
{
#define LOAD(name) vk->name = (PFN_vk##name)vk->GetInstanceProcAddr(vk->instance, "vk" #name);
	VK_INSTANCE_FUNCTIONS(LOAD)
	LOAD(CreateDebugUtilsMessengerEXT)
	LOAD(DestroyDebugUtilsMessengerEXT)
#undef LOAD
	/* all but the last two are of Vulkan 1.1 */
#define MISSING(name) || !vk->name
	return 0 VK_INSTANCE_FUNCTIONS(MISSING) ? -ENOENT : 0;
#undef MISSING
}

int vk_load_device(struct vk *vk)
{
#define LOAD(name) vk->name = (PFN_vk##name)vk->GetDeviceProcAddr(vk->device, "vk" #name);
	VK_DEVICE_FUNCTIONS(LOAD)
	LOAD(GetMemoryHostPointerPropertiesEXT)
	LOAD(GetSemaphoreFdKHR)
#undef LOAD
#define MISSING(name) || !vk->name
	return 0 VK_DEVICE_FUNCTIONS(MISSING) ? -ENOENT : 0;
#undef MISSING
}

void vk_close(struct vk *vk)
{
	if (vk->device && vk->DestroyDevice)
		vk->DestroyDevice(vk->device, NULL);
	vk->device = VK_NULL_HANDLE;
	if (vk->instance && vk->DestroyInstance)
		vk->DestroyInstance(vk->instance, NULL);
	vk->instance = VK_NULL_HANDLE;
	if (vk->library)
		dlclose(vk->library);
	vk->library = NULL;
}

const char *vk_result_name(VkResult result)
{
	static char number[32];
	switch (result) {
#define NAME(r) \
	case r: \
		return #r;
		NAME(VK_SUCCESS)
		NAME(VK_NOT_READY)
		NAME(VK_TIMEOUT)
		NAME(VK_INCOMPLETE)
		NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
		NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
		NAME(VK_ERROR_INITIALIZATION_FAILED)
		NAME(VK_ERROR_DEVICE_LOST)
		NAME(VK_ERROR_MEMORY_MAP_FAILED)
		NAME(VK_ERROR_LAYER_NOT_PRESENT)
		NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
		NAME(VK_ERROR_FEATURE_NOT_PRESENT)
		NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
		NAME(VK_ERROR_TOO_MANY_OBJECTS)
		NAME(VK_ERROR_FORMAT_NOT_SUPPORTED)
		NAME(VK_ERROR_FRAGMENTED_POOL)
		NAME(VK_ERROR_UNKNOWN)
		NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
		NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE)
		NAME(VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS)
		NAME(VK_ERROR_NOT_PERMITTED_KHR)
#undef NAME
	default:
		snprintf(number, sizeof(number), "VkResult %d", (int)result);
		return number;
	}
}

int vk_errno(VkResult result)
{
	switch (result) {
	case VK_ERROR_OUT_OF_HOST_MEMORY:
	case VK_ERROR_OUT_OF_DEVICE_MEMORY:
	case VK_ERROR_OUT_OF_POOL_MEMORY:
	case VK_ERROR_TOO_MANY_OBJECTS:
		return -ENOMEM;
	case VK_ERROR_DEVICE_LOST:
		return -ENODEV;
	case VK_ERROR_LAYER_NOT_PRESENT:
	case VK_ERROR_INCOMPATIBLE_DRIVER:
		return -ENOENT;
	case VK_ERROR_EXTENSION_NOT_PRESENT:
	case VK_ERROR_FEATURE_NOT_PRESENT:
	case VK_ERROR_FORMAT_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	default:
		return result < 0 ? -EIO : 0;
	}
}
