/*
 * Buffers: on the device, exportable or not; of the CPU, for the way in and out; and mappings of this
 * process that the device reads and writes where they are.
 *
 * Exported memory follows Vulkan's rule of ownership: what we have written is released to
 * VK_QUEUE_FAMILY_EXTERNAL at the end of the submission that wrote it, and acquired before we read
 * it ourselves. A picture that is about to be overwritten is not acquired: its contents are lost on
 * purpose. Those who read it never release it to us, they only read.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/gpu/device.h"

enum {
	TYPE_NONE = UINT32_MAX,
	COHERENT = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
};

/* A VkDeviceMemory in the making: what is chained to the allocation. */
struct allocation {
	uint32_t types; /* bit mask of those that are possible */
	VkMemoryPropertyFlags required;
	VkMemoryPropertyFlags preferred;
	const void *chain;
};

/* Frees half-built ones too. */
static void buffer_free(struct gpu *gpu, struct used *used)
{
	struct gpu_buffer *b = (struct gpu_buffer *)used;
	struct vk *vk = &gpu->vk;
	if (b->clear)
		vk->FreeCommandBuffers(vk->device, gpu->pool, 1, &b->clear);
	if (b->buffer)
		vk->DestroyBuffer(vk->device, b->buffer, NULL);
	if (b->memory)
		vk->FreeMemory(vk->device, b->memory, NULL); /* unmaps it too */
	free(b);
}

static struct gpu_buffer *buffer_discard(struct gpu_buffer *b)
{
	buffer_free(b->gpu, &b->used);
	return NULL;
}
DEFINE_CLEANUP(struct gpu_buffer *, buffer_discard);

static struct gpu_buffer *buffer_new(
	struct gpu *gpu, enum gpu_memory_kind kind, uint64_t size_bytes)
{
	struct gpu_buffer *b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	*b = (struct gpu_buffer){ .used.free = buffer_free,
		.gpu = gpu,
		.kind = kind,
		.is_host = kind == GPU_STAGING,
		.size_bytes = size_bytes };
	list_init(&b->used.link);
	return b;
}

static uint32_t find_type(const struct gpu *gpu, uint32_t types, VkMemoryPropertyFlags wanted)
{
	for (uint32_t i = 0; i < gpu->memory.memoryTypeCount; i++)
		if (types & 1u << i &&
			(gpu->memory.memoryTypes[i].propertyFlags & wanted) == wanted)
			return i;
	return TYPE_NONE;
}

static int create_buffer(struct gpu_buffer *b, VkExternalMemoryHandleTypeFlags external)
{
	struct gpu *gpu = b->gpu;
	VkExternalMemoryBufferCreateInfo handles = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = external,
	};
	VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.pNext = external ? &handles : NULL,
		.size = b->size_bytes,
		.usage = BUFFER_USAGE,
		.sharingMode = VK_SHARING_MODE_EXCLUSIVE,
	};
	return VK(gpu, CreateBuffer, gpu->vk.device, &info, NULL, &b->buffer);
}

/* Allocate, bind, and learn the address. */
static int allocate(struct gpu_buffer *b, const struct allocation *a)
{
	struct gpu *gpu = b->gpu;
	struct vk *vk = &gpu->vk;
	VkMemoryRequirements needs;
	vk->GetBufferMemoryRequirements(vk->device, b->buffer, &needs);
	uint32_t types = needs.memoryTypeBits & a->types;
	b->memory_type = find_type(gpu, types, a->required | a->preferred);
	if (b->memory_type == TYPE_NONE)
		b->memory_type = find_type(gpu, types, a->required);
	if (b->memory_type == TYPE_NONE)
		return gpu_fail(
			gpu, -EOPNOTSUPP, "%s has no memory for this purpose", gpu->info.name);
	/* an imported mapping is as long as it is */
	b->allocation_bytes = b->is_host && b->kind != GPU_STAGING ? b->size_bytes : needs.size;
	if (b->allocation_bytes < needs.size)
		return gpu_fail(gpu, -EOPNOTSUPP, "%s needs more memory than the mapping has",
			gpu->info.name);
	if (b->allocation_bytes > gpu->allocation_max)
		return gpu_fail(gpu, -ENOMEM, "%s allocates at most %llu bytes at once",
			gpu->info.name, (unsigned long long)gpu->allocation_max);
	VkMemoryAllocateFlagsInfo flags = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
		.pNext = a->chain,
		.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
	};
	VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &flags,
		.allocationSize = b->allocation_bytes,
		.memoryTypeIndex = b->memory_type,
	};
	int r = VK(gpu, AllocateMemory, vk->device, &info, NULL, &b->memory);
	if (r < 0)
		return r;
	r = VK(gpu, BindBufferMemory, vk->device, b->buffer, b->memory, 0);
	if (r < 0)
		return r;
	VkBufferDeviceAddressInfo address = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
		.buffer = b->buffer,
	};
	b->address = vk->GetBufferDeviceAddress(vk->device, &address);
	return 0;
}

