/* What is encoded from: memory of the device that is registered and mapped, and buffers of our own. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fake_nvenc/fake_nvenc.h"

enum { PITCH_ALIGN = 64 };

static struct input *find(const struct call *call, const void *handle)
{
	struct session *s = call->session;
	for (unsigned i = 0; i < s->n_inputs; i++)
		if (&s->inputs[i] == handle && s->inputs[i].is_registered)
			return &s->inputs[i];
	record_misuse(call->name, "%p is no input, or not any more", handle);
	return NULL;
}

/* A row that was used before is not used again: stale handles stay known. */
static struct input *add(struct call *call, const struct picture *picture)
{
	struct session *s = call->session;
	if (s->n_inputs == INPUTS_MAX) {
		call->result = NV_ENC_ERR_OUT_OF_MEMORY;
		return NULL;
	}
	struct input *input = &s->inputs[s->n_inputs++];
	*input = (struct input){ .session = s, .picture = *picture, .is_registered = true };
	return input;
}

/* The whole of it, as the engine would. */
static bool is_readable(const struct picture *picture)
{
	size_t size = pixels_size(picture);
	_cleanup_free_ uint8_t *pixels = size ? malloc(size) : NULL;
	return pixels && pixels_read(picture, pixels);
}

static bool is_known(const struct call *call, uint64_t ptr)
{
	const struct session *s = call->session;
	bool was_there = false;
	for (unsigned i = 0; i < s->n_inputs; i++) {
		const struct input *input = &s->inputs[i];
		if (input->picture.is_host || input->picture.ptr != ptr)
			continue;
		was_there = true;
		if (input->is_registered)
			record_misuse(call->name, "0x%llx is registered already",
				(unsigned long long)ptr);
	}
	return was_there;
}

