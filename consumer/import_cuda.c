/*
 * CUDA: libcuda.so.1 is opened at run time, so that one binary runs on machines without it.
 *
 * Every call of the driver happens in our context, pushed before and popped after: the caller's
 * thread keeps the context that it has. A successful import consumes the descriptor, one that fails
 * does not.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/importer.h"
#include "consumer/text.h"

/* The loader's own messages go into our sentence. It is never unloaded: the driver's threads return
 * into it after our callbacks. */
static void load_failed(void *data, const char *what);
#define FFNV_LOAD_FUNC(path)              dlopen((path), RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE)
#define FFNV_SYM_FUNC(library, symbol)    dlsym((library), (symbol))
#define FFNV_FREE_FUNC(library)           dlclose(library)
#define FFNV_LOG_FUNC(data, format, what) load_failed(data, what)
#define FFNV_DEBUG_LOG_FUNC(data, format, what)
#include <ffnvcodec/dynlink_loader.h>

/* Not in the loader's headers. */
enum { EXTERNAL_MEMORY_DEDICATED = 1, OUT_OF_MEMORY = 2 };
enum { DEINITIALIZED = 4, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, CONTEXT_IS_DESTROYED = 709 };

typedef CUresult CUDAAPI synchronize_fn(void);
typedef CUresult CUDAAPI stream_wait_event_fn(CUstream stream, CUevent event, unsigned flags);
typedef CUresult CUDAAPI priority_range_fn(int *least, int *greatest);
typedef CUresult CUDAAPI create_with_priority_fn(CUstream *stream, unsigned flags, int priority);

struct cuda {
	struct importer base;
	CudaFunctions *cu;
	synchronize_fn *synchronize;
	stream_wait_event_fn *stream_wait_event;
	/* NULL: an old driver has none */
	priority_range_fn *priority_range;
	create_with_priority_fn *create_with_priority;
	CUdevice device[WIRE_DEVICES_MAX]; /* those of base.uuid */
	char name[WIRE_DEVICES_MAX][129];
	CUcontext context;
	bool is_retained; /* the primary context of device[attached] */
	unsigned attached;
	/* our own, NULL: none needed yet */
	CUstream signals;
	CUstream ends; /* of the caller's work: callbacks */
	CUevent end;
	bool has_signalled;
};

static struct cuda *of(struct importer *importer)
{
	return (struct cuda *)importer;
}

static void load_failed(void *data, const char *what)
{
	const char *why = dlerror();
	error_set(data, SLUICE_ERROR_NONE, "%s cannot be opened: %s; is NVIDIA's driver installed?",
		what, why ? why : "?");
}

/* "cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)" */
static int fail(const struct cuda *c, struct error *error, int r, const char *call, CUresult result)
{
	const char *name = NULL, *text = NULL;
	c->cu->cuGetErrorName(result, &name);
	c->cu->cuGetErrorString(result, &text);
	error_set(error, SLUICE_ERROR_NONE, "%s: %s (%s)", call, name ? name : "unknown",
		text ? text : "?");
	return (int)result == OUT_OF_MEMORY ? -ENOMEM : r;
}

static int no_memory(struct error *error)
{
	error_set(error, SLUICE_ERROR_NONE, "out of memory");
	return -ENOMEM;
}

static int enter(const struct cuda *c, struct error *error)
{
	CUresult result = c->cu->cuCtxPushCurrent(c->context);
	return result == CUDA_SUCCESS ? 0 : fail(c, error, -EIO, "cuCtxPushCurrent", result);
}

static void leave(const struct cuda *c)
{
	CUcontext ours;
	c->cu->cuCtxPopCurrent(&ours);
}

/* Handles are numbers elsewhere. */
static uint64_t number_of(const void *handle)
{
	uint64_t number = 0;
	memcpy(&number, &handle, sizeof(handle));
	return number;
}

static void *handle_of(uint64_t number)
{
	void *handle;
	memcpy(&handle, &number, sizeof(handle));
	return handle;
}

/* --- Slots ------------------------------------------------------------------------------------*/

