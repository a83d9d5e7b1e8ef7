#include "tests/vgem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "common/fd.h"
#include "tests/test.h"

/* vgem's own two calls: the kernel's vgem_drm.h is in no package. */
struct vgem_fence_attach {
	uint32_t handle;
	uint32_t flags;
	uint32_t fence_out;
	uint32_t pad;
};

struct vgem_fence_signal {
	uint32_t fence;
	uint32_t flags;
};

enum { FENCE_WRITE = 1 };

#define IOCTL_FENCE_ATTACH DRM_IOWR(DRM_COMMAND_BASE + 1, struct vgem_fence_attach)
#define IOCTL_FENCE_SIGNAL DRM_IOW(DRM_COMMAND_BASE + 2, struct vgem_fence_signal)

struct vgem_fence {
	int device_fd; /* of its own: what it has is gone when this is closed, and the fence signalled */
	uint32_t id;
};

_Noreturn void vm_lacks(const char *what)
{
	char reason[256];
	snprintf(reason, sizeof(reason), "%s is not here: run scripts/test-vm", what);
	if (getenv("SLUICE_TEST_VM"))
		test_fail(__FILE__, __LINE__, "%s is not here, in the guest of scripts/test-vm",
			what);
	test_not_for_here(reason);
}

static bool is_vgem(int fd)
{
	drmVersion *version = drmGetVersion(fd);
	bool is = version && strcmp(version->name, "vgem") == 0;
	drmFreeVersion(version);
	return is;
}

/* Its descriptor, or -ENODEV: which of the cards it is, is not promised. */
static int open_device(void)
{
	int found = -ENODEV;
	DIR *dir = opendir("/dev/dri");
	if (!dir)
		return -ENODEV;
	for (const struct dirent *entry; found < 0 && (entry = readdir(dir));) {
		if (strncmp(entry->d_name, "card", 4) != 0)
			continue;
		_cleanup_fd_ int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && is_vgem(fd))
			found = fd_take(&fd);
	}
	closedir(dir);
	return found;
}

/* Something that a fence can be attached to. */
static int create_buffer(int device_fd, uint32_t *handle_out)
{
	uint32_t handle, pitch;
	uint64_t size;
	int r = drmModeCreateDumbBuffer(device_fd, 64, 64, 32, 0, &handle, &pitch, &size);
	if (r < 0)
		return r;
	*handle_out = handle;
	return 0;
}

static int export_sync_file(int device_fd, uint32_t handle)
{
	_cleanup_fd_ int buffer_fd = -EBADF;
	if (drmPrimeHandleToFD(device_fd, handle, DRM_CLOEXEC, &buffer_fd) < 0)
		return -errno;
	struct dma_buf_export_sync_file arg = { .flags = DMA_BUF_SYNC_READ, .fd = -EBADF };
	if (drmIoctl(buffer_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &arg) < 0)
		return -errno;
	return arg.fd;
}

int vgem_fence_create(struct vgem_fence **out, int *sync_file_out)
{
	_cleanup_fd_ int device_fd = open_device();
	if (device_fd < 0)
		return device_fd;
	struct vgem_fence_attach attach = { .flags = FENCE_WRITE };
	int r = create_buffer(device_fd, &attach.handle);
	if (r < 0)
		return r;
	if (drmIoctl(device_fd, IOCTL_FENCE_ATTACH, &attach) < 0)
		return -errno;
	int sync_file = export_sync_file(device_fd, attach.handle);
	if (sync_file < 0)
		return sync_file;
	struct vgem_fence *fence = malloc(sizeof(*fence));
	if (!fence) {
		close(sync_file);
		return -ENOMEM;
	}
	*fence = (struct vgem_fence){ .device_fd = fd_take(&device_fd), .id = attach.fence_out };
	*out = fence;
	*sync_file_out = sync_file;
	return 0;
}

int vgem_fence_signal(struct vgem_fence *fence)
{
	struct vgem_fence_signal arg = { .fence = fence->id };
	if (drmIoctl(fence->device_fd, IOCTL_FENCE_SIGNAL, &arg) < 0)
		return errno == ENOENT ? -ETIMEDOUT : -errno; /* the second time it is forgotten */
	return 0;
}

struct vgem_fence *vgem_fence_destroy(struct vgem_fence *fence)
{
	if (!fence)
		return NULL;
	fd_closep(&fence->device_fd);
	free(fence);
	return NULL;
}
