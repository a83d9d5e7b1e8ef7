#include "consumer/encoder/convert.h"

#include <errno.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <string.h>
#include <unistd.h>

enum {
	THREADS_MAX = 4,
	THREADED_PIXELS =
		1280 * 720, /* below that, handing out the work costs more than it saves */
	HD_LINES = 720,     /* YUV of unknown matrix: BT.709 from here on, else BT.601 */
	SWS_ONE = 1 << 16,  /* 1.0 in swscale's fixed point */
};

#define FOURCC(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

struct converter {
	struct SwsContext *sws; /* NULL: the formats match, rows are copied */
	AVFrame *source;        /* borrows a frame's planes for one call */
	enum AVPixelFormat format;
	int width, height; /* of the encoder's picture */
};

struct picture_format picture_format_of(const struct sluice_frame *frame)
{
	return (struct picture_format){
		.fourcc = frame->fourcc,
		.width = frame->width,
		.height = frame->height,
		.primaries = frame->primaries,
		.transfer = frame->transfer,
		.matrix = frame->matrix,
		.full_range = frame->full_range,
		.memory = frame->memory,
		.cuda_context = frame->memory == SLUICE_MEMORY_CUDA ? frame->cuda.context : NULL,
	};
}

bool picture_format_equal(const struct picture_format *a, const struct picture_format *b)
{
	return a->fourcc == b->fourcc && a->width == b->width && a->height == b->height &&
	       a->primaries == b->primaries && a->transfer == b->transfer &&
	       a->matrix == b->matrix && a->full_range == b->full_range && a->memory == b->memory &&
	       a->cuda_context == b->cuda_context;
}

static const struct {
	uint32_t fourcc;
	enum AVPixelFormat format;
} formats[] = {
	{ FOURCC('X', 'R', '2', '4'), AV_PIX_FMT_BGR0 },
	{ FOURCC('A', 'R', '2', '4'), AV_PIX_FMT_BGRA },
	{ FOURCC('X', 'B', '2', '4'), AV_PIX_FMT_RGB0 },
	{ FOURCC('A', 'B', '2', '4'), AV_PIX_FMT_RGBA },
	/* FFmpeg has none with two bits of alpha: a picture of a screen does not need them */
	{ FOURCC('X', 'R', '3', '0'), AV_PIX_FMT_X2RGB10LE },
	{ FOURCC('A', 'R', '3', '0'), AV_PIX_FMT_X2RGB10LE },
	{ FOURCC('X', 'B', '3', '0'), AV_PIX_FMT_X2BGR10LE },
	{ FOURCC('A', 'B', '3', '0'), AV_PIX_FMT_X2BGR10LE },
	{ FOURCC('Y', 'U', 'Y', 'V'), AV_PIX_FMT_YUYV422 },
	{ FOURCC('N', 'V', '1', '2'), AV_PIX_FMT_NV12 },
	{ FOURCC('Y', 'U', '1', '2'), AV_PIX_FMT_YUV420P },
	{ FOURCC('P', '0', '1', '0'), AV_PIX_FMT_P010LE },
};

enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

enum AVPixelFormat pixel_format_of(uint32_t fourcc)
{
	for (size_t i = 0; i < N_FORMATS; i++)
		if (formats[i].fourcc == fourcc)
			return formats[i].format;
	return AV_PIX_FMT_NONE;
}

uint32_t pixel_format_fourcc(enum AVPixelFormat format)
{
	for (size_t i = 0; i < N_FORMATS; i++)
		if (formats[i].format == format)
			return formats[i].fourcc;
	return 0;
}

bool pixel_format_is_rgb(enum AVPixelFormat format)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(format);
	return desc && desc->flags & AV_PIX_FMT_FLAG_RGB;
}

