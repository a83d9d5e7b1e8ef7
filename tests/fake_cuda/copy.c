/* Copies and fills. Each is a rectangle that a stream moves; a synchronous one is waited for. */
#include <string.h>

#include "tests/fake_cuda/api.h"

enum { MEMORYTYPE_UNIFIED = 4 };

enum side { SIDE_DST, SIDE_SRC, SIDES };

struct place {
	uintptr_t addr;
	size_t pitch;
	enum { PLACE_HOST, PLACE_DEVICE, PLACE_ANY } where;
};

struct rect {
	struct place at[SIDES];
	size_t width, height; /* bytes and rows */
};

struct copy {
	struct op op;
	struct rect rect;
	unsigned us;
};

struct fill {
	struct op op;
	uintptr_t addr;
	size_t size;
	int value;
};

/* Rows, so that padding is neither read nor written. */
static void run_copy(struct op *op)
{
	const struct copy *copy = (const struct copy *)op;
	const struct rect *rect = &copy->rect;
	sleep_us(copy->us);
	const struct place *dst = &rect->at[SIDE_DST], *src = &rect->at[SIDE_SRC];
	for (size_t y = 0; y < rect->height; y++)
		memmove(pointer_to(dst->addr + y * dst->pitch),
			pointer_to(src->addr + y * src->pitch), rect->width);
}

static void run_fill(struct op *op)
{
	const struct fill *fill = (const struct fill *)op;
	memset(pointer_to(fill->addr), fill->value, fill->size);
}

/* What one side of the rectangle covers lies in one allocation. */
static CUresult find_place(const struct call *call, const struct place *place,
	const struct rect *rect, struct allocation **out)
{
	size_t size;
	if (rect->height > 1 && place->pitch < rect->width)
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_mul_overflow(rect->height - 1, place->pitch, &size) ||
		__builtin_add_overflow(size, rect->width, &size))
		return CUDA_ERROR_INVALID_VALUE;
	return allocation_find(call, place->addr, size, place->where == PLACE_DEVICE, out);
}

static CUresult push_copy(const struct call *call, const struct rect *rect, CUstream s, unsigned us)
{
	struct allocation *uses[SIDES];
	for (int side = 0; side < SIDES; side++) {
		CUresult r = find_place(call, &rect->at[side], rect, &uses[side]);
		if (r != CUDA_SUCCESS)
			return r;
	}
	struct copy *copy = op_create(sizeof(*copy), run_copy);
	if (!copy)
		return CUDA_ERROR_OUT_OF_MEMORY;
	copy->rect = *rect;
	copy->us = us;
	for (int side = 0; side < SIDES; side++) {
		copy->op.uses[side] = uses[side];
		allocation_use(uses[side]);
	}
	stream_push(s, &copy->op);
	return CUDA_SUCCESS;
}

static CUresult copy_async(const struct call *call, const struct rect *rect, CUstream handle)
{
	CUstream s;
	if (call->result != CUDA_SUCCESS)
		return call->result;
	CUresult r = stream_find(call, handle, &s);
	if (r != CUDA_SUCCESS || rect->width == 0 || rect->height == 0)
		return r;
	return push_copy(call, rect, s, record_copy_us());
}

static CUresult copy_now(const struct call *call, const struct rect *rect)
{
	CUstream s;
	if (call->result != CUDA_SUCCESS)
		return call->result;
	CUresult r = stream_find(call, NULL, &s);
	if (r != CUDA_SUCCESS || rect->width == 0 || rect->height == 0)
		return r;
	r = push_copy(call, rect, s, 0);
	if (r == CUDA_SUCCESS)
		stream_wait(s);
	return r;
}

static struct place on_host(const void *p)
{
	return (struct place){ .addr = (uintptr_t)p, .where = PLACE_HOST };
}

static struct place on_device(CUdeviceptr p)
{
	return (struct place){ .addr = (uintptr_t)p, .where = PLACE_DEVICE };
}

static struct place anywhere(CUdeviceptr p)
{
	return (struct place){ .addr = (uintptr_t)p, .where = PLACE_ANY };
}

