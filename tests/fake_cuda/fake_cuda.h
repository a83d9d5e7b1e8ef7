/*
 * A libcuda.so.1 without a GPU, for tests of what imports GPU memory: its device memory is the
 * memory of this process, and what it imports is what lavapipe exports. It keeps the ownership and
 * error rules of NVIDIA's driver, and writes down what that driver would leave undefined. README.md
 * says which calls it has and which environment variables steer it; this header is for its own
 * files.
 *
 * One lock guards everything. Objects are never freed: a handle that was destroyed stays known, so
 * that its use is seen. Nothing here but a stream's thread runs without the lock.
 */
#pragma once

#include <ffnvcodec/dynlink_cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

#define CUDA_EXPORT __attribute__((visibility("default")))

/* Results that the header of nv-codec-headers leaves out. */
#define CUDA_ERROR_INVALID_VALUE          ((CUresult)1)
#define CUDA_ERROR_OUT_OF_MEMORY          ((CUresult)2)
#define CUDA_ERROR_NOT_INITIALIZED        ((CUresult)3)
#define CUDA_ERROR_NO_DEVICE              ((CUresult)100)
#define CUDA_ERROR_INVALID_DEVICE         ((CUresult)101)
#define CUDA_ERROR_INVALID_CONTEXT        ((CUresult)201)
#define CUDA_ERROR_INVALID_HANDLE         ((CUresult)400)
#define CUDA_ERROR_ILLEGAL_STATE          ((CUresult)401)
#define CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE ((CUresult)708)
#define CUDA_ERROR_CONTEXT_IS_DESTROYED   ((CUresult)709)
#define CUDA_ERROR_NOT_PERMITTED          ((CUresult)800)
#define CUDA_ERROR_NOT_SUPPORTED          ((CUresult)801)

/* --- record.c: what happened, and what is to fail ------------------------------------------- */

enum count {
	COUNT_IMPORTS,
	COUNT_DESTROYS,
	COUNT_MAPPED,
	COUNT_UNMAPPED,
	COUNT_ALLOCS,
	COUNT_FREES,
	COUNT_SEMAPHORES,
	COUNT_SEMAPHORES_DESTROYED,
	COUNT_STREAMS,
	COUNT_STREAMS_DESTROYED,
	COUNT_EVENTS,
	COUNT_EVENTS_DESTROYED,
	COUNT_CONTEXTS,
	COUNT_CONTEXTS_DESTROYED,
	COUNT_WITH_CONTEXT, /* whatever went with its context instead of by a call of its own */
	COUNT_UNDEDICATED,  /* imports without CUDA_EXTERNAL_MEMORY_DEDICATED */
	COUNT_REFUSED,      /* imports */
	COUNT_MISUSES,
	COUNTS,
};

void record_count(enum count what);

