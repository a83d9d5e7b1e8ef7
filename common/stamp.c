#include "common/stamp.h"

#include <assert.h>
#include <drm_fourcc.h>
#include <string.h>

#include "common/pixel.h"

enum { BLOCK_MAX = 16, BLACK = 16, WHITE = 235, THRESHOLD = 128, GREY = 128 };

/* Where the brightness of a pixel is found, and how many bits it has. */
enum sample_kind {
	SAMPLE_BYTE,
	SAMPLE_P010,  /* the upper byte of two */
	SAMPLE_GREEN, /* of 2:10:10:10: always in the middle */
	SAMPLE_HALF,
};

static enum sample_kind sample_kind(uint32_t fourcc)
{
	switch (fourcc) {
	case DRM_FORMAT_P010:
		return SAMPLE_P010;
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ARGB2101010:
	case DRM_FORMAT_XBGR2101010:
	case DRM_FORMAT_ABGR2101010:
		return SAMPLE_GREEN;
	case DRM_FORMAT_XBGR16161616F:
	case DRM_FORMAT_ABGR16161616F:
		return SAMPLE_HALF;
	default:
		return SAMPLE_BYTE;
	}
}

unsigned stamp_step(uint32_t fourcc)
{
	const struct format_info *info = format_info(fourcc);
	return info->bytes[0] >> info->sub_x[0];
}

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
	size_t step = stamp_step(format->fourcc);
	for (uint32_t x = 0; x < STAMP_BITS * block; x++) {
		uint8_t value = code_bit(code, x / block) ? WHITE : BLACK;
		uint8_t *px = row + x * step;
		switch (format->fourcc) {
		case DRM_FORMAT_NV12:
		case DRM_FORMAT_YUV420:
			*px = value;
			break;
		case DRM_FORMAT_YUYV:
			px[0] = value;
			px[1] = GREY;
			break;
		case DRM_FORMAT_P010:
			px[0] = 0;
			px[1] = value;
			break;
		default:
			pixel_put_rgb(px, format->fourcc, value, value, value);
		}
	}
}

static void grey_row(uint8_t *row, uint32_t samples, bool is_p010)
{
	if (!is_p010) {
		memset(row, GREY, samples);
		return;
	}
	for (uint32_t i = 0; i < samples; i++) {
		row[2 * i] = 0;
		row[2 * i + 1] = GREY;
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
			grey_row(pixels + format->offset[p] + (size_t)row * format->stride[p],
				width, format->fourcc == DRM_FORMAT_P010);
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
				(size_t)STAMP_BITS * grid.block * stamp_step(format->fourcc));
		grey_chroma(pixels, format, y, &grid);
	}
}

static bool is_white(const uint8_t *sample, enum sample_kind kind)
{
	enum { HALF_OF_HALF = 0x3800, HALF_SIGN = 0x8000 };
	uint32_t green;
	uint16_t half;
	switch (kind) {
	case SAMPLE_P010:
		return sample[1] > THRESHOLD;
	case SAMPLE_GREEN:
		memcpy(&green, sample, sizeof(green));
		return (green >> 12 & 0xff) > THRESHOLD;
	case SAMPLE_HALF:
		memcpy(&half, sample, sizeof(half));
		return half > HALF_OF_HALF && !(half & HALF_SIGN);
	default:
		return *sample > THRESHOLD;
	}
}

/* The middle of each band's blocks: rows pitch_bytes apart, samples step bytes. */
struct reading {
	const uint8_t *rows;
	size_t pitch_bytes;
	enum sample_kind kind;
	unsigned step;
	uint32_t block;
};

static bool read_band(const struct reading *r, unsigned band, uint32_t *number_out)
{
	const uint8_t *row = r->rows + band * r->pitch_bytes;
	uint64_t code = 0;
	for (unsigned i = 0; i < STAMP_BITS; i++) {
		uint32_t x = i * r->block + r->block / 2;
		code = code << 1 | is_white(row + (size_t)x * r->step, r->kind);
	}
	uint32_t number = (uint32_t)(code >> 8);
	*number_out = number;
	return (uint8_t)code == check_of(number);
}

static enum stamp_result read_all(const struct reading *r, uint32_t *number_out)
{
	uint32_t first = 0;
	unsigned good = 0;
	unsigned same = 0;
	for (unsigned band = 0; band < STAMP_BANDS; band++) {
		uint32_t number;
		if (!read_band(r, band, &number))
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

enum stamp_result stamp_read_rows(const uint8_t *rows, size_t pitch_bytes, uint32_t fourcc,
	uint32_t block, uint32_t *number_out)
{
	struct reading reading = { rows, pitch_bytes, sample_kind(fourcc), stamp_step(fourcc),
		block };
	return read_all(&reading, number_out);
}

enum stamp_result stamp_read_luma(const uint8_t *luma, uint32_t stride, unsigned step,
	uint32_t width, uint32_t height, uint32_t *number_out)
{
	if (width < STAMP_SIDE_MIN || height < STAMP_SIDE_MIN)
		return STAMP_NONE;
	struct stamp_grid grid = stamp_grid(width, height);
	struct reading reading = {
		.rows = luma + (size_t)grid.block / 2 * stride,
		.pitch_bytes = (size_t)grid.pitch * stride,
		.kind = SAMPLE_BYTE,
		.step = step,
		.block = grid.block,
	};
	return read_all(&reading, number_out);
}

enum stamp_result stamp_read(
	const uint8_t *pixels, const struct video_format *format, uint32_t *number_out)
{
	if (!stamp_fits(format))
		return STAMP_NONE;
	struct stamp_grid grid = stamp_grid(format->width, format->height);
	return stamp_read_rows(pixels + (size_t)grid.block / 2 * format->stride[0],
		(size_t)grid.pitch * format->stride[0], format->fourcc, grid.block, number_out);
}
