/* What the CUDA double writes down: each misuse, and what was not given back. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cuda_fixture.h"
#include "tests/exported_memory.h"
#include "tests/fake_timeline.h"
#include "tests/test.h"

enum { SIZE = 70000 };

static void do_well(void)
{
	CUcontext ctx = cuda_open();
	struct cuda_import import = cuda_import_new(SIZE, 1);
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	cuda_close(ctx);
}

static void leave_all(void)
{
	cuda_open();
	cuda_import_new(SIZE, 1);
}

static void leave_to_the_context(void)
{
	CUcontext ctx = cuda_open();
	cuda_import_new(SIZE, 1);
	cuda_close(ctx);
}

static void leave_descriptor(void)
{
	CUexternalMemory memory;
	struct exported_memory *m = exported_memory_create(SIZE);
	cuda_open();
	CHECK_EQ(cuda_import_fd(&memory, exported_memory_fd(m), SIZE + 1), INVALID_VALUE);
	exported_memory_destroy(m);
}

static void free_twice(void)
{
	CUcontext ctx = cuda_open();
	struct cuda_import import = cuda_import_new(SIZE, 1);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	CHECK_EQ(cu->cuMemFree(import.ptr), INVALID_VALUE);
	cuda_close(ctx);
}

static void read_what_was_freed(void)
{
	CUcontext ctx = cuda_open();
	struct cuda_import import = cuda_import_new(SIZE, 1);
	char c;
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr + 9, 1), INVALID_VALUE);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	cuda_close(ctx);
}

static void read_after_the_memory(void)
{
	CUcontext ctx = cuda_open();
	struct cuda_import import = cuda_import_new(SIZE, 1);
	char c;
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	CHECK_EQ(cu->cuMemcpyDtoH(&c, import.ptr, 1), 0);
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	cuda_close(ctx);
}

static void import_undedicated(void)
{
	CUcontext ctx = cuda_open();
	struct exported_memory *m = exported_memory_create(SIZE);
	const CUDA_EXTERNAL_MEMORY_HANDLE_DESC desc = {
		.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
		.handle.fd = exported_memory_fd(m),
		.size = SIZE,
		.reserved = { 1 }
	};
	CUexternalMemory memory;
	CHECK_EQ(cu->cuImportExternalMemory(&memory, &desc), 0);
	CHECK_EQ(cu->cuDestroyExternalMemory(memory), 0);
	exported_memory_destroy(m);
	cuda_close(ctx);
}

TEST(the_log_says_what_was_misused_and_what_was_left)
{
	static const struct {
		const char *what;
		void (*fn)(void);
		const char *line, *counts;
	} rows[] = {
		{ "all well", do_well, "", "imports=1 destroys=1 mapped=1 unmapped=1 " },
		{ "all well", do_well, "", " with_context=0 undedicated=0 refused=0 misuses=0\n" },
		{ "leave all", leave_all, " was never destroyed",
			" destroys=0 mapped=1 unmapped=0 " },
		{ "leave all", leave_all, " was never freed", " misuses=2\n" },
		{ "with context", leave_to_the_context, "", " with_context=2 undedicated=0 " },
		{ "with context", leave_to_the_context, "", " misuses=0\n" },
		{ "leave fd", leave_descriptor, " of a refused import is still open",
			" refused=1 misuses=1\n" },
		{ "free twice", free_twice, " cuMemFree_v2: 0x", " unmapped=1 " },
		{ "free twice", free_twice, " was freed before", " misuses=1\n" },
		{ "use after free", read_what_was_freed, " was freed before", " misuses=1\n" },
		{ "use after destroy", read_after_the_memory,
			" is of an external memory that was destroyed", " misuses=1\n" },
		{ "undedicated", import_undedicated, " reserved words ", " undedicated=1 " },
	};
	exported_memory_destroy(exported_memory_create(1)); /* or skip */
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *log = cuda_log_of(rows[i].fn);
		CHECK_ROW(strstr(log, rows[i].line), rows[i].what);
		CHECK_ROW(strstr(log, rows[i].counts), rows[i].what);
	}
}

static void call_the_driver(void *userdata)
{
	CUdeviceptr p;
	atomic_store((atomic_int *)userdata, (int)cu->cuMemAlloc(&p, 1));
}