/* A line of the log: something that NVIDIA's driver would leave undefined. */
void record_misuse(const char *call, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A descriptor that a failed import left with the caller, who is to close it before the exit. */
void record_left_fd(int fd);

/* What FAKE_CUDA_FAIL says of this call of that function. */
CUresult record_fault(const char *call);

/* Microseconds that an asynchronous copy takes at least, and those that a signal and the return from
 * a callback take. */
unsigned record_copy_us(void);
unsigned record_late_us(void);

/* Streams of equal priority share one queue, in which work that waits holds up what comes after. */
bool record_one_queue(void);

/* --- device.c ------------------------------------------------------------------------------- */

enum { DEVICES_MAX = 8 };

/* What an entry point needs before it can do anything. */
enum need { NEED_NOTHING, NEED_INIT, NEED_CONTEXT };

/* An entry point at work: it holds the lock until it returns. */
struct call {
	const char *name;
	CUresult result; /* not CUDA_SUCCESS: return it, nothing else */
	CUcontext ctx;   /* with NEED_CONTEXT */
};

struct call call_enter(const char *name, enum need need);
void call_leave(struct call *call);

#define ENTER(var, need) _cleanup_(call_leave) struct call var = call_enter(__func__, need)

bool device_exists(CUdevice dev);

/* --- object.c: handles ---------------------------------------------------------------------- */

enum kind { KIND_CONTEXT, KIND_STREAM, KIND_EVENT, KIND_MEMORY, KIND_SEMAPHORE, KINDS };

struct object {
	enum kind kind;
	bool dead;
	CUcontext ctx; /* of a context: itself */
	struct object *next;
};

/* A new object, `size` bytes that begin with a struct object. NULL: no memory. */
void *object_create(enum kind kind, CUcontext ctx, size_t size);

/* CUDA_ERROR_INVALID_HANDLE unless it is alive and of the call's context. */
CUresult object_check(const struct call *call, const void *handle, enum kind kind);

/* For each that is alive; fn may kill. */
void object_each(enum kind kind, CUcontext ctx, void (*fn)(struct object *object));

/* --- context.c ------------------------------------------------------------------------------ */

struct CUctx_st {
	struct object object;
	CUdevice dev;
	unsigned flags;
	bool primary;
	bool ending; /* waits and copies that are still queued are skipped */
	CUstream null_stream;
};

/* The calling thread's. */
CUresult context_current(CUcontext *out);

/* A CUdeviceptr is an address of this process. */
static inline char *pointer_to(uintptr_t addr)
{
	union {
		uintptr_t addr;
		char *pointer;
	} as = { .addr = addr };
	return as.pointer;
}

/* --- memory.c ------------------------------------------------------------------------------- */

/* Pages that several may use: an import, its mapped buffers, and work that is queued. */
struct pages {
	char *base;
	size_t size;
	unsigned refs;
};

/* Takes over what mmap() returned. NULL: no memory, and unmapped. */
struct pages *pages_create(void *base, size_t size);
struct pages *pages_ref(struct pages *pages);
struct pages *pages_unref(struct pages *pages);

enum allocation_kind { ALLOCATION_DEVICE, ALLOCATION_MAPPED, ALLOCATION_HOST };

struct allocation {
	enum allocation_kind kind;
	bool dead;
	unsigned users; /* queued operations */
	uintptr_t addr;
	size_t size;
	CUcontext ctx;
	struct pages *pages;
	const struct object *owner; /* the external memory that a mapped buffer is of */
	struct allocation *next;
};

/* Takes the reference to pages. addr lies in them. NULL: no memory. */
struct allocation *allocation_create(
	enum allocation_kind kind, CUcontext ctx, struct pages *pages, uintptr_t addr, size_t size);

/*
 * Where [addr, addr + size) is. device: it must be memory of the device of the call's context, else
 * CUDA_ERROR_INVALID_VALUE. Otherwise *out may be NULL: memory that this library does not know.
 */
CUresult allocation_find(
	const struct call *call, uintptr_t addr, size_t size, bool device, struct allocation **out);

/* For an operation that is queued; NULL is allowed. */
void allocation_use(struct allocation *a);
void allocation_unuse(struct allocation *a);

/* A buffer of it is used by an operation that is queued. */
bool allocation_owner_busy(const struct object *owner);

/* With its context. */
void allocation_end_all(CUcontext ctx);

/* At exit. */
void allocation_record_leaks(void);

/* --- external_memory.c, external_semaphore.c ------------------------------------------------ */

void external_memory_end(struct object *object);
void external_semaphore_end(struct object *object);

/* --- stream.c ------------------------------------------------------------------------------- */

struct op {
	struct op *next;
	uint64_t id; /* rises with each operation of all streams */
	CUstream stream;
	CUresult
		status; /* when it runs: CUDA_ERROR_CONTEXT_IS_DESTROYED if the context is ending */
	bool always;    /* even then */
	bool returning; /* a callback that has done its work, and is still the thread's */
	struct allocation *uses[2];
	void (*run)(struct op *op); /* in the stream's thread, without the lock */
	void (*end)(struct op *op); /* with the lock; may be NULL. Then the op is freed */
};

struct CUstream_st {
	struct object object;
	int priority;      /* the greatest is the least number */
	bool legacy;       /* waits for the NULL stream, and that for it */
	bool closed;       /* the thread ends when it has nothing to do */
	struct op *oldest; /* the one that runs, if any does */
	struct op **newest;
	pthread_t thread;
	struct CUstream_st *next;
};

/* CUDA's rules: NULL is the default stream, made when it is first needed. */
CUresult stream_find(const struct call *call, CUstream handle, CUstream *out);

/* Takes op, which op_create() made. Returns its id. */
uint64_t stream_push(CUstream s, struct op *op);

/* Until all that was pushed before is over. Lets go of the lock meanwhile. */
void stream_wait(CUstream s);

/* As above, of all streams of a context, also those that were destroyed; and without callbacks that
 * only return. */
void stream_wait_all(CUcontext ctx);
void stream_wait_device(CUcontext ctx);

/* What is queued is skipped as far as it may be; returns when all streams of it are idle. */
void stream_end_all(CUcontext ctx);

bool stream_any_busy(CUcontext ctx);

/* At exit. */
void stream_end_idle(void);

/* `size` bytes that begin with a struct op. */
void *op_create(size_t size, void (*run)(struct op *op));

/* Its context ends: a wait must give up. For threads of streams, without the lock. */
bool op_is_cancelled(const struct op *op);

/* The calling thread is in a callback: it may not call the driver. */
bool stream_in_callback(void);

/* Sleep for something that changes under the lock: a stream, an event, a context. */
void state_wait(void);
void state_changed(void);

void state_lock(void);
void state_unlock(void);

/* Without the lock. */
void sleep_us(unsigned us);
