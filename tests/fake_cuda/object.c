/* Handles: which are alive, which were, and whose they are. */
#include <stdlib.h>

#include "tests/fake_cuda/fake_cuda.h"

enum { BUCKETS = 1024 };

static struct object *buckets[BUCKETS];

static const char *const names[KINDS] = {
	[KIND_CONTEXT] = "context",
	[KIND_STREAM] = "stream",
	[KIND_EVENT] = "event",
	[KIND_MEMORY] = "external memory",
	[KIND_SEMAPHORE] = "external semaphore",
};

static struct object **bucket_of(const void *handle)
{
	return &buckets[((uintptr_t)handle >> 4) % BUCKETS];
}

void *object_create(enum kind kind, CUcontext ctx, size_t size)
{
	struct object *object = calloc(1, size);
	if (!object)
		return NULL;
	struct object **bucket = bucket_of(object);
	*object = (struct object){ .kind = kind, .ctx = ctx, .next = *bucket };
	*bucket = object;
	return object;
}

/* A handle is only compared until it is known: it may be any number. */
static const struct object *find(const void *handle, enum kind kind)
{
	const struct object *object = *bucket_of(handle);
	while (object && object != handle)
		object = object->next;
	return object && object->kind == kind ? object : NULL;
}

CUresult object_check(const struct call *call, const void *handle, enum kind kind)
{
	const struct object *object = find(handle, kind);
	if (object && !object->dead && (kind == KIND_CONTEXT || object->ctx == call->ctx))
		return CUDA_SUCCESS;
	if (!object)
		record_misuse(call->name, "%p is no %s", handle, names[kind]);
	else if (object->dead)
		record_misuse(call->name, "%s %p was destroyed before", names[kind], handle);
	else
		record_misuse(call->name, "%s %p is another context's", names[kind], handle);
	return CUDA_ERROR_INVALID_HANDLE;
}

void object_each(enum kind kind, CUcontext ctx, void (*fn)(struct object *object))
{
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct object *o = buckets[i]; o; o = o->next)
			if (o->kind == kind && !o->dead && (!ctx || o->ctx == ctx))
				fn(o);
}
