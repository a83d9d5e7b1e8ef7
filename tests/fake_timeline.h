/*
 * A timeline semaphore for tests: a counter in a memfd, which may be sent to other processes and
 * only rises. tests/fake_cuda imports its descriptor in the place of a Vulkan timeline's, so that a
 * test, or a hook of the broker, can play the GPU that signals.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* [give] a descriptor whose counter is `value`; or -errno. */
int fake_timeline_create(uint64_t value);

/* 0; -EINVAL: the descriptor is no timeline, or its counter is greater; -errno. Thread-safe. */
int fake_timeline_raise(int fd, uint64_t value);

/* 0; -EINVAL: the descriptor is no timeline; -errno. */
int fake_timeline_read(int fd, uint64_t *out);

/* Blocks, and polls: 0 when the counter has reached `value`, -ETIMEDOUT, or as above. */
int fake_timeline_wait(int fd, uint64_t value, unsigned timeout_ms);

/* [give] the counter, for munmap(); NULL: the descriptor is no timeline, or cannot be mapped. */
_Atomic(uint64_t) *fake_timeline_map(int fd);

/* 0; -EINVAL: it is greater, and stays. */
int fake_timeline_raise_counter(_Atomic(uint64_t) *counter, uint64_t value);
