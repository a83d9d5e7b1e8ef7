/* The library, and the life of a session. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fake_nvenc/fake_nvenc.h"

#define NVENC_EXPORT __attribute__((visibility("default")))

enum { SIDE_MIN = 32, SIDE_MAX = 8192, LOOKAHEAD_OF_P7 = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct session *sessions; /* those that have ended too */

static bool is_same(const GUID *a, GUID b)
{
	return memcmp(a, &b, sizeof(b)) == 0;
}

/*
 * H.264 alone. libx265 cannot be opened here, as libavcodec opens one such codec at a time and is
 * in the midst of opening NVENC's.
 */
static bool has_codec(GUID guid)
{
	return is_same(&guid, (GUID)NV_ENC_CODEC_H264_GUID);
}

/* --- Calls ------------------------------------------------------------------------------------*/

static struct session *find(void *encoder)
{
	struct session *s = sessions;
	while (s && s != encoder)
		s = s->next;
	return s;
}

static NVENCSTATUS check(struct call *call, void *encoder, enum state needs, bool with_context)
{
	struct session *s = call->session = find(encoder);
	if (!s || s->state == STATE_ENDED) {
		record_misuse(call->name, "%p is no session%s", encoder, s ? " any more" : "");
		return NV_ENC_ERR_INVALID_ENCODERDEVICE;
	}
	if (needs == STATE_READY && s->state != STATE_READY)
		return NV_ENC_ERR_ENCODER_NOT_INITIALIZED;
	if (with_context && !pixels_context_is_current(s->context)) {
		record_misuse(call->name, "the session's context is not current");
		return NV_ENC_ERR_INVALID_DEVICE;
	}
	return record_fault(call->name);
}

struct call call_enter(const char *name, void *encoder, enum state needs, bool with_context)
{
	struct call call = { .name = name };
	pthread_mutex_lock(&lock);
	call.result = check(&call, encoder, needs, with_context);
	return call;
}

void call_leave(struct call *call)
{
	pthread_mutex_unlock(&lock);
}

bool call_has_version(struct call *call, uint32_t version, uint32_t wanted)
{
	if (call->result != NV_ENC_SUCCESS)
		return false;
	if (version == wanted)
		return true;
	record_misuse(call->name, "version 0x%x, not 0x%x", version, wanted);
	call->result = NV_ENC_ERR_INVALID_VERSION;
	return false;
}

/* --- Before it is initialized -----------------------------------------------------------------*/

static NVENCSTATUS open_session(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS *params, void **encoder)
{
	const char *call = "nvEncOpenEncodeSessionEx";
	NVENCSTATUS fault = record_fault(call);
	if (fault != NV_ENC_SUCCESS)
		return fault;
	if (params->version != NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER ||
		params->apiVersion != NVENCAPI_VERSION) {
		record_misuse(call, "versions 0x%x and 0x%x", params->version, params->apiVersion);
		return NV_ENC_ERR_INVALID_VERSION;
	}
	if (params->deviceType != NV_ENC_DEVICE_TYPE_CUDA ||
		!pixels_context_is_alive(params->device)) {
		record_misuse(call, "device %p is no context", params->device);
		return NV_ENC_ERR_INVALID_DEVICE;
	}
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return NV_ENC_ERR_OUT_OF_MEMORY;
	s->context = params->device;
	s->next = sessions;
	sessions = s;
	*encoder = s;
	record_count(COUNT_SESSIONS);
	return NV_ENC_SUCCESS;
}

static NVENCSTATUS nvEncOpenEncodeSessionEx(
	NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS *params, void **encoder)
{
	pthread_mutex_lock(&lock);
	NVENCSTATUS r = open_session(params, encoder);
	pthread_mutex_unlock(&lock);
	return r;
}

static NVENCSTATUS nvEncGetEncodeGUIDCount(void *encoder, uint32_t *count)
{
	ENTER(call, encoder, STATE_OPEN, false);
	*count = 1;
	return call.result;
}

static NVENCSTATUS nvEncGetEncodeGUIDs(void *encoder, GUID *guids, uint32_t size, uint32_t *count)
{
	ENTER(call, encoder, STATE_OPEN, false);
	*count = size > 0;
	if (size > 0)
		guids[0] = (GUID)NV_ENC_CODEC_H264_GUID;
	return call.result;
}

