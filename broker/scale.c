#include "broker/scale.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <libavutil/log.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	THREADS_MAX = 4,
	THREADED_PIXELS = 1280 * 720, /* below that handing out the work costs more than it saves */
	HD_HEIGHT = 720,              /* YUV of unknown matrix: BT.709 from here on, else BT.601 */
	RATIO_MAX = 256,              /* of sides: farther apart some filter would not fit */
	SLICE_ROWS = 16,
	HALVES = 1 << 16,    /* half floats that there are */
	LINEAR_TRANSFER = 8, /* H.273 */
	SWS_ONE = 1 << 16,   /* 1.0 in swscale's fixed point */
	FLAGS = SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP,
};

/* How far off a pixel may be where a picture is extended, in source pixels. */
static const double shift_max = 0.1;

struct scaler {
	struct SwsContext *sws;
	struct video_format from_format, to_format;
	struct video_format wide_from, wide_to; /* as libswscale sees them: see extend() */
	uint8_t *wide[2];                       /* pictures of these; NULL: they are the same */
	uint16_t *levels;   /* what 16 bits each half float is; NULL: the source has none, else */
	uint16_t *rows;     /* SLICE_ROWS of RGBA of these, for as many of the source */
	AVFrame *from, *to; /* borrow the planes for one call */
};

static enum AVPixelFormat av_format(uint32_t fourcc)
{
	switch (fourcc) {
	case DRM_FORMAT_XRGB8888:
		return AV_PIX_FMT_BGR0;
	case DRM_FORMAT_ARGB8888:
		return AV_PIX_FMT_BGRA;
	case DRM_FORMAT_XBGR8888:
		return AV_PIX_FMT_RGB0;
	case DRM_FORMAT_ABGR8888:
		return AV_PIX_FMT_RGBA;
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ARGB2101010: /* as a source alone: see is_source_alone() */
		return AV_PIX_FMT_X2RGB10LE;
	case DRM_FORMAT_XBGR2101010:
	case DRM_FORMAT_ABGR2101010:
		return AV_PIX_FMT_X2BGR10LE;
	case DRM_FORMAT_XBGR16161616F: /* as a source alone, unpacked: see run_halves() */
	case DRM_FORMAT_ABGR16161616F:
		return AV_PIX_FMT_RGBA64;
	case DRM_FORMAT_YUYV:
		return AV_PIX_FMT_YUYV422;
	case DRM_FORMAT_NV12:
		return AV_PIX_FMT_NV12;
	case DRM_FORMAT_P010:
		return AV_PIX_FMT_P010LE;
	case DRM_FORMAT_YUV420:
		return AV_PIX_FMT_YUV420P;
	default:
		return AV_PIX_FMT_NONE;
	}
}

static bool is_alpha10(uint32_t fourcc)
{
	return fourcc == DRM_FORMAT_ARGB2101010 || fourcc == DRM_FORMAT_ABGR2101010;
}

static bool has_halves(uint32_t fourcc)
{
	return fourcc == DRM_FORMAT_XBGR16161616F || fourcc == DRM_FORMAT_ABGR16161616F;
}

/* libswscale knows no alpha of two bits, and that of half floats is not unpacked: it is not lost where nobody
 * wants it. */
static bool loses_alpha(uint32_t from, uint32_t to)
{
	bool is_dropped = is_alpha10(from) || from == DRM_FORMAT_ABGR16161616F;
	return is_dropped && (to == DRM_FORMAT_ARGB8888 || to == DRM_FORMAT_ABGR8888);
}

static bool is_source_alone(uint32_t fourcc)
{
	return is_alpha10(fourcc) || has_halves(fourcc);
}

static bool is_too_far(uint32_t from, uint32_t to)
{
	return from / RATIO_MAX > to || to / RATIO_MAX > from;
}

bool scale_can(const struct video_format *from, const struct video_format *to, const char **why_out)
{
	enum AVPixelFormat in = av_format(from->fourcc), out = av_format(to->fourcc);
	const char *why = NULL;
	if (in == AV_PIX_FMT_NONE || out == AV_PIX_FMT_NONE || !sws_isSupportedInput(in) ||
		!sws_isSupportedOutput(out) || is_source_alone(to->fourcc) ||
		loses_alpha(from->fourcc, to->fourcc))
		why = "libswscale does not convert between these formats";
	else if (is_too_far(from->width, to->width) || is_too_far(from->height, to->height))
		why = "the sizes are too far apart";
	if (why && why_out)
		*why_out = why;
	return !why;
}

