/* Compute shaders without descriptors: buffers are named by their addresses. */
#include "broker/gpu/device.h"

int shader_create(struct gpu *gpu, struct shader *shader, const uint32_t *code, size_t code_bytes,
	uint32_t arguments_bytes, const VkSpecializationInfo *constants)
{
	struct vk *vk = &gpu->vk;
	VkPushConstantRange range = {
		.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
		.size = arguments_bytes,
	};
	VkPipelineLayoutCreateInfo layout = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.pushConstantRangeCount = 1,
		.pPushConstantRanges = &range,
	};
	int r = VK(gpu, CreatePipelineLayout, vk->device, &layout, NULL, &shader->layout);
	if (r < 0)
		return r;
	VkShaderModuleCreateInfo module = {
		.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
		.codeSize = code_bytes,
		.pCode = code,
	};
	VkComputePipelineCreateInfo pipeline = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.stage = {
			.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			.stage = VK_SHADER_STAGE_COMPUTE_BIT,
			.pName = "main",
			.pSpecializationInfo = constants,
		},
		.layout = shader->layout,
	};
	r = VK(gpu, CreateShaderModule, vk->device, &module, NULL, &pipeline.stage.module);
	if (r < 0)
		return r;
	r = VK(gpu, CreateComputePipelines, vk->device, VK_NULL_HANDLE, 1, &pipeline, NULL,
		&shader->pipeline);
	vk->DestroyShaderModule(vk->device, pipeline.stage.module, NULL);
	return r;
}

void shader_destroy(struct gpu *gpu, struct shader *shader)
{
	struct vk *vk = &gpu->vk;
	if (shader->pipeline)
		vk->DestroyPipeline(vk->device, shader->pipeline, NULL);
	if (shader->layout)
		vk->DestroyPipelineLayout(vk->device, shader->layout, NULL);
	*shader = (struct shader){ 0 };
}

void shader_bind(struct gpu *gpu, VkCommandBuffer commands, const struct shader *shader,
	const void *arguments, uint32_t arguments_bytes)
{
	gpu->vk.CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader->pipeline);
	gpu->vk.CmdPushConstants(commands, shader->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
		arguments_bytes, arguments);
}
