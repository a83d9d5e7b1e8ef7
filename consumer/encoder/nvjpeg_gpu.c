#include "consumer/encoder/nvjpeg_gpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "consumer/encoder/cuda_loader.h"
#include "consumer/encoder/gpu.h"
#include "consumer/encoder/nvjpeg_api.h"

enum { PLANES = 3 };

struct nvjpeg_gpu {
	CudaFunctions *cu;
	const struct nvjpeg_api *api;
	CUcontext context;
	CUdevice device;
	bool is_retained; /* the primary context of the device, which is this one */
	CUstream stream;
	struct nvjpeg_handle *handle;
	struct nvjpeg_state *state;
	struct nvjpeg_params *params;
};

static void load_failed(void *data, const char *what)
{
	const char *why = dlerror();
	problem_set(data, 0, "%s cannot be opened: %s; is NVIDIA's driver installed?", what,
		why ? why : "?");
}

/* 0, or -EIO with "cuStreamCreate: CUDA_ERROR_…". */
static int cuda_result(
	const struct nvjpeg_gpu *g, CUresult result, const char *call, struct problem *problem)
{
	const char *name = NULL;
	if (result == CUDA_SUCCESS)
		return 0;
	g->cu->cuGetErrorName(result, &name);
	return problem_set(problem, -EIO, "nvjpeg failed: %s: %s", call, name ? name : "unknown");
}

static int jpeg_result(enum nvjpeg_status status, const char *call, struct problem *problem)
{
	if (status == NVJPEG_SUCCESS)
		return 0;
	return problem_set(problem, status == NVJPEG_ALLOCATOR_FAILURE ? -ENOMEM : -EIO,
		"nvjpeg failed: %s: %s", call, nvjpeg_status_name(status));
}

static int enter(const struct nvjpeg_gpu *g, struct problem *problem)
{
	return cuda_result(g, g->cu->cuCtxPushCurrent(g->context), "cuCtxPushCurrent", problem);
}

static void leave(const struct nvjpeg_gpu *g)
{
	CUcontext popped;
	g->cu->cuCtxPopCurrent(&popped);
}

static int synchronize(const struct nvjpeg_gpu *g, struct problem *problem)
{
	return cuda_result(
		g, g->cu->cuStreamSynchronize(g->stream), "cuStreamSynchronize", problem);
}

int nvjpeg_gpu_check(struct problem *problem)
{
	const struct nvjpeg_api *api;
	CudaFunctions *cu = NULL;
	if (cuda_load_functions(&cu, problem) < 0)
		return -ENOENT;
	cuda_free_functions(&cu);
	return nvjpeg_api_load(&api, problem);
}

/*
 * libsluice's own context is the device's primary one, and goes with its view: the encoder may be there
 * for longer, as when the broker is started again.
 */
static int keep_context(struct nvjpeg_gpu *g, struct problem *problem)
{
	CUcontext primary = NULL;
	int r = cuda_result(g, g->cu->cuCtxGetDevice(&g->device), "cuCtxGetDevice", problem);
	if (r == 0)
		r = cuda_result(g, g->cu->cuDevicePrimaryCtxRetain(&primary, g->device),
			"cuDevicePrimaryCtxRetain", problem);
	if (r < 0)
		return r;
	g->is_retained = primary == g->context;
	if (!g->is_retained)
		g->cu->cuDevicePrimaryCtxRelease(g->device);
	return 0;
}