static int import_memory(struct cuda *c, const struct slot_layout *layout, int *fd,
	struct slot_memory *slot_out, struct error *error)
{
	CUDA_EXTERNAL_MEMORY_HANDLE_DESC desc = {
		.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
		.handle.fd = *fd,
		.size = layout->allocation_bytes,
		.flags = EXTERNAL_MEMORY_DEDICATED,
	};
	CUexternalMemory memory;
	CUresult result = c->cu->cuImportExternalMemory(&memory, &desc);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuImportExternalMemory", result);
	fd_take(fd); /* the driver's now */
	CUDA_EXTERNAL_MEMORY_BUFFER_DESC buffer = { .size = layout->bytes };
	CUdeviceptr ptr = 0;
	result = c->cu->cuExternalMemoryGetMappedBuffer(&ptr, memory, &buffer);
	if (result != CUDA_SUCCESS) {
		c->cu->cuDestroyExternalMemory(memory);
		return fail(c, error, -EIO, "cuExternalMemoryGetMappedBuffer", result);
	}
	*slot_out = (struct slot_memory){ .handle = ptr, .memory = number_of(memory) };
	return 0;
}

static int cuda_import(struct importer *importer, const struct slot_layout *layout, int *fd_in,
	struct slot_memory *slot_out, struct error *error)
{
	_cleanup_fd_ int fd = fd_take(fd_in);
	struct cuda *c = of(importer);
	int r = enter(c, error);
	if (r < 0)
		return r;
	r = import_memory(c, layout, &fd, slot_out, error);
	leave(c);
	return r;
}

static void cuda_drop(
	struct importer *importer, const struct slot_layout *layout, struct slot_memory *slot)
{
	struct cuda *c = of(importer);
	struct error ignored;
	if (enter(c, &ignored) < 0)
		return; /* the caller destroyed the context, and with it the memory */
	c->cu->cuMemFree((CUdeviceptr)slot->handle);
	c->cu->cuDestroyExternalMemory(handle_of(slot->memory));
	leave(c);
}

/* --- Timelines --------------------------------------------------------------------------------*/

struct timeline {
	struct list link; /* timelines */
	const struct cuda *cuda;
	CUexternalSemaphore semaphore;
	/* behind the wait for the greatest value: when it is over, every wait is */
	CUevent reached;
	uint64_t value; /* that one */
};

/* Of all connections, since a driver waits for a context as a whole. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list timelines = { &timelines, &timelines };

/* Streams of one priority share queues of the GPU, which may be full of work that waits. */
static CUresult create_urgent(const struct cuda *c, CUstream *stream_out)
{
	int least, greatest;
	if (!c->priority_range || !c->create_with_priority ||
		c->priority_range(&least, &greatest) != CUDA_SUCCESS)
		return c->cu->cuStreamCreate(stream_out, CU_STREAM_NON_BLOCKING);
	return c->create_with_priority(stream_out, CU_STREAM_NON_BLOCKING, greatest);
}

static int import_semaphore(struct cuda *c, int *fd, struct timeline *t, struct error *error)
{
	CUresult result = CUDA_SUCCESS;
	if (!c->signals)
		result = create_urgent(c, &c->signals);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuStreamCreate", result);
	result = c->cu->cuEventCreate(&t->reached, CU_EVENT_DISABLE_TIMING);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuEventCreate", result);
	CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC desc = {
		.type = CU_EXTERNAL_SEMAPHORE_HANDLE_TYPE_TIMELINE_SEMAPHORE_FD,
		.handle.fd = *fd,
	};
	result = c->cu->cuImportExternalSemaphore(&t->semaphore, &desc);
	if (result != CUDA_SUCCESS) {
		c->cu->cuEventDestroy(t->reached);
		return fail(c, error, -EIO, "cuImportExternalSemaphore", result);
	}
	fd_take(fd); /* the driver's now */
	return 0;
}

static int cuda_import_timeline(
	struct importer *importer, int *fd_in, uint64_t *timeline_out, struct error *error)
{
	_cleanup_fd_ int fd = fd_take(fd_in);
	struct cuda *c = of(importer);
	_cleanup_free_ struct timeline *t = calloc(1, sizeof(*t));
	int r = t ? enter(c, error) : no_memory(error);
	if (r < 0)
		return r;
	r = import_semaphore(c, &fd, t, error);
	leave(c);
	if (r < 0)
		return r;
	t->cuda = c;
	pthread_mutex_lock(&lock);
	list_insert(&timelines, &t->link);
	pthread_mutex_unlock(&lock);
	*timeline_out = number_of(TAKE_PTR(t));
	return 0;
}

