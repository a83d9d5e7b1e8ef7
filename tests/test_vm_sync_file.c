/*
 * What the tests of sync-fd stand on: fences that are pending, and a driver that takes and gives
 * sync_files. Runs in the guest of scripts/test-vm; elsewhere it skips what is not there.
 */
#include <errno.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vulkan/vulkan.h>

#include "common/fd.h"
#include "tests/test.h"
#include "tests/vgem.h"

static struct vgem_fence *pending_fence(int *sync_file_out)
{
	struct vgem_fence *fence;
	int r = vgem_fence_create(&fence, sync_file_out);
	if (r == -ENODEV)
		vm_lacks("vgem");
	CHECK_EQ(r, 0);
	return fence;
}

/* Whether it is signalled within that time. */
static bool signalled(int sync_file, int timeout_ms)
{
	struct pollfd pfd = { .fd = sync_file, .events = POLLIN };
	int r = poll(&pfd, 1, timeout_ms);
	CHECK(r >= 0);
	return r == 1 && pfd.revents == POLLIN;
}

/* 1: signalled, 0: pending, negative: signalled with an error. Fails if it is no sync_file. */
static int sync_file_status(int fd)
{
	struct sync_file_info info = { .num_fences = 0 };
	CHECK(ioctl(fd, SYNC_IOC_FILE_INFO, &info) == 0);
	return info.status;
}

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Signal it from another process, as a broker would, after that time. */
static pid_t signal_later(struct vgem_fence *fence, int delay_ms)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		poll(NULL, 0, delay_ms);
		_exit(vgem_fence_signal(fence) == 0 ? 0 : 1);
	}
	return pid;
}

static bool succeeded(pid_t pid)
{
	int status;
	return waitpid(pid, &status, 0) == pid && status == 0;
}

TEST(a_fence_is_pending_until_it_is_signalled)
{
	_cleanup_fd_ int sync_file = -EBADF;
	_cleanup_(vgem_fence_destroyp) struct vgem_fence *fence = pending_fence(&sync_file);

	CHECK(!signalled(sync_file, 100));
	CHECK_EQ(sync_file_status(sync_file), 0);
	CHECK_EQ(vgem_fence_signal(fence), 0);
	CHECK(signalled(sync_file, 0));
	CHECK_EQ(sync_file_status(sync_file), 1);
	CHECK_EQ(vgem_fence_signal(fence), -ETIMEDOUT);
}

TEST(a_signal_wakes_a_poll_in_another_process)
{
	_cleanup_fd_ int sync_file = -EBADF;
	_cleanup_(vgem_fence_destroyp) struct vgem_fence *fence = pending_fence(&sync_file);

	double began = now_ms();
	pid_t pid = signal_later(fence, 200);
	CHECK(signalled(sync_file, 5000));
	CHECK(now_ms() - began >= 200);
	CHECK(succeeded(pid));
}

TEST(fences_do_not_signal_each_other)
{
	_cleanup_fd_ int first_file = -EBADF;
	_cleanup_fd_ int second_file = -EBADF;
	_cleanup_(vgem_fence_destroyp) struct vgem_fence *first = pending_fence(&first_file);
	_cleanup_(vgem_fence_destroyp) struct vgem_fence *second = pending_fence(&second_file);

	CHECK_EQ(vgem_fence_signal(second), 0);
	CHECK(signalled(second_file, 0));
	CHECK(!signalled(first_file, 50));
	CHECK_EQ(vgem_fence_signal(first), 0);
}

TEST(a_fence_that_is_destroyed_keeps_nobody_waiting)
{
	_cleanup_fd_ int sync_file = -EBADF;
	struct vgem_fence *fence = pending_fence(&sync_file);

	CHECK(!signalled(sync_file, 0));
	vgem_fence_destroy(fence);
	CHECK(signalled(sync_file, 1000));
}

/* A device that has what sync-fd needs, made and destroyed by each test. */
struct gpu {
	VkInstance instance;
	VkPhysicalDevice physical;
	VkDevice device;
	VkQueue queue;
	PFN_vkGetSemaphoreFdKHR get_semaphore_fd;
	PFN_vkImportSemaphoreFdKHR import_semaphore_fd;
};

static bool has_extension(VkPhysicalDevice physical, const char *name)
{
	VkExtensionProperties all[512];
	uint32_t n = sizeof(all) / sizeof(all[0]);
	CHECK(vkEnumerateDeviceExtensionProperties(physical, NULL, &n, all) == VK_SUCCESS);
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(all[i].extensionName, name) == 0)
			return true;
	return false;
}

static bool has_sync_fd(VkPhysicalDevice physical)
{
	VkPhysicalDeviceExternalSemaphoreInfo info = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	VkExternalSemaphoreProperties found = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES,
	};
	VkExternalSemaphoreFeatureFlags wanted = VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT |
						 VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT;

	if (!has_extension(physical, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME))
		return false;
	vkGetPhysicalDeviceExternalSemaphoreProperties(physical, &info, &found);
	return (found.externalSemaphoreFeatures & wanted) == wanted;
}

