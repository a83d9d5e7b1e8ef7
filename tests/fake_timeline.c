#include "tests/fake_timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"

enum { POLL_NS = 100000, POLLS_PER_MS = 10 };

static const char memfd_name[] = "sluice-fake-timeline";
static const char link_name[] = "/memfd:sluice-fake-timeline (deleted)";

int fake_timeline_create(uint64_t value)
{
	_cleanup_fd_ int fd = memfd_create(memfd_name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, &value, sizeof(value), 0) != sizeof(value))
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return fd_take(&fd);
}

static int check(int fd)
{
	char path[64], name[sizeof(link_name) + 1];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return -errno;
	name[n] = 0;
	return strcmp(name, link_name) == 0 ? 0 : -EINVAL;
}

_Atomic(uint64_t) *fake_timeline_map(int fd)
{
	if (check(fd) < 0)
		return NULL;
	void *map = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}

int fake_timeline_raise_counter(_Atomic(uint64_t) *counter, uint64_t value)
{
	uint64_t now = atomic_load(counter);
	while (now < value && !atomic_compare_exchange_weak(counter, &now, value))
		;
	return now > value ? -EINVAL : 0;
}

int fake_timeline_raise(int fd, uint64_t value)
{
	_Atomic(uint64_t) *counter = fake_timeline_map(fd);
	if (!counter)
		return -EINVAL;
	int r = fake_timeline_raise_counter(counter, value);
	munmap(counter, sizeof(*counter));
	return r;
}

int fake_timeline_read(int fd, uint64_t *out)
{
	_Atomic(uint64_t) *counter = fake_timeline_map(fd);
	if (!counter)
		return -EINVAL;
	*out = atomic_load(counter);
	munmap(counter, sizeof(*counter));
	return 0;
}

int fake_timeline_wait(int fd, uint64_t value, unsigned timeout_ms)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };
	_Atomic(uint64_t) *counter = fake_timeline_map(fd);
	if (!counter)
		return -EINVAL;
	uint64_t polls = (uint64_t)timeout_ms * POLLS_PER_MS;
	while (atomic_load(counter) < value && polls-- > 0)
		nanosleep(&pause, NULL);
	int r = atomic_load(counter) >= value ? 0 : -ETIMEDOUT;
	munmap(counter, sizeof(*counter));
	return r;
}
