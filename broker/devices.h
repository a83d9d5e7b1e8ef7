/*
 * The GPUs of this broker: each opened once, when the first stream wants it, and again, with back-off,
 * when it was lost.
 */
#pragma once

#include "broker/gpu/gpu.h"
#include "broker/server.h"
#include "broker/slots.h"
#include "common/backoff.h"

enum { DEVICES_MAX = SERVER_GPUS_MAX, DEVICE_NAME_MAX = 64 };

struct device {
	char which[DEVICE_NAME_MAX]; /* as it was asked for: "auto", "1", a UUID */
	struct device *twin; /* the same under another name, NULL: none. Then nothing else is set */
	struct gpu *gpu;     /* NULL: it could not be opened, or is lost: text says why */
	struct slot_device description;
	char text[512];
	struct backoff backoff; /* of losses */
	uint64_t lost_ns;
};

struct devices {
	struct loop *loop;
	uint64_t spin_ns;
	bool validation;
	void (*lost)(void *data); /* a device of these was lost: gpu_is_lost() says which */
	void *data;
	unsigned n;
	struct device device[DEVICES_MAX];
	struct server_gpus status;
};

/**
 * The device that this names; opened if it is not. Blocks for a driver's start-up.
 *
 * NULL if which is "none" or there are too many; else a device, whose gpu may be NULL. [lend] until
 * devices_finish()
 */
struct device *devices_get(struct devices *devices, const char *which);

/* Try again to open a device that was lost. Blocks for a driver's start-up. 0, or negative errno with
 * device->text. */
int device_reopen(struct devices *devices, struct device *device);

/* It is lost: close it. Nothing may be using it any more. */
void device_close(struct device *device, const char *reason);

/* All are closed. */
void devices_finish(struct devices *devices);

/* What server_set_gpus() takes; data is the struct devices. */
const struct server_gpus *devices_status(void *data);
