/*
 * Streams: each a queue with a thread of its own, so that an operation that waits blocks its stream
 * and nobody else. The NULL stream and those made without CU_STREAM_NON_BLOCKING wait for each
 * other as CUDA's legacy default stream does. A stream that is destroyed ends its work first.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/fake_cuda/api.h"

static struct CUstream_st *streams;  /* that have a thread */
static struct CUstream_st *finished; /* whose thread has nothing more to do: to be joined */
static uint64_t last_id;
static __thread bool in_callback;

struct callback {
	struct op op;
	CUstreamCallback *stream_fn;
	CUhostFn *host_fn;
	void *userdata;
};

bool stream_in_callback(void)
{
	return in_callback;
}

void *op_create(size_t size, void (*run)(struct op *op))
{
	struct op *op = calloc(1, size);
	if (op)
		op->run = run;
	return op;
}

static bool is_before(const struct op *other, const struct op *op)
{
	return other && other->id < op->id;
}

/* As streams share the queues of a GPU. */
static bool is_queued_behind(const struct op *op)
{
	const struct CUstream_st *s = op->stream;
	for (const struct CUstream_st *other = streams; other; other = other->next)
		if (other->object.ctx == s->object.ctx && other->priority == s->priority &&
			is_before(other->oldest, op))
			return true;
	return false;
}

/* Whether the legacy rule lets it run. The oldest of all may always run, so nothing is stuck. */
static bool may_run(const struct op *op)
{
	const struct CUstream_st *s = op->stream;
	if (record_one_queue() && !s->object.ctx->ending && is_queued_behind(op))
		return false;
	const struct CUstream_st *null_stream = s->object.ctx->null_stream;
	if (s->object.ctx->ending || !s->legacy || !null_stream)
		return true;
	if (s != null_stream)
		return !is_before(null_stream->oldest, op);
	for (const struct CUstream_st *other = streams; other; other = other->next)
		if (other->object.ctx == s->object.ctx && other->legacy && other != s &&
			is_before(other->oldest, op))
			return false;
	return true;
}

/* NULL: the stream was closed and its work is done. */
static struct op *next_op(CUstream s)
{
	while (s->oldest ? !may_run(s->oldest) : !s->closed)
		state_wait();
	return s->oldest;
}

static void run_op(CUstream s, struct op *op)
{
	op->status = s->object.ctx->ending ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_SUCCESS;
	if (op->status == CUDA_SUCCESS || op->always) {
		state_unlock();
		op->run(op);
		state_lock();
	}
	s->oldest = op->next;
	if (!s->oldest)
		s->newest = &s->oldest;
	for (int i = 0; i < 2; i++)
		allocation_unuse(op->uses[i]);
	if (op->end)
		op->end(op);
	free(op);
	state_changed();
}

static void finish(CUstream s)
{
	struct CUstream_st **at = &streams;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->next = finished;
	finished = s;
	state_changed();
}

/* Lets go of the lock meanwhile, but does not wait for work. */
static void join_finished(void)
{
	while (finished) {
		CUstream s = finished;
		finished = s->next;
		state_unlock();
		pthread_join(s->thread, NULL);
		state_lock();
	}
}

static void *stream_thread(void *arg)
{
	CUstream s = arg;
	struct op *op;
	state_lock();
	while ((op = next_op(s)))
		run_op(s, op);
	finish(s);
	state_unlock();
	return NULL;
}

/* Signals are the business of the program's own threads. */
static bool start_thread(CUstream s)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool started = pthread_create(&s->thread, NULL, stream_thread, s) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

static CUstream stream_create(CUcontext ctx, unsigned flags)
{
	CUstream s = object_create(KIND_STREAM, ctx, sizeof(*s));
	if (!s)
		return NULL;
	s->legacy = !(flags & CU_STREAM_NON_BLOCKING);
	s->newest = &s->oldest;
	if (!start_thread(s)) {
		s->object.dead = true;
		return NULL;
	}
	s->next = streams;
	streams = s;
	return s;
}

enum { PRIORITY_LEAST = 0, PRIORITY_GREATEST = -5 };

static int clamp_priority(int priority)
{
	if (priority < PRIORITY_GREATEST)
		return PRIORITY_GREATEST;
	return priority > PRIORITY_LEAST ? PRIORITY_LEAST : priority;
}

