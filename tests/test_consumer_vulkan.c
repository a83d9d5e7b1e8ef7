/*
 * libsluice's frames in a VkDevice of the caller: on lavapipe, or whatever device there is. Timelines
 * cannot be imported there, so one of the device's own takes the place of the broker's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <vulkan/vulkan.h>

#include "tests/consumer_fixture.h"
#include "tests/fake_gpu.h"
#include "tests/fake_timeline.h"

static const Sluice__Readiness complete = SLUICE__READINESS__READINESS_COMPLETE;
static const Sluice__Readiness timeline = SLUICE__READINESS__READINESS_TIMELINE;

static struct fake_gpu gpu;
static struct fake_memory memory, newer;

/* --- The caller's Vulkan ----------------------------------------------------------------------*/

static struct {
	VkInstance instance;
	VkPhysicalDevice physical;
	VkDevice device;
	VkQueue queue;
	VkCommandPool pool;
	VkCommandBuffer commands;
	VkBuffer staging;
	VkDeviceMemory staging_memory;
	uint8_t *staged;
} vk;

static void create_instance(void)
{
	VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.apiVersion = VK_API_VERSION_1_2,
	};
	VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app,
	};
	uint32_t n = 1;
	if (vkCreateInstance(&info, NULL, &vk.instance) != VK_SUCCESS ||
		vkEnumeratePhysicalDevices(vk.instance, &n, &vk.physical) < 0 || n == 0)
		test_skip("no Vulkan device; install mesa-vulkan-drivers");
	/* it stays loaded: a leak checker looks for what it keeps */
	void *driver = dlopen("libvulkan_lvp.so", RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
	if (driver)
		dlclose(driver);
}

static void create_device(unsigned n_extensions)
{
	static const char *const extensions[] = { VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME };
	float priority = 1;
	VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueCount = 1,
		.pQueuePriorities = &priority,
	};
	VkPhysicalDeviceTimelineSemaphoreFeatures features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
		.timelineSemaphore = VK_TRUE,
	};
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.pNext = &features,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.enabledExtensionCount = n_extensions,
		.ppEnabledExtensionNames = extensions,
	};
	CHECK_EQ(vkCreateDevice(vk.physical, &info, NULL, &vk.device), VK_SUCCESS);
	vkGetDeviceQueue(vk.device, 0, 0, &vk.queue);
}

/* A buffer that the CPU can read. */
static void create_staging(void)
{
	VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.size = 64,
		.usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT,
	};
	VkMemoryAllocateInfo memory_info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.allocationSize = 64,
	};
	void *map;
	CHECK_EQ(vkCreateBuffer(vk.device, &info, NULL, &vk.staging), VK_SUCCESS);
	CHECK_EQ(vkAllocateMemory(vk.device, &memory_info, NULL, &vk.staging_memory), VK_SUCCESS);
	CHECK_EQ(vkBindBufferMemory(vk.device, vk.staging, vk.staging_memory, 0), VK_SUCCESS);
	CHECK_EQ(vkMapMemory(vk.device, vk.staging_memory, 0, 64, 0, &map), VK_SUCCESS);
	vk.staged = map;
	VkCommandPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
	};
	CHECK_EQ(vkCreateCommandPool(vk.device, &pool, NULL, &vk.pool), VK_SUCCESS);
	VkCommandBufferAllocateInfo commands = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = vk.pool,
		.commandBufferCount = 1,
	};
	CHECK_EQ(vkAllocateCommandBuffers(vk.device, &commands, &vk.commands), VK_SUCCESS);
}

/* The driver UUID is the broker's, too. */
static void begin_vulkan(void)
{
	create_instance();
	create_device(1);
	create_staging();
	fake_gpu_init(&gpu);
	VkPhysicalDeviceIDProperties id = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &id,
	};
	vkGetPhysicalDeviceProperties2(vk.physical, &properties);
	memcpy(gpu.driver_uuid, id.driverUUID, sizeof(gpu.driver_uuid));
}

static int n_memories, n_buffers; /* that libsluice has */

