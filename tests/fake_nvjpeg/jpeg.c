/* From planes in device memory to a JPEG. */
#include <dlfcn.h>
#include <libavutil/opt.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake_nvjpeg/fake_nvjpeg.h"

enum { MEMORYTYPE_HOST = 1, MEMORYTYPE_DEVICE = 2, PLANES = 3 };

/* As the CUDA runtime inside NVIDIA's library does it. */
const struct driver *driver_get(void)
{
	static struct driver driver;
	if (driver.get_current)
		return &driver;
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return NULL;
	driver.copy = (tcuMemcpy2DAsync_v2 *)dlsym(library, "cuMemcpy2DAsync_v2");
	driver.query = (tcuStreamQuery *)dlsym(library, "cuStreamQuery");
	driver.synchronize = (tcuStreamSynchronize *)dlsym(library, "cuStreamSynchronize");
	driver.get_current = (CUresult(*)(CUcontext *))dlsym(library, "cuCtxGetCurrent");
	return driver.get_current && driver.copy && driver.query && driver.synchronize ? &driver
										       : NULL;
}

struct plane {
	size_t offset, width, height;
};

static struct plane plane_of(const struct nvjpeg_state *s, int i)
{
	size_t width = (size_t)s->width, height = (size_t)s->height;
	size_t half_width = (width + 1) / 2, half_height = (height + 1) / 2;
	if (i == 0)
		return (struct plane){ 0, width, height };
	size_t offset = width * height + (i == 1 ? 0 : half_width * half_height);
	return (struct plane){ offset, half_width, half_height };
}

static bool make_room(struct nvjpeg_state *s)
{
	struct plane last = plane_of(s, PLANES - 1);
	size_t size = last.offset + last.width * last.height;
	if (size <= s->size)
		return true;
	uint8_t *pixels = realloc(s->pixels, size);
	if (!pixels)
		return false;
	s->pixels = pixels;
	s->size = size;
	return true;
}

enum nvjpeg_status jpeg_read(struct nvjpeg_state *s, const struct nvjpeg_image *image)
{
	if (!make_room(s))
		return NVJPEG_ALLOCATOR_FAILURE;
	for (int i = 0; i < PLANES; i++) {
		struct plane plane = plane_of(s, i);
		CUDA_MEMCPY2D copy = {
			.srcMemoryType = (CUmemorytype)MEMORYTYPE_DEVICE,
			.srcDevice = (CUdeviceptr)(uintptr_t)image->plane[i],
			.srcPitch = image->pitch[i],
			.dstMemoryType = (CUmemorytype)MEMORYTYPE_HOST,
			.dstHost = s->pixels + plane.offset,
			.dstPitch = plane.width,
			.WidthInBytes = plane.width,
			.Height = plane.height,
		};
		if (driver_get()->copy(&copy, s->stream) != CUDA_SUCCESS)
			return NVJPEG_EXECUTION_FAILED;
	}
	return NVJPEG_SUCCESS;
}

/* libjpeg's scale of tables, and from there to FFmpeg's, whose tables are of about the same size. */
static int lambda_of(int quality)
{
	int percent = quality < 50 ? 5000 / quality : 200 - 2 * quality;
	int lambda = percent * FF_QP2LAMBDA / 8;
	return lambda < FF_QP2LAMBDA ? FF_QP2LAMBDA : lambda;
}

static AVCodecContext *open_codec(const struct nvjpeg_state *s)
{
	const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_MJPEG);
	AVCodecContext *ctx = avcodec_alloc_context3(codec);
	if (!ctx)
		return NULL;
	ctx->width = s->width;
	ctx->height = s->height;
	ctx->pix_fmt = AV_PIX_FMT_YUVJ420P;
	ctx->color_range = AVCOL_RANGE_JPEG;
	ctx->time_base = (AVRational){ 1, 25 };
	ctx->thread_count = 1;
	ctx->flags |= AV_CODEC_FLAG_QSCALE;
	ctx->global_quality = lambda_of(s->params.quality);
	av_opt_set(ctx->priv_data, "huffman", s->params.optimized ? "optimal" : "default", 0);
	if (avcodec_open2(ctx, codec, NULL) < 0)
		avcodec_free_context(&ctx);
	return ctx;
}

static bool encode(struct nvjpeg_state *s, AVCodecContext *ctx, AVFrame *frame)
{
	frame->format = ctx->pix_fmt;
	frame->width = s->width;
	frame->height = s->height;
	frame->quality = ctx->global_quality;
	if (av_frame_get_buffer(frame, 0) < 0)
		return false;
	for (int i = 0; i < PLANES; i++) {
		struct plane plane = plane_of(s, i);
		for (size_t y = 0; y < plane.height; y++)
			memcpy(frame->data[i] + y * (size_t)frame->linesize[i],
				s->pixels + plane.offset + y * plane.width, plane.width);
	}
	av_packet_unref(s->jpeg);
	return avcodec_send_frame(ctx, frame) == 0 && avcodec_send_frame(ctx, NULL) == 0 &&
	       avcodec_receive_packet(ctx, s->jpeg) == 0;
}

enum nvjpeg_status jpeg_make(struct nvjpeg_state *s)
{
	if (driver_get()->synchronize(s->stream) != CUDA_SUCCESS)
		return NVJPEG_EXECUTION_FAILED;
	AVCodecContext *ctx = open_codec(s);
	AVFrame *frame = av_frame_alloc();
	bool ok = ctx && frame && encode(s, ctx, frame);
	av_frame_free(&frame);
	avcodec_free_context(&ctx);
	return ok ? NVJPEG_SUCCESS : NVJPEG_INTERNAL_ERROR;
}
