/*
 * A VkDevice that is not the stream's: run by tests/two-gpus.sh, where Vulkan has two devices. Neither
 * driver refuses the other's memory, so Sluice must: the broker to a client that says which devices it
 * has, libsluice to a broker that grants the view all the same.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <vulkan/vulkan.h>

#include "common/uuid.h"
#include "tests/consumer_fixture.h"
#include "tests/e2e.h"
#include "tests/fake_gpu.h"

enum { DEVICES_MAX = 8 };

/* --- The two devices --------------------------------------------------------------------------*/

/* The first is the one that tests/exported_memory.c takes. */
static struct {
	VkInstance instance;
	VkPhysicalDevice physical[2];
	VkPhysicalDeviceIDProperties id[2];
	VkDevice device; /* of the second */
} vk;

static VkPhysicalDeviceIDProperties identify(VkPhysicalDevice physical)
{
	VkPhysicalDeviceIDProperties id = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &id,
	};
	vkGetPhysicalDeviceProperties2(physical, &properties);
	return id;
}

static void find_devices(void)
{
	VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.apiVersion = VK_API_VERSION_1_2,
	};
	VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app,
	};
	VkPhysicalDevice all[DEVICES_MAX];
	uint32_t n = DEVICES_MAX, found = 0;
	CHECK_EQ(vkCreateInstance(&info, NULL, &vk.instance), VK_SUCCESS);
	CHECK(vkEnumeratePhysicalDevices(vk.instance, &n, all) >= 0);
	for (uint32_t i = 0; i < n && found < 2; i++) {
		vk.physical[found] = all[i];
		vk.id[found] = identify(all[i]);
		found += found == 0 ||
			 memcmp(vk.id[0].deviceUUID, vk.id[1].deviceUUID, VK_UUID_SIZE) != 0;
	}
	if (found < 2)
		test_fail(__FILE__, __LINE__,
			"there are not two devices: tests/two-gpus.sh runs this");
}

/* What lavapipe keeps for its next device is found by leak checkers only while it is loaded. */
static void keep_drivers(void)
{
	static const char *const names[] = { "libvulkan_lvp.so", "libvulkan.so.1" };
	for (unsigned i = 0; i < 2; i++) {
		void *library = dlopen(names[i], RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
		if (library)
			dlclose(library);
	}
}

static void begin_vulkan(void)
{
	static const char *const extension = VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME;
	float priority = 1;
	VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueCount = 1,
		.pQueuePriorities = &priority,
	};
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.enabledExtensionCount = 1,
		.ppEnabledExtensionNames = &extension,
	};
	find_devices();
	CHECK_EQ(vkCreateDevice(vk.physical[1], &info, NULL, &vk.device), VK_SUCCESS);
	keep_drivers();
}

static void end_vulkan(void)
{
	vkDestroyDevice(vk.device, NULL);
	vkDestroyInstance(vk.instance, NULL);
}

static const char *uuid_of(unsigned device, char *text)
{
	return uuid_text(vk.id[device].deviceUUID, text);
}

/* --- libsluice with the second of them --------------------------------------------------------*/

static int subscribe(const char *socket, const char *stream, unsigned flags, struct sluice **conn,
	struct sluice_view **view)
{
	struct sluice_vulkan given = {
		.instance = vk.instance,
		.physical_device = vk.physical[1],
		.device = vk.device,
	};
	struct sluice_view_request request = {
		.memory = SLUICE_MEMORY_VULKAN,
		.flags = flags,
		.vulkan = &given,
	};
	struct sluice_options options = { .socket = socket };
	CHECK_EQ(sluice_connect(conn, &options), 0);
	return sluice_subscribe(*conn, stream, &request, view);
}

static void check_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", text, part);
}

static enum sluice_memory memory_of_a_frame(struct sluice *conn, struct sluice_view *view)
{
	struct sluice_frame *frame;
	int r;
	while ((r = sluice_view_next(view, &frame)) == 0)
		CHECK(sluice_wait(conn, LONG_MS) >= 0);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s", sluice_error(conn));
	enum sluice_memory memory = frame->memory;
	sluice_frame_release(frame);
	return memory;
}

static struct fake_gpu gpu;

static void script_grants_anyway(struct fake *fake)
{
	fake_welcome(fake, 1);
	const Sluice__Subscribe *ask =
		fake_gpu_granted(fake, &gpu, 2, SLUICE__READINESS__READINESS_COMPLETE);
	CHECK_EQ(ask->n_device_uuids, 1);
	CHECK(memcmp(ask->device_uuids[0].data, vk.id[1].deviceUUID, VK_UUID_SIZE) == 0);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
}

TEST(libsluice_refuses_a_vkdevice_that_is_not_the_streams)
{
	struct session s;
	char uuid[2][UUID_TEXT_SIZE];
	begin_vulkan();
	fake_gpu_init(&gpu);
	CHECK(memcmp(gpu.device.uuid.data, vk.id[0].deviceUUID, VK_UUID_SIZE) == 0);
	/* both are the same kind of driver: the driver's UUID tells nothing */
	memcpy(gpu.driver_uuid, vk.id[1].driverUUID, sizeof(gpu.driver_uuid));
	fake_start(&s.fake, script_grants_anyway, NULL);
	CHECK_EQ(subscribe(s.fake.address.sun_path, "desktop", 0, &s.conn, &s.view), -ENODEV);
	check_says(sluice_error(s.conn), "the stream is on another GPU");
	check_says(sluice_error(s.conn), uuid_of(0, uuid[0]));
	check_says(sluice_error(s.conn), uuid_of(1, uuid[1]));
	end(&s);
	fake_gpu_finish(&gpu);
	end_vulkan();
}

TEST(the_broker_refuses_a_client_that_has_not_the_streams_device)
{
	struct broker_process b;
	struct sluice *conn;
	struct sluice_view *view;
	char first[UUID_TEXT_SIZE], second[UUID_TEXT_SIZE + 2];
	begin_vulkan();
	snprintf(second, sizeof(second), "b=");
	uuid_of(1, second + 2);
	broker_start(&b, (const char *[]){ "--gpu", uuid_of(0, first), "--gpu-of", second,
				 "--source", "a=pattern:64x48@30:BGRx:gpu", "--source",
				 "b=pattern:64x48@30:BGRx:gpu", NULL });

	CHECK_EQ(subscribe(b.socket, "a", 0, &conn, &view), -EOPNOTSUPP);
	check_says(sluice_error(conn), "stream \"a\" is on another GPU");
	sluice_close(conn);

	CHECK_EQ(subscribe(b.socket, "a", SLUICE_HOST_FALLBACK, &conn, &view), 0);
	check_says(sluice_view_note(view), "stream \"a\" is on another GPU");
	CHECK_EQ(memory_of_a_frame(conn, view), SLUICE_MEMORY_HOST);
	sluice_close(conn);

	/* and nobody is refused who has it */
	if (subscribe(b.socket, "b", 0, &conn, &view) < 0)
		test_fail(__FILE__, __LINE__, "%s", sluice_error(conn));
	CHECK_EQ(memory_of_a_frame(conn, view), SLUICE_MEMORY_VULKAN);
	sluice_close(conn);
	CHECK_EQ(broker_stop(&b), 0);
	end_vulkan();
}