static int cap(NV_ENC_CAPS which)
{
	switch (which) {
	case NV_ENC_CAPS_WIDTH_MAX:
	case NV_ENC_CAPS_HEIGHT_MAX:
		return SIDE_MAX;
	case NV_ENC_CAPS_NUM_MAX_BFRAMES:
		return 4;
	case NV_ENC_CAPS_SUPPORT_BFRAME_REF_MODE:
		return 3;
	case NV_ENC_CAPS_SUPPORT_FIELD_ENCODING:
	case NV_ENC_CAPS_SUPPORT_YUV444_ENCODE:
		return 0;
	default:
		return 1;
	}
}

static NVENCSTATUS nvEncGetEncodeCaps(
	void *encoder, GUID codec, NV_ENC_CAPS_PARAM *params, int *value)
{
	ENTER(call, encoder, STATE_OPEN, false);
	if (call_has_version(&call, params->version, NV_ENC_CAPS_PARAM_VER))
		*value = has_codec(codec) ? cap(params->capsToQuery) : 0;
	return call.result;
}

static NVENCSTATUS nvEncGetEncodePresetConfigEx(void *encoder, GUID codec, GUID preset,
	NV_ENC_TUNING_INFO tuning, NV_ENC_PRESET_CONFIG *config)
{
	ENTER(call, encoder, STATE_OPEN, false);
	if (!call_has_version(&call, config->version, NV_ENC_PRESET_CONFIG_VER) ||
		!call_has_version(&call, config->presetCfg.version, NV_ENC_CONFIG_VER))
		return call.result;
	if (!has_codec(codec) || tuning == NV_ENC_TUNING_INFO_UNDEFINED)
		return NV_ENC_ERR_INVALID_PARAM;
	NV_ENC_CONFIG *c = &config->presetCfg;
	*c = (NV_ENC_CONFIG){ .version = NV_ENC_CONFIG_VER };
	c->gopLength = 30;
	c->frameIntervalP = 1;
	/* as the slowest ones do where latency does not matter */
	if (is_same(&preset, (GUID)NV_ENC_PRESET_P7_GUID) &&
		tuning == NV_ENC_TUNING_INFO_HIGH_QUALITY) {
		c->rcParams.enableLookahead = 1;
		c->rcParams.lookaheadDepth = LOOKAHEAD_OF_P7;
	}
	return NV_ENC_SUCCESS;
}

/* --- Initialized ------------------------------------------------------------------------------*/

unsigned session_group(const struct session *session)
{
	const NV_ENC_CONFIG *c = &session->config;
	unsigned n = c->frameIntervalP > 1 ? (unsigned)c->frameIntervalP : 1;
	const char *more = getenv("FAKE_NVENC_KEEP");
	n += more ? (unsigned)strtoul(more, NULL, 10) : 0;
	return n + (c->rcParams.enableLookahead ? c->rcParams.lookaheadDepth : 0);
}

static bool is_size(uint32_t side)
{
	return side >= SIDE_MIN && side <= SIDE_MAX && side % 2 == 0;
}

static NVENCSTATUS nvEncInitializeEncoder(void *encoder, NV_ENC_INITIALIZE_PARAMS *params)
{
	ENTER(call, encoder, STATE_OPEN, true);
	struct session *s = call.session;
	if (!call_has_version(&call, params->version, NV_ENC_INITIALIZE_PARAMS_VER) ||
		!call_has_version(&call, params->encodeConfig->version, NV_ENC_CONFIG_VER))
		return call.result;
	if (s->state == STATE_READY)
		record_misuse(call.name, "a second time");
	if (!has_codec(params->encodeGUID) || !params->enablePTD || params->enableEncodeAsync ||
		params->tuningInfo == NV_ENC_TUNING_INFO_UNDEFINED || params->frameRateNum == 0 ||
		params->frameRateDen == 0 || !is_size(params->encodeWidth) ||
		!is_size(params->encodeHeight))
		return NV_ENC_ERR_INVALID_PARAM;
	s->config = *params->encodeConfig;
	s->params = *params;
	s->params.encodeConfig = &s->config;
	s->codec = codec_create(&s->params);
	if (!s->codec)
		return NV_ENC_ERR_UNSUPPORTED_PARAM;
	s->state = STATE_READY;
	return NV_ENC_SUCCESS;
}

static NVENCSTATUS nvEncSetIOCudaStreams(
	void *encoder, NV_ENC_CUSTREAM_PTR input, NV_ENC_CUSTREAM_PTR output)
{
	ENTER(call, encoder, STATE_READY, true);
	if (call.result == NV_ENC_SUCCESS && (!input || !output))
		return NV_ENC_ERR_INVALID_PTR;
	return call.result;
}