static void end_vulkan(void)
{
	CHECK(n_memories == 0 && n_buffers == 0);
	fake_gpu_finish(&gpu);
	vkDestroyCommandPool(vk.device, vk.pool, NULL);
	vkDestroyBuffer(vk.device, vk.staging, NULL);
	vkFreeMemory(vk.device, vk.staging_memory, NULL);
	vkDestroyDevice(vk.device, NULL);
	vkDestroyInstance(vk.instance, NULL);
}

/* As the header has them. */
union handle {
	uint64_t number;
	VkBuffer buffer;
	VkSemaphore semaphore;
};

static int first_byte(const struct sluice_frame *frame)
{
	VkBuffer buffer = (union handle){ .number = frame->vulkan.buffer }.buffer;
	VkBufferCopy region = { .srcOffset = frame->vulkan.buffer_offset, .size = 4 };
	VkCommandBufferBeginInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
	};
	VkSubmitInfo submit = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.commandBufferCount = 1,
		.pCommandBuffers = &vk.commands,
	};
	CHECK_EQ(vkBeginCommandBuffer(vk.commands, &info), VK_SUCCESS);
	vkCmdCopyBuffer(vk.commands, buffer, vk.staging, 1, &region);
	CHECK_EQ(vkEndCommandBuffer(vk.commands), VK_SUCCESS);
	CHECK_EQ(vkQueueSubmit(vk.queue, 1, &submit, VK_NULL_HANDLE), VK_SUCCESS);
	CHECK_EQ(vkQueueWaitIdle(vk.queue), VK_SUCCESS);
	return vk.staged[0];
}

/* --- What libsluice finds in it: counted, and with timelines if there are to be some ----------*/

static bool has_timelines;
/* By the rule: then the descriptor stays the caller's. */
static bool memories_fail, semaphores_fail;

static VkResult VKAPI_CALL import_semaphore(VkDevice device, const VkImportSemaphoreFdInfoKHR *info)
{
	uint64_t value;
	if (semaphores_fail)
		return VK_ERROR_INVALID_EXTERNAL_HANDLE;
	CHECK(device == vk.device && info->flags == 0);
	CHECK_EQ(info->handleType, VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT);
	CHECK_EQ(fake_timeline_read(info->fd, &value), 0);
	close(info->fd);
	return VK_SUCCESS;
}

static VkResult VKAPI_CALL allocate(VkDevice device, const VkMemoryAllocateInfo *info,
	const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory_out)
{
	if (memories_fail)
		return VK_ERROR_OUT_OF_DEVICE_MEMORY;
	VkResult r = vkAllocateMemory(device, info, callbacks, memory_out);
	n_memories += r == VK_SUCCESS;
	return r;
}

static void VKAPI_CALL free_memory(
	VkDevice device, VkDeviceMemory freed, const VkAllocationCallbacks *callbacks)
{
	n_memories -= freed != VK_NULL_HANDLE;
	vkFreeMemory(device, freed, callbacks);
}

static VkResult VKAPI_CALL create_buffer(VkDevice device, const VkBufferCreateInfo *info,
	const VkAllocationCallbacks *callbacks, VkBuffer *buffer_out)
{
	VkResult r = vkCreateBuffer(device, info, callbacks, buffer_out);
	n_buffers += r == VK_SUCCESS;
	return r;
}

static void VKAPI_CALL destroy_buffer(
	VkDevice device, VkBuffer buffer, const VkAllocationCallbacks *callbacks)
{
	n_buffers -= buffer != VK_NULL_HANDLE;
	vkDestroyBuffer(device, buffer, callbacks);
}

static PFN_vkVoidFunction VKAPI_CALL find_in_device(VkDevice device, const char *name)
{
	static const struct {
		const char *name;
		PFN_vkVoidFunction fn;
	} ours[] = {
		{ "vkAllocateMemory", (PFN_vkVoidFunction)allocate },
		{ "vkCreateBuffer", (PFN_vkVoidFunction)create_buffer },
		{ "vkDestroyBuffer", (PFN_vkVoidFunction)destroy_buffer },
		{ "vkFreeMemory", (PFN_vkVoidFunction)free_memory },
		{ "vkImportSemaphoreFdKHR", (PFN_vkVoidFunction)import_semaphore },
	};
	for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]) - !has_timelines; i++)
		if (strcmp(name, ours[i].name) == 0)
			return ours[i].fn;
	return vkGetDeviceProcAddr(device, name);
}

