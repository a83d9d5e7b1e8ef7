/* Pictures in memory of the device, read through the CUDA driver, whichever that is. */
#include <dlfcn.h>
#include <ffnvcodec/dynlink_cuda.h>
#include <string.h>

#include "tests/fake_nvenc/fake_nvenc.h"

enum { PLANES = 3 };

struct plane {
	size_t offset, pitch, row_bytes, rows;
};

static struct {
	CUresult (*get_current)(CUcontext *context);
	tcuCtxPushCurrent_v2 *push;
	tcuCtxPopCurrent_v2 *pop;
	tcuMemcpy2D_v2 *copy;
} cu;

static bool load(void)
{
	if (cu.copy)
		return true;
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!library)
		return false;
	*(void **)&cu.get_current = dlsym(library, "cuCtxGetCurrent");
	*(void **)&cu.push = dlsym(library, "cuCtxPushCurrent_v2");
	*(void **)&cu.pop = dlsym(library, "cuCtxPopCurrent_v2");
	*(void **)&cu.copy = dlsym(library, "cuMemcpy2D_v2");
	return cu.get_current && cu.push && cu.pop && cu.copy;
}

bool pixels_context_is_current(void *context)
{
	CUcontext current = NULL;
	return load() && cu.get_current(&current) == CUDA_SUCCESS && current == context;
}

bool pixels_context_is_alive(void *context)
{
	CUcontext popped;
	return load() && cu.push(context) == CUDA_SUCCESS && cu.pop(&popped) == CUDA_SUCCESS;
}

/* 0: the format is not known. */
static unsigned planes_of(const struct picture *p, struct plane planes[PLANES])
{
	size_t w = p->width, h = p->height, pitch = p->pitch, luma = pitch * h;
	size_t chroma_rows = (h + 1) / 2, chroma_cols = (w + 1) / 2;
	switch (p->format) {
	case NV_ENC_BUFFER_FORMAT_ARGB:
	case NV_ENC_BUFFER_FORMAT_ABGR:
		planes[0] = (struct plane){ 0, pitch, 4 * w, h };
		return 1;
	case NV_ENC_BUFFER_FORMAT_NV12:
		planes[0] = (struct plane){ 0, pitch, w, h };
		planes[1] = (struct plane){ luma, pitch, 2 * chroma_cols, chroma_rows };
		return 2;
	case NV_ENC_BUFFER_FORMAT_YUV420_10BIT:
		planes[0] = (struct plane){ 0, pitch, 2 * w, h };
		planes[1] = (struct plane){ luma, pitch, 4 * chroma_cols, chroma_rows };
		return 2;
	case NV_ENC_BUFFER_FORMAT_YV12:
		planes[0] = (struct plane){ 0, pitch, w, h };
		planes[1] = (struct plane){ luma, pitch / 2, chroma_cols, chroma_rows };
		planes[2] = (struct plane){ luma + pitch / 2 * (h / 2), pitch / 2, chroma_cols,
			chroma_rows };
		return 3;
	default:
		return 0;
	}
}

size_t pixels_size(const struct picture *picture)
{
	struct plane planes[PLANES];
	size_t size = 0;
	unsigned n = planes_of(picture, planes);
	for (unsigned i = 0; i < n; i++)
		size += planes[i].row_bytes * planes[i].rows;
	return size;
}

static bool read_device(uint64_t ptr, const struct plane *plane, uint8_t *out)
{
	const CUDA_MEMCPY2D copy = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = (CUdeviceptr)(ptr + plane->offset),
		.srcPitch = plane->pitch,
		.dstMemoryType = CU_MEMORYTYPE_HOST,
		.dstHost = out,
		.dstPitch = plane->row_bytes,
		.WidthInBytes = plane->row_bytes,
		.Height = plane->rows,
	};
	return load() && cu.copy(&copy) == CUDA_SUCCESS;
}

static void read_host(uint64_t ptr, const struct plane *plane, uint8_t *out)
{
	const uint8_t *from;
	memcpy(&from, &ptr, sizeof(from));
	from += plane->offset;
	for (size_t y = 0; y < plane->rows; y++)
		memcpy(out + y * plane->row_bytes, from + y * plane->pitch, plane->row_bytes);
}

bool pixels_read(const struct picture *picture, uint8_t *out)
{
	struct plane planes[PLANES];
	unsigned n = planes_of(picture, planes);
	for (unsigned i = 0; i < n; i++) {
		if (picture->is_host)
			read_host(picture->ptr, &planes[i], out);
		else if (!read_device(picture->ptr, &planes[i], out))
			return false;
		out += planes[i].row_bytes * planes[i].rows;
	}
	return n > 0;
}
