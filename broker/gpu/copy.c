/*
 * Copies of pictures, in one of two ways: vkCmdCopyBuffer or a compute shader. Which one is faster on
 * the device was measured (measure.c); between the device and the CPU's memory the bus is slower than
 * either, so vkCmdCopyBuffer takes it where the layouts are equal. Rows of different strides go by the
 * shader if that won: one dispatch instead of a region for each row.
 */
#include "broker/gpu/copy.h"

#include <assert.h>

#include "copy.spv.h"

enum {
	WIDE_BYTES = 16,
	WORD_BYTES = 4,
	GROUP_THREADS = 256,
	GROUPS_MAX = 2112, /* measured on an H200: 16 for each of its 132 multiprocessors */
	CHUNK_ROWS = 64,   /* regions in one call */
};

/* copy.comp */
struct copy_arguments {
	uint64_t from; /* address */
	uint64_t to;
	uint32_t row_steps;
	uint32_t rows;
	uint32_t from_stride; /* in steps */
	uint32_t to_stride;
};

#ifdef SLUICE_FAULTS
enum copy_way gpu_test_copy_way;
#endif

int copy_create(struct gpu *gpu)
{
	static const VkBool32 wide = VK_TRUE, word = VK_FALSE;
	static const VkSpecializationMapEntry entry = { .size = sizeof(VkBool32) };
	VkSpecializationInfo constants = { 1, &entry, sizeof(VkBool32), &wide };
	int r = shader_create(gpu, &gpu->copy_wide, copy_spv, sizeof(copy_spv),
		sizeof(struct copy_arguments), &constants);
	if (r < 0)
		return r;
	constants.pData = &word;
	return shader_create(gpu, &gpu->copy_word, copy_spv, sizeof(copy_spv),
		sizeof(struct copy_arguments), &constants);
}

/* --- What is to be copied ----------------------------------------------------------------------*/

/* A plane where both strides are equal is one long row, if the padding of its last row exists. */
static struct region region_of_plane(
	const struct video_format *format, const struct gpu_copy *copy, unsigned plane)
{
	const struct gpu_picture *from = &copy->from, *to = &copy->to;
	struct region r = {
		.from = from->offset[plane],
		.to = to->offset[plane],
		.row_bytes = format_row_bytes(format, plane),
		.rows = format_rows(format, plane),
		.from_stride = from->stride[plane],
		.to_stride = to->stride[plane],
	};
	if (r.from_stride != r.to_stride)
		return r;
	uint64_t whole = (uint64_t)r.from_stride * r.rows;
	uint64_t last = (uint64_t)r.from_stride * (r.rows - 1) + r.row_bytes;
	bool padded = r.from + whole <= from->buffer->size_bytes &&
		      r.to + whole <= to->buffer->size_bytes;
	r.row_bytes = padded ? whole : last;
	r.rows = 1;
	return r;
}

unsigned copy_regions(
	const struct video_format *format, const struct gpu_copy *copy, struct region *regions)
{
	unsigned n = 0;
	for (unsigned p = 0; p < format->n_planes; p++) {
		struct region r = region_of_plane(format, copy, p);
		struct region *last = n ? &regions[n - 1] : NULL;
		if (last && last->rows == 1 && r.rows == 1 &&
			last->from + last->row_bytes == r.from &&
			last->to + last->row_bytes == r.to)
			last->row_bytes += r.row_bytes;
		else
			regions[n++] = r;
	}
	return n;
}

/* --- vkCmdCopyBuffer ---------------------------------------------------------------------------*/

static void copy_by_command(struct gpu *gpu, VkCommandBuffer commands, VkBuffer from, VkBuffer to,
	const struct region *r)
{
	VkBufferCopy rows[CHUNK_ROWS];
	uint32_t n = 0;
	for (uint32_t row = 0; row < r->rows; row++) {
		rows[n++] = (VkBufferCopy){
			.srcOffset = r->from + (uint64_t)row * r->from_stride,
			.dstOffset = r->to + (uint64_t)row * r->to_stride,
			.size = r->row_bytes,
		};
		if (n < CHUNK_ROWS && row + 1 < r->rows)
			continue;
		gpu->vk.CmdCopyBuffer(commands, from, to, n, rows);
		n = 0;
	}
}

/* --- The shader --------------------------------------------------------------------------------*/

static uint64_t end_of(uint64_t offset, uint32_t stride, uint32_t rows, uint64_t row_bytes)
{
	return offset + (uint64_t)(rows - 1) * stride + row_bytes;
}