/* swscale has names of its own for "the same, in full range"; the tag says it as well. */
static enum AVPixelFormat without_range(enum AVPixelFormat format, bool *is_full_out)
{
	*is_full_out = true;
	switch (format) {
	case AV_PIX_FMT_YUVJ420P:
		return AV_PIX_FMT_YUV420P;
	case AV_PIX_FMT_YUVJ422P:
		return AV_PIX_FMT_YUV422P;
	case AV_PIX_FMT_YUVJ444P:
		return AV_PIX_FMT_YUV444P;
	case AV_PIX_FMT_YUVJ440P:
		return AV_PIX_FMT_YUV440P;
	case AV_PIX_FMT_YUVJ411P:
		return AV_PIX_FMT_YUV411P;
	default:
		*is_full_out = false;
		return format;
	}
}

int convert_known(uint8_t number, int end)
{
	return number > 0 && number < end ? number : AVCOL_PRI_UNSPECIFIED;
}

void convert_choose_colour(const struct picture_format *from, AVCodecContext *ctx)
{
	bool from_rgb = pixel_format_is_rgb(pixel_format_of(from->fourcc));
	bool to_rgb = pixel_format_is_rgb(ctx->pix_fmt);
	bool is_full;
	without_range(ctx->pix_fmt, &is_full);
	ctx->color_primaries = (enum AVColorPrimaries)convert_known(from->primaries, AVCOL_PRI_NB);
	ctx->color_trc =
		(enum AVColorTransferCharacteristic)convert_known(from->transfer, AVCOL_TRC_NB);
	ctx->colorspace = (enum AVColorSpace)convert_known(from->matrix, AVCOL_SPC_NB);
	if (to_rgb)
		ctx->colorspace = AVCOL_SPC_RGB;
	else if (from_rgb)
		ctx->colorspace = from->primaries == AVCOL_PRI_BT2020 ? AVCOL_SPC_BT2020_NCL
								      : AVCOL_SPC_BT709;
	/* JFIF knows no other, whatever a file says */
	if (ctx->codec_id == AV_CODEC_ID_MJPEG && !to_rgb)
		ctx->colorspace = AVCOL_SPC_BT470BG;
	is_full |= to_rgb || (!from_rgb && from->full_range);
	ctx->color_range = is_full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
}

/* The matrix by which YUV of this kind is read or written. */
static const int *coefficients(enum AVColorSpace matrix, uint32_t height)
{
	switch (matrix) {
	case AVCOL_SPC_BT709:
	case AVCOL_SPC_FCC:
	case AVCOL_SPC_BT470BG:
	case AVCOL_SPC_SMPTE170M:
	case AVCOL_SPC_SMPTE240M:
	case AVCOL_SPC_BT2020_NCL:
		return sws_getCoefficients(matrix);
	default:
		return sws_getCoefficients(height >= HD_LINES ? SWS_CS_ITU709 : SWS_CS_ITU601);
	}
}

static int set_colours(
	struct SwsContext *sws, const struct picture_format *from, const AVCodecContext *to)
{
	bool from_rgb = pixel_format_is_rgb(pixel_format_of(from->fourcc));
	bool to_rgb = pixel_format_is_rgb(to->pix_fmt);
	const int *in = coefficients(from_rgb ? to->colorspace : from->matrix, from->height);
	const int *out = to_rgb ? in : coefficients(to->colorspace, from->height);
	return sws_setColorspaceDetails(sws, in, from_rgb || from->full_range, out,
		to->color_range == AVCOL_RANGE_JPEG, 0, SWS_ONE, SWS_ONE);
}

static int threads_for(const AVCodecContext *to)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if ((int64_t)to->width * to->height < THREADED_PIXELS || cores < 1)
		return 1;
	return cores < THREADS_MAX ? (int)cores : THREADS_MAX;
}

