#include "tests/cuda_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/exported_memory.h"
#include "tests/fake_timeline.h"
#include "tests/test.h"

CudaFunctions *cu;
struct cuda_more more;

static void *symbol(const char *name)
{
	void *p = dlsym(cu->lib, name);
	CHECK_ROW(p, name);
	return p;
}

void cuda_load(void)
{
	CHECK_EQ(cuda_load_functions(&cu, NULL), 0);
	more = (struct cuda_more){
		.cuDriverGetVersion = symbol("cuDriverGetVersion"),
		.cuCtxGetCurrent = symbol("cuCtxGetCurrent"),
		.cuCtxSetCurrent = symbol("cuCtxSetCurrent"),
		.cuCtxSynchronize = symbol("cuCtxSynchronize"),
		.cuDeviceGetUuid_v2 = symbol("cuDeviceGetUuid_v2"),
		.cuMemAllocHost = symbol("cuMemAllocHost_v2"),
		.cuMemFreeHost = symbol("cuMemFreeHost"),
		.cuMemGetInfo = symbol("cuMemGetInfo_v2"),
		.cuStreamWaitEvent = symbol("cuStreamWaitEvent"),
		.cuStreamCreateWithPriority = symbol("cuStreamCreateWithPriority"),
		.cuLaunchHostFunc = symbol("cuLaunchHostFunc"),
	};
}

CUcontext cuda_open(void)
{
	CUcontext ctx;
	cuda_load();
	CHECK_EQ(cu->cuInit(0), 0);
	CHECK_EQ(cu->cuCtxCreate(&ctx, 0, 0), 0);
	return ctx;
}

void cuda_close(CUcontext ctx)
{
	CHECK_EQ(cu->cuCtxDestroy(ctx), 0);
	cuda_free_functions(&cu);
}

static const char *read_log(const char *path)
{
	static char text[16384];
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	CHECK(n >= 0);
	text[n] = 0;
	return text;
}

const char *cuda_log_of(void (*fn)(void))
{
	char path[128];
	snprintf(path, sizeof(path), "%s/cuda.log", test_tmpdir());
	unlink(path);
	setenv("FAKE_CUDA_LOG", path, 1);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		fn();
		exit(0);
	}
	int status = -1;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	return read_log(path);
}

int cuda_plain_memfd(const char *name, const void *bytes, size_t size, unsigned seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, 1 << 16) == 0);
	CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
	CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

CUresult cuda_import_fd(CUexternalMemory *out, int fd, unsigned long long size)
{
	const CUDA_EXTERNAL_MEMORY_HANDLE_DESC desc = {
		.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
		.handle.fd = fd,
		.size = size,
		.flags = 1,
	};
	return cu->cuImportExternalMemory(out, &desc);
}

CUresult cuda_import_map(
	CUdeviceptr *out, CUexternalMemory memory, unsigned long long at, unsigned long long size)
{
	const CUDA_EXTERNAL_MEMORY_BUFFER_DESC desc = { .offset = at, .size = size };
	return cu->cuExternalMemoryGetMappedBuffer(out, memory, &desc);
}

struct cuda_import cuda_import_new(size_t size, unsigned char fill)
{
	struct cuda_import import;
	struct exported_memory *m = exported_memory_create(size);
	memset(exported_memory_bytes(m), fill, size);
	CHECK_EQ(cuda_import_fd(&import.memory, exported_memory_fd(m), size), 0);
	CHECK_EQ(cuda_import_map(&import.ptr, import.memory, 0, size), 0);
	exported_memory_destroy(m);
	return import;
}

CUstream cuda_stream_new(void)
{
	CUstream s;
	CHECK_EQ(cu->cuStreamCreate(&s, CU_STREAM_NON_BLOCKING), 0);
	return s;
}

CUresult cuda_import_semaphore(CUexternalSemaphore *out, unsigned type, int fd)
{
	const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC desc = { .type = type, .handle.fd = fd };
	return cu->cuImportExternalSemaphore(out, &desc);
}

CUexternalSemaphore cuda_timeline_new(int *fd_out)
{
	CUexternalSemaphore semaphore;
	*fd_out = fake_timeline_create(0);
	CHECK(*fd_out >= 0);
	int fd = fcntl(*fd_out, F_DUPFD_CLOEXEC, 3);
	CHECK_EQ(cuda_import_semaphore(&semaphore, 9, fd), 0);
	CHECK(fcntl(fd, F_GETFD) < 0);
	return semaphore;
}

CUresult cuda_wait_value(CUexternalSemaphore semaphore, uint64_t value, CUstream s)
{
	const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS params = { .params.fence.value = value };
	return cu->cuWaitExternalSemaphoresAsync(&semaphore, &params, 1, s);
}

CUresult cuda_signal_value(CUexternalSemaphore semaphore, uint64_t value, CUstream s)
{
	const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS params = { .params.fence.value = value };
	return cu->cuSignalExternalSemaphoresAsync(&semaphore, &params, 1, s);
}
