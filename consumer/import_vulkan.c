/*
 * Vulkan: memory and timelines into a VkDevice that the caller made. A buffer for each slot, as
 * dedicated memory of the broker's; nothing is recorded or submitted here.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "consumer/importer.h"
#include "consumer/text.h"

#define DEVICE_FUNCTIONS(X) \
	X(AllocateMemory)   \
	X(BindBufferMemory) \
	X(CreateBuffer)     \
	X(CreateSemaphore)  \
	X(DestroyBuffer)    \
	X(DestroySemaphore) \
	X(FreeMemory)       \
	X(GetBufferMemoryRequirements)

/* Those of extensions, NULL without them. */
#define EXTENSION_FUNCTIONS(X)      \
	X(GetMemoryFdKHR)           \
	X(GetSemaphoreCounterValue) \
	X(ImportSemaphoreFdKHR)     \
	X(SignalSemaphore)

struct vulkan {
	struct importer base;
	VkInstance instance;
	VkDevice device;
	struct device_id id; /* of the caller's device */
	void *library;       /* NULL: the caller gave get_instance_proc_addr */
	PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
	PFN_vkGetDeviceProcAddr GetDeviceProcAddr;
#define X(name) PFN_vk##name name;
	DEVICE_FUNCTIONS(X)
	EXTENSION_FUNCTIONS(X)
#undef X
};

/* What the broker makes its buffers for: an importer must say the same. */
static const VkBufferUsageFlags buffer_usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
					       VK_BUFFER_USAGE_TRANSFER_DST_BIT |
					       VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;

static struct vulkan *of(struct importer *importer)
{
	return (struct vulkan *)importer;
}

static int fail(struct error *error, const char *call, VkResult result)
{
	error_set(error, SLUICE_ERROR_NONE, "%s: VkResult %d%s", call, (int)result,
		result == VK_ERROR_INVALID_EXTERNAL_HANDLE ? " (invalid external handle)"
		: result == VK_ERROR_DEVICE_LOST           ? " (device lost)"
		: result == VK_ERROR_OUT_OF_DEVICE_MEMORY  ? " (out of device memory)"
							   : "");
	bool is_memory =
		result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY;
	return is_memory ? -ENOMEM : -EIO;
}

/* Handles are numbers elsewhere: 64 bits wide, as pointers here or by themselves on small machines. */
union handle {
	uint64_t number;
	VkBuffer buffer;
	VkDeviceMemory memory;
	VkSemaphore semaphore;
};

/* --- Slots ------------------------------------------------------------------------------------*/

static int create_buffer(struct vulkan *v, const struct slot_layout *layout, VkBuffer *buffer_out,
	struct error *error)
{
	VkExternalMemoryBufferCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.pNext = &external,
		.size = layout->bytes,
		.usage = buffer_usage,
		.sharingMode = VK_SHARING_MODE_EXCLUSIVE,
	};
	VkResult result = v->CreateBuffer(v->device, &info, NULL, buffer_out);
	return result == VK_SUCCESS ? 0 : fail(error, "vkCreateBuffer", result);
}

static int check_needs(
	struct vulkan *v, const struct slot_layout *layout, VkBuffer buffer, struct error *error)
{
	VkMemoryRequirements needs;
	v->GetBufferMemoryRequirements(v->device, buffer, &needs);
	if (needs.memoryTypeBits & 1u << layout->memory_type &&
		needs.size <= layout->allocation_bytes)
		return 0;
	error_set(error, SLUICE_ERROR_NONE,
		"a buffer of %zu bytes needs %llu of one of the memory types 0x%x here; the "
		"broker's memory has %llu and is of type %u",
		layout->bytes, (unsigned long long)needs.size, needs.memoryTypeBits,
		(unsigned long long)layout->allocation_bytes, layout->memory_type);
	return -EIO;
}

/* What failed leaves the descriptor to us; but Mesa's lavapipe has closed it when the size is wrong. */
static void forget_if_closed(int *fd, const struct stat *before)
{
	struct stat now;
	if (fstat(*fd, &now) < 0 || now.st_dev != before->st_dev || now.st_ino != before->st_ino)
		fd_take(fd);
}

static int import_memory(struct vulkan *v, const struct slot_layout *layout, int *fd,
	VkBuffer buffer, VkDeviceMemory *memory_out, struct error *error)
{
	VkMemoryDedicatedAllocateInfo dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
		.buffer = buffer,
	};
	VkImportMemoryFdInfoKHR import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
		.pNext = &dedicated,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
		.fd = *fd,
	};
	VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &import,
		.allocationSize = layout->allocation_bytes,
		.memoryTypeIndex = layout->memory_type,
	};
	struct stat before;
	memset(&before, 0, sizeof(before));
	fstat(*fd, &before); /* the driver says it better if it is no descriptor */
	VkResult result = v->AllocateMemory(v->device, &info, NULL, memory_out);
	if (result != VK_SUCCESS) {
		forget_if_closed(fd, &before);
		return fail(error, "vkAllocateMemory (import)", result);
	}
	fd_take(fd); /* the driver's now */
	result = v->BindBufferMemory(v->device, buffer, *memory_out, 0);
	return result == VK_SUCCESS ? 0 : fail(error, "vkBindBufferMemory", result);
}