static PFN_vkVoidFunction find_in_instance(void *instance, const char *name)
{
	if (strcmp(name, "vkGetDeviceProcAddr") == 0)
		return (PFN_vkVoidFunction)find_in_device;
	return vkGetInstanceProcAddr(instance, name);
}

static struct sluice_vulkan given(void)
{
	return (struct sluice_vulkan){
		.instance = vk.instance,
		.physical_device = vk.physical,
		.device = vk.device,
		.get_instance_proc_addr = find_in_instance,
	};
}

/* sluice_subscribe()'s result. The struct that is given ends with the call. */
static int subscribe_with(struct session *s, fake_script script, enum sluice_readiness readiness,
	struct sluice_vulkan handles)
{
	struct sluice_view_request request = {
		.memory = SLUICE_MEMORY_VULKAN,
		.readiness = readiness,
		.vulkan = &handles,
	};
	fake_start(&s->fake, script, NULL);
	struct sluice_options options = { .socket = s->fake.address.sun_path };
	CHECK_EQ(sluice_connect(&s->conn, &options), 0);
	return sluice_subscribe(s->conn, "desktop", &request, &s->view);
}

static int subscribe(struct session *s, fake_script script, enum sluice_readiness readiness)
{
	return subscribe_with(s, script, readiness, given());
}

/* --- Frames -----------------------------------------------------------------------------------*/

static void script_generations(struct fake *fake)
{
	enum { GENERATIONS = 50 };
	fake_welcome(fake, 1);
	const Sluice__Subscribe *ask = fake_gpu_granted(fake, &gpu, 2, complete);
	CHECK_EQ(ask->n_device_uuids, 1);
	CHECK(memcmp(ask->device_uuids[0].data, gpu.device.uuid.data, 16) == 0);
	for (unsigned i = 1; i <= GENERATIONS; i++) {
		struct fake_memory *m = i % 2 ? &memory : &newer;
		fake_gpu_memory_init(m, &gpu, i, i, complete);
		fake_bind(fake, m);
		fake_frame(fake, m, 3, i);
		fake_released(fake, m, 3, i);
		fake_gpu_memory_finish(m);
	}
	fake_expect_end(fake);
}

static void read_frames(struct sluice_vulkan handles)
{
	struct session s;
	CHECK_EQ(subscribe_with(&s, script_generations, SLUICE_COMPLETE, handles), 0);
	CHECK(sluice_view_memory(s.view) == SLUICE_MEMORY_VULKAN);
	for (unsigned i = 1; i <= 50; i++) {
		struct sluice_frame *frame = next(&s);
		CHECK(frame->memory == SLUICE_MEMORY_VULKAN && !frame->data[0]);
		CHECK(frame->vulkan.buffer != 0 && frame->vulkan.buffer_offset == 0);
		CHECK(frame->vulkan.semaphore == 0 && frame->cuda.ptr == 0);
		CHECK_EQ(first_byte(frame), i + 3);
		CHECK_EQ(sluice_frame_wait_in(frame, NULL), -EOPNOTSUPP);
		CHECK(sluice_frame_valid(frame));
		sluice_frame_release(frame);
	}
	end(&s);
}

TEST(a_frame_is_a_buffer_of_the_callers_device)
{
	begin_vulkan();
	read_frames(given());
	end_vulkan();
}

TEST(the_loader_is_found_where_none_is_given)
{
	begin_vulkan();
	struct sluice_vulkan handles = given();
	handles.get_instance_proc_addr = NULL;
	read_frames(handles);
	end_vulkan();
}

/* --- Refusals ---------------------------------------------------------------------------------*/

static void script_left(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
}

TEST(a_device_of_another_gpu_or_driver_is_refused)
{
	struct session s;
	static uint8_t other[16] = { 0xab };
	begin_vulkan();
	gpu.driver_uuid[0] ^= 1;
	CHECK_EQ(subscribe(&s, script_left, SLUICE_COMPLETE), -ENODEV);
	CHECK(strstr(sluice_error(s.conn), "of another driver"));
	end(&s);
	gpu.driver_uuid[0] ^= 1;
	gpu.device.uuid.data = other;
	CHECK_EQ(subscribe(&s, script_left, SLUICE_COMPLETE), -ENODEV);
	CHECK(strstr(sluice_error(s.conn), "the broker's GPU (ab000000-"));
	end(&s);
	end_vulkan();
}