static int open_scaler(
	struct converter *c, const struct picture_format *from, const AVCodecContext *to)
{
	bool is_full;
	struct SwsContext *sws = c->sws = sws_alloc_context();
	if (!sws)
		return -ENOMEM;
	/* the same size on both sides: what is cropped is not shown to swscale at all */
	av_opt_set_int(sws, "srcw", to->width, 0);
	av_opt_set_int(sws, "srch", to->height, 0);
	av_opt_set_int(sws, "src_format", c->format, 0);
	av_opt_set_int(sws, "dstw", to->width, 0);
	av_opt_set_int(sws, "dsth", to->height, 0);
	av_opt_set_int(sws, "dst_format", without_range(to->pix_fmt, &is_full), 0);
	av_opt_set_int(sws, "sws_flags", SWS_BILINEAR | SWS_ACCURATE_RND, 0);
	av_opt_set_int(sws, "threads", threads_for(to), 0);
	if (sws_init_context(sws, NULL, NULL) < 0 || set_colours(sws, from, to) < 0)
		return -EOPNOTSUPP;
	return 0;
}

static bool has_same_matrix(const struct picture_format *from, const AVCodecContext *to)
{
	enum { COEFFICIENTS = 4 };
	if (pixel_format_is_rgb(to->pix_fmt) || to->colorspace == (enum AVColorSpace)from->matrix)
		return true;
	return memcmp(coefficients((enum AVColorSpace)from->matrix, from->height),
		       coefficients(to->colorspace, from->height), COEFFICIENTS * sizeof(int)) == 0;
}

static bool needs_scaler(const struct picture_format *from, const AVCodecContext *to)
{
	bool from_full = pixel_format_is_rgb(to->pix_fmt) || from->full_range;
	return pixel_format_of(from->fourcc) != to->pix_fmt ||
	       from_full != (to->color_range == AVCOL_RANGE_JPEG) || !has_same_matrix(from, to);
}

int converter_create(struct converter **converter_out, const struct picture_format *from,
	const AVCodecContext *to, struct problem *problem)
{
	_cleanup_(converter_destroyp) struct converter *c = calloc(1, sizeof(*c));
	if (!c)
		return problem_set(problem, -ENOMEM, "out of memory");
	c->format = pixel_format_of(from->fourcc);
	c->width = to->width;
	c->height = to->height;
	c->source = av_frame_alloc();
	if (!c->source)
		return problem_set(problem, -ENOMEM, "out of memory");
	int r = needs_scaler(from, to) ? open_scaler(c, from, to) : 0;
	if (r < 0)
		return problem_set(problem, r, "%s cannot be converted to %s",
			av_get_pix_fmt_name(c->format), av_get_pix_fmt_name(to->pix_fmt));
	*converter_out = TAKE_PTR(c);
	return 0;
}

/* The library keeps the memory: FFmpeg must neither free nor copy it. */
static void keep(void *opaque, uint8_t *data)
{
	(void)opaque;
	(void)data;
}

static int scale(struct converter *c, const struct sluice_frame *frame, AVFrame *picture)
{
	c->source->buf[0] = av_buffer_create(
		(uint8_t *)frame->data[0], frame->size_bytes, keep, NULL, AV_BUFFER_FLAG_READONLY);
	if (!c->source->buf[0])
		return -ENOMEM;
	c->source->format = c->format;
	c->source->width = c->width;
	c->source->height = c->height;
	for (unsigned i = 0; i < frame->n_planes; i++) {
		c->source->data[i] = (uint8_t *)frame->data[i];
		c->source->linesize[i] = (int)frame->stride[i];
	}
	int r = sws_scale_frame(c->sws, picture, c->source);
	av_frame_unref(c->source);
	return r < 0 ? -EIO : 0;
}

int converter_run(struct converter *converter, const struct sluice_frame *frame, AVFrame *picture)
{
	if (converter->sws)
		return scale(converter, frame, picture);
	const uint8_t *data[4] = { NULL };
	int linesize[4] = { 0 };
	for (unsigned i = 0; i < frame->n_planes && i < 4; i++) {
		data[i] = frame->data[i];
		linesize[i] = (int)frame->stride[i];
	}
	av_image_copy(picture->data, picture->linesize, data, linesize, converter->format,
		converter->width, converter->height);
	return 0;
}

struct converter *converter_destroy(struct converter *converter)
{
	if (!converter)
		return NULL;
	sws_freeContext(converter->sws);
	av_frame_free(&converter->source);
	free(converter);
	return NULL;
}
