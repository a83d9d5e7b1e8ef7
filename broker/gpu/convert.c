/*
 * Pictures in another format and size: a copy where nothing changes, convert.comp for what encoders ask
 * for in the source's size, resample.comp for the rest. One dispatch each.
 */
#include "broker/gpu/convert.h"

#include <assert.h>
#include <drm_fourcc.h>

#include "convert.spv.h"
#include "resample.spv.h"

enum {
	GROUP_COLUMNS = 32, /* threads; of both shaders */
	QUICK_GROUP_ROWS = 8,
	QUICK_SIDE = 4, /* pixels of a thread, across and down */
	GROUP_ROWS = 4,
	WORD_BYTES = 4,
	WIDE_BYTES = 16,
	SUMS = 32,       /* what convert.comp's filter of chroma adds up to */
	SHRINK_MAX = 64, /* a thread reads as many samples across, twice as many for chroma */
};

/* --- What can be made --------------------------------------------------------------------------*/

static bool is_rgb(const struct video_format *format)
{
	return convert_kind_of(format) <= KIND_LIGHT;
}

static const char *why_not_size(const struct video_format *from, const struct video_format *to)
{
	struct video_format sound;
	if (format_layout(from->fourcc, from->width, from->height, &sound) < 0 ||
		format_layout(to->fourcc, to->width, to->height, &sound) < 0)
		return "width and height go from 1 to 16384, of formats that are known";
	if ((uint64_t)to->width * SHRINK_MAX < from->width ||
		(uint64_t)to->height * SHRINK_MAX < from->height)
		return "a side can be made smaller by a factor of 64 at most";
	return NULL;
}

static const char *why_not(const struct video_format *from, const struct video_format *to)
{
	struct convert_arguments arguments;
	const char *size = why_not_size(from, to);
	if (size)
		return size;
	if (convert_is_copy(from, to))
		return NULL;
	if (convert_kind_of(from) == CONVERT_KINDS || convert_kind_of(to) == CONVERT_KINDS)
		return "the GPU converts between RGB of 8 bits, 2:10:10:10 and half floats, NV12, "
		       "P010 and I420; YUY2 is only copied";
	if (convert_kind_of(to) == KIND_LIGHT && convert_kind_of(from) != KIND_LIGHT)
		return "the GPU makes no linear light";
	if (!is_rgb(from) && is_rgb(to))
		return "the GPU makes no RGB of YUV";
	if (!is_rgb(from) && from->colour.matrix != to->colour.matrix)
		return "the matrix of YUV cannot be changed";
	if (!convert_colours(from, to, &arguments))
		return "YUV is made of RGB by the matrix of BT.709 (1), BT.601 (5 or 6), BT.2020 (9), "
		       "FCC (4) or SMPTE 240M (7)";
	return NULL;
}

bool gpu_can_convert(
	const struct video_format *from, const struct video_format *to, const char **why_out)
{
	const char *why = why_not(from, to);
	if (why && why_out)
		*why_out = why;
	return !why;
}

/* Whole words are read, and written but for the last of a row. */
static bool lies_at_words(const struct video_format *format, const struct gpu_picture *picture)
{
	for (unsigned p = 0; p < format->n_planes; p++) {
		uint64_t words = (format_row_bytes(format, p) + WORD_BYTES - 1) / WORD_BYTES;
		uint64_t end = (uint64_t)(format_rows(format, p) - 1) * picture->stride[p] +
			       words * WORD_BYTES;
		if (picture->offset[p] % WORD_BYTES != 0 || picture->stride[p] % WORD_BYTES != 0 ||
			end > UINT32_MAX || picture->offset[p] + end > picture->buffer->size_bytes)
			return false;
	}
	return format->n_planes < 3 || picture->stride[1] == picture->stride[2];
}

bool convert_fits(const struct gpu_convert *convert)
{
	if (convert_is_copy(convert->from_format, convert->to_format))
		return true;
	return lies_at_words(convert->from_format, &convert->from) &&
	       lies_at_words(convert->to_format, &convert->to);
}

/* --- Pipelines ---------------------------------------------------------------------------------*/

/* Is it convert.comp's? */
static bool is_quick(const struct gpu_convert *convert)
{
	const struct video_format *from = convert->from_format, *to = convert->to_format;
	enum convert_kind kind = convert_kind_of(from);
	return (kind == KIND_WORD8 || kind == KIND_WORD10) && from->colour.full_range &&
	       !is_rgb(to) && from->width == to->width && from->height == to->height;
}

/* Do all rows lie at multiples of 16 bytes? */
static bool is_wide(const struct gpu_convert *convert)
{
	const struct gpu_picture *pictures[] = { &convert->from, &convert->to };
	unsigned n_planes[] = { convert->from_format->n_planes, convert->to_format->n_planes };
	uint64_t bits = 0;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned p = 0; p < n_planes[i]; p++)
			bits |= (pictures[i]->buffer->address + pictures[i]->offset[p]) |
				pictures[i]->stride[p];
	return bits % WIDE_BYTES == 0;
}

