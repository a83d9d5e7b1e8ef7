/* The CUDA double against the rules of the driver that it stands for: devices, contexts, memory. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/cuda_fixture.h"
#include "tests/exported_memory.h"
#include "tests/test.h"

enum { SIZE = 70000 };

static const char two_devices[] = "6d657361-3232-2e33-2e36-000000000000,"
				  "00112233445566778899aabbccddeeff";

static double now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

TEST(the_loader_of_nv_codec_headers_finds_all_it_needs)
{
	cuda_load();
	CHECK(cu->cuImportExternalSemaphore && cu->cuImportExternalMemory && cu->cuDeviceGetUuid);
	int version = 0;
	CHECK_EQ(more.cuDriverGetVersion(&version), 0);
	CHECK(version >= 11020);
	CHECK_EQ(cu->cuMemAllocManaged(NULL, 1, 0), NOT_SUPPORTED);
	const char *name;
	CHECK_EQ(cu->cuGetErrorName((CUresult)INVALID_CONTEXT, &name), 0);
	CHECK_STR(name, "CUDA_ERROR_INVALID_CONTEXT");
	CHECK_EQ(cu->cuGetErrorName((CUresult)12345, &name), INVALID_VALUE);
	cuda_free_functions(&cu);
}

TEST(nothing_works_before_init)
{
	cuda_load();
	int n;
	CUdeviceptr p;
	CUcontext ctx;
	CHECK_EQ(cu->cuDeviceGetCount(&n), NOT_INITIALIZED);
	CHECK_EQ(cu->cuCtxCreate(&ctx, 0, 0), NOT_INITIALIZED);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), NOT_INITIALIZED);
	CHECK_EQ(cu->cuInit(1), INVALID_VALUE);
	CHECK_EQ(cu->cuInit(0), 0);
	CHECK_EQ(cu->cuInit(0), 0);
	CHECK_EQ(cu->cuDeviceGetCount(&n), 0);
	CHECK_EQ(n, 1);
	cuda_free_functions(&cu);
}

TEST(a_forked_child_cannot_go_on)
{
	CUcontext ctx = cuda_open();
	pid_t pid = fork();
	if (pid == 0) {
		CUdeviceptr p;
		_exit((int)cu->cuMemAlloc(&p, 1) * 16 + (int)cu->cuInit(0));
	}
	int status = 0;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(WEXITSTATUS(status), NOT_INITIALIZED * 16 + NOT_INITIALIZED);
	cuda_close(ctx);
}

TEST(devices_are_those_of_the_environment)
{
	setenv("FAKE_CUDA_DEVICES", two_devices, 1);
	CUcontext ctx = cuda_open();
	int n;
	CUdevice dev;
	CUuuid uuid;
	char name[64];
	CHECK_EQ(cu->cuDeviceGetCount(&n), 0);
	CHECK_EQ(n, 2);
	CHECK_EQ(cu->cuDeviceGet(&dev, 2), INVALID_DEVICE);
	CHECK_EQ(cu->cuDeviceGet(&dev, 1), 0);
	CHECK_EQ(cu->cuDeviceGetUuid(&uuid, dev), 0);
	CHECK(memcmp(uuid.bytes, "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
		      16) == 0);
	CHECK_EQ(more.cuDeviceGetUuid_v2(&uuid, 0), 0);
	CHECK(memcmp(uuid.bytes, "mesa22.3.6\0\0\0\0\0\0", 16) == 0);
	CHECK_EQ(cu->cuDeviceGetName(name, sizeof(name), dev), 0);
	CHECK_EQ(cu->cuDeviceGetUuid(&uuid, -1), INVALID_DEVICE);
	CHECK_EQ(cu->cuDeviceGetAttribute(&n, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, dev), 0);
	CHECK_EQ(n, 1);
	cuda_close(ctx);
}

TEST(no_device_is_an_error_of_init)
{
	setenv("FAKE_CUDA_DEVICES", "", 1);
	cuda_load();
	CHECK_EQ(cu->cuInit(0), 100);
	cuda_free_functions(&cu);
}

TEST(the_device_is_the_one_that_vulkan_has)
{
	struct exported_memory *m = exported_memory_create(1);
	CUcontext ctx = cuda_open();
	CUuuid uuid;
	CHECK_EQ(cu->cuDeviceGetUuid(&uuid, 0), 0);
	CHECK(memcmp(uuid.bytes, exported_memory_device_uuid(m), 16) == 0);
	cuda_close(ctx);
	exported_memory_destroy(m);
}

TEST(what_needs_a_context_fails_without)
{
	CUcontext ctx = cuda_open(), popped;
	CUdeviceptr p;
	CUstream s;
	CUevent e;
	CUexternalMemory m;
	CUdevice dev;
	char c = 0;
	void *host;
	CHECK_EQ(cu->cuCtxPopCurrent(&popped), 0);
	CHECK(popped == ctx);
	CHECK_EQ(cu->cuCtxPopCurrent(&popped), INVALID_CONTEXT);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), INVALID_CONTEXT);
	CHECK_EQ(cu->cuMemFree(4096), INVALID_CONTEXT);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, 4096, 1), INVALID_CONTEXT);
	CHECK_EQ(cu->cuStreamCreate(&s, 0), INVALID_CONTEXT);
	CHECK_EQ(cu->cuStreamSynchronize(NULL), INVALID_CONTEXT);
	CHECK_EQ(cu->cuEventCreate(&e, 0), INVALID_CONTEXT);
	CHECK_EQ(cuda_import_fd(&m, 0, 1), INVALID_CONTEXT);
	CHECK_EQ(cu->cuCtxGetDevice(&dev), INVALID_CONTEXT);
	CHECK_EQ(more.cuMemAllocHost(&host, 1), INVALID_CONTEXT);
	CHECK_EQ(more.cuCtxSynchronize(), INVALID_CONTEXT);
	cuda_close(ctx);
}

static void *look_from_another_thread(void *arg)
{
	CUcontext current = arg;
	CHECK_EQ(more.cuCtxGetCurrent(&current), 0);
	CHECK(!current);
	CHECK_EQ(cu->cuCtxPushCurrent(arg), 0);
	CHECK_EQ(cu->cuCtxDestroy(arg), 0);
	CHECK_EQ(cu->cuCtxPushCurrent(arg), INVALID_CONTEXT);
	return NULL;
}

TEST(each_thread_has_its_own_stack_of_contexts)
{
	CUcontext a = cuda_open(), b, top;
	pthread_t thread;
	CHECK_EQ(cu->cuCtxCreate(&b, 0, 0), 0);
	CHECK_EQ(more.cuCtxGetCurrent(&top), 0);
	CHECK(top == b);
	CHECK_EQ(pthread_create(&thread, NULL, look_from_another_thread, b), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CUdeviceptr p;
	CHECK_EQ(cu->cuMemAlloc(&p, 1), CONTEXT_IS_DESTROYED);
	CHECK_EQ(cu->cuCtxDestroy(b), INVALID_CONTEXT);
	CHECK_EQ(more.cuCtxSetCurrent(a), 0);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), 0);
	CHECK_EQ(more.cuCtxGetCurrent(&top), 0);
	CHECK(top == a);
	cuda_close(a);
}

TEST(a_primary_context_is_counted)
{
	CUcontext own = cuda_open(), a, b;
	unsigned flags;
	int active;
	CUdeviceptr p;
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), INVALID_CONTEXT);
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&a, 0), 0);
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&b, 0), 0);
	CHECK(a == b && a != own);
	CHECK_EQ(cu->cuCtxDestroy(a), INVALID_CONTEXT);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), 0);
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &active), 0);
	CHECK_EQ(active, 1);
	CHECK_EQ(cu->cuCtxPushCurrent(a), 0);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), 0);
	CHECK_EQ(cu->cuDevicePrimaryCtxReset(0), 0);
	CHECK_EQ(cu->cuMemFree(p), INVALID_VALUE);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), 0);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), 0);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), CONTEXT_IS_DESTROYED);
	CHECK_EQ(cu->cuCtxPushCurrent(a), INVALID_CONTEXT);
	CHECK_EQ(cu->cuDevicePrimaryCtxGetState(0, &flags, &active), 0);
	CHECK_EQ(active, 0);
	cuda_close(own);
}

TEST(an_import_takes_the_descriptor_and_shares_the_memory)
{
	unsigned char back[SIZE];
	struct exported_memory *m = exported_memory_create(SIZE);
	CUcontext ctx = cuda_open();
	CUexternalMemory memory;
	CUdeviceptr p, part;
	for (int i = 0; i < SIZE; i++)
		exported_memory_bytes(m)[i] = (unsigned char)(i * 7);
	int fd = exported_memory_fd(m);
	CHECK_EQ(cuda_import_fd(&memory, fd, SIZE), 0);
	CHECK(!is_open(fd));
	CHECK_EQ(cuda_import_map(&p, memory, 0, SIZE), 0);
	CHECK_EQ(cu->cuMemcpyDtoH(back, p, SIZE), 0);
	CHECK(memcmp(back, exported_memory_bytes(m), SIZE) == 0);
	CHECK_EQ(cu->cuMemcpyHtoD(p + SIZE - 4, "end", 4), 0);
	CHECK_STR((char *)exported_memory_bytes(m) + SIZE - 4, "end");
	if (!test_under_valgrind()) { /* it knows no mremap() of size 0 */
		CHECK_EQ(cuda_import_map(&part, memory, 1000, SIZE - 1000), 0);
		CHECK(part != p + 1000);
		CHECK_EQ(cu->cuMemcpyDtoH(back, part, 1), 0);
		CHECK_EQ(back[0], (unsigned char)(1000 * 7));
		CHECK_EQ(cu->cuMemFree(part), 0);
	}
	CHECK_EQ(cu->cuMemFree(p), 0);
	CHECK_EQ(cu->cuDestroyExternalMemory(memory), 0);
	cuda_close(ctx);
	exported_memory_destroy(m);
}