CUresult stream_find(const struct call *call, CUstream handle, CUstream *out)
{
	CUcontext ctx = call->ctx;
	if (handle) {
		*out = handle;
		return object_check(call, handle, KIND_STREAM);
	}
	if (!ctx->null_stream)
		ctx->null_stream = stream_create(ctx, 0);
	*out = ctx->null_stream;
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

uint64_t stream_push(CUstream s, struct op *op)
{
	op->stream = s;
	op->id = ++last_id;
	op->next = NULL;
	*s->newest = op;
	s->newest = &op->next;
	state_changed();
	return op->id;
}

void stream_wait(CUstream s)
{
	uint64_t id = last_id;
	while (s->oldest && s->oldest->id <= id)
		state_wait();
}

bool op_is_cancelled(const struct op *op)
{
	state_lock();
	bool ending = op->stream->object.ctx->ending;
	state_unlock();
	return ending;
}

static const struct CUstream_st *find_of(const struct CUstream_st *from, CUcontext ctx)
{
	while (from && from->object.ctx != ctx)
		from = from->next;
	return from;
}

static bool has_until(const struct CUstream_st *s, uint64_t id, bool with_returning)
{
	const struct op *op = s->oldest;
	if (op && op->returning && !with_returning)
		op = op->next;
	return op && op->id <= id;
}

static void wait_all(CUcontext ctx, bool with_returning)
{
	const uint64_t id = last_id;
	const struct CUstream_st *s = find_of(streams, ctx);
	while (s) {
		if (!has_until(s, id, with_returning)) {
			s = find_of(s->next, ctx);
			continue;
		}
		state_wait(); /* the list may be another afterwards */
		s = find_of(streams, ctx);
	}
}

void stream_wait_all(CUcontext ctx)
{
	wait_all(ctx, true);
}

void stream_wait_device(CUcontext ctx)
{
	wait_all(ctx, false);
}

bool stream_any_busy(CUcontext ctx)
{
	const struct CUstream_st *s = find_of(streams, ctx);
	while (s && !s->oldest)
		s = find_of(s->next, ctx);
	return s != NULL;
}

static void stream_end(struct object *object)
{
	CUstream s = (CUstream)object;
	s->object.dead = true;
	s->closed = true;
	if (s != s->object.ctx->null_stream)
		record_count(COUNT_WITH_CONTEXT);
}

void stream_end_all(CUcontext ctx)
{
	object_each(KIND_STREAM, ctx, stream_end);
	state_changed();
	while (find_of(streams, ctx))
		state_wait();
	ctx->null_stream = NULL;
	join_finished();
}

/* What has work queued is left to its fate: a wait may never end. */
void stream_end_idle(void)
{
	for (struct CUstream_st *s = streams; s; s = s->next)
		s->closed = s->closed || !s->oldest;
	state_changed();
	struct CUstream_st *s = streams;
	while (s) {
		bool ends = s->closed && !s->oldest;
		if (ends)
			state_wait();
		s = ends ? streams : s->next;
	}
	join_finished();
}

static CUresult create(CUstream *out, unsigned flags, int priority, const struct call *call)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	if (!out || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING))
		return CUDA_ERROR_INVALID_VALUE;
	CUstream s = stream_create(call->ctx, flags);
	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	s->priority = clamp_priority(priority);
	record_count(COUNT_STREAMS);
	*out = s;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int flags)
{
	ENTER(call, NEED_CONTEXT);
	return create(phStream, flags, PRIORITY_LEAST, &call);
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned flags, int priority)
{
	ENTER(call, NEED_CONTEXT);
	return create(phStream, flags, priority, &call);
}

CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (leastPriority)
		*leastPriority = PRIORITY_LEAST;
	if (greatestPriority)
		*greatestPriority = PRIORITY_GREATEST;
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = object_check(&call, hStream, KIND_STREAM);
	if (r != CUDA_SUCCESS)
		return r;
	hStream->object.dead = true;
	hStream->closed = true;
	state_changed();
	record_count(COUNT_STREAMS_DESTROYED);
	join_finished(); /* not this one, if it works yet */
	return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	CUstream s;
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = stream_find(&call, hStream, &s);
	if (r != CUDA_SUCCESS)
		return r;
	return s->oldest ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream hStream)
{
	ENTER(call, NEED_CONTEXT);
	CUstream s;
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = stream_find(&call, hStream, &s);
	if (r == CUDA_SUCCESS)
		stream_wait(s);
	return r;
}

CUresult cuCtxSynchronize(void)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result == CUDA_SUCCESS)
		stream_wait_all(call.ctx);
	return call.result;
}

static void run_callback(struct op *op)
{
	const struct callback *callback = (const struct callback *)op;
	in_callback = true;
	if (callback->stream_fn)
		callback->stream_fn(op->stream, op->status, callback->userdata);
	else if (op->status == CUDA_SUCCESS) /* host functions are not told of errors: not called */
		callback->host_fn(callback->userdata);
	in_callback = false;
	state_lock();
	op->returning = true;
	state_changed();
	state_unlock();
	sleep_us(record_late_us());
}

static CUresult push_callback(
	const struct call *call, CUstream handle, const struct callback *callback)
{
	CUstream s;
	if (call->result != CUDA_SUCCESS)
		return call->result;
	if (!callback->stream_fn && !callback->host_fn)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = stream_find(call, handle, &s);
	if (r != CUDA_SUCCESS)
		return r;
	struct callback *op = op_create(sizeof(*op), run_callback);
	if (!op)
		return CUDA_ERROR_OUT_OF_MEMORY;
	op->stream_fn = callback->stream_fn;
	op->host_fn = callback->host_fn;
	op->userdata = callback->userdata;
	op->op.always = true;
	stream_push(s, &op->op);
	return CUDA_SUCCESS;
}

CUresult cuStreamAddCallback(
	CUstream hStream, CUstreamCallback *callback, void *userdata, unsigned int flags)
{
	ENTER(call, NEED_CONTEXT);
	struct callback op = { .stream_fn = callback, .userdata = userdata };
	return flags == 0 ? push_callback(&call, hStream, &op) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn *fn, void *userdata)
{
	ENTER(call, NEED_CONTEXT);
	struct callback op = { .host_fn = fn, .userdata = userdata };
	return push_callback(&call, hStream, &op);
}
