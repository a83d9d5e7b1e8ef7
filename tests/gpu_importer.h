/*
 * Another process that imports exported memory into a VkInstance and VkDevice of its own, and shows
 * what it sees there.
 */
#pragma once

#include <stdint.h>

#include "broker/gpu/gpu.h"

struct importer;

/* Start it: before this process opens Vulkan, because that does not survive a fork. [give] */
struct importer *importer_start(void);

/* Ends the process. Returns NULL. */
struct importer *importer_stop(struct importer *importer);

/**
 * Let it import a buffer and read all its bytes.
 *
 * fd  [borrow] as gpu_buffer_export() gave it
 *
 * Its bytes, [lend] until the next call; NULL: the import failed.
 */
const uint8_t *importer_read(struct importer *importer, const struct gpu_buffer *buffer, int fd);

/* How many descriptors the last import, and its end, left open there: 0 if the rules were kept. */
int importer_leaked_fds(const struct importer *importer);
