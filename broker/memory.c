#include "broker/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "common/fd.h"

/* F_SEAL_FUTURE_WRITE: our own mapping stays writable, every later one is refused. */
static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

int memory_init(struct memory *memory_out, const char *name, size_t size_bytes)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size_bytes) < 0)
		return -errno;
	void *map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, seals) < 0) {
		int error = -errno;
		munmap(map, size_bytes);
		return error;
	}
	*memory_out = (struct memory){ .fd = fd_take(&fd), .map = map, .size_bytes = size_bytes };
	return 0;
}

void memory_finish(struct memory *memory)
{
	if (!memory->map)
		return;
	munmap(memory->map, memory->size_bytes);
	fd_closep(&memory->fd);
	*memory = (struct memory){ .fd = -EBADF };
}
