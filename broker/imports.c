#include "broker/imports.h"

#include <unistd.h>

static struct import *find(struct imports *imports, const void *map)
{
	for (unsigned i = 0; i < imports->n; i++)
		if (imports->import[i].map == map)
			return &imports->import[i];
	return NULL;
}

/* A mapping ends with a page, which is as far as it may be rounded up. */
static bool can_import(const struct gpu_info *info, const void *map)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	return info->can_import_host && info->host_align <= page &&
	       (uintptr_t)map % info->host_align == 0;
}

struct gpu_buffer *imports_get(struct imports *imports, void *map, uint64_t size_bytes)
{
	if (!imports->gpu || !can_import(gpu_info(imports->gpu), map) ||
		!backoff_allows(&imports->refused, clock_ns()))
		return NULL;
	struct import *import = find(imports, map);
	if (import)
		return import->buffer;
	if (imports->n == IMPORTS_MAX)
		return NULL;
	import = &imports->import[imports->n];
	*import = (struct import){ .map = map };
	if (gpu_buffer_import_host(imports->gpu, map, size_bytes, &import->buffer) < 0) {
		backoff_fail(&imports->refused, clock_ns());
		return NULL;
	}
	imports->n++;
	return import->buffer;
}

void imports_forget(struct imports *imports, const void *map)
{
	struct import *import = find(imports, map);
	if (!import)
		return;
	gpu_buffer_destroy(import->buffer);
	*import = imports->import[--imports->n];
}

void imports_clear(struct imports *imports)
{
	for (unsigned i = 0; i < imports->n; i++)
		gpu_buffer_destroy(imports->import[i].buffer);
	imports->n = 0;
}
