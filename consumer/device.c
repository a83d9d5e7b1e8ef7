#include "consumer/device.h"

#include <errno.h>
#include <string.h>

#include "consumer/text.h"

int device_read(struct device_id *device_out, const Sluice__Device *in)
{
	if (in->uuid.len != WIRE_UUID_BYTES || in->driver_uuid.len != WIRE_UUID_BYTES)
		return -EPROTO;
	memcpy(device_out->uuid, in->uuid.data, WIRE_UUID_BYTES);
	memcpy(device_out->driver_uuid, in->driver_uuid.data, WIRE_UUID_BYTES);
	text_copy(device_out->name, sizeof(device_out->name), in->name);
	return 0;
}