static void free_slot(struct vulkan *v, VkBuffer buffer, VkDeviceMemory memory)
{
	v->DestroyBuffer(v->device, buffer, NULL);
	v->FreeMemory(v->device, memory, NULL);
}

static int vulkan_import(struct importer *importer, const struct slot_layout *layout, int *fd_in,
	struct slot_memory *slot_out, struct error *error)
{
	_cleanup_fd_ int fd = fd_take(fd_in);
	struct vulkan *v = of(importer);
	VkBuffer buffer = VK_NULL_HANDLE;
	VkDeviceMemory memory = VK_NULL_HANDLE;
	int r = create_buffer(v, layout, &buffer, error);
	if (r == 0)
		r = check_needs(v, layout, buffer, error);
	if (r == 0)
		r = import_memory(v, layout, &fd, buffer, &memory, error);
	if (r < 0) {
		free_slot(v, buffer, memory);
		return r;
	}
	*slot_out = (struct slot_memory){
		.handle = (union handle){ .buffer = buffer }.number,
		.memory = (union handle){ .memory = memory }.number,
	};
	return 0;
}

static void vulkan_drop(
	struct importer *importer, const struct slot_layout *layout, struct slot_memory *slot)
{
	free_slot(of(importer), (union handle){ .number = slot->handle }.buffer,
		(union handle){ .number = slot->memory }.memory);
}

/* --- Timelines --------------------------------------------------------------------------------*/

static int vulkan_import_timeline(
	struct importer *importer, int *fd_in, uint64_t *timeline_out, struct error *error)
{
	_cleanup_fd_ int fd = fd_take(fd_in);
	struct vulkan *v = of(importer);
	VkSemaphore semaphore;
	VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
	};
	VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = &type,
	};
	VkResult result = v->CreateSemaphore(v->device, &info, NULL, &semaphore);
	if (result != VK_SUCCESS)
		return fail(error, "vkCreateSemaphore", result);
	VkImportSemaphoreFdInfoKHR import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_SEMAPHORE_FD_INFO_KHR,
		.semaphore = semaphore,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT,
		.fd = fd,
	};
	result = v->ImportSemaphoreFdKHR(v->device, &import);
	if (result != VK_SUCCESS) {
		v->DestroySemaphore(v->device, semaphore, NULL);
		return fail(error, "vkImportSemaphoreFdKHR", result);
	}
	fd_take(&fd); /* the driver's now */
	*timeline_out = (union handle){ .semaphore = semaphore }.number;
	return 0;
}

static void vulkan_drop_timeline(struct importer *importer, uint64_t timeline)
{
	struct vulkan *v = of(importer);
	v->DestroySemaphore(v->device, (union handle){ .number = timeline }.semaphore, NULL);
}

static void vulkan_signal(struct importer *importer, uint64_t timeline, uint64_t value)
{
	struct vulkan *v = of(importer);
	VkSemaphoreSignalInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
		.semaphore = (union handle){ .number = timeline }.semaphore,
		.value = value,
	};
	uint64_t now = 0;
	/* it must rise */
	if (v->GetSemaphoreCounterValue(v->device, info.semaphore, &now) == VK_SUCCESS &&
		now < value)
		v->SignalSemaphore(v->device, &info);
}

/* --- The device -------------------------------------------------------------------------------*/

static int vulkan_attach(
	struct importer *importer, const struct device_id *device, struct error *error)
{
	const struct vulkan *v = of(importer);
	if (memcmp(v->id.uuid, device->uuid, WIRE_UUID_BYTES) != 0)
		return importer_other_device(device, &v->id, "the VkDevice given", error);
	if (memcmp(v->id.driver_uuid, device->driver_uuid, WIRE_UUID_BYTES) == 0)
		return 0;
	error_set(error, SLUICE_ERROR_NONE,
		"the VkDevice given is of another driver, or of another version of it, than the "
		"broker's on the same GPU (%s)",
		device->name);
	return -ENODEV;
}

static void vulkan_close(struct importer *importer)
{
	struct vulkan *v = of(importer);
	if (v->library)
		dlclose(v->library);
	free(v);
}

static const struct importer_ops vulkan_ops = {
	.memory = SLUICE_MEMORY_VULKAN,
	.wire_memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
	.attach = vulkan_attach,
	.close = vulkan_close,
	.import = vulkan_import,
	.drop = vulkan_drop,
	.import_timeline = vulkan_import_timeline,
	.drop_timeline = vulkan_drop_timeline,
	.signal = vulkan_signal,
};

/* --- Opening ----------------------------------------------------------------------------------*/

