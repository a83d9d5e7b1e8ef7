/*
 * CUDA: all rows in one copy to page-locked memory, and the shortest way to hear of its end, which is
 * to ask for it without sleeping.
 *
 * The primary context of the stream's GPU is opened before the subscription, as a program has it that
 * does something with the frames: the library then finds the same one.
 */
#include "consumer/check/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_CUDA

#include <dlfcn.h>

/* The loader's own messages are not for the terminal. */
#define FFNV_LOAD_FUNC(path)              dlopen((path), RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE)
#define FFNV_SYM_FUNC(library, symbol)    dlsym((library), (symbol))
#define FFNV_FREE_FUNC(library)           dlclose(library)
#define FFNV_LOG_FUNC(data, format, what) cannot_load(data, what)
#define FFNV_DEBUG_LOG_FUNC(data, format, what)
static void cannot_load(void *data, const char *what);
#include <ffnvcodec/dynlink_loader.h>

typedef CUresult CUDAAPI alloc_host_fn(void **memory, size_t bytes);
typedef CUresult CUDAAPI free_host_fn(void *memory);

struct cuda_reader {
	struct reader base;
	CudaFunctions *cu;
	free_host_fn *free_host;
	CUdevice device;
	CUcontext context; /* its primary one; NULL: none is retained */
	CUstream stream;
	void *pinned; /* NULL: plain is used */
	uint8_t plain[READER_BYTES_MAX];
};

static struct cuda_reader *of(struct reader *reader)
{
	return (struct cuda_reader *)reader;
}

static void cannot_load(void *data, const char *what)
{
	const char *why = dlerror();
	snprintf(data, READER_TEXT_MAX,
		"%s cannot be opened: %s; is NVIDIA's driver installed? --memory host needs none",
		what, why ? why : "?");
}

/* "cuMemcpy2DAsync: CUDA_ERROR_INVALID_VALUE (invalid argument)" */
static int fail(const CudaFunctions *cu, char *error, const char *call, CUresult result)
{
	const char *name = NULL, *text = NULL;
	cu->cuGetErrorName(result, &name);
	cu->cuGetErrorString(result, &text);
	snprintf(error, READER_TEXT_MAX, "%s: %s (%s)", call, name ? name : "unknown",
		text ? text : "?");
	return -EIO;
}

static int cuda_begin(
	struct reader *reader, struct sluice_frame *frame, const struct reader_rows *rows)
{
	struct cuda_reader *r = of(reader);
	if (frame->cuda.context != r->context) {
		snprintf(reader->error, sizeof(reader->error),
			"frame %llu is in another context than the primary one of its GPU",
			(unsigned long long)frame->seq);
		return -EXDEV;
	}
	CUDA_MEMCPY2D copy = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = frame->cuda.ptr + rows->first,
		.srcPitch = rows->pitch,
		.dstMemoryType = CU_MEMORYTYPE_HOST,
		.dstHost = r->pinned ? r->pinned : r->plain,
		.dstPitch = rows->bytes,
		.WidthInBytes = rows->bytes,
		.Height = STAMP_BANDS,
	};
	int result = frame->sync_fd >= 0 ? reader_wait_sync_fd(reader, frame)
					 : sluice_frame_wait_in(frame, r->stream);
	if (result < 0)
		return result;
	CUresult copied = r->cu->cuMemcpy2DAsync(&copy, r->stream);
	return copied == CUDA_SUCCESS ? 0 : fail(r->cu, reader->error, "cuMemcpy2DAsync", copied);
}

static int cuda_wait(struct reader *reader, struct sluice *conn, struct sluice_view *view)
{
	struct cuda_reader *r = of(reader);
	CUresult result;
	/* what waits on the GPU may wait for a broker that has died: the library sees to that */
	if (sluice_view_readiness(view) == SLUICE_TIMELINE)
		return sluice_view_sync(view, r->stream, READER_TURN_MS);
	do
		result = r->cu->cuStreamQuery(r->stream);
	while (result == CUDA_ERROR_NOT_READY);
	return result == CUDA_SUCCESS ? 0 : fail(r->cu, reader->error, "cuStreamQuery", result);
}