/*
 * Can rows be copied in steps of so many bytes? A row that is no multiple of them takes some of the
 * padding behind it along.
 */
static bool steps_fit(const struct gpu_copy *copy, const struct region *r, uint32_t step)
{
	uint64_t row_bytes = (r->row_bytes + step - 1) / step * step;
	if ((r->from | r->to) % step != 0)
		return false;
	if (r->rows == 1)
		return true;
	return (r->from_stride | r->to_stride) % step == 0 && row_bytes <= r->from_stride &&
	       row_bytes <= r->to_stride &&
	       end_of(r->from, r->from_stride, r->rows, row_bytes) <=
		       copy->from.buffer->size_bytes &&
	       end_of(r->to, r->to_stride, r->rows, row_bytes) <= copy->to.buffer->size_bytes;
}

static void dispatch(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_copy *copy,
	const struct region *r, uint32_t step)
{
	uint64_t whole = r->rows == 1 ? r->row_bytes : r->row_bytes + step - 1;
	struct copy_arguments arguments = {
		.from = copy->from.buffer->address + r->from,
		.to = copy->to.buffer->address + r->to,
		.row_steps = (uint32_t)(whole / step),
		.rows = r->rows,
		.from_stride = r->from_stride / step,
		.to_stride = r->to_stride / step,
	};
	uint64_t steps = (uint64_t)arguments.row_steps * r->rows;
	uint64_t groups = (steps + GROUP_THREADS - 1) / GROUP_THREADS;
	assert(steps <= UINT32_MAX - (uint64_t)GROUPS_MAX * GROUP_THREADS);
	if (groups == 0)
		return;
	shader_bind(gpu, commands, step == WIDE_BYTES ? &gpu->copy_wide : &gpu->copy_word,
		&arguments, sizeof(arguments));
	gpu->vk.CmdDispatch(commands, groups < GROUPS_MAX ? (uint32_t)groups : GROUPS_MAX, 1, 1);
}

/* False: these places are no multiple of a word. */
static bool copy_by_shader(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_copy *copy,
	const struct region *r)
{
	uint32_t step = steps_fit(copy, r, WIDE_BYTES) ? WIDE_BYTES : WORD_BYTES;
	if (!steps_fit(copy, r, step))
		return false;
	dispatch(gpu, commands, copy, r, step);
	uint64_t rest = r->row_bytes % step;
	if (r->rows > 1 || rest == 0)
		return true;
	struct region tail = {
		.from = r->from + r->row_bytes - rest,
		.to = r->to + r->row_bytes - rest,
		.row_bytes = rest,
		.rows = 1,
	};
	copy_by_command(gpu, commands, copy->from.buffer->buffer, copy->to.buffer->buffer, &tail);
	return true;
}

/* --- Which way ---------------------------------------------------------------------------------*/

static bool wants_shader(const struct gpu *gpu, const struct gpu_copy *copy, const struct region *r)
{
#ifdef SLUICE_FAULTS
	if (gpu_test_copy_way)
		return gpu_test_copy_way == COPY_BY_SHADER;
#endif
	if (!gpu->info.copies_by_shader)
		return false;
	return r->rows > 1 || (!copy->from.buffer->is_host && !copy->to.buffer->is_host);
}

void copy_region(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_copy *copy,
	const struct region *r, enum copy_way way)
{
	if (way == COPY_BY_SHADER && copy_by_shader(gpu, commands, copy, r))
		return;
	copy_by_command(gpu, commands, copy->from.buffer->buffer, copy->to.buffer->buffer, r);
}

void copy_record(struct gpu *gpu, VkCommandBuffer commands, const struct video_format *format,
	const struct gpu_copy *copy)
{
	struct region regions[FORMAT_PLANES_MAX];
	unsigned n = copy_regions(format, copy, regions);
	for (unsigned i = 0; i < n; i++)
		copy_region(gpu, commands, copy, &regions[i],
			wants_shader(gpu, copy, &regions[i]) ? COPY_BY_SHADER : COPY_BY_COMMAND);
}

struct gpu_picture gpu_picture_of(struct gpu_buffer *buffer, const struct video_format *format)
{
	struct gpu_picture picture = { .buffer = buffer };
	for (unsigned p = 0; p < format->n_planes; p++) {
		picture.offset[p] = format->offset[p];
		picture.stride[p] = format->stride[p];
	}
	return picture;
}
