/* A GPU for tests, with Vulkan's validation layer. */
#pragma once

#include "broker/gpu/gpu.h"
#include "tests/test.h"

struct gpu_fixture {
	struct loop *loop;
	struct gpu *gpu;
	struct gpu_options options; /* which and spin_ns may be set before */
	unsigned n_done;            /* ends heard by fixture_done() */
	int result;                 /* of the last */
	unsigned stop_after;        /* ends; 0: never */
};

/* Open; skips the test where there is no device, or no validation layer. */
void fixture_open(struct gpu_fixture *f);
void fixture_close(struct gpu_fixture *f);

/* As gpu_work.done, with the fixture as data: counts, and stops the loop. */
void fixture_done(void *fixture, int result);

/* Run the loop until so many ends were heard in all; fails the test after 20 s. */
void fixture_run_until(struct gpu_fixture *f, unsigned n_done);

/* Run the loop for a time. */
void fixture_run_for_ms(struct gpu_fixture *f, unsigned ms);

/* Submit, and hear of its end. The result of either. */
int fixture_work(struct gpu_fixture *f, struct gpu_work work);
int fixture_draw(struct gpu_fixture *f, const struct video_format *format, struct gpu_picture to,
	uint32_t number);
int fixture_copy(struct gpu_fixture *f, const struct video_format *format, struct gpu_picture from,
	struct gpu_picture to);

struct gpu_buffer *fixture_buffer(
	struct gpu_fixture *f, enum gpu_memory_kind kind, uint64_t size_bytes);

struct video_format fixture_format(const char *name, uint32_t width, uint32_t height);
