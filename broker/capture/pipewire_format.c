/* SPA formats and parameters <-> struct video_format. */
#include "broker/capture/pipewire.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <spa/buffer/meta.h>
#include <spa/param/buffers.h>
#include <spa/param/param.h>
#include <spa/param/video/format-utils.h>

enum { BUFFERS_WANTED = 8, BUFFERS_MIN = 2, BUFFERS_MAX = 32, DAMAGE_ASKED_MAX = 64 };

static const struct {
	enum spa_video_format spa;
	uint32_t fourcc;
} formats[] = {
	{ SPA_VIDEO_FORMAT_BGRx, DRM_FORMAT_XRGB8888 },
	{ SPA_VIDEO_FORMAT_BGRA, DRM_FORMAT_ARGB8888 },
	{ SPA_VIDEO_FORMAT_RGBx, DRM_FORMAT_XBGR8888 },
	{ SPA_VIDEO_FORMAT_RGBA, DRM_FORMAT_ABGR8888 },
	{ SPA_VIDEO_FORMAT_YUY2, DRM_FORMAT_YUYV },
	{ SPA_VIDEO_FORMAT_NV12, DRM_FORMAT_NV12 },
	{ SPA_VIDEO_FORMAT_I420, DRM_FORMAT_YUV420 },
	{ SPA_VIDEO_FORMAT_P010_10LE, DRM_FORMAT_P010 },
	{ SPA_VIDEO_FORMAT_xRGB_210LE, DRM_FORMAT_XRGB2101010 },
	{ SPA_VIDEO_FORMAT_ARGB_210LE, DRM_FORMAT_ARGB2101010 },
	{ SPA_VIDEO_FORMAT_xBGR_210LE, DRM_FORMAT_XBGR2101010 },
	{ SPA_VIDEO_FORMAT_ABGR_210LE, DRM_FORMAT_ABGR2101010 },
	{ SPA_VIDEO_FORMAT_RGBA_F16, DRM_FORMAT_ABGR16161616F },
};

enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

/* SPA's numbers to those of H.273; 0 is SPA's "unknown". */
static const uint8_t primaries[] = {
	[SPA_VIDEO_COLOR_PRIMARIES_BT709] = 1,
	[SPA_VIDEO_COLOR_PRIMARIES_BT470M] = 4,
	[SPA_VIDEO_COLOR_PRIMARIES_BT470BG] = 5,
	[SPA_VIDEO_COLOR_PRIMARIES_SMPTE170M] = 6,
	[SPA_VIDEO_COLOR_PRIMARIES_SMPTE240M] = 7,
	[SPA_VIDEO_COLOR_PRIMARIES_FILM] = 8,
	[SPA_VIDEO_COLOR_PRIMARIES_BT2020] = 9,
};
static const uint8_t transfers[] = {
	[SPA_VIDEO_TRANSFER_GAMMA10] = 8,
	[SPA_VIDEO_TRANSFER_GAMMA22] = 4,
	[SPA_VIDEO_TRANSFER_BT709] = 1,
	[SPA_VIDEO_TRANSFER_SMPTE240M] = 7,
	[SPA_VIDEO_TRANSFER_SRGB] = 13,
	[SPA_VIDEO_TRANSFER_GAMMA28] = 5,
	[SPA_VIDEO_TRANSFER_LOG100] = 9,
	[SPA_VIDEO_TRANSFER_LOG316] = 10,
	[SPA_VIDEO_TRANSFER_BT2020_12] = 15,
};
/* without RGB, which is 0 there and therefore not in a table where 0 is "unknown" */
static const uint8_t matrices[] = {
	[SPA_VIDEO_COLOR_MATRIX_FCC] = 4,
	[SPA_VIDEO_COLOR_MATRIX_BT709] = 1,
	[SPA_VIDEO_COLOR_MATRIX_BT601] = 6,
	[SPA_VIDEO_COLOR_MATRIX_SMPTE240M] = 7,
	[SPA_VIDEO_COLOR_MATRIX_BT2020] = 9,
};

static void map_colour(uint8_t *number, const uint8_t *table, size_t n, unsigned spa)
{
	if (spa < n && table[spa] != 0)
		*number = table[spa];
}

/* What the producer does not say stays as it is usual for the format. */
static void read_colour(struct format_colour *colour, const struct spa_video_info_raw *info)
{
	map_colour(&colour->primaries, primaries, sizeof(primaries), info->color_primaries);
	map_colour(&colour->transfer, transfers, sizeof(transfers), info->transfer_function);
	map_colour(&colour->matrix, matrices, sizeof(matrices), info->color_matrix);
	if (info->color_matrix == SPA_VIDEO_COLOR_MATRIX_RGB)
		colour->matrix = 0;
	if (info->color_range != SPA_VIDEO_COLOR_RANGE_UNKNOWN)
		colour->full_range = info->color_range == SPA_VIDEO_COLOR_RANGE_0_255;
}

