/*
 * The exported functions, under their names in the driver. The types are those of nv-codec-headers;
 * what its loader does not look up has its type here.
 */
#pragma once

#include "tests/fake_cuda/fake_cuda.h"

typedef void CUhostFn(void *userdata);

CUDA_EXPORT tcuInit cuInit;
CUDA_EXPORT CUresult cuDriverGetVersion(int *version);
CUDA_EXPORT tcuGetErrorName cuGetErrorName;
CUDA_EXPORT tcuGetErrorString cuGetErrorString;

CUDA_EXPORT tcuDeviceGetCount cuDeviceGetCount;
CUDA_EXPORT tcuDeviceGet cuDeviceGet;
CUDA_EXPORT tcuDeviceGetAttribute cuDeviceGetAttribute;
CUDA_EXPORT tcuDeviceGetName cuDeviceGetName;
CUDA_EXPORT tcuDeviceGetUuid cuDeviceGetUuid;
CUDA_EXPORT tcuDeviceGetUuid cuDeviceGetUuid_v2;
CUDA_EXPORT tcuDeviceComputeCapability cuDeviceComputeCapability;

CUDA_EXPORT tcuCtxCreate_v2 cuCtxCreate_v2;
CUDA_EXPORT tcuCtxDestroy_v2 cuCtxDestroy_v2;
CUDA_EXPORT tcuCtxPushCurrent_v2 cuCtxPushCurrent_v2;
CUDA_EXPORT tcuCtxPopCurrent_v2 cuCtxPopCurrent_v2;
CUDA_EXPORT tcuCtxPushCurrent_v2 cuCtxSetCurrent;
CUDA_EXPORT CUresult cuCtxGetCurrent(CUcontext *pctx);
CUDA_EXPORT tcuCtxGetDevice cuCtxGetDevice;
CUDA_EXPORT CUresult cuCtxSynchronize(void);
CUDA_EXPORT CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority);
CUDA_EXPORT tcuCtxSetLimit cuCtxSetLimit;
CUDA_EXPORT tcuDevicePrimaryCtxRetain cuDevicePrimaryCtxRetain;
CUDA_EXPORT tcuDevicePrimaryCtxRelease cuDevicePrimaryCtxRelease;
CUDA_EXPORT tcuDevicePrimaryCtxSetFlags cuDevicePrimaryCtxSetFlags;
CUDA_EXPORT tcuDevicePrimaryCtxGetState cuDevicePrimaryCtxGetState;
CUDA_EXPORT tcuDevicePrimaryCtxReset cuDevicePrimaryCtxReset;

CUDA_EXPORT tcuMemAlloc_v2 cuMemAlloc_v2;
CUDA_EXPORT tcuMemAllocPitch_v2 cuMemAllocPitch_v2;
CUDA_EXPORT tcuMemFree_v2 cuMemFree_v2;
CUDA_EXPORT CUresult cuMemAllocHost_v2(void **pp, size_t bytesize);
CUDA_EXPORT CUresult cuMemFreeHost(void *p);
CUDA_EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes);

CUDA_EXPORT tcuMemcpy cuMemcpy;
CUDA_EXPORT tcuMemcpyAsync cuMemcpyAsync;
CUDA_EXPORT tcuMemcpy2D_v2 cuMemcpy2D_v2;
CUDA_EXPORT tcuMemcpy2DAsync_v2 cuMemcpy2DAsync_v2;
CUDA_EXPORT tcuMemcpyHtoD_v2 cuMemcpyHtoD_v2;
CUDA_EXPORT tcuMemcpyHtoDAsync_v2 cuMemcpyHtoDAsync_v2;
CUDA_EXPORT tcuMemcpyDtoH_v2 cuMemcpyDtoH_v2;
CUDA_EXPORT tcuMemcpyDtoHAsync_v2 cuMemcpyDtoHAsync_v2;
CUDA_EXPORT tcuMemcpyDtoD_v2 cuMemcpyDtoD_v2;
CUDA_EXPORT tcuMemcpyDtoDAsync_v2 cuMemcpyDtoDAsync_v2;
CUDA_EXPORT tcuMemsetD8Async cuMemsetD8Async;

CUDA_EXPORT tcuStreamCreate cuStreamCreate;
CUDA_EXPORT CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned flags, int priority);
CUDA_EXPORT tcuStreamDestroy_v2 cuStreamDestroy_v2;
CUDA_EXPORT tcuStreamQuery cuStreamQuery;
CUDA_EXPORT tcuStreamSynchronize cuStreamSynchronize;
CUDA_EXPORT tcuStreamAddCallback cuStreamAddCallback;
CUDA_EXPORT CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn *fn, void *userdata);
CUDA_EXPORT CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned flags);
CUDA_EXPORT tcuEventCreate cuEventCreate;
CUDA_EXPORT tcuEventDestroy_v2 cuEventDestroy_v2;
CUDA_EXPORT tcuEventRecord cuEventRecord;
CUDA_EXPORT tcuEventQuery cuEventQuery;
CUDA_EXPORT tcuEventSynchronize cuEventSynchronize;

CUDA_EXPORT tcuImportExternalMemory cuImportExternalMemory;
CUDA_EXPORT tcuDestroyExternalMemory cuDestroyExternalMemory;
CUDA_EXPORT tcuExternalMemoryGetMappedBuffer cuExternalMemoryGetMappedBuffer;

CUDA_EXPORT tcuImportExternalSemaphore cuImportExternalSemaphore;
CUDA_EXPORT tcuDestroyExternalSemaphore cuDestroyExternalSemaphore;
CUDA_EXPORT tcuSignalExternalSemaphoresAsync cuSignalExternalSemaphoresAsync;
CUDA_EXPORT tcuWaitExternalSemaphoresAsync cuWaitExternalSemaphoresAsync;
