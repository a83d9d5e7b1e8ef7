/*
 * The inside of encoder.h: what each kind of encoder is behind it.
 *
 * encoder.c knows which there are and hands calls on; a backend's own state begins with struct
 * encoder. Calls come in the order that encoder.h promises, from one thread.
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdint.h>

#include "consumer/encoder/encoder.h"

#define ENCODER_TAKES(memory) (1u << (memory))

struct encoder_backend {
	/* The memories in which it takes pictures: ENCODER_TAKES(SLUICE_MEMORY_…) of each. */
	unsigned memories;

	/* As encoder_find(). NULL: the codec of that name is another backend's. */
	const AVCodec *(*find)(const char *codec);

	/* As encoder_want(), for a codec that find() knows. NULL: host memory will do. */
	void (*want)(const struct encoder_settings *settings, const struct sluice_stream_info *info,
		struct sluice_view_request *request);

	/* As the functions of encoder.h without "backend". */
	int (*check)(const struct encoder_settings *settings, struct problem *problem);
	int (*open)(struct encoder **encoder_out, const struct encoder_settings *settings,
		const struct picture_format *format, unsigned flags, struct problem *problem);
	void (*size)(const struct encoder *encoder, int *width_out, int *height_out);
	AVRational (*time_base)(const struct encoder *encoder);
	int (*describe)(const struct encoder *encoder, AVStream *stream);
	void (*set_holds)(struct encoder *encoder, unsigned holds); /* NULL: it keeps none */
	const char *(*note)(const struct encoder *encoder);         /* NULL: it has none */
	int (*load)(struct encoder *encoder, struct sluice_frame *frame, struct problem *problem);
	int (*let_go)(struct encoder *encoder, struct problem *problem); /* NULL: it keeps none */
	int (*forget)(struct encoder *encoder, struct problem *problem); /* NULL: let_go() does */
	void (*request_key)(struct encoder *encoder); /* NULL: each picture is one */
	int (*set_bit_rate)(struct encoder *encoder, int64_t bit_rate,
		struct problem *problem); /* NULL: it cannot */
	int (*encode)(struct encoder *encoder, int64_t ticks, struct problem *problem);
	int (*drain)(struct encoder *encoder, struct problem *problem);
	int (*receive)(struct encoder *encoder, AVPacket *packet, struct problem *problem);
	void (*destroy)(struct encoder *encoder);
};

/* What a backend's own struct begins with. */
struct encoder {
	const struct encoder_backend *backend;
};

/* libavcodec, with pictures in host memory. */
extern const struct encoder_backend encoder_software;

/* NVENC through libavcodec, with pictures in CUDA memory. Only built with SLUICE_CUDA. */
extern const struct encoder_backend encoder_nvenc;

/* "nvjpeg": motion JPEG made by the GPU's ordinary cores, with pictures in CUDA memory. */
extern const struct encoder_backend encoder_nvjpeg;
