/* The CUDA double against the rules of the driver that it stands for: work that is queued. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/cuda_fixture.h"
#include "tests/fake_timeline.h"
#include "tests/test.h"

enum { SIZE = 70000, TIMEOUT_MS = 20000 };

static void sleep_ms(int ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

static CUevent new_event(void)
{
	CUevent e;
	CHECK_EQ(cu->cuEventCreate(&e, CU_EVENT_DISABLE_TIMING), 0);
	return e;
}

struct seen {
	atomic_int calls, status;
	pthread_t thread;
};

static void on_stream(CUstream s, CUresult status, void *userdata)
{
	struct seen *seen = userdata;
	seen->thread = pthread_self();
	atomic_store(&seen->status, (int)status);
	atomic_fetch_add(&seen->calls, 1);
}

static void on_host(void *userdata)
{
	atomic_fetch_add(&((struct seen *)userdata)->calls, 1);
}

TEST(a_stream_that_waits_blocks_nobody_else)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	struct seen seen = { .calls = 0 };
	unsigned char host[SIZE] = { 0 };
	CUdeviceptr p;
	CHECK_EQ(cu->cuMemAlloc(&p, SIZE), 0);
	CHECK_EQ(cu->cuMemsetD8Async(p, 9, SIZE, NULL), 0);
	CHECK_EQ(cu->cuStreamSynchronize(NULL), 0);
	CHECK_EQ(cuda_wait_value(semaphore, 2, s), 0);
	CHECK_EQ(cu->cuMemcpyDtoHAsync(host, p, SIZE, s), 0);
	CHECK_EQ(cu->cuStreamAddCallback(s, on_stream, &seen, 0), 0);
	CHECK_EQ(more.cuLaunchHostFunc(s, on_host, &seen), 0);
	CHECK_EQ(cu->cuStreamQuery(s), CUDA_ERROR_NOT_READY);
	CHECK_EQ(fake_timeline_raise(fd, 1), 0);
	sleep_ms(5);
	CHECK_EQ(cu->cuStreamQuery(s), CUDA_ERROR_NOT_READY);
	CHECK_EQ(atomic_load(&seen.calls), 0);
	CHECK_EQ(fake_timeline_raise(fd, 2), 0);
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	CHECK_EQ(cu->cuStreamQuery(s), 0);
	CHECK_EQ(host[SIZE - 1], 9);
	CHECK_EQ(atomic_load(&seen.calls), 2);
	CHECK_EQ(atomic_load(&seen.status), 0);
	CHECK(!pthread_equal(seen.thread, pthread_self()));
	CHECK_EQ(cu->cuDestroyExternalSemaphore(semaphore), 0);
	CHECK_EQ(cu->cuDestroyExternalSemaphore(semaphore), INVALID_HANDLE);
	CHECK_EQ(cuda_wait_value(semaphore, 1, s), INVALID_HANDLE);
	CHECK_EQ(cu->cuStreamDestroy(s), 0);
	CHECK_EQ(cu->cuStreamDestroy(s), INVALID_HANDLE);
	CHECK_EQ(cu->cuStreamSynchronize(s), INVALID_HANDLE);
	close(fd);
	cuda_close(ctx);
}

TEST(a_second_stream_frees_the_first)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new(), rescue = cuda_stream_new();
	int fd;
	uint64_t value;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	CHECK_EQ(cuda_wait_value(semaphore, 7, s), 0);
	CHECK_EQ(cuda_signal_value(semaphore, 7, rescue), 0);
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	CHECK_EQ(cuda_signal_value(semaphore, 3, rescue), 0); /* a timeline never falls */
	CHECK_EQ(cu->cuStreamSynchronize(rescue), 0);
	CHECK_EQ(fake_timeline_read(fd, &value), 0);
	CHECK_EQ(value, 7);
	close(fd);
	cuda_close(ctx);
}

