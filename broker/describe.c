#include "broker/describe.h"

void describe_device(const struct slot_device *device, Sluice__Device *device_out)
{
	*device_out = (Sluice__Device)SLUICE__DEVICE__INIT;
	device_out->uuid.data = (uint8_t *)device->uuid;
	device_out->uuid.len = sizeof(device->uuid);
	device_out->driver_uuid.data = (uint8_t *)device->driver_uuid;
	device_out->driver_uuid.len = sizeof(device->driver_uuid);
	device_out->name = (char *)device->name;
	device_out->has_drm = device->has_drm;
	device_out->drm_major = device->drm_major;
	device_out->drm_minor = device->drm_minor;
}

void describe_stream(const struct stream *stream, struct description *out)
{
	Sluice__StreamInfo *info = &out->info;
	const struct generation *g = stream->native.generation;
	const struct view *gpu = stream_view((struct stream *)stream, MEMORY_OPAQUE_FD);
	*info = (Sluice__StreamInfo)SLUICE__STREAM_INFO__INIT;
	info->name = (char *)stream->name;
	info->text = (char *)stream->text;
	info->source = (char *)stream->source;
	info->state = stream->state == STREAM_LIVE ? SLUICE__STREAM_STATE__STREAM_LIVE
						   : SLUICE__STREAM_STATE__STREAM_WAITING;
	if (g) {
		info->fourcc = g->format.fourcc;
		info->width = g->format.width;
		info->height = g->format.height;
	}
	if (gpu) {
		describe_device(gpu->source.device, &out->device);
		info->device = &out->device;
	}
}