int pipewire_parse_format(const struct spa_pod *param, struct video_format *format_out)
{
	uint32_t type = 0, subtype = 0, fourcc = 0;
	struct spa_video_info_raw info = { 0 };
	struct video_format format;
	if (spa_format_parse(param, &type, &subtype) < 0 || type != SPA_MEDIA_TYPE_video ||
		subtype != SPA_MEDIA_SUBTYPE_raw || spa_format_video_raw_parse(param, &info) < 0)
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < N_FORMATS; i++)
		if (formats[i].spa == info.format)
			fourcc = formats[i].fourcc;
	int r = format_layout(fourcc, info.size.width, info.size.height, &format);
	if (r < 0)
		return r;
	read_colour(&format.colour, &info);
	*format_out = format;
	return 0;
}

const struct spa_pod *pipewire_build_formats(struct spa_pod_builder *b)
{
	struct spa_pod_frame object, choice;
	spa_pod_builder_push_object(b, &object, SPA_TYPE_OBJECT_Format, SPA_PARAM_EnumFormat);
	spa_pod_builder_add(b, SPA_FORMAT_mediaType, SPA_POD_Id(SPA_MEDIA_TYPE_video),
		SPA_FORMAT_mediaSubtype, SPA_POD_Id(SPA_MEDIA_SUBTYPE_raw), 0);
	spa_pod_builder_prop(b, SPA_FORMAT_VIDEO_format, 0);
	spa_pod_builder_push_choice(b, &choice, SPA_CHOICE_Enum, 0);
	spa_pod_builder_id(b, formats[0].spa); /* the first is the default, and said twice */
	for (unsigned i = 0; i < N_FORMATS; i++)
		spa_pod_builder_id(b, formats[i].spa);
	spa_pod_builder_pop(b, &choice);
	spa_pod_builder_add(b, SPA_FORMAT_VIDEO_size,
		SPA_POD_CHOICE_RANGE_Rectangle(&SPA_RECTANGLE(1920, 1080), &SPA_RECTANGLE(1, 1),
			&SPA_RECTANGLE(FORMAT_SIDE_MAX, FORMAT_SIDE_MAX)),
		SPA_FORMAT_VIDEO_framerate,
		SPA_POD_CHOICE_RANGE_Fraction(
			&SPA_FRACTION(60, 1), &SPA_FRACTION(0, 1), &SPA_FRACTION(10000, 1)),
		0);
	return spa_pod_builder_pop(b, &object);
}

static const struct spa_pod *build_meta(struct spa_pod_builder *b, uint32_t type, int size)
{
	return spa_pod_builder_add_object(b, SPA_TYPE_OBJECT_ParamMeta, SPA_PARAM_Meta,
		SPA_PARAM_META_type, SPA_POD_Id(type), SPA_PARAM_META_size, SPA_POD_Int(size));
}

unsigned pipewire_build_buffers(
	struct spa_pod_builder *b, const struct spa_pod *params[PIPEWIRE_PARAMS_MAX])
{
	const int region = sizeof(struct spa_meta_region);
	unsigned n = 0;
	params[n++] = spa_pod_builder_add_object(b, SPA_TYPE_OBJECT_ParamBuffers, SPA_PARAM_Buffers,
		SPA_PARAM_BUFFERS_buffers,
		SPA_POD_CHOICE_RANGE_Int(BUFFERS_WANTED, BUFFERS_MIN, BUFFERS_MAX),
		SPA_PARAM_BUFFERS_dataType,
		SPA_POD_CHOICE_FLAGS_Int(1 << SPA_DATA_MemFd | 1 << SPA_DATA_MemPtr));
	params[n++] = build_meta(b, SPA_META_Header, sizeof(struct spa_meta_header));
	params[n++] = build_meta(b, SPA_META_VideoCrop, region);
	params[n++] =
		build_meta(b, SPA_META_VideoTransform, (int)sizeof(struct spa_meta_videotransform));
	params[n++] = spa_pod_builder_add_object(b, SPA_TYPE_OBJECT_ParamMeta, SPA_PARAM_Meta,
		SPA_PARAM_META_type, SPA_POD_Id(SPA_META_VideoDamage), SPA_PARAM_META_size,
		SPA_POD_CHOICE_RANGE_Int(
			region * FRAME_DAMAGE_MAX, region, region * DAMAGE_ASKED_MAX));
	return n;
}
