/* For tests of the CUDA double: the driver loaded as a client loads it, and what it wrote down. */
#pragma once

#include <ffnvcodec/dynlink_loader.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Results that nv-codec-headers leaves out. */
enum {
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201,
	INVALID_HANDLE = 400,
	CONTEXT_IS_DESTROYED = 709,
	NOT_PERMITTED = 800,
	NOT_SUPPORTED = 801,
};

/* Functions that its loader does not look up. */
struct cuda_more {
	CUresult (*cuDriverGetVersion)(int *version);
	CUresult (*cuCtxGetCurrent)(CUcontext *ctx);
	CUresult (*cuCtxSetCurrent)(CUcontext ctx);
	CUresult (*cuCtxSynchronize)(void);
	CUresult (*cuDeviceGetUuid_v2)(CUuuid *uuid, CUdevice dev);
	CUresult (*cuMemAllocHost)(void **p, size_t size);
	CUresult (*cuMemFreeHost)(void *p);
	CUresult (*cuMemGetInfo)(size_t *free_bytes, size_t *total_bytes);
	CUresult (*cuStreamWaitEvent)(CUstream stream, CUevent event, unsigned flags);
	CUresult (*cuStreamCreateWithPriority)(CUstream *stream, unsigned flags, int priority);
	CUresult (*cuLaunchHostFunc)(CUstream stream, void (*fn)(void *), void *userdata);
};

extern CudaFunctions *cu;
extern struct cuda_more more;

/* The library alone; and with cuInit() and a context of device 0 that is current. */
void cuda_load(void);
CUcontext cuda_open(void);

/* The context that cuda_open() returned, and the library. */
void cuda_close(CUcontext ctx);

/* fn in a process of its own, with an empty log. [lend] what was logged, until the next call. */
const char *cuda_log_of(void (*fn)(void));

/* A file with `bytes` of it; a row of a table of descriptors. [give] */
int cuda_plain_memfd(const char *name, const void *bytes, size_t size, unsigned seals);

/* [give] imported whole and mapped whole, of memory that may go at once. */
struct cuda_import {
	CUexternalMemory memory;
	CUdeviceptr ptr;
};
struct cuda_import cuda_import_new(size_t size, unsigned char fill);
CUresult cuda_import_fd(CUexternalMemory *out, int fd, unsigned long long size);
CUresult cuda_import_map(
	CUdeviceptr *out, CUexternalMemory memory, unsigned long long at, unsigned long long size);

/* One that does not wait for the default stream. */
CUstream cuda_stream_new(void);

/* [give] a timeline of tests/fake_timeline.h, imported and as a descriptor. */
CUexternalSemaphore cuda_timeline_new(int *fd_out);
CUresult cuda_import_semaphore(CUexternalSemaphore *out, unsigned type, int fd);
CUresult cuda_wait_value(CUexternalSemaphore semaphore, uint64_t value, CUstream s);
CUresult cuda_signal_value(CUexternalSemaphore semaphore, uint64_t value, CUstream s);