static void free_under_a_copy(void)
{
	setenv("FAKE_CUDA_COPY_US", "20000", 1);
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	struct cuda_import import = cuda_import_new(SIZE, 1);
	unsigned char host[16] = { 0 };
	CHECK_EQ(cu->cuMemcpyDtoHAsync(host, import.ptr, sizeof(host), s), 0);
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	CHECK_EQ(host[0], 1);
	CHECK_EQ(cu->cuStreamDestroy(s), 0);
	cuda_close(ctx);
}

static void destroy_under_a_copy(void)
{
	setenv("FAKE_CUDA_COPY_US", "20000", 1);
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	struct cuda_import import = cuda_import_new(SIZE, 1);
	unsigned char host[16];
	CHECK_EQ(cu->cuMemcpyDtoHAsync(host, import.ptr, sizeof(host), s), 0);
	CHECK_EQ(cu->cuDestroyExternalMemory(import.memory), 0);
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	CHECK_EQ(cu->cuMemFree(import.ptr), 0);
	CHECK_EQ(cu->cuStreamDestroy(s), 0);
	cuda_close(ctx);
}

static void destroy_under_a_wait(void)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	CHECK_EQ(cuda_wait_value(semaphore, 1, s), 0);
	CHECK_EQ(cu->cuDestroyExternalSemaphore(semaphore), 0);
	CHECK_EQ(fake_timeline_raise(fd, 1), 0);
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	CHECK_EQ(cu->cuStreamDestroy(s), 0);
	close(fd);
	cuda_close(ctx);
}

static void destroy_the_context_under_a_wait(void)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	CHECK_EQ(cuda_wait_value(semaphore, 1, s), 0);
	cuda_close(ctx);
	close(fd);
}

static void set_a_timeline_back(void)
{
	CUcontext ctx = cuda_open();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	CHECK_EQ(fake_timeline_raise(fd, 5), 0);
	CHECK_EQ(cuda_signal_value(semaphore, 4, NULL), 0);
	CHECK_EQ(cu->cuStreamSynchronize(NULL), 0);
	CHECK_EQ(cu->cuDestroyExternalSemaphore(semaphore), 0);
	close(fd);
	cuda_close(ctx);
}

static void leave_a_semaphore(void)
{
	cuda_open();
	int fd;
	cuda_timeline_new(&fd);
}

static void call_from_a_callback(void)
{
	CUcontext ctx = cuda_open();
	atomic_int result = 0;
	CHECK_EQ(more.cuLaunchHostFunc(NULL, call_the_driver, &result), 0);
	CHECK_EQ(cu->cuStreamSynchronize(NULL), 0);
	cuda_close(ctx);
}

/* The process ends while a stream still waits: it must not hang or crash. */
static void exit_under_a_wait(void)
{
	cuda_open();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	CHECK_EQ(cuda_wait_value(semaphore, 1, cuda_stream_new()), 0);
	CHECK_EQ(cuda_wait_value(semaphore, 1, NULL), 0);
}

TEST(the_log_says_what_was_ended_under_queued_work)
{
	static const struct {
		const char *what;
		void (*fn)(void);
		const char *line, *counts;
	} rows[] = {
		{ "buffer", free_under_a_copy, " is used by 1 queued operations", " misuses=1\n" },
		{ "memory", destroy_under_a_copy, "cuDestroyExternalMemory: ", " misuses=1\n" },
		{ "semaphore", destroy_under_a_wait, "cuDestroyExternalSemaphore: ",
			" semaphores=1 semaphores_destroyed=1 streams=1 streams_destroyed=1 " },
		{ "context", destroy_the_context_under_a_wait, " still has work queued",
			" streams=1 streams_destroyed=0 events=0 events_destroyed=0 contexts=1 "
			"contexts_destroyed=1 with_context=2 " },
		{ "timeline", set_a_timeline_back, " is less than the counter has",
			" misuses=1\n" },
		{ "left", leave_a_semaphore, "semaphore 0x", " misuses=1\n" },
		{ "callback", call_from_a_callback, " from a callback", " misuses=1\n" },
		{ "exit", exit_under_a_wait, " was never destroyed", " misuses=1\n" },
	};
	exported_memory_destroy(exported_memory_create(1)); /* or skip */
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *log = cuda_log_of(rows[i].fn);
		CHECK_ROW(strstr(log, rows[i].line), rows[i].what);
		CHECK_ROW(strstr(log, rows[i].counts), rows[i].what);
	}
}
