#include <drm_fourcc.h>
#include <errno.h>
#include <libswscale/swscale.h>

#include "consumer/snap/picture.h"

static enum AVPixelFormat av_format(uint32_t fourcc)
{
	switch (fourcc) {
	case DRM_FORMAT_YUYV:
		return AV_PIX_FMT_YUYV422;
	case DRM_FORMAT_NV12:
		return AV_PIX_FMT_NV12;
	case DRM_FORMAT_YUV420:
		return AV_PIX_FMT_YUV420P;
	case DRM_FORMAT_P010:
		return AV_PIX_FMT_P010LE;
	default:
		return AV_PIX_FMT_NONE;
	}
}

/* Numbers of ITU-T H.273. Not known: what is usual for the size. */
static int matrix_of(const struct sluice_frame *frame)
{
	enum { BT709 = 1, UNSPECIFIED = 2, HD_HEIGHT = 720 };
	if (frame->matrix != UNSPECIFIED)
		return frame->matrix;
	return frame->height >= HD_HEIGHT ? BT709 : SWS_CS_DEFAULT;
}

int yuv_to_rgb(const struct sluice_frame *frame, struct rgb *rgb)
{
	enum AVPixelFormat from = av_format(frame->fourcc);
	const int flags = SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT;
	if (from == AV_PIX_FMT_NONE)
		return -EOPNOTSUPP;
	int width = (int)frame->width, height = (int)frame->height;
	struct SwsContext *sws = sws_getContext(
		width, height, from, width, height, AV_PIX_FMT_RGB24, flags, NULL, NULL, NULL);
	if (!sws)
		return -EOPNOTSUPP;
	const int *coefficients = sws_getCoefficients(matrix_of(frame));
	sws_setColorspaceDetails(
		sws, coefficients, frame->full_range, coefficients, 1, 0, 1 << 16, 1 << 16);
	int stride[4];
	for (unsigned p = 0; p < 4; p++)
		stride[p] = (int)frame->stride[p];
	sws_scale(sws, frame->data, stride, 0, height, (uint8_t *[4]){ rgb->bytes },
		(int[4]){ 3 * width });
	sws_freeContext(sws);
	return 0;
}
