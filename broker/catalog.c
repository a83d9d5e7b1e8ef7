#include "broker/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int catalog_add(struct catalog *catalog, struct stream *stream)
{
	if (catalog_find(catalog, stream->name))
		return -EEXIST;
	if (catalog->n_streams == CATALOG_STREAMS_MAX)
		return -EDQUOT;
	catalog->stream[catalog->n_streams++] = stream;
	return 0;
}

void catalog_remove(struct catalog *catalog, struct stream *stream)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < catalog->n_streams; i++)
		if (catalog->stream[i] != stream)
			catalog->stream[kept++] = catalog->stream[i];
	catalog->n_streams = kept;
}

struct stream *catalog_find(const struct catalog *catalog, const char *name)
{
	for (unsigned i = 0; i < catalog->n_streams; i++)
		if (strcmp(catalog->stream[i]->name, name) == 0)
			return catalog->stream[i];
	return NULL;
}

char *catalog_names(const struct catalog *catalog, char *buf, size_t size)
{
	size_t used = 0;
	snprintf(buf, size, "none");
	for (unsigned i = 0; i < catalog->n_streams && used < size; i++)
		used += (size_t)snprintf(
			buf + used, size - used, "%s%s", i ? ", " : "", catalog->stream[i]->name);
	return buf;
}