static void expect_no_word(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect_end(fake);
}

TEST(handles_that_are_missing_are_the_callers_fault)
{
	struct session s;
	CHECK_EQ(subscribe(&s, expect_no_word, SLUICE_COMPLETE), -EINVAL);
	CHECK(strstr(sluice_error(s.conn), "needs a VkInstance"));
	end(&s);
}

TEST(a_device_without_the_extension_is_refused)
{
	struct session s;
	create_instance();
	create_device(0);
	CHECK_EQ(subscribe(&s, expect_no_word, SLUICE_COMPLETE), -EOPNOTSUPP);
	CHECK(strstr(sluice_error(s.conn), "without VK_KHR_external_memory_fd"));
	end(&s);
	vkDestroyDevice(vk.device, NULL);
	vkDestroyInstance(vk.instance, NULL);
}

/* Offer what cannot be imported. */
static void fail_offer(struct fake *fake, const char *call)
{
	fake_offer(fake, &memory);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	CHECK(bound->error && strstr(bound->text, call));
	fake_ended(fake, bound->error, "the client cannot map it");
}

static void script_wrong_size(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	memory.allocation_bytes *= 64;
	fake_welcome(fake, 1);
	for (int i = 0; i < 3; i++) {
		fake_gpu_granted(fake, &gpu, 2, complete);
		fail_offer(fake, "vkAllocateMemory (import)");
	}
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

/* lavapipe closes the descriptor of an allocation that is too large, which is against the rule. */

TEST(an_allocation_of_another_size_ends_the_view)
{
	struct session s;
	struct sluice_frame *frame;
	int r = 0;
	begin_vulkan();
	CHECK_EQ(subscribe(&s, script_wrong_size, SLUICE_COMPLETE), 0);
	while (r == 0) {
		CHECK(sluice_wait(s.conn, LONG_MS) >= 0);
		r = sluice_view_next(s.view, &frame);
	}
	CHECK_EQ(r, -EIO);
	CHECK(strstr(sluice_error(s.conn), "vkAllocateMemory (import): VkResult -"));
	end(&s);
	end_vulkan();
}

static void script_refused_once(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 5, complete);
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_pause(fake);
	fail_offer(fake, "vkAllocateMemory (import): VkResult -2 (out of device memory)");
	fake_tell(fake);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_bind(fake, &memory);
	fake_frame(fake, &memory, 1, 1);
	fake_released(fake, &memory, 1, 1);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

TEST(a_refused_allocation_leaves_no_descriptor_and_is_tried_again)
{
	struct session s;
	begin_vulkan();
	CHECK_EQ(subscribe(&s, script_refused_once, SLUICE_COMPLETE), 0);
	unsigned n_fds = test_count_fds();
	memories_fail = true;
	fake_go(&s.fake);
	sync_with(&s);
	CHECK_EQ(test_count_fds(), n_fds);
	CHECK(n_memories == 0 && n_buffers == 0);
	memories_fail = false;
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(first_byte(frame), 6);
	CHECK_EQ(test_count_fds(), n_fds);
	sluice_frame_release(frame);
	end(&s);
	end_vulkan();
}

static void script_new_driver(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_hang_up(fake);
	fake_welcome(fake, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	gpu.driver_uuid[0] ^= 1;
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

TEST(a_broker_that_comes_back_with_another_driver_is_refused)
{
	struct session s;
	struct sluice_frame *frame;
	int r = 0;
	begin_vulkan();
	struct sluice_vulkan handles = given();
	struct sluice_view_request request = {
		.memory = SLUICE_MEMORY_VULKAN,
		.vulkan = &handles,
	};
	begin(&s, script_new_driver, &request, SLUICE_RECONNECT);
	while (r == 0) {
		CHECK(sluice_wait(s.conn, LONG_MS) >= 0);
		r = sluice_view_next(s.view, &frame);
	}
	CHECK_EQ(r, -ENODEV);
	CHECK(strstr(sluice_error(s.conn), "of another driver"));
	end(&s);
	end_vulkan();
}

/* --- Timelines --------------------------------------------------------------------------------*/

static void script_complete(struct fake *fake)
{
	fake_welcome(fake, 1);
	CHECK_EQ(fake_gpu_granted(fake, &gpu, 2, complete)->readiness, complete);
	fake_expect_end(fake);
}

TEST(a_device_without_timelines_gets_complete_frames)
{
	struct session s;
	begin_vulkan();
	if (vkGetDeviceProcAddr(vk.device, "vkImportSemaphoreFdKHR"))
		test_not_for_here("this driver can import timelines");
	CHECK_EQ(subscribe(&s, script_complete, SLUICE_TIMELINE), 0);
	CHECK(sluice_view_readiness(s.view) == SLUICE_COMPLETE);
	CHECK(strstr(sluice_view_note(s.view), "VK_KHR_external_semaphore_fd"));
	end(&s);
	end_vulkan();
}

static void script_death(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, timeline);
	fake_gpu_begin(fake, &gpu, 2, &memory);
	fake_frame_copied(fake, &memory, 1, 4);
	fake_released(fake, &memory, 1, 4);
	fake_frame(fake, &memory, 0, 5);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_gpu_memory_finish(&memory);
}

TEST(a_wait_for_a_broker_that_died_ends)
{
	struct session s;
	has_timelines = true;
	begin_vulkan();
	struct sluice_vulkan handles = given();
	struct sluice_view_request request = {
		.memory = SLUICE_MEMORY_VULKAN,
		.readiness = SLUICE_TIMELINE,
		.vulkan = &handles,
	};
	begin(&s, script_death, &request, 0);
	CHECK(sluice_view_readiness(s.view) == SLUICE_TIMELINE);
	struct sluice_frame *frame = next(&s);
	/* its pixels are there */
	CHECK(frame->vulkan.semaphore == 0 && frame->vulkan.value == 0);
	sluice_frame_release(frame);
	frame = next(&s);
	VkSemaphore semaphore = (union handle){ .number = frame->vulkan.semaphore }.semaphore;
	CHECK(semaphore && frame->vulkan.value == 5);
	VkSemaphoreWaitInfo wait = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
		.semaphoreCount = 1,
		.pSemaphores = &semaphore,
		.pValues = &frame->vulkan.value,
	};
	CHECK_EQ(vkWaitSemaphores(vk.device, &wait, 1000000), VK_TIMEOUT);
	CHECK(sluice_frame_valid(frame));
	fake_go(&s.fake);
	CHECK_EQ(wait_for_end(s.conn), -ECONNRESET);
	CHECK_EQ(vkWaitSemaphores(vk.device, &wait, 100000000), VK_SUCCESS);
	CHECK(!sluice_frame_valid(frame));
	sluice_frame_release(frame);
	end(&s);
	end_vulkan();
}

static void script_without_timeline(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, timeline);
	fake_gpu_memory_init(&newer, &gpu, 2, 70, complete);
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_pause(fake);
	fail_offer(fake, "vkImportSemaphoreFdKHR");
	CHECK_EQ(fake_gpu_granted(fake, &gpu, 2, complete)->readiness, complete);
	fake_bind(fake, &newer);
	fake_frame(fake, &newer, 2, 1);
	fake_released(fake, &newer, 2, 1);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
	fake_gpu_memory_finish(&newer);
}

TEST(a_refused_timeline_leaves_no_descriptor_and_is_done_without)
{
	struct session s;
	has_timelines = semaphores_fail = true;
	begin_vulkan();
	CHECK_EQ(subscribe(&s, script_without_timeline, SLUICE_TIMELINE), 0);
	unsigned n_fds = test_count_fds();
	fake_go(&s.fake);
	struct sluice_frame *frame = next(&s);
	CHECK(sluice_view_readiness(s.view) == SLUICE_COMPLETE);
	CHECK(strstr(sluice_view_note(s.view), "vkImportSemaphoreFdKHR: VkResult -1000072003"));
	CHECK_EQ(first_byte(frame), 72);
	CHECK_EQ(test_count_fds(), n_fds);
	sluice_frame_release(frame);
	end(&s);
	end_vulkan();
}
