/* Initialisation, and the devices that FAKE_CUDA_DEVICES names by their UUIDs. */
#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/fake_cuda/api.h"

enum { UUID_BYTES = 16, DRIVER_VERSION = 12080 };

/* Attributes that nv-codec-headers leaves out. */
enum { ATTRIBUTE_MAX_PITCH = 11, ATTRIBUTE_POSIX_FD = 103, ATTRIBUTE_TIMELINE_INTEROP = 114 };

/* Of lavapipe in Debian 12: "mesa22.3.6". */
static const char default_devices[] = "6d657361-3232-2e33-2e36-000000000000";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static atomic_int owner; /* the process that called cuInit() */
static CUuuid uuids[DEVICES_MAX];
static unsigned n_devices;

void state_lock(void)
{
	pthread_mutex_lock(&lock);
}

void state_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void state_wait(void)
{
	pthread_cond_wait(&changed, &lock);
}

void state_changed(void)
{
	pthread_cond_broadcast(&changed);
}

void sleep_us(unsigned us)
{
	struct timespec ts = { .tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000 };
	if (us > 0)
		nanosleep(&ts, NULL);
}

/* The driver does not live through fork(), and its lock may be held for ever in the child. */
static bool forked(void)
{
	int pid = atomic_load(&owner);
	return pid != 0 && pid != getpid();
}

static CUresult check_need(struct call *call, enum need need)
{
	if (need != NEED_NOTHING && atomic_load(&owner) == 0)
		return CUDA_ERROR_NOT_INITIALIZED;
	CUresult fault = record_fault(call->name);
	if (fault != CUDA_SUCCESS)
		return fault;
	return need == NEED_CONTEXT ? context_current(&call->ctx) : CUDA_SUCCESS;
}

struct call call_enter(const char *name, enum need need)
{
	struct call call = { .name = name };
	if (forked()) {
		call.result = CUDA_ERROR_NOT_INITIALIZED;
		return call;
	}
	state_lock();
	if (stream_in_callback()) {
		record_misuse(name, "called from a callback of a stream");
		call.result = CUDA_ERROR_NOT_PERMITTED;
	} else {
		call.result = check_need(&call, need);
	}
	return call;
}

void call_leave(struct call *call)
{
	if (!forked())
		state_unlock();
}

static bool parse_uuid(const char *text, CUuuid *out)
{
	unsigned digits = 0;
	*out = (CUuuid){ 0 };
	for (; *text; text++) {
		if (*text == '-')
			continue;
		if (!isxdigit((unsigned char)*text) || digits == 2 * UUID_BYTES)
			return false;
		int digit = isdigit((unsigned char)*text) ? *text - '0' : (*text | 0x20) - 'a' + 10;
		unsigned byte = (unsigned char)out->bytes[digits / 2];
		out->bytes[digits / 2] = (char)(byte << 4 | (unsigned)digit);
		digits++;
	}
	return digits == 2 * UUID_BYTES;
}

static CUresult find_devices(void)
{
	const char *list = getenv("FAKE_CUDA_DEVICES");
	_cleanup_free_ char *text = strdup(list ? list : default_devices);
	if (!text)
		return CUDA_ERROR_OUT_OF_MEMORY;
	char *rest = NULL;
	n_devices = 0;
	for (char *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
		if (n_devices == DEVICES_MAX || !parse_uuid(one, &uuids[n_devices])) {
			fprintf(stderr, "fake_cuda: FAKE_CUDA_DEVICES: \"%s\"\n", one);
			abort();
		}
		n_devices++;
	}
	return n_devices > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuInit(unsigned int Flags)
{
	ENTER(call, NEED_NOTHING);
	if (call.result != CUDA_SUCCESS || atomic_load(&owner) != 0)
		return call.result;
	if (Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = find_devices();
	if (r == CUDA_SUCCESS)
		atomic_store(&owner, getpid());
	return r;
}

CUresult cuDriverGetVersion(int *version)
{
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = DRIVER_VERSION;
	return CUDA_SUCCESS;
}

bool device_exists(CUdevice dev)
{
	return dev >= 0 && (unsigned)dev < n_devices;
}

CUresult cuDeviceGetCount(int *count)
{
	ENTER(call, NEED_INIT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = (int)n_devices;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	ENTER(call, NEED_INIT);
	if (call.result != CUDA_SUCCESS)
		return call.result;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device_exists(ordinal))
		return CUDA_ERROR_INVALID_DEVICE;
	*device = ordinal;
	return CUDA_SUCCESS;
}

/* For calls about one device that give something to `out`. */
static CUresult check_device(const struct call *call, const void *out, CUdevice dev)
{
	if (call->result != CUDA_SUCCESS)
		return call->result;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	return device_exists(dev) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	CUresult r = check_device(&call, name, dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)len, "Fake CUDA device %d", dev);
	return CUDA_SUCCESS;
}

static CUresult get_uuid(const struct call *call, CUuuid *uuid, CUdevice dev)
{
	CUresult r = check_device(call, uuid, dev);
	if (r == CUDA_SUCCESS)
		*uuid = uuids[dev];
	return r;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	return get_uuid(&call, uuid, dev);
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	return get_uuid(&call, uuid, dev);
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	CUresult r = check_device(&call, pi, dev);
	if (r != CUDA_SUCCESS)
		return r;
	switch ((int)attrib) {
	case ATTRIBUTE_MAX_PITCH:
		*pi = INT32_MAX;
		break;
	case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
		*pi = 512;
		break;
	case CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT:
		*pi = 32;
		break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*pi = 9;
		break;
	case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
		*pi = dev + 1;
		break;
	case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
	case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
	case ATTRIBUTE_POSIX_FD:
	case ATTRIBUTE_TIMELINE_INTEROP:
		*pi = 1;
		break;
	default:
		*pi = 0;
		break;
	}
	return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
	ENTER(call, NEED_INIT);
	CUresult r = check_device(&call, major, dev);
	if (r != CUDA_SUCCESS)
		return r;
	*major = 9;
	if (minor)
		*minor = 0;
	return CUDA_SUCCESS;
}