static struct rect row(struct place dst, struct place src, size_t bytes)
{
	return (struct rect){ .at = { dst, src }, .width = bytes, .height = 1 };
}

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(anywhere(dst), anywhere(src), ByteCount);
	return copy_now(&call, &rect);
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytesize, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(anywhere(dst), anywhere(src), bytesize);
	return copy_async(&call, &rect, hStream);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(on_device(dstDevice), on_host(srcHost), ByteCount);
	return copy_now(&call, &rect);
}

CUresult cuMemcpyHtoDAsync_v2(
	CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(on_device(dstDevice), on_host(srcHost), ByteCount);
	return copy_async(&call, &rect, hStream);
}

CUresult cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(on_host(dstHost), on_device(srcDevice), ByteCount);
	return copy_now(&call, &rect);
}

/* The real one may wait when dstHost is not from cuMemAllocHost(). This one never does. */
CUresult cuMemcpyDtoHAsync_v2(
	void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(on_host(dstHost), on_device(srcDevice), ByteCount);
	return copy_async(&call, &rect, hStream);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(on_device(dstDevice), on_device(srcDevice), ByteCount);
	return copy_now(&call, &rect);
}

CUresult cuMemcpyDtoDAsync_v2(
	CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect = row(on_device(dstDevice), on_device(srcDevice), ByteCount);
	return copy_async(&call, &rect, hStream);
}

/* One side of CUDA_MEMCPY2D. */
struct side_2d {
	CUmemorytype type;
	const void *host;
	CUdeviceptr device;
	size_t x, y, pitch;
};

static CUresult place_2d(const struct side_2d *side, const struct rect *rect, struct place *out)
{
	switch ((int)side->type) {
	case CU_MEMORYTYPE_HOST:
		*out = on_host(side->host);
		break;
	case CU_MEMORYTYPE_DEVICE:
		*out = on_device(side->device);
		break;
	case MEMORYTYPE_UNIFIED:
		*out = anywhere(side->device);
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE; /* arrays are not modelled */
	}
	size_t end, offset;
	if (__builtin_add_overflow(side->x, rect->width, &end) ||
		(side->pitch != 0 && end > side->pitch) ||
		__builtin_mul_overflow(side->y, side->pitch, &offset) ||
		__builtin_add_overflow(offset, side->x, &offset) ||
		__builtin_add_overflow(out->addr, offset, &out->addr))
		return CUDA_ERROR_INVALID_VALUE;
	out->pitch = side->pitch ? side->pitch : end;
	return CUDA_SUCCESS;
}

static CUresult rect_2d(const struct call *call, const CUDA_MEMCPY2D *c, struct rect *out)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (struct rect){ .width = c->WidthInBytes, .height = c->Height };
	struct side_2d dst = { c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes, c->dstY,
		c->dstPitch };
	struct side_2d src = { c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes, c->srcY,
		c->srcPitch };
	CUresult r = place_2d(&dst, out, &out->at[SIDE_DST]);
	return r == CUDA_SUCCESS ? place_2d(&src, out, &out->at[SIDE_SRC]) : r;
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *pcopy)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect;
	CUresult r = rect_2d(&call, pcopy, &rect);
	return r == CUDA_SUCCESS ? copy_now(&call, &rect) : r;
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pcopy, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	struct rect rect;
	CUresult r = rect_2d(&call, pcopy, &rect);
	return r == CUDA_SUCCESS ? copy_async(&call, &rect, hStream) : r;
}

CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	CUstream s;
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = stream_find(&call, hStream, &s);
	if (r != CUDA_SUCCESS || N == 0)
		return r;
	struct allocation *use;
	r = allocation_find(&call, (uintptr_t)dstDevice, N, true, &use);
	if (r != CUDA_SUCCESS)
		return r;
	struct fill *fill = op_create(sizeof(*fill), run_fill);
	if (!fill)
		return CUDA_ERROR_OUT_OF_MEMORY;
	fill->addr = (uintptr_t)dstDevice;
	fill->size = N;
	fill->value = uc;
	fill->op.uses[0] = use;
	allocation_use(use);
	stream_push(s, &fill->op);
	return CUDA_SUCCESS;
}