static void cuda_drop_timeline(struct importer *importer, uint64_t timeline)
{
	struct cuda *c = of(importer);
	_cleanup_free_ struct timeline *t = handle_of(timeline);
	struct error ignored;
	pthread_mutex_lock(&lock);
	list_remove(&t->link);
	pthread_mutex_unlock(&lock);
	if (enter(c, &ignored) < 0)
		return;
	if (c->has_signalled)
		c->cu->cuStreamSynchronize(c->signals); /* nothing is in there but signals */
	c->cu->cuDestroyExternalSemaphore(t->semaphore);
	c->cu->cuEventDestroy(t->reached);
	leave(c);
}

static void cuda_signal(struct importer *importer, uint64_t timeline, uint64_t value)
{
	struct cuda *c = of(importer);
	struct error ignored;
	const struct timeline *t = handle_of(timeline);
	CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS params = { .params.fence.value = value };
	if (enter(c, &ignored) < 0)
		return;
	c->cu->cuSignalExternalSemaphoresAsync(&t->semaphore, &params, 1, c->signals);
	c->has_signalled = true;
	leave(c);
}

/* --- The caller's streams ---------------------------------------------------------------------*/

static int add_wait(
	struct cuda *c, CUstream stream, struct timeline *t, uint64_t value, struct error *error)
{
	CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS params = { .params.fence.value = value };
	CUresult result = c->cu->cuWaitExternalSemaphoresAsync(&t->semaphore, &params, 1, stream);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuWaitExternalSemaphoresAsync", result);
	if (value < t->value)
		return 0;
	result = c->cu->cuEventRecord(t->reached, stream);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuEventRecord", result);
	t->value = value;
	return 0;
}

static int cuda_wait_in(struct importer *importer, void *stream, uint64_t timeline, uint64_t value,
	struct error *error)
{
	struct cuda *c = of(importer);
	int r = enter(c, error);
	if (r < 0)
		return r;
	r = add_wait(c, stream, handle_of(timeline), value, error);
	leave(c);
	return r;
}

static bool cuda_is_waiting(const struct importer *importer)
{
	const struct cuda *c = (const struct cuda *)importer;
	const struct timeline *t;
	struct error ignored;
	bool is_waiting = false;
	if (enter(c, &ignored) < 0)
		return false;
	pthread_mutex_lock(&lock);
	list_for_each(t, &timelines, link) {
		if (t->cuda->context == c->context)
			is_waiting |= c->cu->cuEventQuery(t->reached) == CUDA_ERROR_NOT_READY;
	}
	pthread_mutex_unlock(&lock);
	leave(c);
	return is_waiting;
}

struct call {
	void (*fn)(void *data);
	void *data;
};

/* Called when an error ended the work too, which cuLaunchHostFunc()'s callbacks are not. */
static void CUDAAPI on_stream(CUstream stream, CUresult result, void *data)
{
	struct call *call = data;
	call->fn(call->data);
	free(call);
}

static int make_ends(struct cuda *c, struct error *error)
{
	CUresult result = CUDA_SUCCESS;
	if (!c->ends)
		result = c->cu->cuStreamCreate(&c->ends, CU_STREAM_NON_BLOCKING);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuStreamCreate", result);
	if (!c->end)
		result = c->cu->cuEventCreate(&c->end, CU_EVENT_DISABLE_TIMING);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuEventCreate", result);
	return 0;
}

/*
 * The callback is in a stream of ours that waits for the caller's: so what the caller's stream does
 * next does not wait for the CPU, and we can wait until the driver has returned from it.
 */
static int add_call(struct cuda *c, CUstream stream, struct call *call, struct error *error)
{
	int r = make_ends(c, error);
	if (r < 0)
		return r;
	CUresult result = c->cu->cuEventRecord(c->end, stream);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuEventRecord", result);
	result = c->stream_wait_event(c->ends, c->end, 0);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuStreamWaitEvent", result);
	result = c->cu->cuStreamAddCallback(c->ends, on_stream, call, 0);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuStreamAddCallback", result);
	return 0;
}

static int cuda_call_after(struct importer *importer, void *stream, void (*fn)(void *data),
	void *data, struct error *error)
{
	struct cuda *c = of(importer);
	_cleanup_free_ struct call *call = malloc(sizeof(*call));
	int r = call ? enter(c, error) : no_memory(error);
	if (r < 0)
		return r;
	*call = (struct call){ fn, data };
	r = add_call(c, stream, call, error);
	leave(c);
	if (r == 0)
		TAKE_PTR(call); /* on_stream()'s now */
	return r;
}

