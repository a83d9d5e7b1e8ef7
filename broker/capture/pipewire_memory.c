/*
 * The memory of a captured buffer. It belongs to another program, which may truncate it while we
 * read: reading a mapping would then end the broker with SIGBUS. So a memfd is mapped only if its
 * seals forbid shrinking, and read with pread() otherwise.
 */
#include "broker/capture/pipewire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void map_sealed(struct pipewire_memory *m)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t begin = m->fd_offset / page * page;
	uint64_t lead = m->fd_offset - begin;
	size_t bytes = lead + m->limit;
	/* nothing is ever written there, but NVIDIA's driver imports no mapping that is read-only */
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, (off_t)begin);
	if (map == MAP_FAILED)
		map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, m->fd, (off_t)begin);
	if (map == MAP_FAILED)
		return; /* pread() does as well */
	m->map = map;
	m->map_bytes = bytes;
	m->data = (const uint8_t *)map + lead;
}

/* NULL, or why the descriptor cannot be read. */
static const char *attach_fd(struct pipewire_memory *m, const struct spa_data *data)
{
	struct stat st;
	if (data->fd < 0 || data->fd > INT32_MAX || fstat((int)data->fd, &st) < 0)
		return "the producer gave a buffer without memory";
	m->fd = (int)data->fd;
	/* Only memory of tmpfs has seals. Anything else, a pipe say, could block the reader for ever. */
	int seals = fcntl(m->fd, F_GET_SEALS);
	if (seals < 0)
		return "the producer gave a descriptor that is no shared memory";
	m->fd_offset = data->mapoffset;
	uint64_t size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	uint64_t behind = size > m->fd_offset ? size - m->fd_offset : 0;
	m->limit = data->maxsize < behind ? data->maxsize : behind;
	if (m->limit == 0)
		return "the producer gave a buffer of no size";
	if (seals & F_SEAL_SHRINK)
		map_sealed(m);
	return NULL;
}

static const char *attach_pointer(struct pipewire_memory *m, const struct spa_data *data)
{
	if (!data->data || data->maxsize == 0)
		return "the producer gave a buffer without memory";
	m->data = data->data;
	m->limit = data->maxsize;
	return NULL;
}

void pipewire_memory_attach(struct pipewire_memory *m, const struct spa_data *data)
{
	*m = (struct pipewire_memory){ .fd = -EBADF };
	switch (data->type) {
	case SPA_DATA_MemFd:
		m->problem = attach_fd(m, data);
		break;
	case SPA_DATA_MemPtr:
		m->problem = attach_pointer(m, data);
		break;
	case SPA_DATA_DmaBuf:
		m->problem = "the producer gave a DMA-BUF, which was not asked for";
		break;
	default:
		m->problem = "the producer gave memory of an unknown kind";
	}
}

void pipewire_memory_detach(struct pipewire_memory *m)
{
	if (m->map)
		munmap(m->map, m->map_bytes);
	*m = (struct pipewire_memory){ .fd = -EBADF, .problem = "the buffer is gone" };
}

/* All of it, or -ESTALE: the file ends before. */
static int read_at(int fd, uint8_t *to, size_t bytes, uint64_t offset)
{
	while (bytes > 0) {
		ssize_t n = pread(fd, to, bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -ESTALE;
		to += n;
		bytes -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int copy_bytes(const struct pipewire_memory *m, uint8_t *to, size_t bytes, uint64_t offset)
{
	if (!m->data)
		return read_at(m->fd, to, bytes, m->fd_offset + offset);
	memcpy(to, m->data + offset, bytes);
	return 0;
}

int pipewire_memory_copy(uint8_t *to, uint32_t to_stride, const struct pipewire_block *block)
{
	/* the padding behind the last row is nobody's */
	if (to_stride == block->stride)
		return copy_bytes(block->memory, to,
			(size_t)(block->rows - 1) * to_stride + block->row_bytes, block->offset);
	for (uint32_t y = 0; y < block->rows; y++) {
		int r = copy_bytes(block->memory, to + (size_t)y * to_stride, block->row_bytes,
			block->offset + (uint64_t)y * block->stride);
		if (r < 0)
			return r;
	}
	return 0;
}
