/*
 * Timeline semaphores of another process. lavapipe exports none, so that the descriptor is one of
 * tests/fake_timeline.h: a counter in a memfd that any process may raise.
 */
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "tests/fake_cuda/api.h"
#include "tests/fake_timeline.h"

enum { POLL_NS = 100000 };

struct CUextSemaphore_st {
	struct object object;
	struct pages *pages;
	unsigned users; /* queued operations */
};

struct point {
	struct op op;
	CUexternalSemaphore semaphore;
	struct pages *pages;
	uint64_t value;
};

static _Atomic(uint64_t) *counter_of(const struct point *point)
{
	return (_Atomic(uint64_t) *)point->pages->base;
}

static void run_wait(struct op *op)
{
	const struct point *point = (const struct point *)op;
	const struct timespec pause = { .tv_nsec = POLL_NS };
	while (atomic_load(counter_of(point)) < point->value && !op_is_cancelled(op))
		nanosleep(&pause, NULL);
}

static void run_signal(struct op *op)
{
	const struct point *point = (const struct point *)op;
	sleep_us(record_late_us());
	if (fake_timeline_raise_counter(counter_of(point), point->value) == 0)
		return;
	state_lock();
	record_misuse("cuSignalExternalSemaphoresAsync", "%llu is less than the counter has",
		(unsigned long long)point->value);
	state_unlock();
}

static void end_point(struct op *op)
{
	struct point *point = (struct point *)op;
	point->semaphore->users--;
	point->pages = pages_unref(point->pages);
}

static CUresult import(const struct call *call, CUexternalSemaphore *out,
	const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC *desc)
{
	if (!out || desc->flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (desc->type != CU_EXTERNAL_SEMAPHORE_HANDLE_TYPE_TIMELINE_SEMAPHORE_FD)
		return CUDA_ERROR_NOT_SUPPORTED;
	_Atomic(uint64_t) *counter = fake_timeline_map(desc->handle.fd);
	struct pages *pages = counter ? pages_create(counter, sizeof(*counter)) : NULL;
	if (!pages)
		return CUDA_ERROR_INVALID_VALUE;
	CUexternalSemaphore semaphore =
		object_create(KIND_SEMAPHORE, call->ctx, sizeof(*semaphore));
	if (!semaphore) {
		pages_unref(pages);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	semaphore->pages = pages;
	close(desc->handle.fd);
	record_count(COUNT_SEMAPHORES);
	*out = semaphore;
	return CUDA_SUCCESS;
}

CUresult cuImportExternalSemaphore(
	CUexternalSemaphore *extSem_out, const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC *semHandleDesc)
{
	ENTER(call, NEED_CONTEXT);
	if (!semHandleDesc)
		return call.result != CUDA_SUCCESS ? call.result : CUDA_ERROR_INVALID_VALUE;
	CUresult r = call.result;
	if (r == CUDA_SUCCESS)
		r = import(&call, extSem_out, semHandleDesc);
	if (r != CUDA_SUCCESS && r != CUDA_ERROR_NOT_INITIALIZED)
		record_left_fd(semHandleDesc->handle.fd);
	return r;
}

void external_semaphore_end(struct object *object)
{
	CUexternalSemaphore semaphore = (CUexternalSemaphore)object;
	object->dead = true;
	semaphore->pages = pages_unref(semaphore->pages);
	record_count(COUNT_WITH_CONTEXT);
}

/* Operations that are queued go on, as they might with a GPU. */
CUresult cuDestroyExternalSemaphore(CUexternalSemaphore extSem)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = object_check(&call, extSem, KIND_SEMAPHORE);
	if (r != CUDA_SUCCESS)
		return r;
	if (extSem->users > 0)
		record_misuse(call.name, "external semaphore %p is used by %u queued operations",
			(void *)extSem, extSem->users);
	extSem->object.dead = true;
	extSem->pages = pages_unref(extSem->pages);
	record_count(COUNT_SEMAPHORES_DESTROYED);
	return CUDA_SUCCESS;
}

struct points {
	const CUexternalSemaphore *semaphores;
	const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *params;
	unsigned n;
	void (*run)(struct op *op);
};

static CUresult check_points(const struct call *call, const struct points *points)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	if (!points->semaphores || !points->params || points->n == 0)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = CUDA_SUCCESS;
	for (unsigned i = 0; i < points->n && r == CUDA_SUCCESS; i++)
		r = points->params[i].flags == 0
			    ? object_check(call, points->semaphores[i], KIND_SEMAPHORE)
			    : CUDA_ERROR_INVALID_VALUE;
	return r;
}

/* One operation for each: a queue of waits is over when all are. */
static CUresult push_points(const struct call *call, const struct points *points, CUstream handle)
{
	CUstream s;
	CUresult r = check_points(call, points);
	if (r == CUDA_SUCCESS)
		r = stream_find(call, handle, &s);
	if (r != CUDA_SUCCESS)
		return r;
	for (unsigned i = 0; i < points->n; i++) {
		struct point *point = op_create(sizeof(*point), points->run);
		if (!point)
			return CUDA_ERROR_OUT_OF_MEMORY;
		point->semaphore = points->semaphores[i];
		point->semaphore->users++;
		point->pages = pages_ref(point->semaphore->pages);
		point->value = points->params[i].params.fence.value;
		point->op.end = end_point;
		stream_push(s, &point->op);
	}
	return CUDA_SUCCESS;
}

CUresult cuWaitExternalSemaphoresAsync(const CUexternalSemaphore *extSemArray,
	const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *paramsArray, unsigned int numExtSems,
	CUstream stream)
{
	ENTER(call, NEED_CONTEXT);
	struct points points = { extSemArray, paramsArray, numExtSems, run_wait };
	return push_points(&call, &points, stream);
}

CUresult cuSignalExternalSemaphoresAsync(const CUexternalSemaphore *extSemArray,
	const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *paramsArray, unsigned int numExtSems,
	CUstream stream)
{
	ENTER(call, NEED_CONTEXT);
	struct points points = { extSemArray, paramsArray, numExtSems, run_signal };
	return push_points(&call, &points, stream);
}
