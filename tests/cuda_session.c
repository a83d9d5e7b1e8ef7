#include "tests/cuda_session.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "tests/fake_timeline.h"

CudaFunctions *cu;
struct fake_gpu gpu;

const struct sluice_view_request cuda = { .memory = SLUICE_MEMORY_CUDA };
const struct sluice_view_request cuda_timeline = {
	.memory = SLUICE_MEMORY_CUDA,
	.readiness = SLUICE_TIMELINE,
};
const struct sluice_view_request cuda_or_host = {
	.memory = SLUICE_MEMORY_CUDA,
	.flags = SLUICE_HOST_FALLBACK,
};

static void run_body(void (*body)(void))
{
	fake_gpu_init(&gpu);
	unsigned before = test_count_fds();
	body();
	if (cu)
		cuda_free_functions(&cu);
	CHECK_EQ(test_count_fds(), before);
	fake_gpu_finish(&gpu);
}

/* Of "summary … imports=2 …". -1: there is none. */
static long count(const char *line, const char *name)
{
	char key[64];
	snprintf(key, sizeof(key), " %s=", name);
	const char *found = strstr(line, key);
	return found ? strtol(found + strlen(key), NULL, 10) : -1;
}

static void check_line(const char *line)
{
	static const char *const pairs[][2] = {
		{ "imports", "destroys" },
		{ "mapped", "unmapped" },
		{ "semaphores", "semaphores_destroyed" },
		{ "streams", "streams_destroyed" },
		{ "events", "events_destroyed" },
		{ "contexts", "contexts_destroyed" },
	};
	if (strncmp(line, "summary", 7) != 0)
		test_fail(__FILE__, __LINE__, "%s", line);
	for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (count(line, pairs[i][0]) != count(line, pairs[i][1]))
			test_fail(__FILE__, __LINE__, "not as many %s as %s: %s", pairs[i][0],
				pairs[i][1], line);
	CHECK_EQ(count(line, "misuses"), 0);
	CHECK_EQ(count(line, "undedicated"), 0);
	CHECK_EQ(count(line, "with_context"), 0);
}

static void check_log(const char *path)
{
	char line[1024];
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		check_line(line);
	if (f)
		fclose(f);
}

void with_cuda(void (*body)(void), const char *fail)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/cuda.log", test_tmpdir());
	CHECK(setenv("FAKE_CUDA_LOG", path, 1) == 0);
	if (fail)
		CHECK(setenv("FAKE_CUDA_FAIL", fail, 1) == 0);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* the time limit is the runner's */
		run_body(body);
		exit(0); /* the summary is written, leaks are looked for */
	}
	int status = 0;
	CHECK(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		test_skip("as above");
	check_log(path);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void cuda_load(void)
{
	CHECK_EQ(cuda_load_functions(&cu, NULL), 0);
	CHECK_EQ(cu->cuInit(0), CUDA_SUCCESS);
}

static void push(void *context)
{
	CHECK_EQ(cu->cuCtxPushCurrent(context), CUDA_SUCCESS);
}

static void pop(void)
{
	CUcontext popped;
	CHECK_EQ(cu->cuCtxPopCurrent(&popped), CUDA_SUCCESS);
}

CUcontext cuda_context(void)
{
	CUdevice device;
	CUcontext context;
	CHECK_EQ(cu->cuDeviceGet(&device, 0), CUDA_SUCCESS);
	CHECK_EQ(cu->cuCtxCreate(&context, 0, device), CUDA_SUCCESS);
	pop();
	return context;
}

CUstream cuda_stream(void *context)
{
	CUstream stream;
	push(context);
	CHECK_EQ(cu->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	pop();
	return stream;
}

void cuda_stream_end(void *context, CUstream stream)
{
	push(context);
	/* a callback that has told us of its work may still be returning */
	CHECK_EQ(cu->cuStreamSynchronize(stream), CUDA_SUCCESS);
	CHECK_EQ(cu->cuStreamDestroy(stream), CUDA_SUCCESS);
	pop();
}

int cuda_byte(const struct sluice_frame *frame)
{
	uint8_t byte = 0;
	push(frame->cuda.context);
	CHECK_EQ(cu->cuMemcpyDtoH(&byte, frame->cuda.ptr, 1), CUDA_SUCCESS);
	pop();
	return byte;
}

void cuda_read(const struct sluice_frame *frame, CUstream stream, uint8_t *byte_out)
{
	push(frame->cuda.context);
	CHECK_EQ(cu->cuMemcpyDtoHAsync(byte_out, frame->cuda.ptr, 1, stream), CUDA_SUCCESS);
	pop();
}

bool cuda_has_ended(void *context, CUstream stream)
{
	push(context);
	CUresult r = cu->cuStreamQuery(stream);
	pop();
	CHECK(r == CUDA_SUCCESS || r == CUDA_ERROR_NOT_READY);
	return r == CUDA_SUCCESS;
}

void begin_caller(struct caller *c)
{
	*c = (struct caller){ 0 };
	cuda_load();
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&c->context, 0), CUDA_SUCCESS);
	c->stream = cuda_stream(c->context);
}

void end_caller(struct caller *c)
{
	cuda_stream_end(c->context, c->stream);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
}

void slow_down_copies(void)
{
	char us[16];
	snprintf(us, sizeof(us), "%d", WORK_MS * 1000);
	CHECK(setenv("FAKE_CUDA_COPY_US", us, 1) == 0);
}

void end_paused(struct session *s)
{
	sluice_close(s->conn);
	fake_go(&s->fake);
	fake_stop(&s->fake);
}

uint64_t timeline_value(const struct fake_memory *m)
{
	uint64_t value = 0;
	CHECK_EQ(fake_timeline_read(m->timeline_fd, &value), 0);
	return value;
}

uint64_t now_ms(void)
{
	return clock_ns() / NS_PER_MS;
}

bool has_text(const char *text, const char *part)
{
	bool has = strstr(text, part) != NULL;
	if (!has)
		printf("  \"%s\" has no \"%s\"\n", text, part);
	return has;
}
