#include "tests/fake_gpu.h"

#include <errno.h>
#include <string.h>

#include "tests/fake_timeline.h"
#include "tests/test.h"

/* Nobody closes what is closed: the driver may have given the number to another thread. */
int __wrap_close(int fd);
int __real_close(int fd);
int __wrap_close(int fd)
{
	int r = __real_close(fd);
	int error = errno;
	if (r < 0 && error == EBADF)
		test_fail(__FILE__, __LINE__, "descriptor %d is closed twice", fd);
	errno = error;
	return r;
}

/* Allocations are larger than what is in them, as drivers make them. */
enum { EXTRA_BYTES = 4096 };

void fake_gpu_init(struct fake_gpu *gpu)
{
	struct video_format format;
	CHECK(format_layout(
		      format_info_by_name("BGRx")->fourcc, FAKE_WIDTH, FAKE_HEIGHT, &format) == 0);
	*gpu = (struct fake_gpu){ .allocation_bytes = format.size_bytes + EXTRA_BYTES };
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		gpu->memory[i] = exported_memory_create(gpu->allocation_bytes);
	memset(gpu->driver_uuid, 0xdd, sizeof(gpu->driver_uuid));
	gpu->device = (Sluice__Device)SLUICE__DEVICE__INIT;
	gpu->device.uuid.data = (uint8_t *)exported_memory_device_uuid(gpu->memory[0]);
	gpu->device.uuid.len = WIRE_UUID_BYTES;
	gpu->device.driver_uuid.data = gpu->driver_uuid;
	gpu->device.driver_uuid.len = WIRE_UUID_BYTES;
	gpu->device.name = (char *)"the broker's GPU";
}

void fake_gpu_finish(struct fake_gpu *gpu)
{
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		gpu->memory[i] = exported_memory_destroy(gpu->memory[i]);
}

void fake_gpu_memory_init(struct fake_memory *m, const struct fake_gpu *gpu, uint32_t generation,
	unsigned first, Sluice__Readiness readiness)
{
	fake_control_init(m, generation);
	m->memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD;
	m->readiness = readiness;
	m->allocation_bytes = gpu->allocation_bytes;
	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		m->slot_fd[i] = exported_memory_fd(gpu->memory[i]);
		m->slot[i] = exported_memory_bytes(gpu->memory[i]);
		memset(m->slot[i], (int)(first + i), m->format.size_bytes);
	}
	if (readiness == SLUICE__READINESS__READINESS_TIMELINE)
		m->timeline_fd = fake_timeline_create(0);
}

void fake_gpu_memory_finish(struct fake_memory *m)
{
	fake_control_finish(m);
	fd_closep(&m->timeline_fd);
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		fd_closep(&m->slot_fd[i]);
}

const Sluice__Subscribe *fake_gpu_granted(struct fake *fake, const struct fake_gpu *gpu,
	unsigned max_holds, Sluice__Readiness readiness)
{
	struct fake_grant grant = {
		.max_holds = max_holds,
		.memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
		.readiness = readiness,
		.device = &gpu->device,
	};
	return fake_grant(fake, &grant);
}

void fake_gpu_begin(struct fake *fake, const struct fake_gpu *gpu, unsigned max_holds,
	const struct fake_memory *m)
{
	fake_welcome(fake, 1);
	fake_gpu_granted(fake, gpu, max_holds, m->readiness);
	fake_bind(fake, m);
}
