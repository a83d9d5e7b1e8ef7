/* The exported functions, under their names in NVIDIA's library. */
#include <stdlib.h>
#include <string.h>

#include "tests/fake_nvjpeg/fake_nvjpeg.h"

typedef enum nvjpeg_status status;
typedef struct nvjpeg_handle handle_t;
typedef struct nvjpeg_state state_t;
typedef struct nvjpeg_params params_t;

NVJPEG_EXPORT status nvjpegCreateSimple(handle_t **out);
NVJPEG_EXPORT status nvjpegDestroy(handle_t *handle);
NVJPEG_EXPORT status nvjpegEncoderStateCreate(handle_t *handle, state_t **out, void *stream);
NVJPEG_EXPORT status nvjpegEncoderStateDestroy(state_t *state);
NVJPEG_EXPORT status nvjpegEncoderParamsCreate(handle_t *handle, params_t **out, void *stream);
NVJPEG_EXPORT status nvjpegEncoderParamsDestroy(params_t *params);
NVJPEG_EXPORT status nvjpegEncoderParamsSetQuality(params_t *params, int quality, void *stream);
NVJPEG_EXPORT status nvjpegEncoderParamsSetEncoding(params_t *params, int encoding, void *stream);
NVJPEG_EXPORT status nvjpegEncoderParamsSetOptimizedHuffman(
	params_t *params, int optimized, void *stream);
NVJPEG_EXPORT status nvjpegEncoderParamsSetSamplingFactors(
	params_t *params, int sampling, void *stream);
NVJPEG_EXPORT status nvjpegEncodeYUV(handle_t *handle, state_t *state, const params_t *params,
	const struct nvjpeg_image *image, int sampling, int width, int height, void *stream);
NVJPEG_EXPORT status nvjpegEncodeRetrieveBitstream(
	handle_t *handle, state_t *state, unsigned char *data, size_t *length, void *stream);

/* Return what the test wants to fail. */
#define MAYBE_FAIL                                      \
	do {                                            \
		status fault_ = record_fault(__func__); \
		if (fault_ != NVJPEG_SUCCESS)           \
			return fault_;                  \
	} while (0)

status nvjpegCreateSimple(handle_t **out)
{
	MAYBE_FAIL;
	CUcontext ctx = NULL;
	if (!driver_get())
		return NVJPEG_NOT_INITIALIZED;
	if (driver_get()->get_current(&ctx) != CUDA_SUCCESS || !ctx)
		record_misuse(__func__, "no CUDA context is current: it would make one of its own");
	*out = object_create(KIND_HANDLE, NULL, sizeof(**out));
	if (!*out)
		return NVJPEG_ALLOCATOR_FAILURE;
	record_count(COUNT_HANDLES);
	return NVJPEG_SUCCESS;
}

status nvjpegDestroy(handle_t *handle)
{
	MAYBE_FAIL;
	if (!object_check(__func__, handle, KIND_HANDLE, NULL))
		return NVJPEG_INVALID_PARAMETER;
	if (object_has_any(&handle->object))
		record_misuse(__func__, "states or params of it are still there");
	handle->object.dead = true;
	record_count(COUNT_HANDLES_DESTROYED);
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderStateCreate(handle_t *handle, state_t **out, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, handle, KIND_HANDLE, NULL))
		return NVJPEG_INVALID_PARAMETER;
	*out = object_create(KIND_STATE, &handle->object, sizeof(**out));
	if (*out)
		(*out)->jpeg = av_packet_alloc();
	if (!*out || !(*out)->jpeg)
		return NVJPEG_ALLOCATOR_FAILURE;
	record_count(COUNT_STATES);
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderStateDestroy(state_t *state)
{
	MAYBE_FAIL;
	if (!object_check(__func__, state, KIND_STATE, NULL))
		return NVJPEG_INVALID_PARAMETER;
	if (state->phase == PHASE_ENCODED && driver_get()->query(state->stream) != CUDA_SUCCESS) {
		record_misuse(__func__, "its last picture is still being encoded");
		driver_get()->synchronize(state->stream);
	}
	state->object.dead = true;
	free(state->pixels);
	state->pixels = NULL;
	av_packet_free(&state->jpeg);
	record_count(COUNT_STATES_DESTROYED);
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderParamsCreate(handle_t *handle, params_t **out, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, handle, KIND_HANDLE, NULL))
		return NVJPEG_INVALID_PARAMETER;
	*out = object_create(KIND_PARAMS, &handle->object, sizeof(**out));
	if (!*out)
		return NVJPEG_ALLOCATOR_FAILURE;
	(*out)->encoding = NVJPEG_ENCODING_BASELINE;
	record_count(COUNT_PARAMS);
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderParamsDestroy(params_t *params)
{
	MAYBE_FAIL;
	if (!object_check(__func__, params, KIND_PARAMS, NULL))
		return NVJPEG_INVALID_PARAMETER;
	params->object.dead = true;
	record_count(COUNT_PARAMS_DESTROYED);
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderParamsSetQuality(params_t *params, int quality, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, params, KIND_PARAMS, NULL) || quality < 1 ||
		quality > NVJPEG_QUALITY_MAX)
		return NVJPEG_INVALID_PARAMETER;
	params->quality = quality;
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderParamsSetEncoding(params_t *params, int encoding, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, params, KIND_PARAMS, NULL))
		return NVJPEG_INVALID_PARAMETER;
	params->encoding = encoding;
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderParamsSetOptimizedHuffman(params_t *params, int optimized, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, params, KIND_PARAMS, NULL))
		return NVJPEG_INVALID_PARAMETER;
	params->optimized = optimized != 0;
	return NVJPEG_SUCCESS;
}

