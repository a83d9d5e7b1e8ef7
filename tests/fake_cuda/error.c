/* Names of results. */
#include "tests/fake_cuda/api.h"

static const struct {
	int result;
	const char *name, *text;
} results[] = {
	{ 0, "CUDA_SUCCESS", "no error" },
	{ 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
	{ 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
	{ 3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
	{ 4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down" },
	{ 100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" },
	{ 101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
	{ 201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
	{ 400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
	{ 401, "CUDA_ERROR_ILLEGAL_STATE",
		"the operation cannot be performed in the present state" },
	{ 600, "CUDA_ERROR_NOT_READY", "device not ready" },
	{ 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered" },
	{ 702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated" },
	{ 708, "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", "cannot set while device is active" },
	{ 709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed" },
	{ 719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
	{ 800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted" },
	{ 801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
	{ 999, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

enum { N_RESULTS = sizeof(results) / sizeof(results[0]) };

CUresult cuGetErrorName(CUresult error, const char **pstr)
{
	if (!pstr)
		return CUDA_ERROR_INVALID_VALUE;
	*pstr = NULL;
	for (unsigned i = 0; i < N_RESULTS && !*pstr; i++)
		*pstr = results[i].result == (int)error ? results[i].name : NULL;
	return *pstr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **pstr)
{
	if (!pstr)
		return CUDA_ERROR_INVALID_VALUE;
	*pstr = NULL;
	for (unsigned i = 0; i < N_RESULTS && !*pstr; i++)
		*pstr = results[i].result == (int)error ? results[i].text : NULL;
	return *pstr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