struct refusal {
	const char *why;
	int (*make_fd)(void);
	long long size; /* relative to that of the allocation */
	unsigned type, flags;
	int result;
};

static const struct exported_memory *the_memory;

static int make_real(void)
{
	return exported_memory_fd(the_memory);
}

static int make_read_only(void)
{
	char path[64];
	int fd = make_real();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return again;
}

static int make_pipe(void)
{
	int ends[2];
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	close(ends[1]);
	return ends[0];
}

static int make_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

static int make_memfd(void)
{
	return cuda_plain_memfd("frame", "x", 1, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int make_unsealed_lookalike(void)
{
	const uint64_t header[4] = { 1 << 16, 4096, 0, 0 };
	return cuda_plain_memfd("llvmpipe memory fd", header, sizeof(header), 0);
}

static int make_foreign_lookalike(void)
{
	const uint64_t header[4] = { 1 << 16, 4096, 0, 0 };
	return cuda_plain_memfd(
		"frame", header, sizeof(header), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int make_lying_header(void)
{
	const uint64_t header[4] = { 1 << 16, 1 << 16, 0, 0 };
	return cuda_plain_memfd("llvmpipe memory fd", header, sizeof(header),
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int make_nothing(void)
{
	return -1;
}

#define OPAQUE       CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD
#define WIN32_HANDLE CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_WIN32

static const struct refusal refusals[] = {
	{ "a byte too many", make_real, 1, OPAQUE, 1, INVALID_VALUE },
	{ "the whole file", make_real, 4136, OPAQUE, 1, INVALID_VALUE },
	{ "a byte too few", make_real, -1, OPAQUE, 1, INVALID_VALUE },
	{ "no bytes", make_real, -SIZE, OPAQUE, 1, INVALID_VALUE },
	{ "unknown flags", make_real, 0, OPAQUE, 3, INVALID_VALUE },
	{ "a handle of another system", make_real, 0, WIN32_HANDLE, 1, NOT_SUPPORTED },
	{ "no type at all", make_real, 0, 0, 1, NOT_SUPPORTED },
	{ "a descriptor to read from", make_read_only, 0, OPAQUE, 1, INVALID_VALUE },
	{ "a pipe", make_pipe, 0, OPAQUE, 1, INVALID_VALUE },
	{ "a socket", make_socket, 0, OPAQUE, 1, INVALID_VALUE },
	{ "a host slot", make_memfd, 0, OPAQUE, 1, INVALID_VALUE },
	{ "memory that may shrink", make_unsealed_lookalike, 65536 - 4136 - SIZE, OPAQUE, 1,
		INVALID_VALUE },
	{ "memory of another driver", make_foreign_lookalike, 65536 - 4136 - SIZE, OPAQUE, 1,
		INVALID_VALUE },
	{ "a header that lies", make_lying_header, 0, OPAQUE, 1, INVALID_VALUE },
	{ "what it lies", make_lying_header, -40 - SIZE, OPAQUE, 1, INVALID_VALUE },
	{ "no descriptor", make_nothing, 0, OPAQUE, 1, INVALID_VALUE },
};

TEST(a_refused_import_leaves_the_descriptor)
{
	struct exported_memory *m = exported_memory_create(SIZE);
	CUcontext ctx = cuda_open();
	the_memory = m;
	for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *row = &refusals[i];
		CUexternalMemory memory = NULL;
		int fd = row->make_fd();
		const CUDA_EXTERNAL_MEMORY_HANDLE_DESC desc = { .type = row->type,
			.handle.fd = fd,
			.size = (unsigned long long)(SIZE + row->size),
			.flags = row->flags };
		CUresult r = cu->cuImportExternalMemory(&memory, &desc);
		CHECK_ROW((int)r == row->result && !memory, row->why);
		CHECK_ROW(fd < 0 || is_open(fd), row->why);
		close(fd);
	}
	CHECK_EQ(cu->cuImportExternalMemory(NULL, NULL), INVALID_VALUE);
	cuda_close(ctx);
	exported_memory_destroy(m);
}

TEST(a_mapped_buffer_lies_inside_the_allocation)
{
	static const struct {
		unsigned long long at, size;
		int result;
	} rows[] = {
		{ 0, SIZE + 1, INVALID_VALUE },
		{ 1, SIZE, INVALID_VALUE },
		{ SIZE, 1, INVALID_VALUE },
		{ 0, 0, INVALID_VALUE },
		{ UINT64_MAX, 2, INVALID_VALUE },
		{ 1, UINT64_MAX, INVALID_VALUE },
		{ SIZE - 1, 1, 0 },
	};
	CUcontext ctx = cuda_open();
	struct cuda_import import = cuda_import_new(SIZE, 5);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CUdeviceptr p = 0;
		if (rows[i].result == 0 && test_under_valgrind())
			continue;
		CHECK_EQ(cuda_import_map(&p, import.memory, rows[i].at, rows[i].size),
			rows[i].result);
		CHECK((p != 0) == (rows[i].result == 0));
	}
	cuda_close(ctx);
}

TEST(a_mapped_buffer_outlives_its_memory_until_it_is_freed)
{
	CUcontext ctx = cuda_open();
	struct cuda_import import = cuda_import_new(SIZE, 5);
	unsigned char c = 0;
	CUdeviceptr p;
	CHECK_EQ(cu->cuMemFree(import.ptr + 1), INVALID_VALUE);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), INVALID_HANDLE);
	CHECK_EQ(cuda_import_map(&p, import.memory, 0, 1), INVALID_HANDLE);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr, 1), 0);
	CHECK_EQ(c, 5);
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	CHECK_EQ(cu->cuMemFree(import.ptr), INVALID_VALUE);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr, 1), INVALID_VALUE);
	CHECK_EQ(cu->cuMemFree(0), 0);
	cuda_close(ctx);
}