/* A target's linear light is what was there, or is not known to be: nothing is applied to it. */
static enum convert_kind source_kind(const struct gpu_convert *convert)
{
	enum convert_kind from = convert_kind_of(convert->from_format);
	bool stays = convert_kind_of(convert->to_format) == KIND_LIGHT;
	return from == KIND_LIGHT && stays ? KIND_HALVES : from;
}

static enum convert_kind target_kind(const struct gpu_convert *convert)
{
	enum convert_kind to = convert_kind_of(convert->to_format);
	return to == KIND_LIGHT ? KIND_HALVES : to;
}

static struct shader *shader_of(struct gpu *gpu, const struct gpu_convert *convert)
{
	enum convert_kind from = source_kind(convert), to = target_kind(convert);
	if (is_quick(convert))
		return &gpu->convert_quick[is_wide(convert)][from][to];
	return &gpu->convert[from][to];
}

int convert_prepare(struct gpu *gpu, const struct gpu_convert *convert)
{
	static const VkSpecializationMapEntry entries[] = {
		{ .constantID = 0, .offset = 0, .size = 4 },
		{ .constantID = 1, .offset = 4, .size = 4 },
		{ .constantID = 2, .offset = 8, .size = 4 },
	};
	if (convert_is_copy(convert->from_format, convert->to_format))
		return 0;
	bool quick = is_quick(convert);
	uint32_t values[] = { source_kind(convert), target_kind(convert), is_wide(convert) };
	VkSpecializationInfo constants = { quick ? 3 : 2, entries, sizeof(values), values };
	struct shader *shader = shader_of(gpu, convert);
	if (shader->pipeline)
		return 0;
	int r = shader_create(gpu, shader, quick ? convert_spv : resample_spv,
		quick ? sizeof(convert_spv) : sizeof(resample_spv),
		sizeof(struct convert_arguments), &constants);
	if (r < 0)
		shader_destroy(gpu, shader);
	return r;
}

/* --- Recording ---------------------------------------------------------------------------------*/

static void place(const struct video_format *format, const struct gpu_picture *picture,
	uint64_t address[3], uint32_t stride[2], uint32_t *size_out)
{
	for (unsigned p = 0; p < format->n_planes; p++) {
		address[p] = picture->buffer->address + picture->offset[p];
		stride[p > 0] = picture->stride[p] / WORD_BYTES;
	}
	*size_out = format->width | format->height << 16;
}

/* It adds up before it divides, and rounds by cutting off. */
static void adapt_to_quick(struct convert_arguments *a)
{
	for (unsigned row = 0; row < 3; row++) {
		for (unsigned column = 0; column < 3 && row > 0; column++)
			a->rows[row][column] /= SUMS;
		a->rows[row][3] += 0.5F;
	}
}

static uint32_t divide_up(uint32_t n, uint32_t by)
{
	return (n + by - 1) / by;
}

static void dispatch_quick(struct gpu *gpu, VkCommandBuffer commands, const struct video_format *to)
{
	/* two blocks beside each other are eight pixels, four samples of chroma, a word */
	uint32_t columns = to->fourcc == DRM_FORMAT_YUV420 ? 2 * QUICK_SIDE : QUICK_SIDE;
	gpu->vk.CmdDispatch(commands, divide_up(to->width, columns * GROUP_COLUMNS),
		divide_up(to->height, QUICK_SIDE * QUICK_GROUP_ROWS), 1);
}

static void dispatch(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_convert *convert)
{
	const struct video_format *to = convert->to_format;
	/* threads of a row of the widest plane, which for 4:2:0 of odd widths is that of chroma */
	uint32_t row_bytes = format_row_bytes(to, to->n_planes == 2 ? 1 : 0);
	uint32_t columns = is_rgb(to) ? to->width : divide_up(row_bytes, WORD_BYTES);
	gpu->vk.CmdDispatch(commands, divide_up(columns, GROUP_COLUMNS),
		divide_up(to->height, GROUP_ROWS), to->n_planes);
}

void convert_record(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_convert *convert)
{
	if (convert_is_copy(convert->from_format, convert->to_format)) {
		struct gpu_copy copy = { .from = convert->from, .to = convert->to };
		copy_record(gpu, commands, convert->to_format, &copy);
		return;
	}
	struct convert_arguments a = { 0 };
	bool known = convert_colours(convert->from_format, convert->to_format, &a);
	assert(known);
	place(convert->from_format, &convert->from, a.from, a.from_stride, &a.from_size);
	place(convert->to_format, &convert->to, a.to, a.to_stride, &a.to_size);
	if (is_quick(convert))
		adapt_to_quick(&a);
	shader_bind(gpu, commands, shader_of(gpu, convert), &a, sizeof(a));
	if (is_quick(convert))
		dispatch_quick(gpu, commands, convert->to_format);
	else
		dispatch(gpu, commands, convert);
}

void convert_destroy(struct gpu *gpu)
{
	for (unsigned from = 0; from < CONVERT_KINDS; from++)
		for (unsigned to = 0; to < CONVERT_KINDS; to++) {
			shader_destroy(gpu, &gpu->convert[from][to]);
			shader_destroy(gpu, &gpu->convert_quick[0][from][to]);
			shader_destroy(gpu, &gpu->convert_quick[1][from][to]);
		}
}
