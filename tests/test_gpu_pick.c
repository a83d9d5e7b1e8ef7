/* Which device `auto` takes: one driver's device, seen several times as devices of several types. */
#include <stdio.h>
#include <string.h>

#include "broker/gpu/vk.h"
#include "tests/gpu_fixture.h"

enum { DEVICES_MAX = 4 };

static const VkPhysicalDeviceType *types;
static unsigned n_types, n_described;
static PFN_vkEnumeratePhysicalDevices enumerate_really;
static PFN_vkGetPhysicalDeviceProperties2 describe_really;

/* The same device under each number. */
static VkResult enumerate(VkInstance instance, uint32_t *n, VkPhysicalDevice *devices)
{
	uint32_t one = 1;
	VkPhysicalDevice device;
	VkResult r = enumerate_really(instance, &one, &device);
	for (unsigned i = 0; i < n_types; i++)
		devices[i] = device;
	*n = n_types;
	n_described = 0;
	return r == VK_INCOMPLETE ? VK_SUCCESS : r;
}

/* Devices are looked at in order. */
static void describe(VkPhysicalDevice physical, VkPhysicalDeviceProperties2 *out)
{
	describe_really(physical, out);
	if (n_described >= n_types)
		return;
	out->properties.deviceType = types[n_described];
	snprintf(out->properties.deviceName, sizeof(out->properties.deviceName), "device %u",
		n_described++);
}

static void put_in(struct vk *vk)
{
	enumerate_really = vk->EnumeratePhysicalDevices;
	describe_really = vk->GetPhysicalDeviceProperties2;
	vk->EnumeratePhysicalDevices = enumerate;
	vk->GetPhysicalDeviceProperties2 = describe;
}

#define CPU        VK_PHYSICAL_DEVICE_TYPE_CPU
#define DISCRETE   VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU
#define INTEGRATED VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU
#define VIRTUAL    VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU

static const struct {
	const char *name;
	unsigned n;
	VkPhysicalDeviceType type[DEVICES_MAX];
	const char *taken;
} rows[] = {
	{ "a CPU device only if there is no other", 2, { CPU, VIRTUAL }, "device 1" },
	{ "a CPU device if there is no other", 1, { CPU }, "device 0" },
	{ "a discrete GPU first", 4, { CPU, INTEGRATED, DISCRETE, VIRTUAL }, "device 2" },
	{ "an integrated GPU before a virtual one", 3, { VIRTUAL, CPU, INTEGRATED }, "device 2" },
	{ "the first of equals", 3, { CPU, DISCRETE, DISCRETE }, "device 1" },
};

TEST(auto_takes_a_discrete_gpu_and_a_cpu_device_last)
{
	gpu_test_instance_hook = put_in;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gpu_fixture f = { .options.which = "auto" };
		types = rows[i].type;
		n_types = rows[i].n;
		fixture_open(&f);
		CHECK_ROW(strcmp(gpu_info(f.gpu)->name, rows[i].taken) == 0, rows[i].name);
		fixture_close(&f);
	}
}

TEST(a_cpu_device_is_taken_if_it_is_asked_for)
{
	static const VkPhysicalDeviceType both[] = { DISCRETE, CPU };
	struct gpu_fixture f = { .options.which = "1" };
	gpu_test_instance_hook = put_in;
	types = both;
	n_types = 2;
	fixture_open(&f);
	CHECK_STR(gpu_info(f.gpu)->name, "device 1");
	CHECK(gpu_info(f.gpu)->is_cpu);
	fixture_close(&f);
}