TEST(handles_of_another_context_are_refused)
{
	CUcontext a = cuda_open(), b;
	struct cuda_import import = cuda_import_new(SIZE, 5);
	CUstream s;
	CUdeviceptr p;
	CHECK_EQ(cu->cuStreamCreate(&s, 0), 0);
	CHECK_EQ(cu->cuCtxCreate(&b, 0, 0), 0);
	CHECK_EQ(cuda_import_map(&p, import.memory, 0, 1), INVALID_HANDLE);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), INVALID_HANDLE);
	CHECK_EQ(cu->cuStreamQuery(s), INVALID_HANDLE);
	unsigned char c;
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr, 1), 0); /* one device, one address space */
	CHECK_EQ(cu->cuCtxDestroy(b), 0);
	cuda_close(a);
}

TEST(memory_of_another_device_is_refused)
{
	setenv("FAKE_CUDA_DEVICES", two_devices, 1);
	CUcontext a = cuda_open(), b;
	struct cuda_import import = cuda_import_new(SIZE, 5);
	unsigned char c;
	CHECK_EQ(cu->cuCtxCreate(&b, 0, 1), 0);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr, 1), INVALID_VALUE);
	CHECK_EQ(cu->cuCtxDestroy(b), 0);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr, 1), 0);
	cuda_close(a);
}

