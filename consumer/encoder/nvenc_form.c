#include "consumer/encoder/nvenc_form.h"

#include <libavutil/pixdesc.h>
#include <string.h>

#include "consumer/encoder/convert.h"

#define FOURCC(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define NV12 FOURCC('N', 'V', '1', '2')
#define P010 FOURCC('P', '0', '1', '0')

const AVCodec *nvenc_find(const char *name)
{
	const AVCodec *codec = avcodec_find_encoder_by_name(name);
	return codec && codec->type == AVMEDIA_TYPE_VIDEO && strstr(codec->name, "_nvenc") ? codec
											   : NULL;
}

enum AVPixelFormat nvenc_form(uint32_t fourcc)
{
	switch (pixel_format_of(fourcc)) {
	case AV_PIX_FMT_BGR0:
	case AV_PIX_FMT_BGRA:
		return AV_PIX_FMT_BGR0;
	case AV_PIX_FMT_RGB0:
	case AV_PIX_FMT_RGBA:
		return AV_PIX_FMT_RGB0;
	case AV_PIX_FMT_NV12:
		return AV_PIX_FMT_NV12;
	case AV_PIX_FMT_P010:
		return AV_PIX_FMT_P010;
	case AV_PIX_FMT_YUV420P:
		return AV_PIX_FMT_YUV420P;
	default:
		return AV_PIX_FMT_NONE;
	}
}

uint32_t nvenc_fourcc_for(const char *pix_fmt)
{
	switch (pix_fmt ? av_get_pix_fmt(pix_fmt) : AV_PIX_FMT_NONE) {
	case AV_PIX_FMT_NV12:
	case AV_PIX_FMT_YUV420P:
		return NV12;
	case AV_PIX_FMT_P010:
		return P010;
	default:
		return 0;
	}
}

static bool is_deep(uint32_t fourcc)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(pixel_format_of(fourcc));
	return desc && desc->comp[0].depth > 8;
}

uint32_t nvenc_wanted_fourcc(
	const struct encoder_settings *settings, const struct sluice_stream_info *info)
{
	enum AVPixelFormat form = info ? nvenc_form(info->fourcc) : AV_PIX_FMT_NONE;
	if (settings->pix_fmt && form != AV_PIX_FMT_NONE &&
		form == av_get_pix_fmt(settings->pix_fmt))
		return 0;
	if (settings->pix_fmt)
		return nvenc_fourcc_for(settings->pix_fmt);
	if (!info || info->fourcc == 0)
		return 0;
	/* its H.264 has eight bits */
	const AVCodec *codec = nvenc_find(settings->codec);
	bool is_h264 = codec && codec->id == AV_CODEC_ID_H264, deep = is_deep(info->fourcc);
	if (form != AV_PIX_FMT_NONE && !(deep && is_h264))
		return 0;
	return deep && !is_h264 ? P010 : NV12;
}
