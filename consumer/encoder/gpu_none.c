/* In place of gpu.c and nvenc.c, where sluice-encode is built without CUDA. */
#include <errno.h>

#include "consumer/encoder/gpu.h"
#include "consumer/encoder/nvenc.h"

static int refuse(struct problem *problem)
{
	return problem_set(problem, -EOPNOTSUPP, "this sluice-encode was built without CUDA");
}

int gpu_find(struct gpu **gpu_out, const uint8_t *uuid, struct problem *problem)
{
	return refuse(problem);
}

int nvenc_try(const struct encoder_settings *settings, const struct picture_format *format,
	struct problem *problem)
{
	return refuse(problem);
}

void *gpu_context(const struct gpu *gpu)
{
	return NULL;
}

const char *gpu_name(const struct gpu *gpu)
{
	return "";
}

struct gpu *gpu_close(struct gpu *gpu)
{
	return NULL;
}