static struct reader *cuda_destroy(struct reader *reader)
{
	struct cuda_reader *r = of(reader);
	CUcontext ours;
	if (r->stream)
		r->cu->cuStreamDestroy(r->stream);
	if (r->pinned)
		r->free_host(r->pinned);
	if (r->context) {
		r->cu->cuCtxPopCurrent(&ours);
		r->cu->cuDevicePrimaryCtxRelease(r->device);
	}
	cuda_free_functions(&r->cu);
	free(r);
	return NULL;
}

static const struct reader_ops cuda_ops = { cuda_begin, cuda_wait, cuda_destroy };

/* Is this the GPU of the stream? Device 0 may be another. */
static bool is_device(
	const struct cuda_reader *r, CUdevice device, const struct sluice_stream_info *stream)
{
	CUuuid uuid;
	return r->cu->cuDeviceGetUuid && r->cu->cuDeviceGetUuid(&uuid, device) == CUDA_SUCCESS &&
	       memcmp(uuid.bytes, stream->device_uuid, sizeof(uuid.bytes)) == 0;
}

/* False: there is none, and the subscription will say so. */
static bool find_device(struct cuda_reader *r, const struct sluice_stream_info *stream)
{
	int n = 0;
	if (!stream->has_device || r->cu->cuInit(0) != CUDA_SUCCESS ||
		r->cu->cuDeviceGetCount(&n) != CUDA_SUCCESS)
		return false;
	for (int i = 0; i < n; i++)
		if (r->cu->cuDeviceGet(&r->device, i) == CUDA_SUCCESS &&
			is_device(r, r->device, stream))
			return true;
	return false;
}

static int open_context(struct cuda_reader *r, char *error)
{
	CUcontext context;
	CUresult result = r->cu->cuDevicePrimaryCtxRetain(&context, r->device);
	if (result != CUDA_SUCCESS)
		return fail(r->cu, error, "cuDevicePrimaryCtxRetain", result);
	result = r->cu->cuCtxPushCurrent(context);
	if (result != CUDA_SUCCESS) {
		r->cu->cuDevicePrimaryCtxRelease(r->device);
		return fail(r->cu, error, "cuCtxPushCurrent", result);
	}
	r->context = context;
	result = r->cu->cuStreamCreate(&r->stream, CU_STREAM_NON_BLOCKING);
	r->base.stream = r->stream;
	return result == CUDA_SUCCESS ? 0 : fail(r->cu, error, "cuStreamCreate", result);
}

/* Page-locked, so that the copy needs no other; the loader does not know these calls. */
static void alloc_pinned(struct cuda_reader *r)
{
	alloc_host_fn *alloc = NULL;
	*(void **)&alloc = dlsym(r->cu->lib, "cuMemAllocHost_v2");
	*(void **)&r->free_host = dlsym(r->cu->lib, "cuMemFreeHost");
	if (!alloc || !r->free_host || alloc(&r->pinned, READER_BYTES_MAX) != CUDA_SUCCESS)
		r->pinned = NULL;
	r->base.pixels = r->pinned ? r->pinned : r->plain;
}

int reader_create_cuda(
	struct reader **reader_out, const struct sluice_stream_info *stream, char *error)
{
	struct cuda_reader *r = calloc(1, sizeof(*r));
	snprintf(error, READER_TEXT_MAX, "out of memory");
	if (!r)
		return -ENOMEM;
	r->base.ops = &cuda_ops;
	_cleanup_(reader_destroyp) struct reader *reader = &r->base;
	if (cuda_load_functions(&r->cu, error) < 0)
		return -ENOENT;
	if (find_device(r, stream)) {
		int result = open_context(r, error);
		if (result < 0)
			return result;
		alloc_pinned(r);
	}
	*reader_out = TAKE_PTR(reader);
	return 0;
}

#else

int reader_create_cuda(
	struct reader **reader_out, const struct sluice_stream_info *stream, char *error)
{
	snprintf(error, READER_TEXT_MAX,
		"this sluice-cuda-check was built without CUDA (SLUICE_CUDA=OFF)");
	return -EOPNOTSUPP;
}

#endif
