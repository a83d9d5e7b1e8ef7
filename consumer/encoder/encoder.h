/*
 * One encoder: frames in, packets out.
 *
 * Two steps: encoder_load() takes a lent frame, encoder_encode() encodes what was loaded. An encoder
 * that works in host memory reads the pixels in the first step and gives the frame back at once, as
 * encoding takes much longer. One that takes pictures where the GPU has them keeps the frame until
 * it has let go of it. Packets are fetched with encoder_receive() after each.
 *
 * What is behind this header is chosen by the codec's name and by the memory that the pictures are
 * in: encoder_backend.h.
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/encoder/convert.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

struct encoder;

enum { ENCODER_OPTIONS_MAX = 64 };

/* What the user asked for. All strings [borrow] until the encoder is destroyed. */
struct encoder_settings {
	const char *codec;   /* an encoder of FFmpeg's, or a codec */
	const char *pix_fmt; /* NULL: chosen */
	const char
		*preset; /* NULL: what suits live pictures, as is tune; "none": the codec's own */
	const char *tune;
	const char *profile;  /* NULL: the codec's own */
	int64_t bit_rate;     /* bits per second; 0: not given */
	int64_t max_bit_rate; /* the same, of no more than buffer_bits at once; 0: not given */
	int64_t buffer_bits;  /* 0: not given: a second's worth */
	double crf;           /* negative: not given */
	int64_t qp;           /* negative: not given */
	int64_t gop;          /* frames; negative: key frames are asked for */
	int64_t b_frames;     /* between two others; negative: not given */
	AVRational rate;      /* frames per second, nominal; num 0: not given */
	bool may_change;      /* encoder_set_bit_rate() is to work */
	int64_t n_options;
	const char *option[ENCODER_OPTIONS_MAX]; /* "key=value" */
	unsigned holds; /* frames in GPU memory that may be kept for as long as it needs them;
			   0: none, as the broker may take them back */
};

/* What the file needs of the encoder. */
enum {
	ENCODER_GLOBAL_HEADER = 1, /* parameter sets in the file's header, not in the packets */
	ENCODER_CONSTANT_RATE = 2, /* times are multiples of one frame */
};

/* NULL if there is no video encoder and no codec of that name. Of an encoder that is not FFmpeg's
 * it is the one of FFmpeg's whose packets are of the same kind. Lives for ever. */
const AVCodec *encoder_find(const char *name);

/**
 * Would these settings work? Opens an encoder for a small picture and closes it again: a value that
 * the codec does not take is found before there is a stream.
 *
 * 0, or negative with a sentence.
 */
int encoder_check(const struct encoder_settings *settings, struct problem *problem);

/**
 * What the encoder wants of the broker: memory, holds, formats.
 *
 * settings  [borrow] whose codec encoder_check() has accepted
 * info      [borrow] the stream; NULL: it is not known yet
 * request   [borrow] what the user said; what he did not is written
 */
void encoder_want(const struct encoder_settings *settings, const struct sluice_stream_info *info,
	struct sluice_view_request *request);

/**
 * Open an encoder for pictures of one format. A side that is odd is cropped by one pixel where the
 * codec wants even sides: encoder_size() tells.
 *
 * settings     [borrow]
 * format       [borrow]
 * flags        ENCODER_…
 * encoder_out  [give]
 *
 * 0; -EINVAL: a setting that does not work; -EOPNOTSUPP: a format that does not; -ENOMEM; or
 * another negative errno. All with a sentence. May take some 10 ms.
 */
int encoder_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem);

/* Is it one that takes pictures in GPU memory? */
bool encoder_is_on_gpu(const struct encoder_settings *settings);

/* Can it take pictures in such memory? */
bool encoder_takes(const struct encoder_settings *settings, enum sluice_memory memory);

/* settings->holds has changed, with a new subscription. Before encoder_load(). */
void encoder_set_holds(struct encoder *encoder, unsigned holds);

/* Width and height of what is encoded, in pixels. */
void encoder_size(const struct encoder *encoder, int *width_out, int *height_out);

/* Seconds per tick of the times that encoder_encode() takes and packets carry. */
AVRational encoder_time_base(const struct encoder *encoder);

/* Write the codec's parameters into a stream of a file. 0; -ENOMEM; or -ENODEV: after
 * encoder_forget(), before the next picture. */
int encoder_describe(const struct encoder *encoder, AVStream *stream);

/**
 * Load a frame. A second load replaces the first.
 *
 * frame  [take] in every outcome; of the format that the encoder was opened for
 *
 * 0; -ESTALE: it was written again before it was read, and nothing is loaded; or negative with a
 * sentence.
 */
int encoder_load(struct encoder *encoder, struct sluice_frame *frame, struct problem *problem);

/**
 * Give back the frames that are kept: no other may come for long, or they end with their
 * connection. The picture can still be encoded again. Packets may become ready.
 *
 * 0, or negative with a sentence; the frames are given back in every outcome.
 */
int encoder_let_go(struct encoder *encoder, struct problem *problem);

/* The next picture that is encoded becomes a key frame. */
void encoder_request_key(struct encoder *encoder);

/**
 * Another bit rate, from the next picture on.
 *
 * bit_rate  bits per second on average; the limits that the settings gave keep their proportion to it
 *
 * 0; -EOPNOTSUPP: this encoder cannot, or was not opened for a bit rate with may_change. With a
 * sentence.
 */
int encoder_set_bit_rate(struct encoder *encoder, int64_t bit_rate, struct problem *problem);

/**
 * The memory that frames have been in is about to go, with the connection that they came by:
 * encoder_let_go(), and nothing of it is registered anywhere any more. As encoder_let_go().
 */
int encoder_forget(struct encoder *encoder, struct problem *problem);

/* What is not as it could be, for the user: "each picture is copied…", or "". It may come after any
 * call. [lend] until encoder_destroy(). */
const char *encoder_note(const struct encoder *encoder);

/**
 * Encode what was loaded, or, if nothing was since the last call, the same picture again.
 *
 * ticks  when the picture is of, later than the one before
 *
 * 0, or negative with a sentence. Blocks while it encodes.
 */
int encoder_encode(struct encoder *encoder, int64_t ticks, struct problem *problem);

/* No picture will follow: what the encoder still has comes out of encoder_receive(). 0 or
 * negative. */
int encoder_drain(struct encoder *encoder, struct problem *problem);

/**
 * Fetch a packet.
 *
 * packet  [borrow] written if 1 is returned; the caller unrefs it
 *
 * 1; 0: none is ready, or, after encoder_drain(), none is left; or negative with a sentence.
 */
int encoder_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem);

/* Gives back what is kept. Takes NULL. Returns NULL. */
struct encoder *encoder_destroy(struct encoder *encoder);

DEFINE_CLEANUP(struct encoder *, encoder_destroy);
