#include "consumer/encoder/encoder.h"

#include <errno.h>

#include "consumer/encoder/encoder_backend.h"

/* The first that knows a codec and takes the memory is the one. */
static const struct encoder_backend *const backends[] = {
#ifdef HAVE_CUDA
	&encoder_nvenc,
#endif
	&encoder_software,
#ifdef HAVE_CUDA
	&encoder_nvjpeg,
#endif
};

enum { N_BACKENDS = sizeof(backends) / sizeof(backends[0]), ANY_MEMORY = -1 };

/* memory: ANY_MEMORY, or a SLUICE_MEMORY_… */
static const struct encoder_backend *backend_for(
	const struct encoder_settings *settings, int memory)
{
	for (int i = 0; i < N_BACKENDS; i++)
		if ((memory == ANY_MEMORY || backends[i]->memories & ENCODER_TAKES(memory)) &&
			backends[i]->find(settings->codec))
			return backends[i];
	return NULL;
}

const AVCodec *encoder_find(const char *name)
{
	const AVCodec *codec = NULL;
	for (int i = 0; i < N_BACKENDS && !codec; i++)
		codec = backends[i]->find(name);
	return codec;
}

void encoder_want(const struct encoder_settings *settings, const struct sluice_stream_info *info,
	struct sluice_view_request *request)
{
	const struct encoder_backend *backend = backend_for(settings, ANY_MEMORY);
	if (backend && backend->want)
		backend->want(settings, info, request);
}

int encoder_check(const struct encoder_settings *settings, struct problem *problem)
{
	const struct encoder_backend *backend = backend_for(settings, ANY_MEMORY);
	if (!backend)
		return problem_set(problem, -EINVAL,
			"FFmpeg has no video encoder \"%s\" here: `ffmpeg -encoders` lists them",
			settings->codec);
	return backend->check(settings, problem);
}

int encoder_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem)
{
	const struct encoder_backend *backend = backend_for(settings, (int)format->memory);
	if (!backend)
		return problem_set(problem, -EOPNOTSUPP, "%s takes no pictures in %s memory",
			settings->codec,
			format->memory == SLUICE_MEMORY_HOST ? "host" : "the GPU's");
	if (pixel_format_of(format->fourcc) == AV_PIX_FMT_NONE) {
		char name[8];
		return problem_set(problem, -EOPNOTSUPP,
			"frames of format %s cannot be read: --format NV12 (or P010) asks the broker for "
			"others",
			sluice_fourcc_name(format->fourcc, name));
	}
	return backend->open(encoder_out, settings, format, flags, problem);
}

bool encoder_is_on_gpu(const struct encoder_settings *settings)
{
	const struct encoder_backend *backend = backend_for(settings, ANY_MEMORY);
	return backend && !(backend->memories & ENCODER_TAKES(SLUICE_MEMORY_HOST));
}

bool encoder_takes(const struct encoder_settings *settings, enum sluice_memory memory)
{
	return backend_for(settings, (int)memory);
}

void encoder_set_holds(struct encoder *encoder, unsigned holds)
{
	if (encoder->backend->set_holds)
		encoder->backend->set_holds(encoder, holds);
}

void encoder_size(const struct encoder *encoder, int *width_out, int *height_out)
{
	encoder->backend->size(encoder, width_out, height_out);
}

AVRational encoder_time_base(const struct encoder *encoder)
{
	return encoder->backend->time_base(encoder);
}

int encoder_describe(const struct encoder *encoder, AVStream *stream)
{
	return encoder->backend->describe(encoder, stream);
}

int encoder_load(struct encoder *encoder, struct sluice_frame *frame, struct problem *problem)
{
	return encoder->backend->load(encoder, frame, problem);
}

int encoder_let_go(struct encoder *encoder, struct problem *problem)
{
	return encoder->backend->let_go ? encoder->backend->let_go(encoder, problem) : 0;
}

void encoder_request_key(struct encoder *encoder)
{
	if (encoder->backend->request_key)
		encoder->backend->request_key(encoder);
}

int encoder_set_bit_rate(struct encoder *encoder, int64_t bit_rate, struct problem *problem)
{
	if (encoder->backend->set_bit_rate)
		return encoder->backend->set_bit_rate(encoder, bit_rate, problem);
	return problem_set(problem, -EOPNOTSUPP,
		"this encoder has a constant quality and no bit rate to change");
}

int encoder_forget(struct encoder *encoder, struct problem *problem)
{
	return encoder->backend->forget ? encoder->backend->forget(encoder, problem)
					: encoder_let_go(encoder, problem);
}

const char *encoder_note(const struct encoder *encoder)
{
	return encoder->backend->note ? encoder->backend->note(encoder) : "";
}

int encoder_encode(struct encoder *encoder, int64_t ticks, struct problem *problem)
{
	return encoder->backend->encode(encoder, ticks, problem);
}

int encoder_drain(struct encoder *encoder, struct problem *problem)
{
	return encoder->backend->drain(encoder, problem);
}

int encoder_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem)
{
	return encoder->backend->receive(encoder, packet, problem);
}

struct encoder *encoder_destroy(struct encoder *encoder)
{
	if (encoder)
		encoder->backend->destroy(encoder);
	return NULL;
}
