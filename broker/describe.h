/* From the broker's objects to the protocol's messages about them. */
#pragma once

#include "broker/stream.h"
#include "proto/wire.h"

/* A stream as a message, and what that points to. */
struct description {
	Sluice__StreamInfo info;
	Sluice__Device device;
};

/* What clients are told of a GPU. Points into device: [lend] as long as that. */
void describe_device(const struct slot_device *device, Sluice__Device *device_out);

/* Points into the stream. [lend] until the stream changes; must not be moved. */
void describe_stream(const struct stream *stream, struct description *out);