static void find_device(struct gpu *gpu)
{
	VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.apiVersion = VK_API_VERSION_1_1,
	};
	VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app,
	};
	VkPhysicalDevice all[8];
	uint32_t n = sizeof(all) / sizeof(all[0]);

	if (vkCreateInstance(&info, NULL, &gpu->instance) != VK_SUCCESS)
		vm_lacks("a Vulkan driver");
	CHECK(vkEnumeratePhysicalDevices(gpu->instance, &n, all) >= 0);
	for (uint32_t i = 0; i < n && !gpu->physical; i++)
		if (has_sync_fd(all[i]))
			gpu->physical = all[i];
	if (!gpu->physical)
		vm_lacks("a Vulkan device with SYNC_FD semaphores");
}

static struct gpu gpu_create(void)
{
	struct gpu gpu = { 0 };
	const char *extensions[] = { VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME };
	VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueCount = 1,
		.pQueuePriorities = &(float){ 1 },
	};
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.enabledExtensionCount = 1,
		.ppEnabledExtensionNames = extensions,
	};

	find_device(&gpu);
	CHECK(vkCreateDevice(gpu.physical, &info, NULL, &gpu.device) == VK_SUCCESS);
	vkGetDeviceQueue(gpu.device, 0, 0, &gpu.queue);
	gpu.get_semaphore_fd =
		(PFN_vkGetSemaphoreFdKHR)vkGetDeviceProcAddr(gpu.device, "vkGetSemaphoreFdKHR");
	gpu.import_semaphore_fd = (PFN_vkImportSemaphoreFdKHR)vkGetDeviceProcAddr(
		gpu.device, "vkImportSemaphoreFdKHR");
	CHECK(gpu.get_semaphore_fd && gpu.import_semaphore_fd);
	return gpu;
}

static void gpu_destroy(struct gpu *gpu)
{
	vkDestroyDevice(gpu->device, NULL);
	vkDestroyInstance(gpu->instance, NULL);
}

static VkSemaphore create_semaphore(const struct gpu *gpu)
{
	VkSemaphore semaphore;
	VkExportSemaphoreCreateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = &export,
	};
	CHECK(vkCreateSemaphore(gpu->device, &info, NULL, &semaphore) == VK_SUCCESS);
	return semaphore;
}

static int export_semaphore(const struct gpu *gpu, VkSemaphore semaphore)
{
	int fd = -EBADF;
	VkSemaphoreGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
		.semaphore = semaphore,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	CHECK(gpu->get_semaphore_fd(gpu->device, &info, &fd) == VK_SUCCESS);
	return fd;
}

/* Takes the descriptor. */
static VkSemaphore import_semaphore(const struct gpu *gpu, int *fd)
{
	VkSemaphore semaphore = create_semaphore(gpu);
	VkImportSemaphoreFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_SEMAPHORE_FD_INFO_KHR,
		.semaphore = semaphore,
		.flags = VK_SEMAPHORE_IMPORT_TEMPORARY_BIT,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
		.fd = *fd,
	};
	CHECK(gpu->import_semaphore_fd(gpu->device, &info) == VK_SUCCESS);
	fd_take(fd);
	return semaphore;
}

/* Work that does nothing, after one semaphore and before the other, either of which may be NULL. */
static void submit(const struct gpu *gpu, VkSemaphore wait, VkSemaphore signal)
{
	VkSubmitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.waitSemaphoreCount = wait ? 1 : 0,
		.pWaitSemaphores = &wait,
		.pWaitDstStageMask = &(VkPipelineStageFlags){ VK_PIPELINE_STAGE_ALL_COMMANDS_BIT },
		.signalSemaphoreCount = signal ? 1 : 0,
		.pSignalSemaphores = &signal,
	};
	CHECK(vkQueueSubmit(gpu->queue, 1, &info, VK_NULL_HANDLE) == VK_SUCCESS);
}

TEST(submitted_work_gives_a_sync_file_that_gets_signalled)
{
	struct gpu gpu = gpu_create();
	VkSemaphore done = create_semaphore(&gpu);

	submit(&gpu, VK_NULL_HANDLE, done);
	_cleanup_fd_ int sync_file = export_semaphore(&gpu, done);
	CHECK(signalled(sync_file, 5000));
	CHECK_EQ(sync_file_status(sync_file), 1);
	CHECK(vkQueueWaitIdle(gpu.queue) == VK_SUCCESS);
	vkDestroySemaphore(gpu.device, done, NULL);
	gpu_destroy(&gpu);
}

TEST(submitted_work_waits_for_a_sync_file_of_somebody_else)
{
	_cleanup_fd_ int sync_file = -EBADF;
	_cleanup_(vgem_fence_destroyp) struct vgem_fence *fence = pending_fence(&sync_file);
	struct gpu gpu = gpu_create();

	double began = now_ms();
	pid_t pid = signal_later(fence, 300);
	VkSemaphore ready = import_semaphore(&gpu, &sync_file);
	submit(&gpu, ready, VK_NULL_HANDLE);
	CHECK(vkQueueWaitIdle(gpu.queue) == VK_SUCCESS);
	CHECK(now_ms() - began >= 300);
	CHECK(succeeded(pid));
	vkDestroySemaphore(gpu.device, ready, NULL);
	gpu_destroy(&gpu);
}
