/*
 * Vulkan: a device of this process's own, on the GPU of the stream. It takes the frame's buffer over
 * from whoever had it, copies the rows into memory that the CPU can read, and gives it back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "consumer/check/vulkan.h"

static const uint64_t spin_ns = 200 * NS_PER_US;
static const uint64_t nap_ns = 200 * NS_PER_US;

struct vulkan_reader {
	struct reader base;
	struct vulkan vk;
};

/* Handles are numbers in the public header. */
union handle {
	uint64_t number;
	VkBuffer buffer;
	VkSemaphore semaphore;
};

static struct vulkan_reader *of(struct reader *reader)
{
	return (struct vulkan_reader *)reader;
}

/* From the other queue family to ours before the copy, or back after it. */
static VkBufferMemoryBarrier transfer(const struct vulkan *vk, VkBuffer buffer, bool to_us)
{
	return (VkBufferMemoryBarrier){
		.sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
		.dstAccessMask = to_us ? VK_ACCESS_TRANSFER_READ_BIT : 0,
		.srcQueueFamilyIndex = to_us ? VK_QUEUE_FAMILY_EXTERNAL : vk->family,
		.dstQueueFamilyIndex = to_us ? vk->family : VK_QUEUE_FAMILY_EXTERNAL,
		.buffer = buffer,
		.size = VK_WHOLE_SIZE,
	};
}

static VkResult record(struct vulkan *vk, VkBuffer buffer, const VkBufferCopy *regions)
{
	VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};
	VkMemoryBarrier visible = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_HOST_READ_BIT,
	};
	VkBufferMemoryBarrier acquire = transfer(vk, buffer, true);
	VkBufferMemoryBarrier release = transfer(vk, buffer, false);
	VkResult result = vk->BeginCommandBuffer(vk->commands, &begin);
	if (result != VK_SUCCESS)
		return result;
	vk->CmdPipelineBarrier(vk->commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
		VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 0, NULL, 1, &acquire, 0, NULL);
	vk->CmdCopyBuffer(vk->commands, buffer, vk->staging, STAMP_BANDS, regions);
	vk->CmdPipelineBarrier(vk->commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
		VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, 0, 1, &visible,
		1, &release, 0, NULL);
	return vk->EndCommandBuffer(vk->commands);
}

static VkResult submit(struct vulkan *vk, const struct sluice_frame *frame)
{
	static const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_TRANSFER_BIT;
	VkSemaphore semaphore = (union handle){ .number = frame->vulkan.semaphore }.semaphore;
	VkTimelineSemaphoreSubmitInfo values = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.waitSemaphoreValueCount = 1,
		.pWaitSemaphoreValues = &frame->vulkan.value,
	};
	VkSubmitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.commandBufferCount = 1,
		.pCommandBuffers = &vk->commands,
	};
	if (frame->vulkan.semaphore) {
		info.pNext = &values;
		info.waitSemaphoreCount = 1;
		info.pWaitSemaphores = &semaphore;
		info.pWaitDstStageMask = &stage;
	}
	return vk->QueueSubmit(vk->queue, 1, &info, vk->fence);
}

static int vulkan_begin(
	struct reader *reader, struct sluice_frame *frame, const struct reader_rows *rows)
{
	struct vulkan *vk = &of(reader)->vk;
	VkBufferCopy regions[STAMP_BANDS];
	for (unsigned band = 0; band < STAMP_BANDS; band++)
		regions[band] = (VkBufferCopy){
			.srcOffset = frame->vulkan.buffer_offset + rows->first + band * rows->pitch,
			.dstOffset = band * rows->bytes,
			.size = rows->bytes,
		};
	int r = reader_wait_sync_fd(reader, frame);
	if (r < 0)
		return r;
	VkResult result =
		record(vk, (union handle){ .number = frame->vulkan.buffer }.buffer, regions);
	if (result == VK_SUCCESS)
		result = submit(vk, frame);
	return result == VK_SUCCESS ? 0 : vulkan_fail(reader->error, "vkQueueSubmit", result);
}

/* Reading the socket meanwhile: if the broker dies, the library lets the work go on. */
static int vulkan_wait(struct reader *reader, struct sluice *conn, struct sluice_view *view)
{
	struct vulkan *vk = &of(reader)->vk;
	uint64_t begun = clock_ns(), until = begun + READER_TURN_MS * NS_PER_MS;
	int r = 0;
	VkResult result = vk->GetFenceStatus(vk->device, vk->fence);
	while (result == VK_NOT_READY && clock_ns() < begun + spin_ns)
		result = vk->GetFenceStatus(vk->device, vk->fence);
	while (result == VK_NOT_READY || result == VK_TIMEOUT) {
		if (clock_ns() >= until)
			return -ETIMEDOUT;
		if (r >= 0)
			r = sluice_dispatch(conn);
		result = vk->WaitForFences(vk->device, 1, &vk->fence, VK_TRUE, nap_ns);
	}
	if (result == VK_SUCCESS)
		result = vk->ResetFences(vk->device, 1, &vk->fence);
	if (result != VK_SUCCESS)
		return vulkan_fail(reader->error, "vkWaitForFences", result);
	return r < 0 ? -ECONNRESET : 0;
}

static struct reader *vulkan_destroy(struct reader *reader)
{
	struct vulkan_reader *r = of(reader);
	vulkan_finish(&r->vk);
	free(r);
	return NULL;
}

static const struct reader_ops vulkan_ops = { vulkan_begin, vulkan_wait, vulkan_destroy };

int reader_create_vulkan(struct reader **reader_out, const struct sluice_stream_info *stream,
	struct sluice_vulkan *vulkan_out, char *error)
{
	if (!stream->has_device) {
		snprintf(error, READER_TEXT_MAX,
			"the stream %s cannot be had in GPU memory: `sluice ls` says why",
			stream->name);
		return -EOPNOTSUPP;
	}
	struct vulkan_reader *r = calloc(1, sizeof(*r));
	snprintf(error, READER_TEXT_MAX, "out of memory");
	if (!r)
		return -ENOMEM;
	r->base.ops = &vulkan_ops;
	_cleanup_(reader_destroyp) struct reader *reader = &r->base;
	int result = vulkan_init(&r->vk, stream->device_uuid, error);
	if (result < 0)
		return result;
	r->base.pixels = r->vk.map;
	*vulkan_out = (struct sluice_vulkan){
		.instance = r->vk.instance,
		.physical_device = r->vk.physical,
		.device = r->vk.device,
		.get_instance_proc_addr =
			(void (*(*)(void *, const char *))(void))r->vk.GetInstanceProcAddr,
	};
	*reader_out = TAKE_PTR(reader);
	return 0;
}