TEST(copies_stay_inside_what_was_allocated)
{
	CUcontext ctx = cuda_open();
	CUdeviceptr p, q;
	unsigned char host[64] = { 1, 2, 3 };
	void *pinned, *device;
	CHECK_EQ(cu->cuMemAlloc(&p, 64), 0);
	CHECK_EQ(cu->cuMemAlloc(&q, 64), 0);
	CHECK_EQ(cu->cuMemAlloc(&q, 0), INVALID_VALUE);
	CHECK_EQ(cu->cuMemcpyHtoD(p, host, 64), 0);
	CHECK_EQ(cu->cuMemcpyHtoD(p + 1, host, 64), INVALID_VALUE);
	CHECK_EQ(cu->cuMemcpyDtoD(q, p, 64), 0);
	CHECK_EQ(cu->cuMemcpyDtoD(q, p, 65), INVALID_VALUE);
	CHECK_EQ(cu->cuMemcpyDtoH(host, (CUdeviceptr)(uintptr_t)host, 1), INVALID_VALUE);
	CHECK_EQ(more.cuMemAllocHost(&pinned, 64), 0);
	CHECK_EQ(cu->cuMemcpy((CUdeviceptr)(uintptr_t)pinned, q, 64), 0);
	CHECK(memcmp(pinned, host, 64) == 0);
	CHECK_EQ(cu->cuMemFree((CUdeviceptr)(uintptr_t)pinned), INVALID_VALUE);
	memcpy(&device, &p, sizeof(device));
	CHECK_EQ(more.cuMemFreeHost(device), INVALID_VALUE);
	CHECK_EQ(cu->cuMemcpyDtoH(pinned, p, 65), INVALID_VALUE);
	CHECK_EQ(more.cuMemFreeHost(pinned), 0);
	CHECK_EQ(more.cuMemFreeHost(pinned), INVALID_VALUE);
	size_t before, after, total;
	CHECK_EQ(more.cuMemGetInfo(&before, &total), 0);
	CHECK_EQ(cu->cuMemFree(p), 0);
	CHECK_EQ(more.cuMemGetInfo(&after, &total), 0);
	CHECK_EQ(after - before, 64);
	CHECK_EQ(cu->cuMemAlloc(&p, total), OUT_OF_MEMORY);
	cuda_close(ctx);
}

