/* libavcodec with pictures in host memory, which it takes from a pool of our own. */
#include <errno.h>
#include <libavutil/imgutils.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/codec.h"
#include "consumer/encoder/encoder_backend.h"

enum {
	PICTURE_ALIGN = 64, /* bytes, of rows: what FFmpeg's SIMD code likes */
	CHECK_WIDTH = 352,  /* a size that even the oldest codecs take */
	CHECK_HEIGHT = 288,
};

struct software {
	struct encoder base;
	struct codec codec;
	struct converter *converter;
	AVBufferPool *pool; /* of pictures: the codec keeps some for as long as it needs them */
	AVFrame *loaded;    /* read, not encoded yet; empty if there is none */
	AVFrame *current;   /* encoded last */
	bool is_drained;
};

static struct software *of(struct encoder *encoder)
{
	return (struct software *)encoder;
}

static const struct codec *codec_of(const struct encoder *encoder)
{
	return &((const struct software *)encoder)->codec;
}

static int open_pool(struct software *s)
{
	const AVCodecContext *ctx = s->codec.ctx;
	int size = av_image_get_buffer_size(ctx->pix_fmt, ctx->width, ctx->height, PICTURE_ALIGN);
	if (size < 0)
		return -EOPNOTSUPP;
	/* swscale's SIMD code may write past the end of the last row */
	s->pool = av_buffer_pool_init((size_t)size + PICTURE_ALIGN, NULL);
	s->loaded = av_frame_alloc();
	s->current = av_frame_alloc();
	return s->pool && s->loaded && s->current ? 0 : -ENOMEM;
}

static void software_destroy(struct encoder *encoder);

static int software_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem)
{
	struct software *s = calloc(1, sizeof(*s));
	if (!s)
		return problem_set(problem, -ENOMEM, "out of memory");
	s->base.backend = &encoder_software;
	const struct codec_request request = { settings, format, flags, NULL, NULL };
	int r = codec_open(&s->codec, &request, problem);
	if (r == 0)
		r = converter_create(&s->converter, format, s->codec.ctx, problem);
	if (r == 0 && (r = open_pool(s)) < 0)
		problem_set(problem, r, "no memory for pictures of %dx%d", s->codec.ctx->width,
			s->codec.ctx->height);
	if (r < 0)
		software_destroy(&s->base);
	else
		*encoder_out = &s->base;
	return r;
}

static int software_check(const struct encoder_settings *settings, struct problem *problem)
{
	const struct picture_format format = {
		.fourcc = 0x34325258, /* DRM_FORMAT_XRGB8888: what desktops send */
		.width = CHECK_WIDTH,
		.height = CHECK_HEIGHT,
		.full_range = true,
	};
	struct encoder *encoder = NULL;
	int r = software_open(&encoder, settings, &format, 0, problem);
	if (r < 0)
		return r;
	bool complained = avlog_has_complaint(problem, settings->codec);
	software_destroy(encoder);
	return complained ? -EINVAL : 0;
}

static void software_size(const struct encoder *encoder, int *width_out, int *height_out)
{
	*width_out = codec_of(encoder)->ctx->width;
	*height_out = codec_of(encoder)->ctx->height;
}

static AVRational software_time_base(const struct encoder *encoder)
{
	return codec_of(encoder)->ctx->time_base;
}

static int software_describe(const struct encoder *encoder, AVStream *stream)
{
	return codec_describe(codec_of(encoder), stream);
}

/* Give an empty frame memory from the pool. */
static int new_picture(struct software *s, AVFrame *picture)
{
	const AVCodecContext *ctx = s->codec.ctx;
	picture->buf[0] = av_buffer_pool_get(s->pool);
	if (!picture->buf[0])
		return -ENOMEM;
	codec_label(&s->codec, picture);
	int r = av_image_fill_arrays(picture->data, picture->linesize, picture->buf[0]->data,
		ctx->pix_fmt, ctx->width, ctx->height, PICTURE_ALIGN);
	return r < 0 ? -EINVAL : 0;
}

/* The frame is held while its pixels are read, no longer: encoding takes much longer. */
static int software_load(
	struct encoder *encoder, struct sluice_frame *frame, struct problem *problem)
{
	struct software *s = of(encoder);
	AVFrame *picture = s->loaded;
	av_frame_unref(picture);
	int r = new_picture(s, picture);
	if (r == 0)
		r = converter_run(s->converter, frame, picture);
	if (r < 0)
		problem_set(problem, r, "a frame could not be read");
	else if (!sluice_frame_valid(frame))
		r = -ESTALE;
	sluice_frame_release(frame);
	if (r < 0)
		av_frame_unref(picture);
	return r;
}

static void software_request_key(struct encoder *encoder)
{
	codec_request_key(&of(encoder)->codec);
}

static int software_set_bit_rate(struct encoder *encoder, int64_t bit_rate, struct problem *problem)
{
	return codec_set_bit_rate(&of(encoder)->codec, bit_rate, problem);
}

static int software_encode(struct encoder *encoder, int64_t ticks, struct problem *problem)
{
	struct software *s = of(encoder);
	AVFrame *picture = s->loaded;
	if (picture->buf[0]) {
		av_frame_unref(s->current);
		s->loaded = s->current;
		s->current = picture;
	}
	return codec_encode(&s->codec, s->current, ticks, problem);
}

static int software_drain(struct encoder *encoder, struct problem *problem)
{
	struct software *s = of(encoder);
	s->is_drained = true;
	return codec_drain(&s->codec, problem);
}

static int software_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem)
{
	return codec_receive(&of(encoder)->codec, packet, problem);
}

/*
 * SVT-AV1 waits for ever in its destructor when it was not told that no picture will follow, and
 * when it was but there has been none: it gets a black one then.
 */
static void end_codec(struct software *s)
{
	AVCodecContext *ctx = s->codec.ctx;
	AVPacket *packet = av_packet_alloc();
	if (packet && !s->current->buf[0] && new_picture(s, s->current) == 0) {
		memset(s->current->buf[0]->data, 0, s->current->buf[0]->size);
		s->current->pts = 0;
		avcodec_send_frame(ctx, s->current);
	}
	if (packet && avcodec_send_frame(ctx, NULL) == 0)
		while (avcodec_receive_packet(ctx, packet) == 0)
			av_packet_unref(packet);
	av_packet_free(&packet);
}

static void software_destroy(struct encoder *encoder)
{
	struct software *s = of(encoder);
	if (s->codec.ctx && s->current && !s->is_drained)
		end_codec(s);
	av_frame_free(&s->loaded);
	av_frame_free(&s->current);
	s->converter = converter_destroy(s->converter);
	codec_close(&s->codec);
	av_buffer_pool_uninit(&s->pool);
	free(s);
}

const struct encoder_backend encoder_software = {
	.memories = ENCODER_TAKES(SLUICE_MEMORY_HOST),
	.find = codec_find,
	.check = software_check,
	.open = software_open,
	.size = software_size,
	.time_base = software_time_base,
	.describe = software_describe,
	.load = software_load,
	.request_key = software_request_key,
	.set_bit_rate = software_set_bit_rate,
	.encode = software_encode,
	.drain = software_drain,
	.receive = software_receive,
	.destroy = software_destroy,
};
