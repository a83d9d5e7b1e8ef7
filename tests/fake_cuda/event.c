/* Events: marks in streams. */
#include "tests/fake_cuda/api.h"

/* The ids of the operations that recorded it: the last one asked for, and the last one done. */
struct CUevent_st {
	struct object object;
	uint64_t recorded, done;
};

struct mark {
	struct op op;
	CUevent event;
	uint64_t id; /* of the record that is waited for */
};

static void run_record(struct op *op)
{
	CUevent event = ((struct mark *)op)->event;
	state_lock();
	if (event->done < op->id)
		event->done = op->id;
	state_changed();
	state_unlock();
}

static void run_wait(struct op *op)
{
	const struct mark *mark = (const struct mark *)op;
	state_lock();
	while (mark->event->done < mark->id && !op->stream->object.ctx->ending)
		state_wait();
	state_unlock();
}

static CUresult event_check(const struct call *call, CUevent event)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	return object_check(call, event, KIND_EVENT);
}

CUresult cuEventCreate(CUevent *phEvent, unsigned int flags)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!phEvent || (flags & ~(unsigned)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING)))
		return CUDA_ERROR_INVALID_VALUE;
	CUevent event = object_create(KIND_EVENT, call.ctx, sizeof(*event));
	if (!event)
		return CUDA_ERROR_OUT_OF_MEMORY;
	record_count(COUNT_EVENTS);
	*phEvent = event;
	return CUDA_SUCCESS;
}

/* Also while it is recorded or waited for: that goes on. */
CUresult cuEventDestroy_v2(CUevent hEvent)
{
	ENTER(call, NEED_CONTEXT);
	CUresult r = event_check(&call, hEvent);
	if (r != CUDA_SUCCESS)
		return r;
	hEvent->object.dead = true;
	record_count(COUNT_EVENTS_DESTROYED);
	return CUDA_SUCCESS;
}

static CUresult push_mark(const struct call *call, CUevent event, CUstream handle, struct op from)
{
	CUstream s;
	CUresult r = event_check(call, event);
	if (r == CUDA_SUCCESS)
		r = stream_find(call, handle, &s);
	if (r != CUDA_SUCCESS)
		return r;
	struct mark *mark = op_create(sizeof(*mark), from.run);
	if (!mark)
		return CUDA_ERROR_OUT_OF_MEMORY;
	mark->op.always = from.always;
	mark->event = event;
	mark->id = event->recorded;
	uint64_t id = stream_push(s, &mark->op);
	if (from.run == run_record)
		event->recorded = id;
	return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	return push_mark(&call, hEvent, hStream, (struct op){ .run = run_record, .always = true });
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned flags)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result == CUDA_SUCCESS && flags > 1)
		return CUDA_ERROR_INVALID_VALUE;
	return push_mark(&call, hEvent, hStream, (struct op){ .run = run_wait });
}

/* One that was never recorded counts as done. */
CUresult cuEventQuery(CUevent hEvent)
{
	ENTER(call, NEED_CONTEXT);
	CUresult r = event_check(&call, hEvent);
	if (r != CUDA_SUCCESS)
		return r;
	return hEvent->done >= hEvent->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent hEvent)
{
	ENTER(call, NEED_CONTEXT);
	CUresult r = event_check(&call, hEvent);
	if (r != CUDA_SUCCESS)
		return r;
	const uint64_t id = hEvent->recorded;
	while (hEvent->done < id)
		state_wait();
	return CUDA_SUCCESS;
}