static int make_encoder(
	struct nvjpeg_gpu *g, const struct nvjpeg_settings *settings, struct problem *problem)
{
	int r = keep_context(g, problem);
	if (r == 0)
		r = cuda_result(g, g->cu->cuStreamCreate(&g->stream, CU_STREAM_NON_BLOCKING),
			"cuStreamCreate", problem);
	if (r == 0)
		r = jpeg_result(g->api->create(&g->handle), "nvjpegCreateSimple", problem);
	if (r == 0)
		r = jpeg_result(g->api->state_create(g->handle, &g->state, g->stream),
			"nvjpegEncoderStateCreate", problem);
	if (r == 0)
		r = jpeg_result(g->api->params_create(g->handle, &g->params, g->stream),
			"nvjpegEncoderParamsCreate", problem);
	if (r == 0)
		r = jpeg_result(
			g->api->set_encoding(g->params, NVJPEG_ENCODING_BASELINE, g->stream),
			"nvjpegEncoderParamsSetEncoding", problem);
	if (r == 0)
		r = jpeg_result(g->api->set_quality(g->params, settings->quality, g->stream),
			"nvjpegEncoderParamsSetQuality", problem);
	if (r == 0)
		r = jpeg_result(
			g->api->set_huffman(g->params, settings->optimized_huffman, g->stream),
			"nvjpegEncoderParamsSetOptimizedHuffman", problem);
	if (r == 0)
		r = jpeg_result(g->api->set_sampling(g->params, NVJPEG_SAMPLING_420, g->stream),
			"nvjpegEncoderParamsSetSamplingFactors", problem);
	return r;
}

int nvjpeg_gpu_create(struct nvjpeg_gpu **gpu_out, void *context,
	const struct nvjpeg_settings *settings, struct problem *problem)
{
	_cleanup_(nvjpeg_gpu_destroyp) struct nvjpeg_gpu *g = calloc(1, sizeof(*g));
	if (!g)
		return problem_set(problem, -ENOMEM, "out of memory");
	if (cuda_load_functions(&g->cu, problem) < 0)
		return -ENOENT;
	int r = nvjpeg_api_load(&g->api, problem);
	if (r < 0)
		return r;
	g->context = context;
	if ((r = enter(g, problem)) < 0)
		return r;
	r = make_encoder(g, settings, problem);
	leave(g);
	if (r == 0)
		*gpu_out = TAKE_PTR(g);
	return r;
}

static struct nvjpeg_image image_of(const struct sluice_frame *frame)
{
	struct nvjpeg_image image = { .pitch = { 0 } };
	for (unsigned i = 0; i < PLANES; i++) {
		image.plane[i] = gpu_pointer(frame->cuda.ptr + frame->offset[i]);
		image.pitch[i] = frame->stride[i];
	}
	return image;
}

int nvjpeg_gpu_encode(struct nvjpeg_gpu *g, const struct sluice_frame *frame, size_t *length_out,
	struct problem *problem)
{
	const struct nvjpeg_image image = image_of(frame);
	struct problem late;
	int r = enter(g, problem);
	if (r < 0)
		return r;
	r = jpeg_result(
		g->api->encode_yuv(g->handle, g->state, g->params, &image, NVJPEG_SAMPLING_420,
			(int)frame->width, (int)frame->height, g->stream),
		"nvjpegEncodeYUV", problem);
	/* in any case: the frame must not be given back while the GPU may be reading it */
	int end = synchronize(g, r == 0 ? problem : &late);
	if (r == 0)
		r = end;
	if (r == 0)
		r = jpeg_result(g->api->retrieve(g->handle, g->state, NULL, length_out, g->stream),
			"nvjpegEncodeRetrieveBitstream", problem);
	leave(g);
	return r;
}

int nvjpeg_gpu_fetch(struct nvjpeg_gpu *g, uint8_t *data, size_t length, struct problem *problem)
{
	int r = enter(g, problem);
	if (r < 0)
		return r;
	r = jpeg_result(g->api->retrieve(g->handle, g->state, data, &length, g->stream),
		"nvjpegEncodeRetrieveBitstream", problem);
	if (r == 0)
		r = synchronize(g, problem);
	leave(g);
	return r;
}

struct nvjpeg_gpu *nvjpeg_gpu_destroy(struct nvjpeg_gpu *g)
{
	struct problem ignored;
	if (!g)
		return NULL;
	if (g->context && enter(g, &ignored) == 0) {
		/* a picture that failed may still be read */
		if (g->stream)
			synchronize(g, &ignored);
		if (g->params)
			g->api->params_destroy(g->params);
		if (g->state)
			g->api->state_destroy(g->state);
		if (g->handle)
			g->api->destroy(g->handle);
		if (g->stream)
			g->cu->cuStreamDestroy(g->stream);
		leave(g);
	}
	if (g->is_retained)
		g->cu->cuDevicePrimaryCtxRelease(g->device);
	if (g->cu)
		cuda_free_functions(&g->cu);
	free(g);
	return NULL;
}
