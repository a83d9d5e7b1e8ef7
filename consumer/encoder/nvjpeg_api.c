#include "consumer/encoder/nvjpeg_api.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The newest first; which of them the driver is new enough for, the library itself says. */
static const char *const names[] = { "libnvjpeg.so.13", "libnvjpeg.so.12", "libnvjpeg.so.11" };

enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static const struct {
	const char *name;
	size_t offset;
} symbols[] = {
	{ "nvjpegCreateSimple", offsetof(struct nvjpeg_api, create) },
	{ "nvjpegDestroy", offsetof(struct nvjpeg_api, destroy) },
	{ "nvjpegEncoderStateCreate", offsetof(struct nvjpeg_api, state_create) },
	{ "nvjpegEncoderStateDestroy", offsetof(struct nvjpeg_api, state_destroy) },
	{ "nvjpegEncoderParamsCreate", offsetof(struct nvjpeg_api, params_create) },
	{ "nvjpegEncoderParamsDestroy", offsetof(struct nvjpeg_api, params_destroy) },
	{ "nvjpegEncoderParamsSetQuality", offsetof(struct nvjpeg_api, set_quality) },
	{ "nvjpegEncoderParamsSetEncoding", offsetof(struct nvjpeg_api, set_encoding) },
	{ "nvjpegEncoderParamsSetOptimizedHuffman", offsetof(struct nvjpeg_api, set_huffman) },
	{ "nvjpegEncoderParamsSetSamplingFactors", offsetof(struct nvjpeg_api, set_sampling) },
	{ "nvjpegEncodeYUV", offsetof(struct nvjpeg_api, encode_yuv) },
	{ "nvjpegEncodeRetrieveBitstream", offsetof(struct nvjpeg_api, retrieve) },
};

static const char *const status_names[] = {
	[NVJPEG_SUCCESS] = "NVJPEG_STATUS_SUCCESS",
	[NVJPEG_NOT_INITIALIZED] = "NVJPEG_STATUS_NOT_INITIALIZED",
	[NVJPEG_INVALID_PARAMETER] = "NVJPEG_STATUS_INVALID_PARAMETER",
	[NVJPEG_BAD_JPEG] = "NVJPEG_STATUS_BAD_JPEG",
	[NVJPEG_JPEG_NOT_SUPPORTED] = "NVJPEG_STATUS_JPEG_NOT_SUPPORTED",
	[NVJPEG_ALLOCATOR_FAILURE] = "NVJPEG_STATUS_ALLOCATOR_FAILURE",
	[NVJPEG_EXECUTION_FAILED] = "NVJPEG_STATUS_EXECUTION_FAILED",
	[NVJPEG_ARCH_MISMATCH] = "NVJPEG_STATUS_ARCH_MISMATCH",
	[NVJPEG_INTERNAL_ERROR] = "NVJPEG_STATUS_INTERNAL_ERROR",
	[NVJPEG_IMPLEMENTATION_NOT_SUPPORTED] = "NVJPEG_STATUS_IMPLEMENTATION_NOT_SUPPORTED",
	[NVJPEG_INCOMPLETE_BITSTREAM] = "NVJPEG_STATUS_INCOMPLETE_BITSTREAM",
};

const char *nvjpeg_status_name(enum nvjpeg_status status)
{
	size_t n = sizeof(status_names) / sizeof(status_names[0]);
	return (size_t)status < n ? status_names[status] : "a status that nvJPEG 13 does not have";
}

/* The loader's reason, without the trace of what else it tried. */
static void *open_library(const char *name, const char **why_out)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!library)
		*why_out = dlerror();
	return library;
}

static int no_library(const char *named, const char *why, struct problem *problem)
{
	if (named)
		return problem_set(
			problem, -ENOENT, "nvJPEG cannot be opened as SLUICE_NVJPEG says: %s", why);
	return problem_set(problem, -ENOENT,
		"nvJPEG is not here (%s, %s and %s were tried: %s): install libnvjpeg of the CUDA "
		"toolkit, or say with SLUICE_NVJPEG which file it is",
		names[0], names[1], names[2], why);
}

static int find_symbols(struct nvjpeg_api *api, void *library, struct problem *problem)
{
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library, symbols[i].name);
		if (!symbol)
			return problem_set(problem, -ENOENT,
				"this nvJPEG cannot be used: it has no %s", symbols[i].name);
		memcpy((char *)api + symbols[i].offset, &symbol, sizeof(symbol));
	}
	return 0;
}

int nvjpeg_api_load(const struct nvjpeg_api **api_out, struct problem *problem)
{
	static struct nvjpeg_api api;
	static bool is_loaded;
	const char *named = getenv("SLUICE_NVJPEG"), *why = "";
	void *library = NULL;
	if (!is_loaded) {
		for (int i = 0; !library && i < (named ? 1 : N_NAMES); i++)
			library = open_library(named ? named : names[i], &why);
		if (!library)
			return no_library(named, why, problem);
		int r = find_symbols(&api, library, problem);
		if (r < 0)
			return r;
		is_loaded = true;
	}
	*api_out = &api;
	return 0;
}
