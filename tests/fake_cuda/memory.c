/*
 * Memory, and where a pointer points. An address is never given out twice: what was freed stays
 * reserved without access, so that a stale pointer is found, whoever uses it.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/fake_cuda/api.h"

enum { PITCH_ALIGN = 512 };

static const size_t device_bytes = (size_t)8 << 30;

static struct allocation *living, *dead;

struct pages *pages_create(void *base, size_t size)
{
	if (base == MAP_FAILED)
		return NULL;
	struct pages *pages = malloc(sizeof(*pages));
	if (!pages) {
		munmap(base, size);
		return NULL;
	}
	*pages = (struct pages){ .base = base, .size = size, .refs = 1 };
	return pages;
}

struct pages *pages_ref(struct pages *pages)
{
	pages->refs++;
	return pages;
}

struct pages *pages_unref(struct pages *pages)
{
	if (!pages || --pages->refs > 0)
		return NULL;
	if (mmap(pages->base, pages->size, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		munmap(pages->base, pages->size);
	free(pages);
	return NULL;
}

struct allocation *allocation_create(
	enum allocation_kind kind, CUcontext ctx, struct pages *pages, uintptr_t addr, size_t size)
{
	struct allocation *a = pages ? malloc(sizeof(*a)) : NULL;
	if (!a) {
		pages_unref(pages);
		return NULL;
	}
	*a = (struct allocation){
		.kind = kind, .addr = addr, .size = size, .ctx = ctx, .pages = pages, .next = living
	};
	living = a;
	return a;
}

static struct allocation *allocate(enum allocation_kind kind, CUcontext ctx, size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return allocation_create(kind, ctx, pages_create(base, size), (uintptr_t)base, size);
}

static bool is_inside(const struct allocation *a, uintptr_t addr, size_t size)
{
	return addr >= a->addr && addr - a->addr < a->size && size <= a->size - (addr - a->addr);
}

static struct allocation *search(struct allocation *list, uintptr_t addr, size_t size)
{
	while (list && !is_inside(list, addr, size))
		list = list->next;
	return list;
}

static const char *why_not(const struct allocation *a, uintptr_t addr)
{
	if (a && a->kind == ALLOCATION_HOST)
		return "is not device memory";
	if (a)
		return "is another device's memory";
	if (search(dead, addr, 1))
		return "was freed before";
	return search(living, addr, 1) ? "begins in memory and leaves it" : "is in no memory";
}

CUresult allocation_find(
	const struct call *call, uintptr_t addr, size_t size, bool device, struct allocation **out)
{
	struct allocation *a = search(living, addr, size);
	bool fits = a && a->kind != ALLOCATION_HOST && a->ctx->dev == call->ctx->dev;
	if (device ? !fits : !a && (search(living, addr, 1) || search(dead, addr, 1))) {
		record_misuse(call->name, "0x%llx + %zu %s", (unsigned long long)addr, size,
			why_not(a, addr));
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (a && a->owner && a->owner->dead)
		record_misuse(call->name, "0x%llx is of an external memory that was destroyed",
			(unsigned long long)addr);
	*out = a;
	return CUDA_SUCCESS;
}

void allocation_use(struct allocation *a)
{
	if (a)
		a->users++;
}

void allocation_unuse(struct allocation *a)
{
	if (a && --a->users == 0 && a->dead)
		a->pages = pages_unref(a->pages);
}

bool allocation_owner_busy(const struct object *owner)
{
	const struct allocation *a = living;
	while (a && (a->owner != owner || a->users == 0))
		a = a->next;
	return a != NULL;
}

/* Work that is queued keeps the pages: what it would do without them is the real driver's secret. */
static void allocation_end(struct allocation *a)
{
	struct allocation **at = &living;
	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	a->dead = true;
	a->next = dead;
	dead = a;
	if (a->users == 0)
		a->pages = pages_unref(a->pages);
}

void allocation_end_all(CUcontext ctx)
{
	for (struct allocation *a = living, *next; a; a = next) {
		next = a->next;
		if (a->ctx != ctx)
			continue;
		allocation_end(a);
		record_count(COUNT_WITH_CONTEXT);
	}
}

void allocation_record_leaks(void)
{
	for (const struct allocation *a = living; a; a = a->next)
		if (a->kind == ALLOCATION_MAPPED)
			record_misuse("exit", "mapped buffer 0x%llx was never freed",
				(unsigned long long)a->addr);
}

static CUresult free_at(const struct call *call, uintptr_t addr, bool host)
{
	struct allocation *a = search(living, addr, 1);
	if (!a || a->addr != addr || (a->kind == ALLOCATION_HOST) != host) {
		record_misuse(call->name, "0x%llx %s", (unsigned long long)addr,
			a ? "is not where an allocation begins" : why_not(a, addr));
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (a->users > 0)
		record_misuse(call->name, "0x%llx is used by %u queued operations",
			(unsigned long long)addr, a->users);
	if (a->kind == ALLOCATION_MAPPED)
		stream_wait_device(call->ctx); /* the real one may, and nothing says when not */
	record_count(a->kind == ALLOCATION_MAPPED ? COUNT_UNMAPPED : COUNT_FREES);
	allocation_end(a);
	return CUDA_SUCCESS;
}

static size_t bytes_of_device(CUdevice dev)
{
	size_t sum = 0;
	for (const struct allocation *a = living; a; a = a->next)
		if (a->kind == ALLOCATION_DEVICE && a->ctx->dev == dev)
			sum += a->size;
	return sum;
}

static CUresult alloc_device(const struct call *call, CUdeviceptr *dptr, size_t size)
{
	if (!dptr || size == 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (size > device_bytes - bytes_of_device(call->ctx->dev))
		return CUDA_ERROR_OUT_OF_MEMORY;
	const struct allocation *a = allocate(ALLOCATION_DEVICE, call->ctx, size);
	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	record_count(COUNT_ALLOCS);
	*dptr = a->addr;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
	ENTER(call, NEED_CONTEXT);
	return call.result == CUDA_SUCCESS ? alloc_device(&call, dptr, bytesize) : call.result;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
	unsigned int ElementSizeBytes)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	size_t pitch, size;
	if (!pPitch || (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16) ||
		__builtin_add_overflow(WidthInBytes, PITCH_ALIGN - 1, &pitch))
		return CUDA_ERROR_INVALID_VALUE;
	pitch -= pitch % PITCH_ALIGN;
	if (__builtin_mul_overflow(pitch, Height, &size))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = alloc_device(&call, dptr, size);
	if (r == CUDA_SUCCESS)
		*pPitch = pitch;
	return r;
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS || dptr == 0)
		return call.result;
	return free_at(&call, (uintptr_t)dptr, false);
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!pp || bytesize == 0)
		return CUDA_ERROR_INVALID_VALUE;
	const struct allocation *a = allocate(ALLOCATION_HOST, call.ctx, bytesize);
	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	record_count(COUNT_ALLOCS);
	*pp = a->pages->base;
	return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *p)
{
	ENTER(call, NEED_CONTEXT);
	return call.result == CUDA_SUCCESS ? free_at(&call, (uintptr_t)p, true) : call.result;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!free_bytes || !total_bytes)
		return CUDA_ERROR_INVALID_VALUE;
	*total_bytes = device_bytes;
	*free_bytes = device_bytes - bytes_of_device(call.ctx->dev);
	return CUDA_SUCCESS;
}