static int cuda_query(struct importer *importer, void *stream, struct error *error)
{
	struct cuda *c = of(importer);
	int r = enter(c, error);
	if (r < 0)
		return r;
	CUresult result = c->cu->cuStreamQuery(stream);
	leave(c);
	if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY)
		return result == CUDA_SUCCESS;
	return fail(c, error, -EIO, "cuStreamQuery", result);
}

/* Our own stream, whose work the ends of tickets are: no error of the caller's makes it fail. */
static bool cuda_is_dead(const struct importer *importer)
{
	const struct cuda *c = (const struct cuda *)importer;
	CUresult result = c->cu->cuCtxPushCurrent(c->context);
	if (result == CUDA_SUCCESS) {
		result = c->cu->cuStreamQuery(c->ends);
		leave(c);
	}
	return (int)result == DEINITIALIZED || (int)result == INVALID_CONTEXT ||
	       (int)result == INVALID_HANDLE || (int)result == CONTEXT_IS_DESTROYED;
}

static void cuda_finish(struct importer *importer)
{
	struct cuda *c = of(importer);
	struct error ignored;
	if (enter(c, &ignored) < 0)
		return;
	c->synchronize();
	leave(c);
}

/* --- Devices ----------------------------------------------------------------------------------*/

static int retain_primary(struct cuda *c, unsigned i, struct error *error)
{
	CUresult result = c->cu->cuDevicePrimaryCtxRetain(&c->context, c->device[i]);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EIO, "cuDevicePrimaryCtxRetain", result);
	c->is_retained = true;
	c->attached = i;
	return 0;
}

static int no_such_device(const struct cuda *c, const struct device_id *wanted, struct error *error)
{
	char wanted_text[UUID_TEXT_SIZE];
	struct device_id found = { 0 };
	memcpy(found.uuid, c->base.uuid[0], sizeof(found.uuid));
	memcpy(found.name, c->name[0], sizeof(found.name));
	if (c->base.is_given)
		return importer_other_device(wanted, &found, "the CUDA context given", error);
	error_set(error, SLUICE_ERROR_NONE,
		"CUDA does not have the GPU that the stream is on, %s (%s); it has %u other, the "
		"first is %s (%s)",
		wanted->name, uuid_text(wanted->uuid, wanted_text), c->base.n_uuids, found.name,
		uuid_text(found.uuid, (char[UUID_TEXT_SIZE]){ 0 }));
	return -EOPNOTSUPP;
}

static int cuda_attach(
	struct importer *importer, const struct device_id *device, struct error *error)
{
	struct cuda *c = of(importer);
	unsigned i = 0;
	while (i < c->base.n_uuids && memcmp(c->base.uuid[i], device->uuid, WIRE_UUID_BYTES) != 0)
		i++;
	if (i == c->base.n_uuids)
		return no_such_device(c, device, error);
	int r = c->base.is_given ? 0 : retain_primary(c, i, error);
	c->base.context = c->context;
	return r;
}

/* Every ticket was called; the driver may still be returning from the last. */
static void destroy_streams(struct cuda *c)
{
	if (c->signals)
		c->cu->cuStreamDestroy(c->signals);
	if (c->ends) {
		c->cu->cuStreamSynchronize(c->ends);
		c->cu->cuStreamDestroy(c->ends);
	}
	if (c->end)
		c->cu->cuEventDestroy(c->end);
}

static void cuda_close(struct importer *importer)
{
	struct cuda *c = of(importer);
	struct error ignored;
	if ((c->signals || c->ends) && enter(c, &ignored) == 0) {
		destroy_streams(c);
		leave(c);
	}
	if (c->is_retained)
		c->cu->cuDevicePrimaryCtxRelease(c->device[c->attached]);
	if (c->cu)
		cuda_free_functions(&c->cu);
	free(c);
}

static const struct importer_ops cuda_ops = {
	.memory = SLUICE_MEMORY_CUDA,
	.wire_memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
	.attach = cuda_attach,
	.close = cuda_close,
	.import = cuda_import,
	.drop = cuda_drop,
	.import_timeline = cuda_import_timeline,
	.drop_timeline = cuda_drop_timeline,
	.signal = cuda_signal,
	.wait_in = cuda_wait_in,
	.call_after = cuda_call_after,
	.query = cuda_query,
	.is_waiting = cuda_is_waiting,
	.is_dead = cuda_is_dead,
	.finish = cuda_finish,
};

