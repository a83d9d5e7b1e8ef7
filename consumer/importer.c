#include "consumer/importer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef int (*open_fn)(struct importer **importer_out, const struct sluice_view_request *request,
	struct error *error);

static const struct kind {
	const char *name;
	open_fn open; /* NULL: not built in */
} kinds[] = {
	[SLUICE_MEMORY_HOST] = { "host memory", importer_open_host },
#ifdef HAVE_CUDA
	[SLUICE_MEMORY_CUDA] = { "CUDA memory", importer_open_cuda },
#else
	[SLUICE_MEMORY_CUDA] = { "CUDA memory", NULL },
#endif
#ifdef HAVE_VULKAN
	[SLUICE_MEMORY_VULKAN] = { "Vulkan memory", importer_open_vulkan },
#else
	[SLUICE_MEMORY_VULKAN] = { "Vulkan memory", NULL },
#endif
};

const char *importer_memory_name(enum sluice_memory memory)
{
	return kinds[memory].name;
}

int importer_open(struct importer **importer_out, const struct sluice_view_request *request,
	struct list *leaving, struct error *error)
{
	const struct kind *kind = &kinds[request->memory];
	if (!kind->open) {
		error_set(error, SLUICE_ERROR_NONE, "this libsluice was built without %s",
			kind->name);
		return -EOPNOTSUPP;
	}
	struct importer *importer = NULL;
	int r = kind->open(&importer, request, error);
	if (r < 0)
		return r;
	importer->n_refs = 1;
	importer->leaving = leaving;
	*importer_out = importer;
	return 0;
}

struct importer *importer_ref(struct importer *importer)
{
	importer->n_refs++;
	return importer;
}

struct importer *importer_unref(struct importer *importer)
{
	if (importer && --importer->n_refs == 0)
		importer->ops->close(importer);
	return NULL;
}

/* Memory of the device before may still be in use: that importer stays for as long. */
static int renew(struct importer **importer, struct error *error)
{
	struct sluice_view_request request = { .memory = (*importer)->ops->memory };
	struct importer *fresh = NULL;
	int r = importer_open(&fresh, &request, (*importer)->leaving, error);
	if (r < 0)
		return r;
	importer_unref(*importer);
	*importer = fresh;
	return 0;
}

static bool is_same(const struct device_id *a, const struct device_id *b)
{
	return memcmp(a->uuid, b->uuid, WIRE_UUID_BYTES) == 0 &&
	       memcmp(a->driver_uuid, b->driver_uuid, WIRE_UUID_BYTES) == 0;
}

int importer_attach(struct importer **importer, const struct device_id *device, struct error *error)
{
	struct importer *i = *importer;
	if (i->is_attached && is_same(&i->device, device))
		return 0;
	/* what was given is only compared, once more */
	int r = i->is_attached && !i->is_given ? renew(importer, error) : 0;
	if (r < 0)
		return r;
	i = *importer;
	r = i->ops->attach(i, device, error);
	if (r < 0)
		return r;
	i->device = *device;
	i->is_attached = true;
	return 0;
}

int importer_other_device(const struct device_id *wanted, const struct device_id *found,
	const char *ours, struct error *error)
{
	char wanted_uuid[UUID_TEXT_SIZE], found_uuid[UUID_TEXT_SIZE];
	error_set(error, SLUICE_ERROR_NONE,
		"the stream is on another GPU: it is on %s (%s), %s is on %s (%s)", wanted->name,
		uuid_text(wanted->uuid, wanted_uuid), ours, found->name,
		uuid_text(found->uuid, found_uuid));
	return -ENODEV;
}
