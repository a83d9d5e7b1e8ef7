/* Pictures go in, bitstreams come out. */
#include <stdlib.h>
#include <string.h>

#include "tests/fake_nvenc/fake_nvenc.h"

enum { AVERAGE_QP = 20 };

static struct output *find(const struct call *call, const void *handle)
{
	struct session *s = call->session;
	for (unsigned i = 0; i < s->n_outputs; i++)
		if (&s->outputs[i] == handle && s->outputs[i].is_alive)
			return &s->outputs[i];
	/* NULL is no handle of anything: the real one refuses it, and libavcodec tries */
	if (handle)
		record_misuse(call->name, "%p is no bitstream buffer, or not any more", handle);
	return NULL;
}

NVENCSTATUS nvEncCreateBitstreamBuffer(void *encoder, NV_ENC_CREATE_BITSTREAM_BUFFER *params)
{
	ENTER(call, encoder, STATE_READY, true);
	struct session *s = call.session;
	if (!call_has_version(&call, params->version, NV_ENC_CREATE_BITSTREAM_BUFFER_VER))
		return call.result;
	if (s->n_outputs == OUTPUTS_MAX)
		return NV_ENC_ERR_OUT_OF_MEMORY;
	struct output *output = &s->outputs[s->n_outputs++];
	*output = (struct output){ .session = s, .is_alive = true };
	params->bitstreamBuffer = output;
	return NV_ENC_SUCCESS;
}

static void empty(struct output *output)
{
	free(TAKE_PTR(output->packet.bytes));
	free(TAKE_PTR(output->pixels));
	if (output->is_pending)
		output->from->n_pending--;
	output->is_pending = output->is_locked = false;
}

NVENCSTATUS nvEncDestroyBitstreamBuffer(void *encoder, NV_ENC_OUTPUT_PTR buffer)
{
	ENTER(call, encoder, STATE_READY, true);
	struct output *output = call.result == NV_ENC_SUCCESS ? find(&call, buffer) : NULL;
	if (!output)
		return NV_ENC_ERR_INVALID_PTR;
	if (output->is_locked)
		record_misuse(call.name, "it is still locked");
	empty(output);
	output->is_alive = false;
	return NV_ENC_SUCCESS;
}

/* --- In -----------------------------------------------------------------------------------------*/

static NVENCSTATUS check_picture(
	const struct call *call, const struct input *input, const NV_ENC_PIC_PARAMS *params)
{
	const struct picture *picture = &input->picture;
	if (!picture->is_host && !input->is_mapped) {
		record_misuse(call->name, "0x%llx is not mapped", (unsigned long long)picture->ptr);
		return NV_ENC_ERR_RESOURCE_NOT_MAPPED;
	}
	if (picture->is_host && input->is_mapped) {
		record_misuse(call->name, "an input buffer that is locked");
		return NV_ENC_ERR_LOCK_BUSY;
	}
	if (params->bufferFmt != picture->format || params->inputPitch != picture->pitch ||
		params->pictureStruct != NV_ENC_PIC_STRUCT_FRAME) {
		record_misuse(call->name, "format 0x%x and pitch %u, not 0x%x and %u",
			(unsigned)params->bufferFmt, params->inputPitch, (unsigned)picture->format,
			picture->pitch);
		return NV_ENC_ERR_INVALID_PARAM;
	}
	return NV_ENC_SUCCESS;
}

static unsigned n_inside(const struct session *session)
{
	unsigned n = 0;
	for (unsigned i = 0; i < session->n_outputs; i++)
		n += session->outputs[i].is_pending;
	return n;
}