TEST(the_timeline_of_another_process_is_waited_for)
{
	int fd = fake_timeline_create(5), other[2];
	uint64_t value;
	CHECK(fd >= 0 && pipe(other) == 0);
	CHECK_EQ(fake_timeline_wait(fd, 6, 1), -ETIMEDOUT);
	CHECK_EQ(fake_timeline_raise(fd, 4), -EINVAL);
	CHECK_EQ(fake_timeline_raise(other[1], 4), -EINVAL);
	CHECK_EQ(fake_timeline_read(other[0], &value), -EINVAL);
	pid_t pid = fork();
	if (pid == 0) {
		close(other[0]);
		close(other[1]);
		int r = fake_timeline_wait(fd, 6, TIMEOUT_MS) || fake_timeline_raise(fd, 7);
		close(fd);
		_exit(r);
	}
	CUcontext ctx = cuda_open();
	CUexternalSemaphore semaphore;
	CUstream s = cuda_stream_new();
	CHECK_EQ(cuda_import_semaphore(&semaphore, 9, fd), 0);
	CHECK_EQ(cuda_wait_value(semaphore, 5, s), 0);
	CHECK_EQ(cuda_signal_value(semaphore, 6, s), 0);
	CHECK_EQ(cuda_wait_value(semaphore, 7, s), 0);
	CHECK_EQ(cu->cuStreamSynchronize(s), 0);
	int status = -1;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(other[0]);
	close(other[1]);
	cuda_close(ctx);
}

static int make_timeline(void)
{
	return fake_timeline_create(0);
}

static int make_pipe(void)
{
	int ends[2];
	CHECK(pipe(ends) == 0);
	close(ends[1]);
	return ends[0];
}

static int make_memfd(void)
{
	return cuda_plain_memfd("sluice-fake-timeline-not", "x", 1, 0);
}

static int make_nothing(void)
{
	return -1;
}

TEST(a_refused_semaphore_leaves_the_descriptor)
{
	static const struct {
		const char *why;
		int (*make_fd)(void);
		unsigned type;
		int result;
	} rows[] = {
		{ "a binary semaphore", make_timeline, 1, NOT_SUPPORTED },
		{ "a fence of another system", make_timeline, 4, NOT_SUPPORTED },
		{ "a pipe", make_pipe, 9, INVALID_VALUE },
		{ "another memfd", make_memfd, 9, INVALID_VALUE },
		{ "nothing", make_nothing, 9, INVALID_VALUE },
	};
	CUcontext ctx = cuda_open();
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CUexternalSemaphore semaphore = NULL;
		int fd = rows[i].make_fd();
		int r = (int)cuda_import_semaphore(&semaphore, rows[i].type, fd);
		CHECK_ROW(r == rows[i].result && !semaphore, rows[i].why);
		CHECK_ROW(fd < 0 || fcntl(fd, F_GETFD) >= 0, rows[i].why);
		close(fd);
	}
	CHECK_EQ(cu->cuWaitExternalSemaphoresAsync(NULL, NULL, 1, NULL), INVALID_VALUE);
	cuda_close(ctx);
}

TEST(events_mark_a_place_in_a_stream)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new(), after = cuda_stream_new();
	CUevent e = new_event();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	struct seen seen = { .calls = 0 };
	CHECK_EQ(cu->cuEventQuery(e), 0); /* never recorded */
	CHECK_EQ(cuda_wait_value(semaphore, 1, s), 0);
	CHECK_EQ(cu->cuEventRecord(e, s), 0);
	CHECK_EQ(more.cuStreamWaitEvent(after, e, 0), 0);
	CHECK_EQ(more.cuLaunchHostFunc(after, on_host, &seen), 0);
	CHECK_EQ(cu->cuEventQuery(e), CUDA_ERROR_NOT_READY);
	sleep_ms(5);
	CHECK_EQ(cu->cuStreamQuery(after), CUDA_ERROR_NOT_READY);
	CHECK_EQ(atomic_load(&seen.calls), 0);
	CHECK_EQ(fake_timeline_raise(fd, 1), 0);
	CHECK_EQ(cu->cuEventSynchronize(e), 0);
	CHECK_EQ(cu->cuEventQuery(e), 0);
	CHECK_EQ(cu->cuStreamSynchronize(after), 0);
	CHECK_EQ(atomic_load(&seen.calls), 1);
	CHECK_EQ(cu->cuEventDestroy(e), 0);
	CHECK_EQ(cu->cuEventRecord(e, s), INVALID_HANDLE);
	CHECK_EQ(cu->cuEventDestroy(e), INVALID_HANDLE);
	close(fd);
	cuda_close(ctx);
}