status nvjpegEncoderParamsSetSamplingFactors(params_t *params, int sampling, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, params, KIND_PARAMS, NULL))
		return NVJPEG_INVALID_PARAMETER;
	params->sampling = sampling;
	params->has_sampling = true;
	return NVJPEG_SUCCESS;
}

/* Motion JPEG is baseline, and this double knows 4:2:0 alone. */
static bool is_ready(const char *call, const params_t *params, int sampling)
{
	if (params->quality < 1 || !params->has_sampling)
		record_misuse(call, "quality or sampling were not set");
	else if (params->encoding != NVJPEG_ENCODING_BASELINE)
		record_misuse(call, "encoding 0x%x is not baseline", (unsigned)params->encoding);
	else if (params->sampling != sampling || sampling != NVJPEG_SAMPLING_420)
		record_misuse(call, "sampling %d of the picture, %d of the params", sampling,
			params->sampling);
	else
		return true;
	return false;
}

static bool is_picture(const struct nvjpeg_image *image, int width, int height)
{
	if (width < 1 || height < 1)
		return false;
	for (int i = 0; i < 3; i++)
		if (!image->plane[i] || image->pitch[i] < (size_t)(i ? (width + 1) / 2 : width))
			return false;
	return true;
}

/* NOLINTNEXTLINE(readability-function-size): as many arguments as the real one has */
status nvjpegEncodeYUV(handle_t *handle, state_t *state, const params_t *params,
	const struct nvjpeg_image *image, int sampling, int width, int height, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, handle, KIND_HANDLE, NULL) ||
		!object_check(__func__, state, KIND_STATE, handle) ||
		!object_check(__func__, params, KIND_PARAMS, handle) ||
		!is_ready(__func__, params, sampling) || !is_picture(image, width, height))
		return NVJPEG_INVALID_PARAMETER;
	if (state->phase == PHASE_ENCODED)
		record_misuse(__func__, "nobody waited for the picture before");
	state->params = *params;
	state->width = width;
	state->height = height;
	state->stream = stream;
	status result = jpeg_read(state, image);
	if (result != NVJPEG_SUCCESS)
		return result;
	state->phase = PHASE_ENCODED;
	record_pointer(image->plane[0]);
	record_count(COUNT_ENCODES);
	return NVJPEG_SUCCESS;
}

static status measure(state_t *state, size_t *length)
{
	status result = jpeg_make(state);
	if (result != NVJPEG_SUCCESS)
		return result;
	*length = (size_t)state->jpeg->size;
	state->phase = PHASE_MEASURED;
	return NVJPEG_SUCCESS;
}

static status fetch(const char *call, state_t *state, unsigned char *data, size_t *length)
{
	if (state->phase != PHASE_MEASURED) {
		record_misuse(call, "its length was not asked for");
		return NVJPEG_INVALID_PARAMETER;
	}
	if (*length < (size_t)state->jpeg->size) {
		record_misuse(
			call, "there is room for %zu bytes of %d", *length, state->jpeg->size);
		return NVJPEG_INVALID_PARAMETER;
	}
	memcpy(data, state->jpeg->data, (size_t)state->jpeg->size);
	*length = (size_t)state->jpeg->size;
	state->phase = PHASE_NOTHING;
	record_count(COUNT_PICTURES);
	return NVJPEG_SUCCESS;
}

status nvjpegEncodeRetrieveBitstream(
	handle_t *handle, state_t *state, unsigned char *data, size_t *length, void *stream)
{
	MAYBE_FAIL;
	if (!object_check(__func__, handle, KIND_HANDLE, NULL) ||
		!object_check(__func__, state, KIND_STATE, handle) || !length)
		return NVJPEG_INVALID_PARAMETER;
	if (state->phase == PHASE_NOTHING) {
		record_misuse(__func__, "nothing was encoded");
		return NVJPEG_INVALID_PARAMETER;
	}
	if (stream != state->stream)
		record_misuse(__func__, "in another stream than it was encoded in");
	return data ? fetch(__func__, state, data, length) : measure(state, length);
}