static NVENCSTATUS encode(struct session *s, struct input *input, struct output *output,
	const NV_ENC_PIC_PARAMS *params)
{
	bool wants_key =
		params->encodePicFlags & (NV_ENC_PIC_FLAG_FORCEIDR | NV_ENC_PIC_FLAG_FORCEINTRA);
	output->pixels = malloc(pixels_size(&input->picture));
	if (!output->pixels || !pixels_read(&input->picture, output->pixels) ||
		!codec_encode(
			s->codec, &input->picture, output->pixels, wants_key, &output->packet)) {
		free(TAKE_PTR(output->pixels));
		return NV_ENC_ERR_GENERIC;
	}
	output->from = input;
	output->is_pending = true;
	output->timestamp = params->inputTimeStamp;
	input->n_pending++;
	s->n_encoded++;
	record_count(COUNT_ENCODED);
	record_most(COUNT_KEPT, n_inside(s));
	if (++s->n_waiting < session_group(s))
		return NV_ENC_ERR_NEED_MORE_INPUT;
	s->n_waiting = 0;
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncEncodePicture(void *encoder, NV_ENC_PIC_PARAMS *params)
{
	ENTER(call, encoder, STATE_READY, true);
	struct session *s = call.session;
	if (!call_has_version(&call, params->version, NV_ENC_PIC_PARAMS_VER))
		return call.result;
	if (params->encodePicFlags & NV_ENC_PIC_FLAG_EOS) {
		s->n_waiting = 0;
		s->is_flushed = true;
		return NV_ENC_SUCCESS;
	}
	s->is_flushed = false;
	struct input *input = params->inputBuffer;
	struct output *output = find(&call, params->outputBitstream);
	if (!output || input < s->inputs || input >= s->inputs + s->n_inputs ||
		!input->is_registered) {
		record_misuse(call.name, "an input that is none");
		return NV_ENC_ERR_INVALID_PTR;
	}
	if (output->is_pending || output->is_locked) {
		record_misuse(call.name, "a bitstream buffer that is in use");
		return NV_ENC_ERR_INVALID_PARAM;
	}
	NVENCSTATUS r = check_picture(&call, input, params);
	return r == NV_ENC_SUCCESS ? encode(s, input, output, params) : r;
}

/* --- Out ----------------------------------------------------------------------------------------*/

/* Who gave the frame back before now may find another picture in it. */
static void compare(const struct call *call, const struct output *output)
{
	const struct picture *picture = &output->from->picture;
	size_t size = pixels_size(picture);
	_cleanup_free_ uint8_t *now = malloc(size);
	if (picture->is_host || !now)
		return;
	if (!output->from->is_mapped)
		record_misuse(call->name, "0x%llx is not mapped any more",
			(unsigned long long)picture->ptr);
	if (!pixels_read(picture, now) || memcmp(now, output->pixels, size) != 0)
		record_misuse(call->name, "0x%llx has changed since it was given to be encoded",
			(unsigned long long)picture->ptr);
}

NVENCSTATUS nvEncLockBitstream(void *encoder, NV_ENC_LOCK_BITSTREAM *params)
{
	ENTER(call, encoder, STATE_READY, true);
	if (!call_has_version(&call, params->version, NV_ENC_LOCK_BITSTREAM_VER))
		return call.result;
	struct output *output = find(&call, params->outputBitstream);
	if (!output)
		return NV_ENC_ERR_INVALID_PTR;
	if (!output->is_pending || output->is_locked) {
		record_misuse(
			call.name, "a bitstream buffer with nothing in it, or locked already");
		return NV_ENC_ERR_INVALID_PARAM;
	}
	compare(&call, output);
	output->is_pending = false;
	output->is_locked = true;
	output->from->n_pending--;
	params->bitstreamBufferPtr = output->packet.bytes;
	params->bitstreamSizeInBytes = (uint32_t)output->packet.size;
	params->outputTimeStamp = output->timestamp;
	params->pictureType = output->packet.is_key ? NV_ENC_PIC_TYPE_IDR : NV_ENC_PIC_TYPE_P;
	params->pictureStruct = NV_ENC_PIC_STRUCT_FRAME;
	params->frameAvgQP = AVERAGE_QP;
	record_count(COUNT_LOCKED);
	return NV_ENC_SUCCESS;
}

NVENCSTATUS nvEncUnlockBitstream(void *encoder, NV_ENC_OUTPUT_PTR buffer)
{
	ENTER(call, encoder, STATE_READY, true);
	struct output *output = call.result == NV_ENC_SUCCESS ? find(&call, buffer) : NULL;
	if (!output)
		return NV_ENC_ERR_INVALID_PTR;
	if (!output->is_locked)
		record_misuse(call.name, "a bitstream buffer that is not locked");
	empty(output);
	record_count(COUNT_UNLOCKED);
	return NV_ENC_SUCCESS;
}

void outputs_end(const char *call, struct session *session)
{
	for (unsigned i = 0; i < session->n_outputs; i++) {
		if (session->outputs[i].is_alive)
			record_misuse(call, "a bitstream buffer was never destroyed");
		empty(&session->outputs[i]);
	}
}