TEST(the_default_stream_and_the_blocking_ones_wait_for_each_other)
{
	CUcontext ctx = cuda_open();
	CUstream blocking, free_running = cuda_stream_new();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	struct seen first = { .calls = 0 }, second = { .calls = 0 };
	CHECK_EQ(more.cuStreamCreateWithPriority(&blocking, 0, -1), 0);
	CHECK_EQ(cuda_wait_value(semaphore, 1, blocking), 0);
	CHECK_EQ(more.cuLaunchHostFunc(NULL, on_host, &first), 0);
	CHECK_EQ(more.cuLaunchHostFunc(free_running, on_host, &second), 0);
	CHECK_EQ(cu->cuStreamSynchronize(free_running), 0);
	CHECK_EQ(atomic_load(&second.calls), 1);
	sleep_ms(5);
	CHECK_EQ(atomic_load(&first.calls), 0);
	CHECK_EQ(cu->cuStreamQuery(NULL), CUDA_ERROR_NOT_READY);
	CHECK_EQ(fake_timeline_raise(fd, 1), 0);
	CHECK_EQ(cu->cuStreamSynchronize(NULL), 0);
	CHECK_EQ(atomic_load(&first.calls), 1);
	CHECK_EQ(cuda_wait_value(semaphore, 2, NULL), 0);
	CHECK_EQ(more.cuLaunchHostFunc(blocking, on_host, &first), 0);
	sleep_ms(5);
	CHECK_EQ(atomic_load(&first.calls), 1);
	CHECK_EQ(fake_timeline_raise(fd, 2), 0);
	CHECK_EQ(more.cuCtxSynchronize(), 0);
	CHECK_EQ(atomic_load(&first.calls), 2);
	close(fd);
	cuda_close(ctx);
}

TEST(a_stream_that_is_destroyed_ends_its_work)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	struct seen seen = { .calls = 0 };
	CHECK_EQ(cuda_wait_value(semaphore, 1, s), 0);
	CHECK_EQ(cu->cuStreamAddCallback(s, on_stream, &seen, 0), 0);
	CHECK_EQ(cu->cuStreamDestroy(s), 0);
	CHECK_EQ(atomic_load(&seen.calls), 0);
	CHECK_EQ(fake_timeline_raise(fd, 1), 0);
	CHECK_EQ(more.cuCtxSynchronize(), 0);
	CHECK_EQ(atomic_load(&seen.calls), 1);
	close(fd);
	cuda_close(ctx);
}

TEST(a_context_that_is_destroyed_cancels_its_work)
{
	CUcontext ctx = cuda_open();
	CUstream s = cuda_stream_new();
	int fd;
	CUexternalSemaphore semaphore = cuda_timeline_new(&fd);
	struct seen seen = { .calls = 0 }, host = { .calls = 0 };
	unsigned char to[SIZE] = { 1 };
	CUdeviceptr p;
	CHECK_EQ(cu->cuMemAlloc(&p, SIZE), 0);
	CHECK_EQ(cuda_wait_value(semaphore, 1, s), 0);
	CHECK_EQ(cu->cuMemcpyDtoHAsync(to, p, SIZE, s), 0);
	CHECK_EQ(cu->cuStreamAddCallback(s, on_stream, &seen, 0), 0);
	CHECK_EQ(more.cuLaunchHostFunc(s, on_host, &host), 0);
	sleep_ms(5); /* the wait has begun */
	cuda_close(ctx);
	CHECK_EQ(atomic_load(&seen.calls), 1);
	CHECK_EQ(atomic_load(&seen.status), CONTEXT_IS_DESTROYED);
	CHECK_EQ(atomic_load(&host.calls), 0);
	CHECK_EQ(to[0], 1);
	close(fd);
}

static void call_the_driver(void *userdata)
{
	CUdeviceptr p;
	atomic_store((atomic_int *)userdata, (int)cu->cuMemAlloc(&p, 1));
}

TEST(a_callback_may_not_call_the_driver)
{
	CUcontext ctx = cuda_open();
	atomic_int result = 0;
	CHECK_EQ(more.cuLaunchHostFunc(NULL, call_the_driver, &result), 0);
	CHECK_EQ(cu->cuStreamSynchronize(NULL), 0);
	CHECK_EQ(atomic_load(&result), NOT_PERMITTED);
	CHECK_EQ(more.cuLaunchHostFunc(NULL, NULL, NULL), INVALID_VALUE);
	cuda_close(ctx);
}