TEST(a_rectangle_keeps_to_its_pitch)
{
	CUcontext ctx = cuda_open();
	CUdeviceptr p;
	size_t pitch;
	unsigned char host[4][8], expected[4][8];
	memset(host, 0xee, sizeof(host));
	memset(expected, 0xee, sizeof(expected));
	CHECK_EQ(cu->cuMemAllocPitch(&p, &pitch, 100, 10, 4), 0);
	CHECK_EQ(pitch, 512);
	CHECK_EQ(cu->cuMemsetD8Async(p, 0x11, pitch * 10, NULL), 0);
	CHECK_EQ(cu->cuMemsetD8Async(p + pitch * 9, 0x22, pitch, NULL), 0);
	CUDA_MEMCPY2D copy = { .srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = p,
		.srcPitch = pitch,
		.srcXInBytes = 96,
		.srcY = 8,
		.dstMemoryType = CU_MEMORYTYPE_HOST,
		.dstHost = host,
		.dstPitch = 8,
		.dstXInBytes = 2,
		.dstY = 1,
		.WidthInBytes = 4,
		.Height = 2 };
	memset(&expected[1][2], 0x11, 4);
	memset(&expected[2][2], 0x22, 4);
	CHECK_EQ(cu->cuMemcpy2D(&copy), 0);
	CHECK(memcmp(host, expected, sizeof(host)) == 0);
	copy.Height = 3;
	CHECK_EQ(cu->cuMemcpy2D(&copy), INVALID_VALUE); /* leaves the allocation */
	copy.Height = 2;
	copy.dstPitch = 5;
	CHECK_EQ(cu->cuMemcpy2D(&copy), INVALID_VALUE); /* narrower than what it holds */
	copy.dstPitch = 8;
	copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
	CHECK_EQ(cu->cuMemcpy2D(&copy), INVALID_VALUE);
	CHECK_EQ(cu->cuMemcpy2DAsync(NULL, NULL), INVALID_VALUE);
	cuda_close(ctx);
}

