/* Slots in the memory of a GPU: what connects broker/gpu to the layers that decide. */
#pragma once

#include "broker/gpu/gpu.h"
#include "broker/slots.h"

/* What clients are told of a device. */
void gpu_slots_describe(const struct gpu *gpu, struct slot_device *device_out);

/* gpu, device, budget [borrow] for as long as the source is used. */
struct slot_source gpu_slots(
	struct gpu *gpu, const struct slot_device *device, struct memory_budget *budget);
