#version 450
// Copies rows of 16-byte or 4-byte steps from one buffer to another. Each thread takes one step, then
// the one that lies as many steps further as there are threads.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

layout(local_size_x = 256) in;
layout(constant_id = 0) const bool WIDE = true;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer WideFrom { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) writeonly buffer WideTo { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer WordFrom { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer WordTo { uint at[]; };

// In steps: struct copy_arguments in copy.c.
layout(push_constant) uniform Arguments {
	uvec2 from;
	uvec2 to;
	uint row_steps;
	uint rows;
	uint from_stride;
	uint to_stride;
};

void copy(uint from_step, uint to_step)
{
	if (WIDE)
		WideTo(to).at[to_step] = WideFrom(from).at[from_step];
	else
		WordTo(to).at[to_step] = WordFrom(from).at[from_step];
}

void main()
{
	const uint threads = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
	const uint steps = row_steps * rows;
	if (rows == 1) {
		for (uint i = gl_GlobalInvocationID.x; i < steps; i += threads)
			copy(i, i);
		return;
	}
	for (uint i = gl_GlobalInvocationID.x; i < steps; i += threads) {
		const uint row = i / row_steps;
		const uint step = i - row * row_steps;
		copy(row * from_stride + step, row * to_stride + step);
	}
}
