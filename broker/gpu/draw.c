/* The synthetic source's picture, drawn where it is needed: in the device's memory. */
#include <drm_fourcc.h>

#include "broker/gpu/device.h"
#include "common/stamp.h"

#include "draw.spv.h"

enum { GROUP_THREADS = 64, ROWS_OF_THREAD = 16, WORD_BYTES = 4, STRIPES = 8 };

/* draw.comp */
struct draw_arguments {
	uint64_t to;     /* address of the plane */
	uint32_t stride; /* in words */
	uint32_t row_bytes;
	uint32_t stripe; /* pixels */
	uint32_t shift;
	uint32_t number;
	uint32_t check;
	uint32_t block; /* pixels; 0: no stamp */
	uint32_t pitch;
	uint32_t bands;
	uint32_t rows;
};

static enum row_kind kind_of(uint32_t fourcc, unsigned plane)
{
	switch (fourcc) {
	case DRM_FORMAT_XRGB8888:
	case DRM_FORMAT_ARGB8888:
		return ROW_BGRX;
	case DRM_FORMAT_YUYV:
		return ROW_YUYV;
	case DRM_FORMAT_NV12:
		return plane == 0 ? ROW_LUMA : ROW_CBCR;
	case DRM_FORMAT_P010:
		return plane == 0 ? ROW_LUMA10 : ROW_CBCR10;
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ARGB2101010:
		return ROW_XRGB10;
	case DRM_FORMAT_XBGR2101010:
	case DRM_FORMAT_ABGR2101010:
		return ROW_XBGR10;
	case DRM_FORMAT_XBGR16161616F:
	case DRM_FORMAT_ABGR16161616F:
		return ROW_HALVES;
	case DRM_FORMAT_YUV420:
		return plane == 0 ? ROW_LUMA : plane == 1 ? ROW_CB : ROW_CR;
	default:
		return ROW_RGBX;
	}
}

static int create_shader(struct gpu *gpu, enum row_kind kind)
{
	static const VkSpecializationMapEntry entry = { .size = sizeof(uint32_t) };
	uint32_t number = kind;
	VkSpecializationInfo constants = { 1, &entry, sizeof(number), &number };
	if (gpu->draw[kind].pipeline)
		return 0;
	int r = shader_create(gpu, &gpu->draw[kind], draw_spv, sizeof(draw_spv),
		sizeof(struct draw_arguments), &constants);
	if (r < 0)
		shader_destroy(gpu, &gpu->draw[kind]);
	return r;
}

int draw_prepare(struct gpu *gpu, const struct video_format *format)
{
	int r = 0;
	for (unsigned p = 0; p < format->n_planes && r == 0; p++)
		r = create_shader(gpu, kind_of(format->fourcc, p));
	return r;
}

/* It writes whole words: so places must be multiples of them, and the last row's padding exist. */
bool draw_fits(const struct video_format *format, const struct gpu_picture *picture)
{
	for (unsigned p = 0; p < format->n_planes; p++) {
		uint64_t words = (format_row_bytes(format, p) + WORD_BYTES - 1) / WORD_BYTES;
		uint64_t rows = format_rows(format, p);
		uint64_t end =
			picture->offset[p] + (rows - 1) * picture->stride[p] + words * WORD_BYTES;
		if (picture->offset[p] % WORD_BYTES != 0 || picture->stride[p] % WORD_BYTES != 0 ||
			end > picture->buffer->size_bytes)
			return false;
	}
	return true;
}

/* How many words of a row are drawn: all, or those that the stamp may be in. */
static uint32_t words_of_row(const struct video_format *format, const struct gpu_draw *draw,
	const struct draw_arguments *arguments)
{
	uint64_t bytes = arguments->row_bytes;
	if (draw->only_number && arguments->block > 0)
		bytes = bytes * STAMP_BITS * arguments->block / format->width + WORD_BYTES;
	if (bytes > arguments->row_bytes)
		bytes = arguments->row_bytes;
	return (uint32_t)(bytes + WORD_BYTES - 1) / WORD_BYTES;
}

void draw_record(struct gpu *gpu, VkCommandBuffer commands, const struct video_format *format,
	const struct gpu_draw *draw)
{
	struct stamp_grid grid = stamp_grid(format->width, format->height);
	struct draw_arguments arguments = {
		.stripe = format->width >= STRIPES ? format->width / STRIPES : 1,
		.shift = draw->shift,
		.number = draw->number,
		.check = (uint8_t)stamp_code(draw->number),
		.block = stamp_fits(format) ? grid.block : 0,
		.pitch = grid.pitch > 0 ? grid.pitch : 1,
		.bands = STAMP_BANDS,
	};
	for (unsigned p = 0; p < format->n_planes; p++) {
		arguments.to = draw->to.buffer->address + draw->to.offset[p];
		arguments.stride = draw->to.stride[p] / WORD_BYTES;
		arguments.row_bytes = format_row_bytes(format, p);
		arguments.rows = format_rows(format, p);
		uint32_t words = words_of_row(format, draw, &arguments);
		shader_bind(gpu, commands, &gpu->draw[kind_of(format->fourcc, p)], &arguments,
			sizeof(arguments));
		gpu->vk.CmdDispatch(commands, (words + GROUP_THREADS - 1) / GROUP_THREADS,
			(arguments.rows + ROWS_OF_THREAD - 1) / ROWS_OF_THREAD, 1);
	}
}
