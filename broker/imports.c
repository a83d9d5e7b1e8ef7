#include "broker/imports.h"

static struct import *find(struct imports *imports, const void *map)
{
	for (unsigned i = 0; i < imports->n; i++)
		if (imports->import[i].map == map)
			return &imports->import[i];
	return NULL;
}

struct gpu_buffer *imports_get(struct imports *imports, void *map, uint64_t size_bytes)
{
	if (!imports->gpu || !gpu_info(imports->gpu)->can_import_host)
		return NULL;
	struct import *import = find(imports, map);
	if (import)
		return import->buffer;
	if (imports->n == IMPORTS_MAX)
		return NULL;
	import = &imports->import[imports->n++];
	*import = (struct import){ .map = map };
	(void)gpu_buffer_import_host(imports->gpu, map, size_bytes, &import->buffer);
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
