#include "broker/devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/gpu_slots.h"
#include "common/log.h"
#include "common/uuid.h"

/* A device that ran this long without a loss has a clean slate again. */
static const uint64_t forgiven_ns = 60 * NS_PER_S;

static int open_device(struct devices *devices, struct device *device)
{
	struct gpu_options options = {
		.which = device->which,
		.spin_ns = devices->spin_ns,
		.validation = devices->validation,
		.lost = devices->lost,
		.data = devices->data,
	};
	int r = gpu_create(
		&device->gpu, devices->loop, &options, device->text, sizeof(device->text));
	if (r < 0)
		return r;
	const struct gpu_info *info = gpu_info(device->gpu);
	char uuid[UUID_TEXT_SIZE];
	gpu_slots_describe(device->gpu, &device->description);
	snprintf(device->text, sizeof(device->text), "%s", info->copy_text);
	log_info("gpu=%s uuid=%s %s; timelines %s, sync files %s, host memory %s", info->name,
		uuid_text(info->device_uuid, uuid), info->copy_text,
		info->can_timeline ? "yes" : "no", info->can_sync_fd ? "yes" : "no",
		info->can_import_host ? "imported" : "copied through staging");
	return 0;
}

static struct device *find(struct devices *devices, const char *which)
{
	for (unsigned i = 0; i < devices->n; i++)
		if (strcmp(devices->device[i].which, which) == 0)
			return &devices->device[i];
	return NULL;
}

/* The same device under another name? */
static struct device *find_twin(struct devices *devices, const struct device *device)
{
	for (unsigned i = 0; i < devices->n; i++) {
		struct device *other = &devices->device[i];
		if (other != device && other->gpu &&
			memcmp(other->description.uuid, device->description.uuid, GPU_UUID_BYTES) ==
				0)
			return other;
	}
	return NULL;
}

struct device *devices_get(struct devices *devices, const char *which)
{
	if (strcmp(which, "none") == 0)
		return NULL;
	struct device *device = find(devices, which);
	if (device)
		return device->twin ? device->twin : device;
	if (devices->n == DEVICES_MAX)
		return NULL;
	device = &devices->device[devices->n];
	*device = (struct device){ 0 };
	snprintf(device->which, sizeof(device->which), "%s", which);
	int r = open_device(devices, device);
	device->twin = r == 0 ? find_twin(devices, device) : NULL;
	devices->n++;
	if (!device->twin)
		return device;
	device->gpu = gpu_destroy(device->gpu);
	return device->twin;
}

static const char latched[] =
	"; it was lost too often and is not tried again until the broker restarts";

/* What is said of it while it is not there. */
static void note_failure(struct device *device, const char *reason)
{
	char text[sizeof(device->text)];
	snprintf(text, sizeof(text), "%s", reason); /* it may be device->text */
	backoff_fail(&device->backoff, clock_ns());
	snprintf(device->text, sizeof(device->text), "%.400s%s", text,
		backoff_is_latched(&device->backoff) ? latched : "");
}

int device_reopen(struct devices *devices, struct device *device)
{
	int r = open_device(devices, device);
	if (r < 0)
		note_failure(device, device->text);
	return r;
}

void device_close(struct device *device, const char *reason)
{
	uint64_t now = clock_ns();
	if (now - device->lost_ns > forgiven_ns)
		backoff_reset(&device->backoff);
	device->lost_ns = now;
	note_failure(device, reason);
	device->gpu = gpu_destroy(device->gpu);
}

void devices_finish(struct devices *devices)
{
	for (unsigned i = 0; i < devices->n; i++)
		devices->device[i].gpu = gpu_destroy(devices->device[i].gpu);
	devices->n = 0;
}

const struct server_gpus *devices_status(void *data)
{
	struct devices *devices = data;
	struct server_gpus *status = &devices->status;
	status->n = 0;
	for (unsigned i = 0; i < devices->n; i++) {
		struct device *device = &devices->device[i];
		struct server_gpu *gpu = &status->gpu[status->n];
		uint64_t budget;
		if (device->twin)
			continue;
		*gpu = (struct server_gpu){
			/* one that was lost is still called what it was */
			.device = device->description.name[0] ? &device->description : NULL,
			.text = device->text,
		};
		if (device->gpu)
			gpu_memory_usage(device->gpu, &gpu->used_bytes, &budget);
		status->n++;
	}
	return status;
}
