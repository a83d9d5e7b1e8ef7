/*
 * Memory of another process: what lavapipe exports as OPAQUE_FD. That is a sealed memfd which begins
 * with a page of lavapipe's own, and there with the size of the file, where the data begins, and a
 * UUID. An import that succeeds takes the descriptor; one that fails leaves it to the caller.
 *
 * That UUID is of the driver's build, not of a device, and real drivers do not reliably refuse the
 * memory of another GPU either: so this library does not. Whoever imports must compare UUIDs first.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fake_cuda/api.h"

enum { DEDICATED = 1, RESERVED_WORDS = 16 };

static const char lavapipe_name[] = "/memfd:llvmpipe memory fd";

/* At the beginning of the file. */
struct header {
	uint64_t file_size, data_offset;
	uint8_t uuid[16];
};

/* The file is larger than the allocation by the offset, the header, and a word before the data. */
enum { HEADER_EXTRA = sizeof(struct header) + sizeof(uint64_t) };

struct CUextMemory_st {
	struct object object;
	struct pages *pages;
	size_t data_offset, size;
	bool mapped; /* at least once */
};

static bool is_lavapipe_fd(int fd)
{
	char path[64], name[sizeof(lavapipe_name)];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, name, sizeof(name) - 1);
	return n == sizeof(name) - 1 && memcmp(name, lavapipe_name, sizeof(name) - 1) == 0;
}

static bool is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 &&
	       (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) == (F_SEAL_SHRINK | F_SEAL_GROW);
}

/* The bytes of the allocation; 0: not lavapipe's. */
static size_t allocation_size(const struct header *header, size_t file_size)
{
	if (header->file_size != file_size || header->data_offset < HEADER_EXTRA ||
		header->data_offset >= file_size - HEADER_EXTRA)
		return 0;
	return file_size - header->data_offset - HEADER_EXTRA;
}

/* The whole file. NULL: it is no exported memory. */
static struct pages *map_file(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || !is_lavapipe_fd(fd) || !is_sealed(fd) ||
		(size_t)st.st_size <= sizeof(struct header) + HEADER_EXTRA)
		return NULL;
	size_t size = (size_t)st.st_size;
	return pages_create(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), size);
}

static bool all_zero(const unsigned *words)
{
	unsigned any = 0;
	for (int i = 0; i < RESERVED_WORDS; i++)
		any |= words[i];
	return any == 0;
}

static CUresult import_fd(
	const struct call *call, CUexternalMemory *out, int fd, unsigned long long size)
{
	struct pages *pages = map_file(fd);
	if (!pages)
		return CUDA_ERROR_INVALID_VALUE;
	const struct header *header = (const struct header *)pages->base;
	if (allocation_size(header, pages->size) != size) {
		pages_unref(pages);
		return CUDA_ERROR_INVALID_VALUE;
	}
	CUexternalMemory memory = object_create(KIND_MEMORY, call->ctx, sizeof(*memory));
	if (!memory) {
		pages_unref(pages);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	memory->pages = pages;
	memory->data_offset = header->data_offset;
	memory->size = size;
	close(fd);
	*out = memory;
	return CUDA_SUCCESS;
}

static CUresult import(const struct call *call, CUexternalMemory *out,
	const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *desc)
{
	if (!out || desc->size == 0 || (desc->flags & ~(unsigned)DEDICATED))
		return CUDA_ERROR_INVALID_VALUE;
	if (desc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (!all_zero(desc->reserved))
		record_misuse(call->name, "reserved words of the description are not zero");
	CUresult r = import_fd(call, out, desc->handle.fd, desc->size);
	if (r != CUDA_SUCCESS)
		return r;
	record_count(COUNT_IMPORTS);
	if (!(desc->flags & DEDICATED))
		record_count(COUNT_UNDEDICATED);
	return CUDA_SUCCESS;
}

CUresult cuImportExternalMemory(
	CUexternalMemory *extMem_out, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *memHandleDesc)
{
	ENTER(call, NEED_CONTEXT);
	if (!memHandleDesc)
		return call.result != CUDA_SUCCESS ? call.result : CUDA_ERROR_INVALID_VALUE;
	CUresult r = call.result;
	if (r == CUDA_SUCCESS)
		r = import(&call, extMem_out, memHandleDesc);
	if (r != CUDA_SUCCESS && r != CUDA_ERROR_NOT_INITIALIZED)
		record_left_fd(memHandleDesc->handle.fd);
	return r;
}

void external_memory_end(struct object *object)
{
	CUexternalMemory memory = (CUexternalMemory)object;
	object->dead = true;
	memory->pages = pages_unref(memory->pages);
	record_count(COUNT_WITH_CONTEXT);
}

CUresult cuDestroyExternalMemory(CUexternalMemory extMem)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = object_check(&call, extMem, KIND_MEMORY);
	if (r != CUDA_SUCCESS)
		return r;
	if (allocation_owner_busy(&extMem->object))
		record_misuse(call.name, "external memory %p is used by queued operations",
			(void *)extMem);
	extMem->object.dead = true;
	extMem->pages = pages_unref(extMem->pages);
	record_count(COUNT_DESTROYS);
	return CUDA_SUCCESS;
}

/*
 * Each buffer has an address of its own. The first takes that of the import; mapping the same pages
 * once more is what mremap() does with an old size of 0.
 */
static struct pages *pages_for_buffer(CUexternalMemory memory)
{
	struct pages *pages = memory->pages;
	if (!memory->mapped)
		return pages_ref(pages);
	return pages_create(mremap(pages->base, 0, pages->size, MREMAP_MAYMOVE), pages->size);
}

CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *devPtr, CUexternalMemory extMem,
	const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *bufferDesc)
{
	ENTER(call, NEED_CONTEXT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	CUresult r = object_check(&call, extMem, KIND_MEMORY);
	if (r != CUDA_SUCCESS)
		return r;
	if (!devPtr || !bufferDesc || bufferDesc->flags != 0 || bufferDesc->size == 0 ||
		bufferDesc->offset >= extMem->size ||
		bufferDesc->size > extMem->size - bufferDesc->offset)
		return CUDA_ERROR_INVALID_VALUE;
	struct pages *pages = pages_for_buffer(extMem);
	if (!pages)
		return CUDA_ERROR_OUT_OF_MEMORY;
	uintptr_t addr = (uintptr_t)pages->base + extMem->data_offset + bufferDesc->offset;
	struct allocation *a =
		allocation_create(ALLOCATION_MAPPED, call.ctx, pages, addr, bufferDesc->size);
	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	a->owner = &extMem->object;
	extMem->mapped = true;
	record_count(COUNT_MAPPED);
	*devPtr = addr;
	return CUDA_SUCCESS;
}
