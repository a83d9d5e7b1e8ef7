/* A GPU, as the broker describes it. */
#pragma once

#include "consumer/importer.h"

/* device_out is filled. 0; -EPROTO: a UUID has not 16 bytes. */
int device_read(struct device_id *device_out, const Sluice__Device *in);
