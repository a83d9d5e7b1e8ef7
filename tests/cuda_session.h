/*
 * libsluice with tests/fake_cuda, each test in a process of its own, at whose end nothing that was
 * imported is left and nothing was misused.
 *
 *	CUDA_TEST(a_sentence)
 *	{
 *	}
 */
#pragma once

#include <ffnvcodec/dynlink_loader.h>

#include "tests/consumer_fixture.h"
#include "tests/fake_gpu.h"

/* For bodies: the driver, and the broker's GPU, which is CUDA's device unless FAKE_CUDA_DEVICES says
 * otherwise. */
extern CudaFunctions *cu;
extern struct fake_gpu gpu;

static const Sluice__Readiness complete = SLUICE__READINESS__READINESS_COMPLETE;
static const Sluice__Readiness timeline = SLUICE__READINESS__READINESS_TIMELINE;
static const Sluice__Readiness sync_file = SLUICE__READINESS__READINESS_SYNC_FD;

extern const struct sluice_view_request cuda; /* mailbox */
extern const struct sluice_view_request cuda_timeline;
extern const struct sluice_view_request cuda_or_host;

/* Run a body with FAKE_CUDA_FAIL, which may be NULL, and check what it left. */
void with_cuda(void (*body)(void), const char *fail);

/* Open the driver for the body's own calls. First in a body, or after begin(). */
void cuda_load(void);

/* A context of the driver's first device, current in no thread. [give] cuCtxDestroy */
CUcontext cuda_context(void);

/* A stream of a context. [give] cuda_stream_end() */
CUstream cuda_stream(void *context);
void cuda_stream_end(void *context, CUstream stream);

/* The first byte of plane 0. */
int cuda_byte(const struct sluice_frame *frame);

/* Queue a copy of that byte, which takes FAKE_CUDA_COPY_US. */
void cuda_read(const struct sluice_frame *frame, CUstream stream, uint8_t *byte_out);

/* Has all in the stream ended? */
bool cuda_has_ended(void *context, CUstream stream);

/* The driver, a primary context that stays, and a stream of it. */
struct caller {
	CUcontext context;
	CUstream stream;
	uint8_t byte; /* that cuda_read() writes */
};
void begin_caller(struct caller *c);
void end_caller(struct caller *c);

/* What a call may take at most that does not wait; and what a copy takes. */
enum { AT_ONCE_MS = 300, WORK_MS = 700 };
void slow_down_copies(void);

/* end() of a script that waits once more, to keep its memory until then. */
void end_paused(struct session *s);

uint64_t timeline_value(const struct fake_memory *m);

uint64_t now_ms(void);

/* True if part is in text; else it is printed. */
bool has_text(const char *text, const char *part);

#define CUDA_TEST(name) CUDA_FAIL_TEST(name, NULL)

/* One in which a call of the driver fails: FAKE_CUDA_FAIL. */
#define CUDA_FAIL_TEST(name, fail)            \
	static void cuda_##name(void);        \
	TEST(name)                            \
	{                                     \
		with_cuda(cuda_##name, fail); \
	}                                     \
	static void cuda_##name(void)
