/*
 * Fences that stay pending until a test signals them, as a GPU's do while it works: from vgem, a
 * device of the kernel without hardware. The guest of scripts/test-vm has it.
 */
#pragma once

#include "common/cleanup.h"

/**
 * What a test needs is not here: says so and skips the test; in the guest of scripts/test-vm, where
 * nothing may be missing, the test fails. Does not return.
 */
_Noreturn void vm_lacks(const char *what);

struct vgem_fence;

/**
 * Make a fence that is pending. The kernel signals it after 10 s, as if all were well.
 *
 * out            [give] vgem_fence_destroy()
 * sync_file_out  [give] poll() of it says POLLIN when the fence is signalled, and nothing before.
 *                It outlives the fence, and can be sent, merged and imported like any other.
 *
 * 0; -ENODEV where no vgem is, or a negative errno. Does not block.
 */
int vgem_fence_create(struct vgem_fence **out, int *sync_file_out);

/**
 * "The GPU is done": wakes all who wait. May be called in a child process too.
 *
 * 0; -ETIMEDOUT when the fence was signalled already: by its 10 s, or by vgem_fence_signal().
 */
int vgem_fence_signal(struct vgem_fence *fence);

/* Signals it, if it is still pending. Takes NULL; returns NULL. */
struct vgem_fence *vgem_fence_destroy(struct vgem_fence *fence);
DEFINE_CLEANUP(struct vgem_fence *, vgem_fence_destroy);
