#include "common/stamp.h"

#include <assert.h>
#include <drm_fourcc.h>
#include <string.h>

enum { BLOCK_MAX = 16, BLACK = 16, WHITE = 235, THRESHOLD = 128 };

struct stamp_grid stamp_grid(uint32_t width, uint32_t height)
{
	uint32_t block = width / STAMP_BITS;
	if (block > BLOCK_MAX)
		block = BLOCK_MAX;
	while (block > 1 && block > height / STAMP_BANDS)
		block--;
	/* chroma subsampling and 4:2:2 pairs want even places */
	if (block > 1)
		block &= ~1u;
	return (struct stamp_grid){ block, height / STAMP_BANDS };
}

bool stamp_fits(const struct video_format *format)
{
	return format->width >= STAMP_SIDE_MIN && format->height >= STAMP_SIDE_MIN;
}

/* An 8-bit check that is not linear in single blocks: a torn or shifted band does not pass. */
static uint8_t check_of(uint32_t number)
{
	uint32_t h = number * 0x9e3779b1u;
	h ^= h >> 15;
	h *= 0x85ebca6bu;
	return (uint8_t)((h >> 24) ^ 0x5a);
}

uint64_t stamp_code(uint32_t number)
{
	return (uint64_t)number << 8 | check_of(number);
}

static bool code_bit(uint64_t code, unsigned i)
{
	return code >> (STAMP_BITS - 1 - i) & 1;
}

static void fill_row(uint8_t *row, const struct video_format *format, uint64_t code, uint32_t block)
{
	assert(block > 0);
	for (uint32_t x = 0; x < STAMP_BITS * block; x++) {
		uint8_t value = code_bit(code, x / block) ? WHITE : BLACK;
		switch (format->fourcc) {
		case DRM_FORMAT_NV12:
		case DRM_FORMAT_YUV420:
			row[x] = value;
			break;
		case DRM_FORMAT_YUYV:
			row[(size_t)2 * x] = value;
			row[(size_t)2 * x + 1] = 128;
			break;
		default:
			memset(row + (size_t)4 * x, value, 3);
			row[(size_t)4 * x + 3] = 255;
		}
	}
}

/* Grey chroma under a band, so that the encoder does not smear colour into it. */
static void grey_chroma(uint8_t *pixels, const struct video_format *format, uint32_t y,
	const struct stamp_grid *grid)
{
	for (unsigned p = 1; p < format->n_planes; p++) {
		uint32_t width = format->n_planes == 2 ? STAMP_BITS * grid->block
						       : (STAMP_BITS * grid->block + 1) / 2;
		for (uint32_t row = y / 2; row < (y + grid->block + 1) / 2; row++)
			memset(pixels + format->offset[p] + (size_t)row * format->stride[p], 128,
				width);
	}
}

void stamp_draw(uint8_t *pixels, const struct video_format *format, uint32_t number)
{
	struct stamp_grid grid = stamp_grid(format->width, format->height);
	uint64_t code = stamp_code(number);
	for (unsigned band = 0; band < STAMP_BANDS; band++) {
		uint32_t y = band * grid.pitch;
		uint8_t *row = pixels + (size_t)y * format->stride[0];
		fill_row(row, format, code, grid.block);
		for (uint32_t i = 1; i < grid.block; i++)
			memcpy(row + (size_t)i * format->stride[0], row,
				(size_t)STAMP_BITS * grid.block *
					(format->n_planes > 1 ? 1
							      : format_row_bytes(format, 0) /
									format->width));
		grey_chroma(pixels, format, y, &grid);
	}
}

static bool read_band(const uint8_t *row, unsigned step, uint32_t block, uint32_t *number_out)
{
	uint64_t code = 0;
	for (unsigned i = 0; i < STAMP_BITS; i++) {
		uint32_t x = i * block + block / 2;
		code = code << 1 | (row[(size_t)x * step] > THRESHOLD);
	}
	uint32_t number = (uint32_t)(code >> 8);
	*number_out = number;
	return (uint8_t)code == check_of(number);
}

enum stamp_result stamp_read_rows(const uint8_t *rows, size_t pitch_bytes, unsigned step,
	uint32_t block, uint32_t *number_out)
{
	uint32_t first = 0;
	unsigned good = 0;
	unsigned same = 0;
	for (unsigned band = 0; band < STAMP_BANDS; band++) {
		uint32_t number;
		if (!read_band(rows + band * pitch_bytes, step, block, &number))
			continue;
		if (good++ == 0)
			first = number;
		same += number == first;
	}
	if (good == 0)
		return STAMP_NONE;
	if (good != STAMP_BANDS || same != good)
		return STAMP_TORN;
	*number_out = first;
	return STAMP_OK;
}

enum stamp_result stamp_read_luma(const uint8_t *luma, uint32_t stride, unsigned step,
	uint32_t width, uint32_t height, uint32_t *number_out)
{
	if (width < STAMP_SIDE_MIN || height < STAMP_SIDE_MIN)
		return STAMP_NONE;
	struct stamp_grid grid = stamp_grid(width, height);
	return stamp_read_rows(luma + (size_t)grid.block / 2 * stride, (size_t)grid.pitch * stride,
		step, grid.block, number_out);
}

enum stamp_result stamp_read(
	const uint8_t *pixels, const struct video_format *format, uint32_t *number_out)
{
	const struct format_info *info = format_info(format->fourcc);
	unsigned step = info->bytes[0] >> info->sub_x[0];
	return stamp_read_luma(
		pixels, format->stride[0], step, format->width, format->height, number_out);
}