static int create_exported(struct gpu_buffer *b)
{
	int r = create_buffer(b, VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT);
	if (r < 0)
		return r;
	VkMemoryDedicatedAllocateInfo dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
		.buffer = b->buffer,
	};
	VkExportMemoryAllocateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.pNext = &dedicated,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	return allocate(b, &(struct allocation){ .types = UINT32_MAX,
				   .preferred = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
				   .chain = &export });
}

static int create_private(struct gpu_buffer *b)
{
	int r = create_buffer(b, 0);
	if (r < 0)
		return r;
	return allocate(b, &(struct allocation){ .types = UINT32_MAX,
				   .preferred = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT });
}

static int create_staging(struct gpu_buffer *b)
{
	struct gpu *gpu = b->gpu;
	int r = create_buffer(b, 0);
	if (r < 0)
		return r;
	r = allocate(b, &(struct allocation){ .types = UINT32_MAX,
				.required = COHERENT,
				.preferred = VK_MEMORY_PROPERTY_HOST_CACHED_BIT });
	if (r < 0)
		return r;
	return VK(gpu, MapMemory, gpu->vk.device, b->memory, 0, VK_WHOLE_SIZE, 0, &b->map);
}

VkBufferMemoryBarrier buffer_release(const struct gpu *gpu, const struct gpu_buffer *buffer)
{
	return (VkBufferMemoryBarrier){
		.sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
		.srcAccessMask = WORK_WRITES,
		.srcQueueFamilyIndex = gpu->family,
		.dstQueueFamilyIndex = VK_QUEUE_FAMILY_EXTERNAL,
		.buffer = buffer->buffer,
		.size = VK_WHOLE_SIZE,
	};
}

VkBufferMemoryBarrier buffer_acquire(const struct gpu *gpu, const struct gpu_buffer *buffer)
{
	return (VkBufferMemoryBarrier){
		.sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
		.dstAccessMask = WORK_READS,
		.srcQueueFamilyIndex = VK_QUEUE_FAMILY_EXTERNAL,
		.dstQueueFamilyIndex = gpu->family,
		.buffer = buffer->buffer,
		.size = VK_WHOLE_SIZE,
	};
}

static int record_clear(struct gpu_buffer *b)
{
	struct gpu *gpu = b->gpu;
	struct vk *vk = &gpu->vk;
	VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};
	int r = VK(gpu, BeginCommandBuffer, b->clear, &begin);
	if (r < 0)
		return r;
	vk->CmdFillBuffer(b->clear, b->buffer, 0, VK_WHOLE_SIZE, 0);
	VkBufferMemoryBarrier release = buffer_release(gpu, b);
	vk->CmdPipelineBarrier(b->clear, WORK_STAGES, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, 0, 0,
		NULL, 1, &release, 0, NULL);
	b->is_lent = true;
	return VK(gpu, EndCommandBuffer, b->clear);
}

/* Nobody else may see what was in this memory before. */
static int clear(struct gpu_buffer *b)
{
	struct gpu *gpu = b->gpu;
	VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = gpu->pool,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};
	int r = VK(gpu, AllocateCommandBuffers, gpu->vk.device, &info, &b->clear);
	if (r < 0)
		return r;
	r = record_clear(b);
	if (r < 0)
		return r;
	r = queue_run(gpu, b->clear, &b->clear_point);
	if (r < 0)
		return r;
	b->used.last_use = b->clear_point;
	return 0;
}

