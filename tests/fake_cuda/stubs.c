/*
 * What the loader of nv-codec-headers insists on and this library has no use for. Each is called with
 * the arguments of the real one, which it ignores.
 */
#include "tests/fake_cuda/fake_cuda.h"

#define STUB(name)                               \
	CUDA_EXPORT CUresult name(void);         \
	CUresult name(void)                      \
	{                                        \
		return CUDA_ERROR_NOT_SUPPORTED; \
	}

STUB(cuMemAllocManaged)
STUB(cuLaunchKernel)
STUB(cuLinkCreate)
STUB(cuLinkAddData)
STUB(cuLinkComplete)
STUB(cuLinkDestroy)
STUB(cuModuleLoadData)
STUB(cuModuleUnload)
STUB(cuModuleGetFunction)
STUB(cuModuleGetGlobal)
STUB(cuTexObjectCreate)
STUB(cuTexObjectDestroy)
STUB(cuGLGetDevices_v2)
STUB(cuGraphicsGLRegisterImage)
STUB(cuGraphicsUnregisterResource)
STUB(cuGraphicsMapResources)
STUB(cuGraphicsUnmapResources)
STUB(cuGraphicsSubResourceGetMappedArray)
STUB(cuGraphicsResourceGetMappedPointer_v2)
STUB(cuExternalMemoryGetMappedMipmappedArray)
STUB(cuMipmappedArrayGetLevel)
STUB(cuMipmappedArrayDestroy)
STUB(cuArray3DCreate_v2)
STUB(cuArrayDestroy)
STUB(cuEGLStreamProducerConnect)
STUB(cuEGLStreamProducerDisconnect)
STUB(cuEGLStreamConsumerDisconnect)
STUB(cuEGLStreamProducerPresentFrame)
STUB(cuEGLStreamProducerReturnFrame)
