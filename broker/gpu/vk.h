/*
 * The functions of Vulkan that we use, in one table: opened at run time, so that a machine without
 * Vulkan runs the same program, and a test can put its own in.
 */
#pragma once

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

/* clang-format off */
#define VK_GLOBAL_FUNCTIONS(X) \
	X(EnumerateInstanceLayerProperties) X(CreateInstance)

#define VK_INSTANCE_FUNCTIONS(X) \
	X(CreateDevice) X(DestroyInstance) X(EnumerateDeviceExtensionProperties) \
	X(EnumeratePhysicalDevices) X(GetDeviceProcAddr) \
	X(GetPhysicalDeviceExternalBufferProperties) \
	X(GetPhysicalDeviceExternalSemaphoreProperties) X(GetPhysicalDeviceFeatures2) \
	X(GetPhysicalDeviceMemoryProperties2) X(GetPhysicalDeviceProperties2) \
	X(GetPhysicalDeviceQueueFamilyProperties)

#define VK_DEVICE_FUNCTIONS(X) \
	X(AllocateCommandBuffers) X(AllocateMemory) X(BeginCommandBuffer) X(BindBufferMemory) \
	X(CmdBindPipeline) X(CmdCopyBuffer) X(CmdDispatch) X(CmdFillBuffer) \
	X(CmdPipelineBarrier) X(CmdPushConstants) X(CreateBuffer) X(CreateCommandPool) \
	X(CreateComputePipelines) X(CreatePipelineLayout) X(CreateSemaphore) \
	X(CreateShaderModule) X(DestroyBuffer) X(DestroyCommandPool) X(DestroyDevice) \
	X(DestroyPipeline) X(DestroyPipelineLayout) X(DestroySemaphore) X(DestroyShaderModule) \
	X(DeviceWaitIdle) X(EndCommandBuffer) X(FreeCommandBuffers) X(FreeMemory) \
	X(GetBufferDeviceAddress) X(GetBufferMemoryRequirements) X(GetDeviceQueue) \
	X(GetMemoryFdKHR) X(GetSemaphoreCounterValue) X(MapMemory) X(QueueSubmit) X(WaitSemaphores)

/* NULL where the extension is not there */
#define VK_OPTIONAL_FUNCTIONS(X) \
	X(CreateDebugUtilsMessengerEXT) X(DestroyDebugUtilsMessengerEXT) \
	X(GetMemoryHostPointerPropertiesEXT) X(GetSemaphoreFdKHR)

#define VK_FUNCTIONS(X) \
	VK_GLOBAL_FUNCTIONS(X) VK_INSTANCE_FUNCTIONS(X) VK_DEVICE_FUNCTIONS(X) \
	VK_OPTIONAL_FUNCTIONS(X)
/* clang-format on */

struct vk {
	void *library; /* dlopen() */
	PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define VK_MEMBER(name) PFN_vk##name name;
	VK_FUNCTIONS(VK_MEMBER)
#undef VK_MEMBER
	VkInstance instance;
	VkPhysicalDevice physical;
	VkDevice device;
};

/* Open libvulkan.so.1. 0; -ENOENT: there is none, or it lacks a function. */
int vk_open(struct vk *vk);

/* Fill in the rest, once vk->instance and once vk->device is there. 0 or -ENOENT. */
int vk_load_instance(struct vk *vk);
int vk_load_device(struct vk *vk);

/* Destroys device and instance too. Harmless on a zeroed one, and a second time. */
void vk_close(struct vk *vk);

/* "VK_ERROR_DEVICE_LOST"; a number for what has no name here. Lives until the next call. */
const char *vk_result_name(VkResult result);

/* Negative errno; 0 for what is no error. */
int vk_errno(VkResult result);

/*
 * VK_RAW(vk, Name, arguments...): call a function that returns a VkResult. All are called so, for
 * the faults that tests plant.
 */
#ifdef SLUICE_FAULTS
enum vk_function {
#define VK_MEMBER(name) VK_FN_##name,
	VK_FUNCTIONS(VK_MEMBER)
#undef VK_MEMBER
		VK_FN_MAX,
};

/* VK_SUCCESS, or what this call of the function is to fail with. Thread-safe. */
VkResult vk_fault(enum vk_function function);

#define VK_RAW(vk, name, ...)                                            \
	({                                                               \
		VkResult fault_ = vk_fault(VK_FN_##name);                \
		fault_ == VK_SUCCESS ? (vk)->name(__VA_ARGS__) : fault_; \
	})

/* Drivers keep some memory for ever, which LeakSanitizer cannot know once they are unloaded: keep all
 * libraries that are loaded now. */
void vk_keep_loaded(void);

/* Test: called when an instance's part of the table is complete, and when all of it is, to put other
 * functions in. */
extern void (*gpu_test_instance_hook)(struct vk *vk);
extern void (*gpu_test_hook)(struct vk *vk);
#else
#define VK_RAW(vk, name, ...) ((vk)->name(__VA_ARGS__))
#endif