static bool is_rgb(uint32_t fourcc)
{
	const struct format_info *info = format_info(fourcc);
	return info->n_planes == 1 && info->sub_x[0] == 0;
}

/* For which libswscale can interpolate chroma for each pixel. */
static bool is_rgb8(uint32_t fourcc)
{
	return is_rgb(fourcc) && fourcc != DRM_FORMAT_XRGB2101010 &&
	       fourcc != DRM_FORMAT_XBGR2101010 && !is_alpha10(fourcc);
}

/* The numbers are those of H.273. */
static const int *coefficients(const struct video_format *format)
{
	switch (format->colour.matrix) {
	case SWS_CS_ITU709:
	case 4:
	case 5:
	case 6:
	case 7:
		return sws_getCoefficients(format->colour.matrix);
	case 9:
	case 10:
		return sws_getCoefficients(SWS_CS_BT2020);
	default:
		return sws_getCoefficients(
			format->height >= HD_HEIGHT ? SWS_CS_ITU709 : SWS_CS_ITU601);
	}
}

static bool has_full_range(const struct video_format *format)
{
	return is_rgb(format->fourcc) || format->colour.full_range;
}

static int set_colours(struct scaler *s)
{
	const struct video_format *from = &s->from_format, *to = &s->to_format;
	const int *in = coefficients(is_rgb(from->fourcc) ? to : from);
	const int *out = is_rgb(to->fourcc) ? in : coefficients(to);
	return sws_setColorspaceDetails(
		s->sws, in, has_full_range(from), out, has_full_range(to), 0, SWS_ONE, SWS_ONE);
}

static int threads_for(const struct video_format *from, const struct video_format *to)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t pixels = (uint64_t)from->width * from->height;
	if (has_halves(from->fourcc))
		return 1; /* in slices of rows */
	if (pixels < (uint64_t)to->width * to->height)
		pixels = (uint64_t)to->width * to->height;
	if (pixels < THREADED_PIXELS || cores < 1)
		return 1;
	return cores < THREADS_MAX ? (int)cores : THREADS_MAX;
}

/* The filters that the GPU has: of libswscale's two, that of areas is bilinear on a side that gets longer. */
static int flags_for(const struct video_format *from, const struct video_format *to)
{
	bool is_smaller = to->width < from->width || to->height < from->height;
	return FLAGS | (is_smaller ? SWS_AREA : SWS_BILINEAR) |
	       (is_rgb8(to->fourcc) ? SWS_FULL_CHR_H_INT : 0);
}

/* Sited left: at the first of two pixels, between two rows. */
static void set_siting(
	struct SwsContext *sws, const struct video_format *format, const char *h, const char *v)
{
	enum { BETWEEN = 128 }; /* of 256 for a row */
	const struct format_info *info = format_info(format->fourcc);
	bool has_chroma_plane = info->n_planes > 1;
	if (has_chroma_plane || info->sub_x[0])
		av_opt_set_int(sws, h, 0, 0);
	if (has_chroma_plane && info->sub_y[1])
		av_opt_set_int(sws, v, BETWEEN, 0);
}

/* --- Odd sides -------------------------------------------------------------------------------- */

/*
 * libswscale spreads (n + 1) / 2 samples of chroma over a side of n pixels evenly, although the last one
 * stands for one pixel alone: they are up to a pixel off. So the side is made even, and the source's
 * extended by what that is there, if that is a whole number of pixels or nearly.
 */
static void extend(uint32_t *from, uint32_t *to, unsigned log2)
{
	double wanted = (double)*from * (*to + 1) / *to;
	double whole = floor(wanted + 0.5);
	if (log2 == 0 || *to % 2 == 0 || fabs(wanted - whole) > shift_max ||
		whole > FORMAT_SIDE_MAX || *to == FORMAT_SIDE_MAX)
		return;
	*from = (uint32_t)whole;
	++*to;
}

static int layout_wide(struct scaler *s)
{
	const struct format_info *info = format_info(s->to_format.fourcc);
	unsigned last = info->n_planes - 1;
	struct video_format *from = &s->wide_from, *to = &s->wide_to;
	*from = s->from_format;
	*to = s->to_format;
	extend(&from->width, &to->width, info->sub_x[last]);
	extend(&from->height, &to->height, info->sub_y[last]);
	if (to->width == s->to_format.width && to->height == s->to_format.height)
		return 0;
	struct format_colour from_colour = from->colour, to_colour = to->colour;
	if (format_layout(from->fourcc, from->width, from->height, from) < 0 ||
		format_layout(to->fourcc, to->width, to->height, to) < 0)
		return -EOPNOTSUPP;
	from->colour = from_colour;
	to->colour = to_colour;
	bool by_rows = has_halves(from->fourcc);
	s->wide[0] = by_rows ? NULL : malloc(from->size_bytes);
	s->wide[1] = malloc(to->size_bytes);
	return (by_rows || s->wide[0]) && s->wide[1] ? 0 : -ENOMEM;
}

