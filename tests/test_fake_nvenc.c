/* NVENC's double notices what it is for: used by hand, against its contract. */
#include <dlfcn.h>
#include <ffnvcodec/dynlink_loader.h>
#include <libavutil/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

enum { SIDE = 64, PITCH = 4 * SIDE, BYTES = PITCH * SIDE, LOG_BYTES = 8192 };

static CudaFunctions *cu;
static NvencFunctions *library;
static NV_ENCODE_API_FUNCTION_LIST nv = { .version = NV_ENCODE_API_FUNCTION_LIST_VER };
static CUcontext context;
static void *session;
static CUdeviceptr memory;
static NV_ENC_MAP_INPUT_RESOURCE map = { .version = NV_ENC_MAP_INPUT_RESOURCE_VER };
static NV_ENC_CREATE_BITSTREAM_BUFFER buffer = { .version = NV_ENC_CREATE_BITSTREAM_BUFFER_VER };

static void open_session(void)
{
	av_log_set_level(AV_LOG_ERROR); /* the double encodes with libx264 */
	CHECK(dlopen(FAKE_CUDA, RTLD_NOW) && dlopen(FAKE_NVENC, RTLD_NOW));
	CHECK_EQ(cuda_load_functions(&cu, NULL), 0);
	CHECK_EQ(nvenc_load_functions(&library, NULL), 0);
	CHECK_EQ(library->NvEncodeAPICreateInstance(&nv), 0);
	CHECK(cu->cuInit(0) == 0 && cu->cuCtxCreate(&context, 0, 0) == 0);
	CHECK_EQ(cu->cuMemAlloc(&memory, BYTES), 0);
	NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS params = {
		.version = NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER,
		.apiVersion = NVENCAPI_VERSION,
		.deviceType = NV_ENC_DEVICE_TYPE_CUDA,
		.device = context,
	};
	CHECK_EQ(nv.nvEncOpenEncodeSessionEx(&params, &session), 0);
	static NV_ENC_CONFIG config = { .version = NV_ENC_CONFIG_VER, .frameIntervalP = 1 };
	NV_ENC_INITIALIZE_PARAMS init = {
		.version = NV_ENC_INITIALIZE_PARAMS_VER,
		.encodeGUID = NV_ENC_CODEC_H264_GUID,
		.presetGUID = NV_ENC_PRESET_P4_GUID,
		.tuningInfo = NV_ENC_TUNING_INFO_LOW_LATENCY,
		.encodeWidth = SIDE,
		.encodeHeight = SIDE,
		.frameRateNum = 60,
		.frameRateDen = 1,
		.enablePTD = 1,
		.encodeConfig = &config,
	};
	CHECK_EQ(nv.nvEncInitializeEncoder(session, &init), 0);
}

static void add_memory(void)
{
	NV_ENC_REGISTER_RESOURCE reg = {
		.version = NV_ENC_REGISTER_RESOURCE_VER,
		.resourceType = NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR,
		.width = SIDE,
		.height = SIDE,
		.pitch = PITCH,
		.bufferFormat = NV_ENC_BUFFER_FORMAT_ARGB,
	};
	memcpy(&reg.resourceToRegister, &memory, sizeof(memory)); /* a number, as a pointer */
	CHECK_EQ(nv.nvEncRegisterResource(session, &reg), 0);
	map.registeredResource = reg.registeredResource;
}

static void encode(void)
{
	NV_ENC_PIC_PARAMS picture = {
		.version = NV_ENC_PIC_PARAMS_VER,
		.inputBuffer = map.mappedResource,
		.outputBitstream = buffer.bitstreamBuffer,
		.bufferFmt = map.mappedBufferFmt,
		.inputPitch = PITCH,
		.pictureStruct = NV_ENC_PIC_STRUCT_FRAME,
	};
	add_memory();
	CHECK_EQ(nv.nvEncMapInputResource(session, &map), 0);
	CHECK_EQ(nv.nvEncCreateBitstreamBuffer(session, &buffer), 0);
	picture.inputBuffer = map.mappedResource;
	picture.outputBitstream = buffer.bitstreamBuffer;
	picture.bufferFmt = map.mappedBufferFmt;
	CHECK_EQ(nv.nvEncEncodePicture(session, &picture), 0);
}