static int find_loader(struct vulkan *v, const struct sluice_vulkan *given, struct error *error)
{
	v->GetInstanceProcAddr = (PFN_vkGetInstanceProcAddr)given->get_instance_proc_addr;
	if (v->GetInstanceProcAddr)
		return 0;
	/* it stays: the caller's device is of it */
	v->library = dlopen("libvulkan.so.1", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	if (v->library)
		v->GetInstanceProcAddr =
			(PFN_vkGetInstanceProcAddr)dlsym(v->library, "vkGetInstanceProcAddr");
	if (v->GetInstanceProcAddr)
		return 0;
	const char *why = dlerror();
	error_set(error, SLUICE_ERROR_NONE, "libvulkan.so.1 cannot be opened: %s", why ? why : "?");
	return -EOPNOTSUPP;
}

static int lacks(struct error *error, const char *what)
{
	error_set(error, SLUICE_ERROR_NONE, "the VkDevice given was made without %s", what);
	return -EOPNOTSUPP;
}

/* A function of Vulkan 1.2 or of the extension that it was before. */
static PFN_vkVoidFunction find(const struct vulkan *v, const char *name)
{
	char older[64];
	PFN_vkVoidFunction fn = v->GetDeviceProcAddr(v->device, name);
	if (fn)
		return fn;
	snprintf(older, sizeof(older), "%sKHR", name);
	return v->GetDeviceProcAddr(v->device, older);
}

static int load(struct vulkan *v, struct error *error)
{
	v->GetDeviceProcAddr =
		(PFN_vkGetDeviceProcAddr)v->GetInstanceProcAddr(v->instance, "vkGetDeviceProcAddr");
	if (!v->GetDeviceProcAddr)
		return lacks(error, "vkGetDeviceProcAddr");
#define X(name)                                      \
	v->name = (PFN_vk##name)find(v, "vk" #name); \
	if (!v->name)                                \
		return lacks(error, "vk" #name);
	DEVICE_FUNCTIONS(X)
#undef X
#define X(name) v->name = (PFN_vk##name)find(v, "vk" #name);
	EXTENSION_FUNCTIONS(X)
#undef X
	if (!v->GetMemoryFdKHR)
		return lacks(error, "VK_KHR_external_memory_fd");
	v->base.can_timeline =
		v->ImportSemaphoreFdKHR && v->SignalSemaphore && v->GetSemaphoreCounterValue;
	if (!v->base.can_timeline)
		snprintf(v->base.timeline_text, sizeof(v->base.timeline_text),
			"the VkDevice given was made without VK_KHR_external_semaphore_fd or timeline "
			"semaphores");
	return 0;
}

static int identify(struct vulkan *v, VkPhysicalDevice physical, struct error *error)
{
	VkPhysicalDeviceIDProperties id = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
	};
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
		.pNext = &id,
	};
	PFN_vkGetPhysicalDeviceProperties2 get =
		(PFN_vkGetPhysicalDeviceProperties2)v->GetInstanceProcAddr(
			v->instance, "vkGetPhysicalDeviceProperties2");
	if (!get)
		get = (PFN_vkGetPhysicalDeviceProperties2)v->GetInstanceProcAddr(
			v->instance, "vkGetPhysicalDeviceProperties2KHR");
	if (!get) {
		error_set(error, SLUICE_ERROR_NONE,
			"the VkInstance given is of Vulkan 1.0: it cannot tell which GPU is which");
		return -EOPNOTSUPP;
	}
	get(physical, &properties);
	memcpy(v->id.uuid, id.deviceUUID, WIRE_UUID_BYTES);
	memcpy(v->id.driver_uuid, id.driverUUID, WIRE_UUID_BYTES);
	text_copy(v->id.name, sizeof(v->id.name), properties.properties.deviceName);
	memcpy(v->base.uuid[0], id.deviceUUID, WIRE_UUID_BYTES);
	v->base.n_uuids = 1;
	return 0;
}

static struct importer *vulkan_discard(struct importer *importer)
{
	vulkan_close(importer);
	return NULL;
}
DEFINE_CLEANUP(struct importer *, vulkan_discard);

int importer_open_vulkan(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error)
{
	const struct sluice_vulkan *given = request->vulkan;
	if (!given || !given->instance || !given->physical_device || !given->device) {
		error_set(error, SLUICE_ERROR_NONE,
			"SLUICE_MEMORY_VULKAN needs a VkInstance, a VkPhysicalDevice and a VkDevice");
		return -EINVAL;
	}
	struct vulkan *v = calloc(1, sizeof(*v));
	if (!v) {
		error_set(error, SLUICE_ERROR_NONE, "out of memory");
		return -ENOMEM;
	}
	v->base.ops = &vulkan_ops;
	v->base.is_given = true;
	v->instance = given->instance;
	v->device = given->device;
	_cleanup_(vulkan_discardp) struct importer *importer = &v->base;
	int r = find_loader(v, given, error);
	if (r == 0)
		r = load(v, error);
	if (r == 0)
		r = identify(v, given->physical_device, error);
	if (r < 0)
		return r;
	*importer_out = TAKE_PTR(importer);
	return 0;
}
