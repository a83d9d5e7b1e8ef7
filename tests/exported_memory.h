/* Real memory exported by a Vulkan driver as OPAQUE_FD, for tests of whoever imports it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct exported_memory;

/*
 * Allocate `size` bytes on the first device of this machine, CPU devices included, mapped for the
 * host. Skips the test when there is no Vulkan. The CUDA double, if it is opened later, has that same
 * device, unless FAKE_CUDA_DEVICES says otherwise. [give] exported_memory_destroy().
 */
struct exported_memory *exported_memory_create(size_t size);
struct exported_memory *exported_memory_destroy(struct exported_memory *memory);

/* [give] a new descriptor. */
int exported_memory_fd(const struct exported_memory *memory);

/* [lend] its bytes, until destroyed. */
unsigned char *exported_memory_bytes(const struct exported_memory *memory);

/* [lend] VkPhysicalDeviceIDProperties.deviceUUID, 16 bytes. */
const uint8_t *exported_memory_device_uuid(const struct exported_memory *memory);