static void lock_and_unlock(void)
{
	NV_ENC_LOCK_BITSTREAM lock = { .version = NV_ENC_LOCK_BITSTREAM_VER,
		.outputBitstream = buffer.bitstreamBuffer };
	CHECK_EQ(nv.nvEncLockBitstream(session, &lock), 0);
	CHECK(lock.bitstreamSizeInBytes > 0);
	CHECK_EQ(nv.nvEncUnlockBitstream(session, buffer.bitstreamBuffer), 0);
}

static void end(void)
{
	nv.nvEncDestroyBitstreamBuffer(session, buffer.bitstreamBuffer);
	nv.nvEncUnmapInputResource(session, map.mappedResource);
	nv.nvEncUnregisterResource(session, map.registeredResource);
	nv.nvEncDestroyEncoder(session);
}

static void do_it_right(void)
{
	open_session();
	encode();
	lock_and_unlock();
	end();
}

static void give_the_frame_back_early(void)
{
	static const char other[BYTES] = { 1 };
	open_session();
	encode();
	CHECK_EQ(cu->cuMemcpyHtoD(memory, other, BYTES), 0);
	lock_and_unlock();
	end();
}

static void unmap_early(void)
{
	open_session();
	encode();
	CHECK_EQ(nv.nvEncUnmapInputResource(session, map.mappedResource), 0);
	lock_and_unlock();
	end();
}

static void register_twice(void)
{
	open_session();
	add_memory();
	NV_ENC_REGISTERED_PTR first = map.registeredResource;
	encode();
	lock_and_unlock();
	nv.nvEncUnregisterResource(session, first);
	end();
}

static void free_what_is_registered(void)
{
	open_session();
	encode();
	lock_and_unlock();
	CHECK_EQ(cu->cuMemFree(memory), 0);
	end();
}

static void leave_it_registered(void)
{
	open_session();
	encode();
	lock_and_unlock();
	nv.nvEncDestroyEncoder(session);
}

static void leave_the_session(void)
{
	open_session();
}

static void work_without_the_context(void)
{
	CUcontext popped;
	open_session();
	encode();
	CHECK_EQ(cu->cuCtxPopCurrent(&popped), 0);
	NV_ENC_LOCK_BITSTREAM lock = { .version = NV_ENC_LOCK_BITSTREAM_VER,
		.outputBitstream = buffer.bitstreamBuffer };
	CHECK(nv.nvEncLockBitstream(session, &lock) != NV_ENC_SUCCESS);
	CHECK_EQ(cu->cuCtxPushCurrent(context), 0);
	lock_and_unlock();
	end();
}

static const struct {
	const char *name;
	void (*fn)(void);
	const char *says;
} rows[] = {
	{ "right", do_it_right,
		" registered=1 pointers=1 unregistered=1 mapped=1 unmapped=1 "
		"encoded=1 locked=1 unlocked=1 reconfigured=0 kept=1 misuses=0\n" },
	{ "a frame given back early", give_the_frame_back_early, "has changed since" },
	{ "unmapped early", unmap_early, "is unmapped before its bitstream was locked" },
	{ "registered twice", register_twice, "is registered already" },
	{ "freed early", free_what_is_registered, "went before it was unregistered" },
	{ "left registered", leave_it_registered, "is still mapped" },
	{ "left open", leave_the_session, "sessions were never destroyed" },
	{ "no context", work_without_the_context, "context is not current" },
};

TEST(what_breaks_the_contract_is_written_down)
{
	char path[128], log[LOG_BYTES];
	snprintf(path, sizeof(path), "%s/log", test_tmpdir());
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unlink(path);
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0) {
			setenv("FAKE_NVENC_LOG", path, 1);
			rows[i].fn();
			exit(0);
		}
		int status = -1;
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		CHECK_ROW(status == 0, rows[i].name);
		FILE *file = fopen(path, "re");
		CHECK(file);
		log[fread(log, 1, sizeof(log) - 1, file)] = 0;
		fclose(file);
		CHECK_ROW(strstr(log, rows[i].says), rows[i].name);
		CHECK_ROW(i == 0 || !strstr(log, "misuses=0\n"), rows[i].name);
	}
}