TEST(what_is_to_fail_fails_at_that_call)
{
	setenv("FAKE_CUDA_FAIL", "cuMemAlloc=2@2,cuCtxSynchronize=719@2+,cuMemFreeHost=999", 1);
	CUcontext ctx = cuda_open();
	CUdeviceptr p;
	CHECK_EQ(cu->cuMemAlloc(&p, 1), 0);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), OUT_OF_MEMORY);
	CHECK_EQ(cu->cuMemAlloc(&p, 1), 0);
	CHECK_EQ(more.cuCtxSynchronize(), 0);
	CHECK_EQ(more.cuCtxSynchronize(), 719);
	CHECK_EQ(more.cuCtxSynchronize(), 719);
	CHECK_EQ(more.cuMemFreeHost(NULL), 999);
	CHECK_EQ(more.cuMemFreeHost(NULL), 999);
	CHECK_EQ(cu->cuMemFree(p), 0);
	cuda_close(ctx);
}

TEST(a_failure_that_was_asked_for_leaves_the_descriptor_too)
{
	setenv("FAKE_CUDA_FAIL", "cuImportExternalMemory=2@1", 1);
	struct exported_memory *m = exported_memory_create(SIZE);
	CUcontext ctx = cuda_open();
	CUexternalMemory memory;
	int fd = exported_memory_fd(m);
	CHECK_EQ(cuda_import_fd(&memory, fd, SIZE), OUT_OF_MEMORY);
	CHECK(is_open(fd));
	CHECK_EQ(cuda_import_fd(&memory, fd, SIZE), 0);
	CHECK(!is_open(fd));
	cuda_close(ctx);
	exported_memory_destroy(m);
}

TEST(an_asynchronous_copy_takes_the_time_that_was_asked_for)
{
	setenv("FAKE_CUDA_COPY_US", "30000", 1);
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	struct exported_memory *m = exported_memory_create(SIZE);
	CUexternalMemory memory;
	CUdeviceptr p;
	unsigned char host[16] = { 0 };
	memset(exported_memory_bytes(m), 1, SIZE);
	CHECK_EQ(cuda_import_fd(&memory, exported_memory_fd(m), SIZE), 0);
	CHECK_EQ(cuda_import_map(&p, memory, 0, SIZE), 0);
	double began = now_ms();
	CHECK_EQ(cu->cuMemcpyDtoHAsync(host, p, sizeof(host), s), 0);
	memset(exported_memory_bytes(m), 2, SIZE); /* a slot released too early is written again */
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	CHECK(now_ms() - began >= 30);
	CHECK_EQ(host[0], 2);
	exported_memory_destroy(m);
	cuda_close(ctx);
}
