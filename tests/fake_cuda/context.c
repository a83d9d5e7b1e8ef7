/* Contexts, those of the devices too, and the stack of them that each thread has. */
#include <stdlib.h>

#include "tests/fake_cuda/api.h"

enum { STACK_MAX = 32 };

static __thread struct {
	CUcontext at[STACK_MAX];
	unsigned n;
} stack;

static struct {
	CUcontext ctx;
	unsigned retained, flags;
} primaries[DEVICES_MAX];

static CUcontext context_create(CUdevice dev, unsigned flags)
{
	CUcontext ctx = object_create(KIND_CONTEXT, NULL, sizeof(*ctx));
	if (!ctx)
		return NULL;
	ctx->object.ctx = ctx;
	ctx->dev = dev;
	ctx->flags = flags;
	record_count(COUNT_CONTEXTS);
	return ctx;
}

static void event_end(struct object *object)
{
	object->dead = true;
	record_count(COUNT_WITH_CONTEXT);
}

/* Whatever the context holds goes. Its callbacks have all returned afterwards. */
static void context_empty(const char *call, CUcontext ctx)
{
	if (stream_any_busy(ctx))
		record_misuse(call, "context %p still has work queued", (void *)ctx);
	ctx->ending = true;
	stream_end_all(ctx);
	object_each(KIND_EVENT, ctx, event_end);
	object_each(KIND_MEMORY, ctx, external_memory_end);
	object_each(KIND_SEMAPHORE, ctx, external_semaphore_end);
	allocation_end_all(ctx);
	ctx->ending = false;
}

static void context_destroy(const char *call, CUcontext ctx)
{
	ctx->object.dead = true;
	context_empty(call, ctx);
	record_count(COUNT_CONTEXTS_DESTROYED);
}

CUresult context_current(CUcontext *out)
{
	if (stack.n == 0 || !stack.at[stack.n - 1])
		return CUDA_ERROR_INVALID_CONTEXT;
	*out = stack.at[stack.n - 1];
	return (*out)->object.dead ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_SUCCESS;
}

static CUresult context_check(const struct call *call, CUcontext ctx)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	CUresult r = object_check(call, ctx, KIND_CONTEXT);
	return r == CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!pctx || stack.n == STACK_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device_exists(dev))
		return CUDA_ERROR_INVALID_DEVICE;
	CUcontext ctx = context_create(dev, flags);
	if (!ctx)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pctx = stack.at[stack.n++] = ctx;
	return CUDA_SUCCESS;
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	ENTER(call, NEED_INIT);
	CUresult r = context_check(&call, ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (ctx->primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (stack.n > 0 && stack.at[stack.n - 1] == ctx)
		stack.n--;
	context_destroy(call.name, ctx);
	return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext pctx)
{
	ENTER(call, NEED_INIT);
	CUresult r = context_check(&call, pctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (stack.n == STACK_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	stack.at[stack.n++] = pctx;
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
	ENTER(call, NEED_INIT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (stack.n == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	stack.n--;
	if (pctx)
		*pctx = stack.at[stack.n];
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext pctx)
{
	ENTER(call, NEED_INIT);
	CUresult r = pctx ? context_check(&call, pctx) : call.result;
	if (r != CUDA_SUCCESS)
		return r;
	if (stack.n > 0)
		stack.n--;
	if (pctx)
		stack.at[stack.n++] = pctx;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *pctx)
{
	ENTER(call, NEED_INIT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	*pctx = stack.n > 0 ? stack.at[stack.n - 1] : NULL;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = call.ctx->dev;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	ENTER(call, NEED_CONTEXT);
	return call.result;
}

static CUresult primary_check(const struct call *call, CUdevice dev)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	return device_exists(dev) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	CUresult r = primary_check(&call, dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	if (primaries[dev].retained == 0) {
		CUcontext ctx = context_create(dev, primaries[dev].flags);
		if (!ctx)
			return CUDA_ERROR_OUT_OF_MEMORY;
		ctx->primary = true;
		primaries[dev].ctx = ctx;
	}
	primaries[dev].retained++;
	*pctx = primaries[dev].ctx;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	ENTER(call, NEED_INIT);
	CUresult r = primary_check(&call, dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (primaries[dev].retained == 0) {
		record_misuse(call.name, "device %d's context is not retained", dev);
		return CUDA_ERROR_INVALID_CONTEXT;
	}
	if (--primaries[dev].retained == 0)
		context_destroy(call.name, TAKE_PTR(primaries[dev].ctx));
	return CUDA_SUCCESS;
}

/* Who retained it may go on with an empty one. */
CUresult cuDevicePrimaryCtxReset(CUdevice dev)
{
	ENTER(call, NEED_INIT);
	CUresult r = primary_check(&call, dev);
	if (r == CUDA_SUCCESS && primaries[dev].ctx)
		context_empty(call.name, primaries[dev].ctx);
	return r;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags)
{
	ENTER(call, NEED_INIT);
	CUresult r = primary_check(&call, dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (primaries[dev].ctx && primaries[dev].flags != flags)
		return CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
	primaries[dev].flags = flags;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	ENTER(call, NEED_INIT);
	CUresult r = primary_check(&call, dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = primaries[dev].flags;
	*active = primaries[dev].ctx != NULL;
	return CUDA_SUCCESS;
}
