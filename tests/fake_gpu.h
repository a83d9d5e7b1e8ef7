/* A fake broker's memory on a GPU: what lavapipe exports, and timelines of tests/fake_timeline.h. */
#pragma once

#include "tests/exported_memory.h"
#include "tests/fake_broker.h"

/* Allocated once, and lent to the generations of a test. */
struct fake_gpu {
	struct exported_memory *memory[FAKE_SLOTS];
	size_t allocation_bytes;
	Sluice__Device device;
	uint8_t driver_uuid[WIRE_UUID_BYTES];
};

/* Skips the test where there is no Vulkan. */
void fake_gpu_init(struct fake_gpu *gpu);
void fake_gpu_finish(struct fake_gpu *gpu);

/* A generation of it; pixels as of fake_memory_init(). */
void fake_gpu_memory_init(struct fake_memory *memory, const struct fake_gpu *gpu,
	uint32_t generation, unsigned first, Sluice__Readiness readiness);
void fake_gpu_memory_finish(struct fake_memory *memory);

/* Answer Subscribe with this GPU. The request is [lend] until the next message. */
const Sluice__Subscribe *fake_gpu_granted(struct fake *fake, const struct fake_gpu *gpu,
	unsigned max_holds, Sluice__Readiness readiness);

/* fake_welcome, fake_gpu_granted, fake_bind. */
void fake_gpu_begin(struct fake *fake, const struct fake_gpu *gpu, unsigned max_holds,
	const struct fake_memory *memory);