static int create_kind(struct gpu_buffer *b)
{
	switch (b->kind) {
	case GPU_EXPORTED:
		return create_exported(b);
	case GPU_STAGING:
		return create_staging(b);
	default:
		return create_private(b);
	}
}

int gpu_buffer_create(struct gpu *gpu, enum gpu_memory_kind kind, uint64_t size_bytes,
	struct gpu_buffer **buffer_out)
{
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	queue_poll(gpu); /* what has died meanwhile makes room */
	_cleanup_(buffer_discardp) struct gpu_buffer *b = buffer_new(gpu, kind, size_bytes);
	if (!b)
		return gpu_fail(gpu, -ENOMEM, "out of memory");
	r = create_kind(b);
	if (r < 0)
		return r;
	if (kind == GPU_EXPORTED)
		r = clear(b);
	if (r < 0)
		return r;
	gpu->n_objects++;
	*buffer_out = TAKE_PTR(b);
	return 0;
}

static int import_host(struct gpu_buffer *b, void *map)
{
	struct gpu *gpu = b->gpu;
	VkMemoryHostPointerPropertiesEXT can = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT,
	};
	VkExternalMemoryHandleTypeFlagBits handle =
		VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
	int r = VK(gpu, GetMemoryHostPointerPropertiesEXT, gpu->vk.device, handle, map, &can);
	if (r < 0)
		return r;
	r = create_buffer(b, handle);
	if (r < 0)
		return r;
	VkImportMemoryHostPointerInfoEXT import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
		.handleType = handle,
		.pHostPointer = map,
	};
	return allocate(b, &(struct allocation){ .types = can.memoryTypeBits,
				   .required = COHERENT,
				   .preferred = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
				   .chain = &import });
}

int gpu_buffer_import_host(
	struct gpu *gpu, void *map, uint64_t size_bytes, struct gpu_buffer **buffer_out)
{
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	if (!gpu->info.can_import_host)
		return gpu_fail(
			gpu, -EOPNOTSUPP, "%s cannot import memory of the CPU", gpu->info.name);
	uint64_t align = gpu->info.host_align;
	assert((uintptr_t)map % align == 0);
	uint64_t rounded = (size_bytes + align - 1) / align * align;
	_cleanup_(buffer_discardp) struct gpu_buffer *b = buffer_new(gpu, GPU_PRIVATE, rounded);
	if (!b)
		return gpu_fail(gpu, -ENOMEM, "out of memory");
	b->is_host = true;
	r = import_host(b, map);
	/* whatever the driver dislikes about this mapping: there is another way */
	if (r < 0)
		return gpu->lost ? -ENODEV : -EOPNOTSUPP;
	b->size_bytes = size_bytes;
	gpu->n_objects++;
	*buffer_out = TAKE_PTR(b);
	return 0;
}

struct gpu_buffer *gpu_buffer_destroy(struct gpu_buffer *b)
{
	if (!b)
		return NULL;
	b->gpu->n_objects--;
	queue_retire(b->gpu, &b->used);
	return NULL;
}

void *gpu_buffer_map(const struct gpu_buffer *b)
{
	return b->map;
}

uint64_t gpu_buffer_size(const struct gpu_buffer *b)
{
	return b->size_bytes;
}

uint64_t gpu_buffer_allocation_bytes(const struct gpu_buffer *b)
{
	return b->allocation_bytes;
}

uint32_t gpu_buffer_memory_type(const struct gpu_buffer *b)
{
	return b->memory_type;
}

int gpu_buffer_export(struct gpu_buffer *b, int *fd_out)
{
	struct gpu *gpu = b->gpu;
	int fd = -EBADF;
	assert(b->kind == GPU_EXPORTED);
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	r = queue_wait(gpu, b->clear_point);
	if (r < 0)
		return r;
	VkMemoryGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
		.memory = b->memory,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	r = VK(gpu, GetMemoryFdKHR, gpu->vk.device, &info, &fd);
	if (r < 0)
		return r;
	/* each call gives a new one, ours from here on */
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	*fd_out = fd;
	return 0;
}
