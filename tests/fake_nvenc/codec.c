/* What NVENC's silicon does, by libx264 through libavcodec. */
#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake_nvenc/fake_nvenc.h"

struct codec {
	AVCodecContext *ctx;
	struct SwsContext *sws; /* NULL: it takes the pictures as they are, or there was none yet */
	NV_ENC_BUFFER_FORMAT format; /* of what the scaler is for; 0: there was none yet */
	AVFrame *out;
	AVPacket *packet;
	int64_t pts;
};

static enum AVPixelFormat pixel_format(NV_ENC_BUFFER_FORMAT format)
{
	switch (format) {
	case NV_ENC_BUFFER_FORMAT_ARGB:
		return AV_PIX_FMT_BGR0;
	case NV_ENC_BUFFER_FORMAT_ABGR:
		return AV_PIX_FMT_RGB0;
	case NV_ENC_BUFFER_FORMAT_NV12:
		return AV_PIX_FMT_NV12;
	case NV_ENC_BUFFER_FORMAT_YUV420_10BIT:
		return AV_PIX_FMT_P010;
	case NV_ENC_BUFFER_FORMAT_YV12:
		return AV_PIX_FMT_YUV420P; /* with its chroma planes swapped: see below */
	default:
		return AV_PIX_FMT_NONE;
	}
}

static void set_colour(AVCodecContext *ctx, const NV_ENC_CONFIG_H264_VUI_PARAMETERS *vui)
{
	ctx->color_primaries = (enum AVColorPrimaries)vui->colourPrimaries;
	ctx->color_trc = (enum AVColorTransferCharacteristic)vui->transferCharacteristics;
	ctx->colorspace = (enum AVColorSpace)vui->colourMatrix;
	ctx->color_range = vui->videoFullRangeFlag ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
}

static void set_parameters(AVCodecContext *ctx, const NV_ENC_INITIALIZE_PARAMS *params)
{
	const NV_ENC_CONFIG_H264 *config = &params->encodeConfig->encodeCodecConfig.h264Config;
	set_colour(ctx, &config->h264VUIParameters);
	if (config->disableSPSPPS)
		ctx->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
	ctx->width = (int)params->encodeWidth;
	ctx->height = (int)params->encodeHeight;
	ctx->time_base = (AVRational){ 1, 1000 };
	ctx->gop_size = (int)params->encodeConfig->gopLength;
	ctx->max_b_frames = 0;
	ctx->thread_count = 1;
	ctx->sample_aspect_ratio = (AVRational){ 1, 1 };
	av_opt_set(ctx->priv_data, "preset", "ultrafast", 0);
	av_opt_set(ctx->priv_data, "tune", "zerolatency", 0);
	av_opt_set(ctx->priv_data, "crf", "10", 0);
	av_opt_set(ctx->priv_data, "forced-idr", "1", 0);
}

static bool open_scaler(struct codec *c, enum AVPixelFormat from)
{
	const AVCodecContext *ctx = c->ctx;
	if (from == ctx->pix_fmt)
		return true;
	c->sws = sws_getContext(ctx->width, ctx->height, from, ctx->width, ctx->height,
		ctx->pix_fmt, SWS_AREA | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND, NULL, NULL, NULL);
	if (!c->sws)
		return false;
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(from);
	bool is_rgb = desc->flags & AV_PIX_FMT_FLAG_RGB;
	const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
	bool is_full = ctx->color_range == AVCOL_RANGE_JPEG;
	sws_setColorspaceDetails(
		c->sws, bt601, is_rgb || is_full, bt601, !is_rgb && is_full, 0, 1 << 16, 1 << 16);
	return true;
}

static bool open_codec(struct codec *c, const NV_ENC_INITIALIZE_PARAMS *params)
{
	const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
	c->ctx = avcodec_alloc_context3(codec);
	c->out = av_frame_alloc();
	c->packet = av_packet_alloc();
	if (!codec || !c->ctx || !c->out || !c->packet)
		return false;
	set_parameters(c->ctx, params);
	c->ctx->pix_fmt = AV_PIX_FMT_YUV420P;
	return avcodec_open2(c->ctx, codec, NULL) == 0;
}

struct codec *codec_create(const NV_ENC_INITIALIZE_PARAMS *params)
{
	struct codec *c = calloc(1, sizeof(*c));
	if (!c || !open_codec(c, params))
		return codec_destroy(c);
	c->out->format = c->ctx->pix_fmt;
	c->out->width = c->ctx->width;
	c->out->height = c->ctx->height;
	return av_frame_get_buffer(c->out, 0) < 0 ? codec_destroy(c) : c;
}

/* The first picture decides. */
static bool takes(struct codec *c, NV_ENC_BUFFER_FORMAT format)
{
	if (c->format == 0 && !open_scaler(c, pixel_format(format)))
		return false;
	c->format = format;
	return true;
}

static bool fill(struct codec *c, const struct picture *picture, const uint8_t *pixels)
{
	enum AVPixelFormat from = pixel_format(picture->format);
	int w = c->ctx->width, h = c->ctx->height;
	const uint8_t *data[4];
	int linesize[4];
	if (av_frame_make_writable(c->out) < 0 ||
		av_image_fill_arrays((uint8_t **)data, linesize, pixels, from, w, h, 1) < 0)
		return false;
	if (picture->format == NV_ENC_BUFFER_FORMAT_YV12) {
		const uint8_t *v = data[1];
		data[1] = data[2];
		data[2] = v;
	}
	if (!c->sws)
		av_image_copy(c->out->data, c->out->linesize, data, linesize, from, w, h);
	else if (sws_scale(c->sws, data, linesize, 0, h, c->out->data, c->out->linesize) != h)
		return false;
	return true;
}

bool codec_encode(struct codec *codec, const struct picture *picture, const uint8_t *pixels,
	bool wants_key, struct packet *out)
{
	if ((codec->format != 0 && codec->format != picture->format) ||
		!takes(codec, picture->format) || !fill(codec, picture, pixels))
		return false;
	codec->out->pts = codec->pts++;
	codec->out->pict_type = wants_key ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
	if (avcodec_send_frame(codec->ctx, codec->out) < 0 ||
		avcodec_receive_packet(codec->ctx, codec->packet) < 0)
		return false;
	out->size = (size_t)codec->packet->size;
	out->is_key = codec->packet->flags & AV_PKT_FLAG_KEY;
	out->bytes = malloc(out->size);
	if (out->bytes)
		memcpy(out->bytes, codec->packet->data, out->size);
	av_packet_unref(codec->packet);
	return out->bytes;
}

const uint8_t *codec_header(const struct codec *codec, size_t *size_out)
{
	*size_out = (size_t)codec->ctx->extradata_size;
	return codec->ctx->extradata;
}

struct codec *codec_destroy(struct codec *codec)
{
	if (!codec)
		return NULL;
	avcodec_free_context(&codec->ctx);
	sws_freeContext(codec->sws);
	av_frame_free(&codec->out);
	av_packet_free(&codec->packet);
	free(codec);
	return NULL;
}
