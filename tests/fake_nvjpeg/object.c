/* Handles: which are alive, which were, whose they are, and in which CUDA context. */
#include <stdlib.h>

#include "tests/fake_nvjpeg/fake_nvjpeg.h"

static struct object *objects;

static const char *const names[KINDS] = {
	[KIND_HANDLE] = "handle",
	[KIND_STATE] = "encoder state",
	[KIND_PARAMS] = "encoder params",
};

static CUcontext current(void)
{
	CUcontext ctx = NULL;
	const struct driver *driver = driver_get();
	if (driver)
		driver->get_current(&ctx);
	return ctx;
}

void *object_create(enum kind kind, struct object *handle, size_t size)
{
	struct object *object = calloc(1, size);
	if (!object)
		return NULL;
	*object = (struct object){
		.kind = kind,
		.ctx = current(),
		.handle = handle ? handle : object,
		.next = objects,
	};
	objects = object;
	return object;
}

/* It is only compared until it is known: it may be any number. */
static const struct object *find(const void *pointer, enum kind kind)
{
	const struct object *object = objects;
	while (object && object != pointer)
		object = object->next;
	return object && object->kind == kind ? object : NULL;
}

bool object_check(const char *call, const void *pointer, enum kind kind, const void *handle)
{
	const struct object *object = find(pointer, kind);
	if (!object)
		record_misuse(call, "%p is no %s", pointer, names[kind]);
	else if (object->dead)
		record_misuse(call, "%s %p was destroyed before", names[kind], pointer);
	else if (handle && object->handle != handle)
		record_misuse(call, "%s %p is another handle's", names[kind], pointer);
	else if (!object->ctx || object->ctx != current())
		record_misuse(call, "%s %p was made in context %p, current is %p", names[kind],
			pointer, (void *)object->ctx, (void *)current());
	else
		return true;
	return false;
}

bool object_has_any(const struct object *handle)
{
	for (const struct object *o = objects; o; o = o->next)
		if (o != handle && o->handle == handle && !o->dead)
			return true;
	return false;
}

void object_record_leaks(void)
{
	for (const struct object *o = objects; o; o = o->next)
		if (!o->dead)
			record_misuse("exit", "%s %p was never destroyed", names[o->kind],
				(const void *)o);
}