NVENCSTATUS nvEncRegisterResource(void *encoder, NV_ENC_REGISTER_RESOURCE *params)
{
	ENTER(call, encoder, STATE_READY, true);
	if (!call_has_version(&call, params->version, NV_ENC_REGISTER_RESOURCE_VER))
		return call.result;
	const struct session *s = call.session;
	const struct picture picture = {
		.ptr = (uintptr_t)params->resourceToRegister,
		.width = params->width,
		.height = params->height,
		.pitch = params->pitch,
		.format = params->bufferFormat,
	};
	if (params->resourceType != NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR ||
		params->bufferUsage != NV_ENC_INPUT_IMAGE || params->pitch % 4 != 0 ||
		params->width != s->params.encodeWidth || params->height != s->params.encodeHeight)
		return NV_ENC_ERR_INVALID_PARAM;
	if (!is_readable(&picture)) {
		record_misuse(call.name, "0x%llx is no such picture in memory of the device",
			(unsigned long long)picture.ptr);
		return NV_ENC_ERR_RESOURCE_REGISTER_FAILED;
	}
	if (!is_known(&call, picture.ptr))
		record_count(COUNT_POINTERS);
	struct input *input = add(&call, &picture);
	if (!input)
		return call.result;
	record_line("registered pid=%d 0x%llx", (int)getpid(), (unsigned long long)picture.ptr);
	record_count(COUNT_REGISTERED);
	params->registeredResource = input;
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncUnregisterResource(void *encoder, NV_ENC_REGISTERED_PTR registered)
{
	ENTER(call, encoder, STATE_READY, true);
	struct input *input = call.result == NV_ENC_SUCCESS ? find(&call, registered) : NULL;
	if (!input)
		return call.result != NV_ENC_SUCCESS ? call.result
						     : NV_ENC_ERR_RESOURCE_NOT_REGISTERED;
	if (input->is_mapped)
		record_misuse(call.name, "0x%llx is still mapped",
			(unsigned long long)input->picture.ptr);
	if (!is_readable(&input->picture))
		record_misuse(call.name, "0x%llx went before it was unregistered",
			(unsigned long long)input->picture.ptr);
	input->is_registered = false;
	record_count(COUNT_UNREGISTERED);
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncMapInputResource(void *encoder, NV_ENC_MAP_INPUT_RESOURCE *params)
{
	ENTER(call, encoder, STATE_READY, true);
	if (!call_has_version(&call, params->version, NV_ENC_MAP_INPUT_RESOURCE_VER))
		return call.result;
	struct input *input = find(&call, params->registeredResource);
	if (!input)
		return NV_ENC_ERR_RESOURCE_NOT_REGISTERED;
	if (input->is_mapped)
		record_misuse(call.name, "0x%llx is mapped already",
			(unsigned long long)input->picture.ptr);
	input->is_mapped = true;
	record_count(COUNT_MAPPED);
	params->mappedResource = input;
	params->mappedBufferFmt = input->picture.format;
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncUnmapInputResource(void *encoder, NV_ENC_INPUT_PTR mapped)
{
	ENTER(call, encoder, STATE_READY, true);
	struct input *input = call.result == NV_ENC_SUCCESS ? find(&call, mapped) : NULL;
	if (!input || !input->is_mapped)
		return call.result != NV_ENC_SUCCESS ? call.result : NV_ENC_ERR_RESOURCE_NOT_MAPPED;
	if (input->n_pending > 0 && !input->session->is_flushed)
		record_misuse(call.name, "0x%llx is unmapped before its bitstream was locked",
			(unsigned long long)input->picture.ptr);
	input->is_mapped = false;
	record_count(COUNT_UNMAPPED);
	return NV_ENC_SUCCESS;
}

/* --- In memory of the host --------------------------------------------------------------------*/

static bool has_two_rows_of_chroma(NV_ENC_BUFFER_FORMAT format)
{
	return format == NV_ENC_BUFFER_FORMAT_NV12 || format == NV_ENC_BUFFER_FORMAT_YV12 ||
	       format == NV_ENC_BUFFER_FORMAT_YUV420_10BIT;
}

NVENCSTATUS nvEncCreateInputBuffer(void *encoder, NV_ENC_CREATE_INPUT_BUFFER *params)
{
	ENTER(call, encoder, STATE_READY, true);
	if (!call_has_version(&call, params->version, NV_ENC_CREATE_INPUT_BUFFER_VER))
		return call.result;
	uint32_t bytes = has_two_rows_of_chroma(params->bufferFmt) ? 2 : 4; /* at most */
	uint32_t pitch = (params->width * bytes + PITCH_ALIGN - 1) / PITCH_ALIGN * PITCH_ALIGN;
	uint8_t *host = calloc((size_t)params->height * 2, pitch);
	const struct picture picture = {
		.ptr = (uintptr_t)host,
		.is_host = true,
		.width = params->width,
		.height = params->height,
		.pitch = pitch,
		.format = params->bufferFmt,
	};
	struct input *input = host ? add(&call, &picture) : NULL;
	if (!input) {
		free(host);
		return NV_ENC_ERR_OUT_OF_MEMORY;
	}
	input->host = host;
	params->inputBuffer = input;
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncDestroyInputBuffer(void *encoder, NV_ENC_INPUT_PTR buffer)
{
	ENTER(call, encoder, STATE_READY, true);
	struct input *input = call.result == NV_ENC_SUCCESS ? find(&call, buffer) : NULL;
	if (!input)
		return NV_ENC_ERR_INVALID_PTR;
	input->is_registered = false;
	free(TAKE_PTR(input->host));
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncLockInputBuffer(void *encoder, NV_ENC_LOCK_INPUT_BUFFER *params)
{
	ENTER(call, encoder, STATE_READY, true);
	if (!call_has_version(&call, params->version, NV_ENC_LOCK_INPUT_BUFFER_VER))
		return call.result;
	struct input *input = find(&call, params->inputBuffer);
	if (!input)
		return NV_ENC_ERR_INVALID_PTR;
	input->is_mapped = true;
	params->bufferDataPtr = input->host;
	params->pitch = input->picture.pitch;
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncUnlockInputBuffer(void *encoder, NV_ENC_INPUT_PTR buffer)
{
	ENTER(call, encoder, STATE_READY, true);
	struct input *input = call.result == NV_ENC_SUCCESS ? find(&call, buffer) : NULL;
	if (!input)
		return NV_ENC_ERR_INVALID_PTR;
	input->is_mapped = false;
	return NV_ENC_SUCCESS;
}

void inputs_end(const char *call, struct session *session)
{
	for (unsigned i = 0; i < session->n_inputs; i++) {
		struct input *input = &session->inputs[i];
		if (input->is_registered)
			record_misuse(call, "0x%llx is still %s",
				(unsigned long long)input->picture.ptr,
				input->is_mapped ? "mapped" : "registered");
		input->is_registered = input->is_mapped = false;
		free(TAKE_PTR(input->host));
	}
}