static NVENCSTATUS nvEncGetSequenceParams(void *encoder, NV_ENC_SEQUENCE_PARAM_PAYLOAD *payload)
{
	ENTER(call, encoder, STATE_READY, false);
	if (!call_has_version(&call, payload->version, NV_ENC_SEQUENCE_PARAM_PAYLOAD_VER))
		return call.result;
	size_t size;
	const uint8_t *header = codec_header(call.session->codec, &size);
	if (size > payload->inBufferSize)
		return NV_ENC_ERR_NOT_ENOUGH_BUFFER;
	memcpy(payload->spsppsBuffer, header, size);
	*payload->outSPSPPSPayloadSize = (uint32_t)size;
	return NV_ENC_SUCCESS;
}

static NVENCSTATUS nvEncReconfigureEncoder(void *encoder, NV_ENC_RECONFIGURE_PARAMS *params)
{
	ENTER(call, encoder, STATE_READY, true);
	if (call_has_version(&call, params->version, NV_ENC_RECONFIGURE_PARAMS_VER))
		record_count(COUNT_RECONFIGURED);
	return call.result;
}

static NVENCSTATUS nvEncDestroyEncoder(void *encoder)
{
	ENTER(call, encoder, STATE_OPEN, false);
	struct session *s = call.session;
	if (call.result != NV_ENC_SUCCESS)
		return call.result;
	if (s->state == STATE_READY)
		record_line("session pid=%d size=%ux%u inputs=%u encoded=%llu", (int)getpid(),
			s->params.encodeWidth, s->params.encodeHeight, s->n_inputs,
			(unsigned long long)s->n_encoded);
	outputs_end(call.name, s);
	inputs_end(call.name, s);
	s->codec = codec_destroy(s->codec);
	s->state = STATE_ENDED;
	record_count(COUNT_DESTROYED);
	return NV_ENC_SUCCESS;
}

static const char *nvEncGetLastErrorString(void *encoder)
{
	(void)encoder;
	return "the double was told so, or the contract is broken";
}

/* --- The library ------------------------------------------------------------------------------*/

NVENC_EXPORT NVENCSTATUS NvEncodeAPIGetMaxSupportedVersion(uint32_t *version)
{
	*version = NVENCAPI_MAJOR_VERSION << 4 | NVENCAPI_MINOR_VERSION;
	return record_fault("NvEncodeAPIGetMaxSupportedVersion");
}

NVENC_EXPORT NVENCSTATUS NvEncodeAPICreateInstance(NV_ENCODE_API_FUNCTION_LIST *list)
{
	if (list->version != NV_ENCODE_API_FUNCTION_LIST_VER)
		return NV_ENC_ERR_INVALID_VERSION;
	*list = (NV_ENCODE_API_FUNCTION_LIST){
		.version = list->version,
		.nvEncOpenEncodeSessionEx = nvEncOpenEncodeSessionEx,
		.nvEncGetEncodeGUIDCount = nvEncGetEncodeGUIDCount,
		.nvEncGetEncodeGUIDs = nvEncGetEncodeGUIDs,
		.nvEncGetEncodeCaps = nvEncGetEncodeCaps,
		.nvEncGetEncodePresetConfigEx = nvEncGetEncodePresetConfigEx,
		.nvEncInitializeEncoder = nvEncInitializeEncoder,
		.nvEncSetIOCudaStreams = nvEncSetIOCudaStreams,
		.nvEncGetSequenceParams = nvEncGetSequenceParams,
		.nvEncReconfigureEncoder = nvEncReconfigureEncoder,
		.nvEncDestroyEncoder = nvEncDestroyEncoder,
		.nvEncGetLastErrorString = nvEncGetLastErrorString,
		.nvEncCreateInputBuffer = nvEncCreateInputBuffer,
		.nvEncDestroyInputBuffer = nvEncDestroyInputBuffer,
		.nvEncLockInputBuffer = nvEncLockInputBuffer,
		.nvEncUnlockInputBuffer = nvEncUnlockInputBuffer,
		.nvEncRegisterResource = nvEncRegisterResource,
		.nvEncUnregisterResource = nvEncUnregisterResource,
		.nvEncMapInputResource = nvEncMapInputResource,
		.nvEncUnmapInputResource = nvEncUnmapInputResource,
		.nvEncCreateBitstreamBuffer = nvEncCreateBitstreamBuffer,
		.nvEncDestroyBitstreamBuffer = nvEncDestroyBitstreamBuffer,
		.nvEncEncodePicture = nvEncEncodePicture,
		.nvEncLockBitstream = nvEncLockBitstream,
		.nvEncUnlockBitstream = nvEncUnlockBitstream,
	};
	return record_fault(__func__);
}
