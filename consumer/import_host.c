/* Host memory: sealed memfds, mapped read-only. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "consumer/importer.h"
#include "consumer/mapping.h"

/* Memory that can be truncated under a mapping would kill the reader with SIGBUS. */
static int check_memory(int fd, size_t size_bytes, struct error *error)
{
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return mapping_wrong(error, "its memory is not sealed against shrinking");
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size < size_bytes)
		return mapping_wrong(error, "its memory is smaller than the broker said");
	return 0;
}

int host_map(int fd, size_t size_bytes, const void **map_out, struct error *error)
{
	int r = check_memory(fd, size_bytes, error);
	if (r < 0)
		return r;
	void *p = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		error_set(error, SLUICE_ERROR_NONE, "cannot map %zu bytes of a view's memory: %s",
			size_bytes, strerror(errno));
		return -ENOMEM;
	}
	*map_out = p;
	return 0;
}

void host_unmap(const void *map, size_t size_bytes)
{
	if (map)
		munmap((void *)map, size_bytes);
}

static int host_import(struct importer *importer, const struct slot_layout *layout, int *fd_in,
	struct slot_memory *slot_out, struct error *error)
{
	_cleanup_fd_ int fd = fd_take(fd_in);
	const void *map = NULL;
	int r = host_map(fd, layout->bytes, &map, error);
	if (r < 0)
		return r;
	*slot_out = (struct slot_memory){ .map = map };
	return 0;
}

static void host_drop(
	struct importer *importer, const struct slot_layout *layout, struct slot_memory *slot)
{
	host_unmap(slot->map, layout->bytes);
}

static void host_close(struct importer *importer)
{
	free(importer);
}

static const struct importer_ops host_ops = {
	.memory = SLUICE_MEMORY_HOST,
	.wire_memory = SLUICE__MEMORY__MEMORY_HOST,
	.close = host_close,
	.import = host_import,
	.drop = host_drop,
};

int importer_open_host(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error)
{
	struct importer *importer = calloc(1, sizeof(*importer));
	if (!importer) {
		error_set(error, SLUICE_ERROR_NONE, "out of memory");
		return -ENOMEM;
	}
	importer->ops = &host_ops;
	*importer_out = importer;
	return 0;
}
