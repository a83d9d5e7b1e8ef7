#include "consumer/encoder/gpu.h"

#include <errno.h>
#include <libavutil/hwcontext.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/cuda_loader.h"

enum { UUID_BYTES = 16, NAME_BYTES = 128, PLANES = 4 };

struct gpu {
	CudaFunctions *cu;
	CUdevice device;
	CUcontext context;
	bool is_retained;
	char name[NAME_BYTES];
};

static void load_failed(void *data, const char *what)
{
	problem_set(data, -EOPNOTSUPP, "%s cannot be opened: is NVIDIA's driver installed?", what);
}

/* "cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)" */
static int fail(
	const struct gpu *gpu, const char *call, CUresult result, int r, struct problem *problem)
{
	const char *name = NULL, *text = NULL;
	gpu->cu->cuGetErrorName(result, &name);
	gpu->cu->cuGetErrorString(result, &text);
	return problem_set(
		problem, r, "%s: %s (%s)", call, name ? name : "unknown", text ? text : "?");
}

static int open_driver(struct gpu *gpu, struct problem *problem)
{
	if (cuda_load_functions(&gpu->cu, problem) < 0)
		return -EOPNOTSUPP;
	if (!gpu->cu->cuDeviceGetUuid)
		return problem_set(problem, -EOPNOTSUPP,
			"NVIDIA's driver is too old: its devices have no UUIDs");
	CUresult result = gpu->cu->cuInit(0);
	return result == CUDA_SUCCESS ? 0 : fail(gpu, "cuInit", result, -EOPNOTSUPP, problem);
}

static int find_device(struct gpu *gpu, const uint8_t *uuid, struct problem *problem)
{
	int n = 0;
	CUuuid of_device;
	CUresult result = gpu->cu->cuDeviceGetCount(&n);
	if (result != CUDA_SUCCESS)
		return fail(gpu, "cuDeviceGetCount", result, -EIO, problem);
	for (int i = 0; i < n; i++)
		if (gpu->cu->cuDeviceGet(&gpu->device, i) == CUDA_SUCCESS &&
			gpu->cu->cuDeviceGetUuid(&of_device, gpu->device) == CUDA_SUCCESS &&
			memcmp(of_device.bytes, uuid, UUID_BYTES) == 0)
			return 0;
	return problem_set(problem, -ENODEV, "CUDA does not have the stream's GPU here");
}

static int retain(struct gpu *gpu, struct problem *problem)
{
	CUresult result = gpu->cu->cuDevicePrimaryCtxRetain(&gpu->context, gpu->device);
	if (result != CUDA_SUCCESS)
		return fail(gpu, "cuDevicePrimaryCtxRetain", result, -EIO, problem);
	gpu->is_retained = true;
	return 0;
}

static struct gpu *gpu_create(struct problem *problem)
{
	struct gpu *gpu = calloc(1, sizeof(*gpu));
	if (!gpu)
		problem_set(problem, -ENOMEM, "out of memory");
	return gpu;
}

int gpu_find(struct gpu **gpu_out, const uint8_t *uuid, struct problem *problem)
{
	_cleanup_(gpu_closep) struct gpu *gpu = gpu_create(problem);
	if (!gpu)
		return -ENOMEM;
	int r = open_driver(gpu, problem);
	if (r == 0)
		r = find_device(gpu, uuid, problem);
	if (r == 0)
		r = retain(gpu, problem);
	if (r < 0)
		return r;
	gpu->cu->cuDeviceGetName(gpu->name, sizeof(gpu->name), gpu->device);
	*gpu_out = TAKE_PTR(gpu);
	return 0;
}

static int enter(const struct gpu *gpu, struct problem *problem)
{
	CUresult result = gpu->cu->cuCtxPushCurrent(gpu->context);
	return result == CUDA_SUCCESS ? 0 : fail(gpu, "cuCtxPushCurrent", result, -EIO, problem);
}

static void leave(const struct gpu *gpu)
{
	CUcontext ours;
	gpu->cu->cuCtxPopCurrent(&ours);
}

/*
 * libsluice's own context is the device's primary one, and goes with its view: the encoder may be there
 * for longer, as when the stream comes back on another GPU.
 */
static int keep(struct gpu *gpu, struct problem *problem)
{
	const CUcontext context = gpu->context;
	CUresult result = gpu->cu->cuCtxGetDevice(&gpu->device);
	if (result != CUDA_SUCCESS)
		return fail(gpu, "cuCtxGetDevice", result, -EIO, problem);
	int r = retain(gpu, problem);
	if (r < 0)
		return r;
	gpu->is_retained = gpu->context == context;
	gpu->context = context;
	if (!gpu->is_retained)
		gpu->cu->cuDevicePrimaryCtxRelease(gpu->device);
	return 0;
}

int gpu_of_context(struct gpu **gpu_out, void *context, struct problem *problem)
{
	_cleanup_(gpu_closep) struct gpu *gpu = gpu_create(problem);
	if (!gpu)
		return -ENOMEM;
	int r = open_driver(gpu, problem);
	gpu->context = context;
	if (r == 0)
		r = enter(gpu, problem);
	if (r < 0)
		return r;
	r = keep(gpu, problem);
	if (r == 0)
		gpu->cu->cuDeviceGetName(gpu->name, sizeof(gpu->name), gpu->device);
	leave(gpu);
	if (r == 0)
		*gpu_out = TAKE_PTR(gpu);
	return r;
}

void *gpu_context(const struct gpu *gpu)
{
	return gpu->context;
}

const char *gpu_name(const struct gpu *gpu)
{
	return gpu->name[0] ? gpu->name : "the GPU";
}

static CUresult copy_plane(const struct gpu *gpu, AVFrame *to, const AVFrame *from, int p)
{
	const AVHWFramesContext *frames = (const AVHWFramesContext *)to->hw_frames_ctx->data;
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frames->sw_format);
	int shift = p == 1 || p == 2 ? desc->log2_chroma_h : 0;
	const CUDA_MEMCPY2D copy = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = (CUdeviceptr)from->data[p],
		.srcPitch = (size_t)from->linesize[p],
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = (CUdeviceptr)to->data[p],
		.dstPitch = (size_t)to->linesize[p],
		.WidthInBytes = (size_t)av_image_get_linesize(frames->sw_format, to->width, p),
		.Height = (size_t)AV_CEIL_RSHIFT(to->height, shift),
	};
	return gpu->cu->cuMemcpy2DAsync(&copy, NULL);
}

int gpu_copy(const struct gpu *gpu, AVFrame *to, const AVFrame *from, struct problem *problem)
{
	int r = enter(gpu, problem);
	if (r < 0)
		return r;
	const char *call = "cuMemcpy2DAsync";
	CUresult result = CUDA_SUCCESS;
	for (int p = 0; p < PLANES && from->data[p] && result == CUDA_SUCCESS; p++)
		result = copy_plane(gpu, to, from, p);
	if (result == CUDA_SUCCESS) {
		call = "cuStreamSynchronize";
		result = gpu->cu->cuStreamSynchronize(NULL);
	}
	leave(gpu);
	return result == CUDA_SUCCESS ? 0 : fail(gpu, call, result, -EIO, problem);
}

struct gpu *gpu_close(struct gpu *gpu)
{
	if (!gpu)
		return NULL;
	if (gpu->is_retained)
		gpu->cu->cuDevicePrimaryCtxRelease(gpu->device);
	cuda_free_functions(&gpu->cu);
	free(gpu);
	return NULL;
}
