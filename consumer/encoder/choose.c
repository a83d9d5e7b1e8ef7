#include "consumer/encoder/choose.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "consumer/encoder/nvenc.h"

enum {
	FOURCC_NV12 = 0x3231564e,
	FOURCC_YUV420 = 0x32315559,
	USUAL_WIDTH = 1280,
	USUAL_HEIGHT = 720
};

static const char on_gpu[] = "h264_nvenc", on_cpu[] = "libx264";

bool choose_is_auto(const char *codec)
{
	return strcmp(codec, "auto") == 0;
}

const char *choose_likely_codec(const char *codec)
{
	return choose_is_auto(codec) ? on_cpu : codec;
}

int choose_check(const struct options *options, struct problem *problem)
{
	const struct encoder_settings *encoder = &options->encoder;
	uint32_t fourcc = options->view.fourcc;
	char name[8];
	if (strcmp(encoder->codec, "nvjpeg") == 0 && fourcc && fourcc != FOURCC_YUV420)
		return problem_set(problem, -EINVAL,
			"nvjpeg takes pictures of format I420 and none of %s: leave --format out",
			sluice_fourcc_name(fourcc, name));
	/* what "auto" stands for is chosen, and tried, when the stream is known */
	return choose_is_auto(encoder->codec) ? 0 : encoder_check(encoder, problem);
}

/* The pictures that would come, as far as that is known. */
static struct picture_format expected_format(
	const struct choice *choice, const struct sluice_stream_info *info)
{
	struct sluice_view_request request = choice->request;
	encoder_want(&choice->encoder, info, &request);
	bool is_known = info->width > 0 && info->height > 0;
	uint32_t width = is_known ? info->width : USUAL_WIDTH;
	uint32_t height = is_known ? info->height : USUAL_HEIGHT;
	uint32_t fourcc = request.fourcc ? request.fourcc : info->fourcc;
	struct picture_format format = {
		.fourcc = fourcc ? fourcc : FOURCC_NV12,
		.width = request.width,
		.height = request.height,
		.memory = SLUICE_MEMORY_CUDA,
		.cuda_context = gpu_context(choice->gpu),
	};
	/* with one side given the broker keeps the proportions */
	if (!format.width)
		format.width =
			format.height ? (uint32_t)av_rescale(format.height, width, height) : width;
	if (!format.height)
		format.height = (uint32_t)av_rescale(format.width, height, width);
	return format;
}

/* 0: NVENC opens on the stream's GPU; else the sentence says why not. */
static int try_gpu(
	struct choice *choice, const struct sluice_stream_info *info, struct problem *problem)
{
	if (!info->has_device)
		return problem_set(problem, -EOPNOTSUPP,
			"stream \"%s\" cannot be had in GPU memory", info->name);
	int r = gpu_find(&choice->gpu, info->device_uuid, problem);
	if (r < 0)
		return r;
	choice->encoder.codec = on_gpu;
	const struct picture_format format = expected_format(choice, info);
	return nvenc_try(&choice->encoder, &format, problem);
}

static int choose_encoder(struct choice *choice, const struct options *options,
	const struct sluice_stream_info *info, struct problem *problem)
{
	struct problem why;
	int r = try_gpu(choice, info, &why);
	if (r == 0) {
		snprintf(choice->text, sizeof(choice->text), "encoding with %s on %s", on_gpu,
			gpu_name(choice->gpu));
		return 0;
	}
	const char *device = info->has_device ? info->device_name : "a GPU";
	if (options->require_gpu)
		return problem_set(problem, r, "--require-gpu: no encoder opens on %s: %.*s",
			device, PROBLEM_MAX / 2, why.text);
	choice->gpu = gpu_close(choice->gpu);
	choice->encoder.codec = on_cpu;
	snprintf(choice->text, sizeof(choice->text), "encoding with %s on the CPU, not on %s: %s",
		on_cpu, device, why.text);
	return encoder_check(&choice->encoder, problem);
}

/* Frames shall come in memory of the GPU: in which context? */
static int use_gpu(struct choice *choice, const struct options *options,
	const struct sluice_stream_info *info, struct problem *problem)
{
	bool can_be_host = encoder_takes(&choice->encoder, SLUICE_MEMORY_HOST);
	if (!options->require_gpu && can_be_host)
		choice->request.flags |= SLUICE_HOST_FALLBACK;
	int r = 0;
	if (!choice->gpu && info && info->has_device)
		r = gpu_find(&choice->gpu, info->device_uuid, problem);
	if (r == -ENODEV)
		problem_set(problem, r,
			"stream \"%s\" is on another GPU, %s, which CUDA does not have here",
			info->name, info->device_name);
	if (choice->gpu)
		choice->request.cuda_context = gpu_context(choice->gpu);
	/* libsluice says why it comes in host memory */
	return choice->request.flags & SLUICE_HOST_FALLBACK ? 0 : r;
}

int choose(struct choice *choice, const struct options *options,
	const struct sluice_stream_info *info, struct problem *problem)
{
	int r = 0;
	choice->encoder = options->encoder;
	choice->request = options->view;
	if (choose_is_auto(options->encoder.codec)) {
		choice->encoder.codec = on_cpu;
		if (!info && options->require_gpu)
			return problem_set(problem, -ENOENT,
				"there is no stream \"%s\" whose GPU could encode: --wait waits for it",
				options->stream);
		r = info ? choose_encoder(choice, options, info, problem) : 0;
	}
	if (r < 0)
		return r;
	encoder_want(&choice->encoder, info, &choice->request);
	if (choice->request.memory != SLUICE_MEMORY_CUDA)
		return 0;
	return use_gpu(choice, options, info, problem);
}

void choice_finish(struct choice *choice)
{
	choice->gpu = gpu_close(choice->gpu);
}