/* Rows of one plane from one layout to another; what is wider or higher repeats the last of it. */
static void copy_plane(const struct video_format *from, const uint8_t *source,
	const struct video_format *to, uint8_t *pixels, unsigned plane)
{
	unsigned bytes = format_info(from->fourcc)->bytes[plane];
	uint32_t has = format_row_bytes(from, plane), wants = format_row_bytes(to, plane);
	uint32_t rows = format_rows(from, plane);
	for (uint32_t y = 0; y < format_rows(to, plane); y++) {
		uint32_t at = y < rows ? y : rows - 1;
		const uint8_t *in = source + from->offset[plane] + (size_t)at * from->stride[plane];
		uint8_t *out = pixels + to->offset[plane] + (size_t)y * to->stride[plane];
		memcpy(out, in, has < wants ? has : wants);
		for (uint32_t x = has; x < wants; x += bytes)
			memcpy(out + x, in + has - bytes, bytes);
	}
}

static void copy_planes(const struct video_format *from, const uint8_t *source,
	const struct video_format *to, uint8_t *pixels)
{
	for (unsigned p = 0; p < from->n_planes; p++)
		copy_plane(from, source, to, pixels, p);
}

/* --- Half floats ------------------------------------------------------------------------------ */

static double of_half(unsigned half)
{
	int exponent = half >> 10 & 31, fraction = half & 1023;
	if (half & 0x8000 || (exponent == 31 && fraction))
		return 0; /* negative, or no number */
	if (exponent == 31)
		return 1;
	double v = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
	return v < 1 ? v : 1;
}

/* As on a GPU: linear light becomes sRGB. */
static double srgb_of_light(double v)
{
	return v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055;
}

static int prepare_halves(struct scaler *s)
{
	bool is_light = s->from_format.colour.transfer == LINEAR_TRANSFER;
	if (!has_halves(s->from_format.fourcc))
		return 0;
	s->levels = malloc(HALVES * sizeof(*s->levels));
	s->rows = malloc((size_t)SLICE_ROWS * s->wide_from.width * 4 * sizeof(*s->rows));
	if (!s->levels || !s->rows)
		return -ENOMEM;
	for (unsigned half = 0; half < HALVES; half++) {
		double v = of_half(half);
		s->levels[half] = (uint16_t)((is_light ? srgb_of_light(v) : v) * UINT16_MAX + 0.5);
	}
	return 0;
}

/* What is wider repeats the last pixel. */
static void unpack_row(const struct scaler *s, const uint8_t *in, uint16_t *out)
{
	uint32_t last = s->from_format.width - 1;
	for (uint32_t x = 0; x < s->wide_from.width; x++, out += 4) {
		uint16_t half[4];
		memcpy(half, in + (size_t)(x < last ? x : last) * sizeof(half), sizeof(half));
		for (unsigned i = 0; i < 3; i++)
			out[i] = s->levels[half[i]];
		out[3] = UINT16_MAX;
	}
}

/* A few rows at a time: a picture of 16 bits beside the slots would be one that no budget knows. */
static int run_halves(struct scaler *s, const uint8_t *from, uint8_t *to)
{
	const struct video_format *in = &s->from_format, *out = &s->wide_to;
	int stride = (int)((size_t)s->wide_from.width * 4 * sizeof(*s->rows)), strides[4] = { 0 };
	const uint8_t *slice = (const uint8_t *)s->rows;
	uint8_t *planes[4] = { NULL };
	for (unsigned p = 0; p < out->n_planes; p++) {
		planes[p] = to + out->offset[p];
		strides[p] = (int)out->stride[p];
	}
	uint32_t n, last = in->height - 1;
	for (uint32_t y = 0; y < s->wide_from.height; y += n) {
		n = s->wide_from.height - y < SLICE_ROWS ? s->wide_from.height - y : SLICE_ROWS;
		for (uint32_t i = 0; i < n; i++) {
			uint32_t at = y + i < last ? y + i : last;
			unpack_row(s, from + in->offset[0] + (size_t)at * in->stride[0],
				s->rows + (size_t)i * s->wide_from.width * 4);
		}
		if (sws_scale(s->sws, &slice, &stride, (int)y, (int)n, planes, strides) < 0)
			return -EIO;
	}
	return 0;
}

