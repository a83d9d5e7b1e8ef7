/* A build without libswscale: the CPU converts nothing. */
#include <errno.h>

#include "broker/scale.h"

bool scale_can(const struct video_format *from, const struct video_format *to, const char **why_out)
{
	if (why_out)
		*why_out = "it cannot be converted here: built without libswscale";
	return false;
}

int scaler_create(
	struct scaler **scaler_out, const struct video_format *from, const struct video_format *to)
{
	return -EOPNOTSUPP;
}

bool scaler_fits(
	const struct scaler *scaler, const struct video_format *from, const struct video_format *to)
{
	return false;
}

int scaler_run(struct scaler *scaler, const uint8_t *from, uint8_t *to)
{
	return -EIO;
}

struct scaler *scaler_destroy(struct scaler *scaler)
{
	return scaler;
}