/* --- Opening ----------------------------------------------------------------------------------*/

static int load(struct cuda *c, struct error *error)
{
	if (cuda_load_functions(&c->cu, error) < 0)
		return -EOPNOTSUPP;
	const CudaFunctions *cu = c->cu;
	c->synchronize = dlsym(cu->lib, "cuCtxSynchronize");
	c->stream_wait_event = dlsym(cu->lib, "cuStreamWaitEvent");
	c->priority_range = dlsym(cu->lib, "cuCtxGetStreamPriorityRange");
	c->create_with_priority = dlsym(cu->lib, "cuStreamCreateWithPriority");
	if (!c->synchronize || !c->stream_wait_event || !cu->cuDeviceGetUuid ||
		!cu->cuImportExternalMemory || !cu->cuDestroyExternalMemory ||
		!cu->cuExternalMemoryGetMappedBuffer) {
		error_set(error, SLUICE_ERROR_NONE,
			"NVIDIA's driver is too old: it cannot import memory (CUDA 10.0 can)");
		return -EOPNOTSUPP;
	}
	c->base.can_timeline = cu->cuImportExternalSemaphore && cu->cuDestroyExternalSemaphore &&
			       cu->cuSignalExternalSemaphoresAsync &&
			       cu->cuWaitExternalSemaphoresAsync;
	if (!c->base.can_timeline)
		snprintf(c->base.timeline_text, sizeof(c->base.timeline_text),
			"NVIDIA's driver is too old: it cannot import timelines");
	CUresult result = cu->cuInit(0);
	return result == CUDA_SUCCESS ? 0 : fail(c, error, -EOPNOTSUPP, "cuInit", result);
}

static int add_device(struct cuda *c, CUdevice device, struct error *error)
{
	unsigned i = c->base.n_uuids;
	CUuuid uuid;
	CUresult result = c->cu->cuDeviceGetUuid(&uuid, device);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EOPNOTSUPP, "cuDeviceGetUuid", result);
	char name[128] = "";
	c->cu->cuDeviceGetName(name, sizeof(name), device);
	text_copy(c->name[i], sizeof(c->name[i]), name);
	memcpy(c->base.uuid[i], uuid.bytes, WIRE_UUID_BYTES);
	c->device[i] = device;
	c->base.n_uuids++;
	return 0;
}

static int add_all(struct cuda *c, struct error *error)
{
	int n = 0;
	CUresult result = c->cu->cuDeviceGetCount(&n);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EOPNOTSUPP, "cuDeviceGetCount", result);
	for (int i = 0; i < n && c->base.n_uuids < WIRE_DEVICES_MAX; i++) {
		CUdevice device;
		if (c->cu->cuDeviceGet(&device, i) == CUDA_SUCCESS)
			add_device(c, device, error);
	}
	if (c->base.n_uuids > 0)
		return 0;
	error_set(error, SLUICE_ERROR_NONE, "CUDA has no device");
	return -EOPNOTSUPP;
}

static int add_given(struct cuda *c, CUcontext context, struct error *error)
{
	CUdevice device;
	c->context = context;
	c->base.is_given = true;
	if (enter(c, error) < 0)
		return -EINVAL;
	CUresult result = c->cu->cuCtxGetDevice(&device);
	leave(c);
	if (result != CUDA_SUCCESS)
		return fail(c, error, -EINVAL, "cuCtxGetDevice", result);
	return add_device(c, device, error);
}

static struct importer *cuda_discard(struct importer *importer)
{
	cuda_close(importer);
	return NULL;
}
DEFINE_CLEANUP(struct importer *, cuda_discard);

int importer_open_cuda(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error)
{
	struct cuda *c = calloc(1, sizeof(*c));
	if (!c)
		return no_memory(error);
	c->base.ops = &cuda_ops;
	_cleanup_(cuda_discardp) struct importer *importer = &c->base;
	int r = load(c, error);
	if (r < 0)
		return r;
	r = request->cuda_context ? add_given(c, request->cuda_context, error) : add_all(c, error);
	if (r < 0)
		return r;
	*importer_out = TAKE_PTR(importer);
	return 0;
}