/* --- Life ------------------------------------------------------------------------------------- */

static int open_context(struct scaler *s)
{
	const struct video_format *from = &s->wide_from, *to = &s->wide_to;
	av_log_set_level(AV_LOG_QUIET); /* what it refuses is said by us */
	struct SwsContext *sws = s->sws = sws_alloc_context();
	if (!sws)
		return -ENOMEM;
	av_opt_set_int(sws, "srcw", from->width, 0);
	av_opt_set_int(sws, "srch", from->height, 0);
	av_opt_set_int(sws, "src_format", av_format(from->fourcc), 0);
	av_opt_set_int(sws, "dstw", to->width, 0);
	av_opt_set_int(sws, "dsth", to->height, 0);
	av_opt_set_int(sws, "dst_format", av_format(to->fourcc), 0);
	av_opt_set_int(sws, "sws_flags", flags_for(from, to), 0);
	av_opt_set_int(sws, "threads", threads_for(from, to), 0);
	/* before it chooses how: of one format to the same it copies planes where the range stays */
	av_opt_set_int(sws, "src_range", has_full_range(from), 0);
	av_opt_set_int(sws, "dst_range", has_full_range(to), 0);
	set_siting(sws, from, "src_h_chr_pos", "src_v_chr_pos");
	set_siting(sws, to, "dst_h_chr_pos", "dst_v_chr_pos");
	if (sws_init_context(sws, NULL, NULL) < 0 || set_colours(s) < 0)
		return -EOPNOTSUPP;
	return 0;
}

int scaler_create(
	struct scaler **scaler_out, const struct video_format *from, const struct video_format *to)
{
	_cleanup_(scaler_destroyp) struct scaler *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->from_format = *from;
	s->to_format = *to;
	s->from = av_frame_alloc();
	s->to = av_frame_alloc();
	if (!s->from || !s->to)
		return -ENOMEM;
	int r = layout_wide(s);
	if (r == 0)
		r = prepare_halves(s);
	if (r == 0)
		r = open_context(s);
	if (r < 0)
		return r;
	*scaler_out = TAKE_PTR(s);
	return 0;
}

bool scaler_fits(
	const struct scaler *s, const struct video_format *from, const struct video_format *to)
{
	return format_equal(&s->from_format, from) && format_equal(&s->to_format, to);
}

/* The memory is the caller's: FFmpeg must neither free nor copy it. */
static void keep(void *opaque, uint8_t *data)
{
	(void)opaque;
	(void)data;
}

static int lend(AVFrame *frame, const struct video_format *format, uint8_t *pixels, int flags)
{
	frame->buf[0] = av_buffer_create(pixels, format->size_bytes, keep, NULL, flags);
	if (!frame->buf[0])
		return -ENOMEM;
	frame->format = av_format(format->fourcc);
	frame->width = (int)format->width;
	frame->height = (int)format->height;
	for (unsigned p = 0; p < format->n_planes; p++) {
		frame->data[p] = pixels + format->offset[p];
		frame->linesize[p] = (int)format->stride[p];
	}
	return 0;
}

static int run(struct scaler *s, const uint8_t *from, uint8_t *to)
{
	int r = lend(s->from, &s->wide_from, (uint8_t *)from, AV_BUFFER_FLAG_READONLY);
	if (r == 0)
		r = lend(s->to, &s->wide_to, to, 0);
	if (r == 0 && sws_scale_frame(s->sws, s->to, s->from) < 0)
		r = -EIO;
	av_frame_unref(s->from);
	av_frame_unref(s->to);
	return r;
}

int scaler_run(struct scaler *s, const uint8_t *from, uint8_t *to)
{
	uint8_t *made = s->wide[1] ? s->wide[1] : to;
	if (s->wide[0])
		copy_planes(&s->from_format, from, &s->wide_from, s->wide[0]);
	int r = s->levels ? run_halves(s, from, made)
			  : run(s, s->wide[0] ? s->wide[0] : from, made);
	if (r == 0 && s->wide[1])
		copy_planes(&s->wide_to, s->wide[1], &s->to_format, to);
	return r;
}

struct scaler *scaler_destroy(struct scaler *s)
{
	if (!s)
		return NULL;
	sws_freeContext(s->sws);
	av_frame_free(&s->from);
	av_frame_free(&s->to);
	free(s->wide[0]);
	free(s->wide[1]);
	free(s->levels);
	free(s->rows);
	free(s);
	return NULL;
}
