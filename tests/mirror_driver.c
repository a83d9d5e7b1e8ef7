#include "tests/mirror_driver.h"

#include <sys/eventfd.h>

#include "broker/gpu/device.h"
#include "tests/test.h"

struct mirror_driver mirror_driver;

static struct vk real;

/* A timeline that all work waits for while it is held. */
static struct gate {
	VkSemaphore semaphore;
	uint64_t value;
	PFN_vkSignalSemaphore signal;
} gate;

static void find_semaphore_properties(VkPhysicalDevice physical,
	const VkPhysicalDeviceExternalSemaphoreInfo *info, VkExternalSemaphoreProperties *out)
{
	out->externalSemaphoreFeatures =
		mirror_driver.exports_nothing ? 0 : VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT;
}

/* What chains an export gets a plain one. */
static VkResult create_semaphore(VkDevice device, const VkSemaphoreCreateInfo *info,
	const VkAllocationCallbacks *allocator, VkSemaphore *out)
{
	VkSemaphoreCreateInfo plain_info = *info;
	VkSemaphoreTypeCreateInfo plain_type;
	const VkSemaphoreTypeCreateInfo *type = info->pNext;
	if (type && type->sType == VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO) {
		plain_info.pNext = NULL;
	} else if (type) {
		plain_type = *type;
		plain_type.pNext = NULL;
		plain_info.pNext = &plain_type;
	}
	return real.CreateSemaphore(device, &plain_info, allocator, out);
}

/* A sync_file counts to its own number. */
static VkResult get_semaphore_fd(VkDevice device, const VkSemaphoreGetFdInfoKHR *info, int *out)
{
	bool is_sync = info->handleType == VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT;
	*out = eventfd(is_sync ? ++mirror_driver.n_sync_fds : 0, EFD_NONBLOCK);
	return VK_SUCCESS;
}

/* Nobody waits for the binary semaphore, and its export does not reset it: it is left out. */
static VkResult queue_submit(VkQueue queue, uint32_t n, const VkSubmitInfo *info, VkFence fence)
{
	static const VkPipelineStageFlags all = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
	VkSubmitInfo first = *info;
	const VkTimelineSemaphoreSubmitInfo *values = info->pNext;
	VkTimelineSemaphoreSubmitInfo first_values = *values;
	mirror_driver.n_submits++;
	if (values->pSignalSemaphoreValues[info->signalSemaphoreCount - 1] == 0)
		first_values.signalSemaphoreValueCount = --first.signalSemaphoreCount;
	if (mirror_driver.holds_work) {
		first.waitSemaphoreCount = first_values.waitSemaphoreValueCount = 1;
		first.pWaitSemaphores = &gate.semaphore;
		first_values.pWaitSemaphoreValues = &gate.value;
		first.pWaitDstStageMask = &all;
	}
	first.pNext = &first_values;
	VkResult result = real.QueueSubmit(queue, 1, &first, VK_NULL_HANDLE);
	return result < 0 || n == 1 ? result : real.QueueSubmit(queue, n - 1, info + 1, fence);
}

/* The loop's own waits have no limit: it would never come to open the gate. */
static VkResult wait_semaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
	if (timeout == UINT64_MAX)
		mirror_let_work_end();
	return real.WaitSemaphores(device, info, timeout);
}

static VkResult find_host_pointer(VkDevice device, VkExternalMemoryHandleTypeFlagBits type,
	const void *pointer, VkMemoryHostPointerPropertiesEXT *out)
{
	if (mirror_driver.refuses_imports)
		return VK_ERROR_INVALID_EXTERNAL_HANDLE;
	return real.GetMemoryHostPointerPropertiesEXT(device, type, pointer, out);
}

static VkResult map_memory(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
	VkDeviceSize size, VkMemoryMapFlags flags, void **out)
{
	mirror_driver.n_maps++;
	if (mirror_driver.refuses_maps)
		return VK_ERROR_MEMORY_MAP_FAILED;
	return real.MapMemory(device, memory, offset, size, flags, out);
}

static void destroy_device(VkDevice device, const VkAllocationCallbacks *allocator)
{
	real.DestroySemaphore(device, gate.semaphore, NULL);
	real.DestroyDevice(device, allocator);
}

static void build_gate(void)
{
	VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
	};
	VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = &type,
	};
	gate = (struct gate){ .signal = (PFN_vkSignalSemaphore)real.GetDeviceProcAddr(
				      real.device, "vkSignalSemaphore") };
	CHECK(gate.signal != NULL);
	CHECK_EQ(real.CreateSemaphore(real.device, &info, NULL, &gate.semaphore), VK_SUCCESS);
}

static void play_driver(struct vk *vk)
{
	real = *vk;
	vk->GetPhysicalDeviceExternalSemaphoreProperties = find_semaphore_properties;
	vk->CreateSemaphore = create_semaphore;
	vk->GetSemaphoreFdKHR = get_semaphore_fd;
	vk->QueueSubmit = queue_submit;
	vk->WaitSemaphores = wait_semaphores;
	vk->MapMemory = map_memory;
	vk->DestroyDevice = destroy_device;
	if (real.GetMemoryHostPointerPropertiesEXT)
		vk->GetMemoryHostPointerPropertiesEXT = find_host_pointer;
	build_gate();
}

static void signal(VkSemaphore semaphore, uint64_t value)
{
	VkSemaphoreSignalInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
		.semaphore = semaphore,
		.value = value,
	};
	CHECK_EQ(gate.signal(real.device, &info), VK_SUCCESS);
}

void mirror_hold_work(void)
{
	CHECK(!mirror_driver.holds_work);
	gate.value++;
	mirror_driver.holds_work = true;
}

void mirror_let_work_end(void)
{
	if (!mirror_driver.holds_work)
		return;
	mirror_driver.holds_work = false;
	signal(gate.semaphore, gate.value);
}

void mirror_signal(struct gpu_timeline *timeline, uint64_t value)
{
	signal(timeline->semaphore, value);
}

void mirror_driver_play(void)
{
	gpu_test_hook = play_driver;
}
