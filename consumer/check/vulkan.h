/* A Vulkan device of this process, with what is needed to copy a few rows out of a buffer. */
#pragma once

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "consumer/check/reader.h"

#define VULKAN_INSTANCE_FUNCTIONS(X)          \
	X(CreateDevice)                       \
	X(DestroyInstance)                    \
	X(EnumerateDeviceExtensionProperties) \
	X(EnumeratePhysicalDevices)           \
	X(GetDeviceProcAddr)                  \
	X(GetPhysicalDeviceMemoryProperties)  \
	X(GetPhysicalDeviceProperties2)       \
	X(GetPhysicalDeviceQueueFamilyProperties)

#define VULKAN_DEVICE_FUNCTIONS(X)     \
	X(AllocateCommandBuffers)      \
	X(AllocateMemory)              \
	X(BeginCommandBuffer)          \
	X(BindBufferMemory)            \
	X(CmdCopyBuffer)               \
	X(CmdPipelineBarrier)          \
	X(CreateBuffer)                \
	X(CreateCommandPool)           \
	X(CreateFence)                 \
	X(DestroyBuffer)               \
	X(DestroyCommandPool)          \
	X(DestroyDevice)               \
	X(DestroyFence)                \
	X(EndCommandBuffer)            \
	X(FreeMemory)                  \
	X(GetBufferMemoryRequirements) \
	X(GetDeviceQueue)              \
	X(GetFenceStatus)              \
	X(MapMemory)                   \
	X(QueueSubmit)                 \
	X(ResetFences)                 \
	X(WaitForFences)

struct vulkan {
	void *library;
	VkInstance instance;
	VkPhysicalDevice physical;
	VkDevice device;
	uint32_t family; /* of the queue */
	VkQueue queue;
	VkCommandPool pool;
	VkCommandBuffer commands;
	VkFence fence;
	VkBuffer staging; /* READER_BYTES_MAX, mapped */
	VkDeviceMemory staging_memory;
	uint8_t *map;
	PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define X(name) PFN_vk##name name;
	VULKAN_INSTANCE_FUNCTIONS(X)
	VULKAN_DEVICE_FUNCTIONS(X)
#undef X
};

/* "vkQueueSubmit: VkResult -4". Returns -EIO. */
int vulkan_fail(char *error, const char *call, VkResult result);

/**
 * Open the device with this UUID.
 *
 * vulkan  zeroed; finished in every outcome
 * uuid    [borrow] 16 bytes
 * error   READER_TEXT_MAX bytes: a sentence, if not 0
 *
 * 0, or -ENOENT: no Vulkan, or no such device; -EIO.
 */
int vulkan_init(struct vulkan *vulkan, const uint8_t *uuid, char *error);

/* What vulkan_init() has left half done too. */
void vulkan_finish(struct vulkan *vulkan);
