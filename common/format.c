#include "common/format.h"

#include <ctype.h>
#include <drm_fourcc.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* H.273: 1 = BT.709, 2 = unspecified, 13 = sRGB transfer; matrix 0 = RGB */
enum { BT709 = 1, UNSPECIFIED = 2, SRGB_TRANSFER = 13, MATRIX_RGB = 0 };

/* clang-format off */
static const struct format_info table[] = {
	{ DRM_FORMAT_XRGB8888, "BGRx", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_ARGB8888, "BGRA", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_XBGR8888, "RGBx", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_ABGR8888, "RGBA", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_YUYV,     "YUY2", 1, { 4 }, { 1 }, { 0 } },
	{ DRM_FORMAT_NV12,     "NV12", 2, { 1, 2 }, { 0, 1 }, { 0, 1 } },
	{ DRM_FORMAT_YUV420,   "I420", 3, { 1, 1, 1 }, { 0, 1, 1 }, { 0, 1, 1 } },
	{ DRM_FORMAT_P010,     "P010", 2, { 2, 4 }, { 0, 1 }, { 0, 1 } },
	{ DRM_FORMAT_XRGB2101010, "xRGB_210LE", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_ARGB2101010, "ARGB_210LE", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_XBGR2101010, "xBGR_210LE", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_ABGR2101010, "ABGR_210LE", 1, { 4 }, { 0 }, { 0 } },
	{ DRM_FORMAT_XBGR16161616F, "RGBx_F16", 1, { 8 }, { 0 }, { 0 } },
	{ DRM_FORMAT_ABGR16161616F, "RGBA_F16", 1, { 8 }, { 0 }, { 0 } },
};
/* clang-format on */

enum { N_FORMATS = sizeof(table) / sizeof(table[0]) };

const struct format_info *format_info(uint32_t fourcc)
{
	for (unsigned i = 0; i < N_FORMATS; i++)
		if (table[i].fourcc == fourcc)
			return &table[i];
	return NULL;
}

static bool is_spelled(const char *name, uint32_t fourcc)
{
	bool same = strlen(name) == 4;
	for (unsigned i = 0; i < 4 && same; i++)
		same = toupper((unsigned char)name[i]) == toupper((int)(fourcc >> (8 * i) & 0xff));
	return same;
}

const struct format_info *format_info_by_name(const char *name)
{
	for (unsigned i = 0; i < N_FORMATS; i++)
		if (strcasecmp(table[i].name, name) == 0)
			return &table[i];
	for (unsigned i = 0; i < N_FORMATS; i++)
		if (is_spelled(name, table[i].fourcc))
			return &table[i];
	return NULL;
}

char *format_names(char *buf, size_t size)
{
	size_t used = 0;
	buf[0] = 0;
	for (unsigned i = 0; i < N_FORMATS && used < size; i++) {
		const char *before = i == 0 ? "" : i + 1 < N_FORMATS ? ", " : " or ";
		used += (size_t)snprintf(buf + used, size - used, "%s%s", before, table[i].name);
	}
	return buf;
}

const struct format_info *format_info_at(unsigned i)
{
	return i < N_FORMATS ? &table[i] : NULL;
}

char *format_describe(const struct video_format *format, char *buf, size_t size)
{
	const struct format_info *info = format_info(format->fourcc);
	char letters[5] = { 0 };
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)(format->fourcc >> (8 * i));
		letters[i] = (char)(isprint(c) ? c : '?');
	}
	snprintf(buf, size, "%s %ux%u", info ? info->name : letters, format->width, format->height);
	return buf;
}

static uint32_t divide_up(uint32_t n, unsigned log2)
{
	return (n + (1u << log2) - 1) >> log2;
}

uint32_t format_row_bytes(const struct video_format *format, unsigned plane)
{
	const struct format_info *info = format_info(format->fourcc);
	return divide_up(format->width, info->sub_x[plane]) * info->bytes[plane];
}

uint32_t format_rows(const struct video_format *format, unsigned plane)
{
	return divide_up(format->height, format_info(format->fourcc)->sub_y[plane]);
}

static uint32_t align_up(uint32_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

static struct format_colour usual_colour(const struct format_info *info)
{
	bool is_rgb = info->n_planes == 1 && info->sub_x[0] == 0;
	if (is_rgb)
		return (struct format_colour){ BT709, SRGB_TRANSFER, MATRIX_RGB, true };
	return (struct format_colour){ UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, false };
}

int format_layout(uint32_t fourcc, uint32_t width, uint32_t height, struct video_format *format_out)
{
	const struct format_info *info = format_info(fourcc);
	if (!info)
		return -EOPNOTSUPP;
	if (width == 0 || height == 0 || width > FORMAT_SIDE_MAX || height > FORMAT_SIDE_MAX)
		return -ERANGE;
	struct video_format f = {
		.fourcc = fourcc,
		.width = width,
		.height = height,
		.n_planes = info->n_planes,
		.colour = usual_colour(info),
	};
	/* I420's chroma planes have half the stride: aligned too if the luma stride is twice as round */
	uint32_t align = info->n_planes == 3 ? 2 * FORMAT_STRIDE_ALIGN : FORMAT_STRIDE_ALIGN;
	uint32_t stride = align_up(format_row_bytes(&f, 0), align);
	for (unsigned p = 0; p < f.n_planes; p++) {
		f.stride[p] = info->n_planes == 3 && p > 0 ? stride / 2 : stride;
		f.offset[p] = (uint32_t)f.size_bytes;
		f.size_bytes += (uint64_t)f.stride[p] * format_rows(&f, p);
	}
	*format_out = f;
	return 0;
}

int format_check(const struct video_format *format)
{
	struct video_format sound;
	int r = format_layout(format->fourcc, format->width, format->height, &sound);
	if (r < 0)
		return r;
	if (format->n_planes != sound.n_planes)
		return -EPROTO;
	for (unsigned p = 0; p < format->n_planes; p++) {
		if (format->stride[p] < format_row_bytes(format, p))
			return -EPROTO;
		uint64_t rows = format_rows(format, p);
		uint64_t end = format->offset[p] + (rows - 1) * format->stride[p] +
			       format_row_bytes(format, p);
		if (end > format->size_bytes)
			return -EPROTO;
	}
	return 0;
}

bool format_equal(const struct video_format *a, const struct video_format *b)
{
	if (a->fourcc != b->fourcc || a->width != b->width || a->height != b->height ||
		a->n_planes != b->n_planes || a->size_bytes != b->size_bytes)
		return false;
	if (memcmp(&a->colour, &b->colour, sizeof(a->colour)) != 0)
		return false;
	for (unsigned p = 0; p < a->n_planes; p++)
		if (a->offset[p] != b->offset[p] || a->stride[p] != b->stride[p])
			return false;
	return true;
}
