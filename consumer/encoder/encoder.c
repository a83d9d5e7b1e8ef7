#include "consumer/encoder/encoder.h"

#include <errno.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/settings.h"

enum {
	TICKS_HZ = 90000,   /* MPEG's clock: a video time stamp of every container fits it */
	KEY_INTERVAL_S = 1, /* what is lost at most when the process is killed */
	PICTURE_ALIGN = 64, /* bytes, of rows: what FFmpeg's SIMD code likes */
	CHECK_WIDTH = 352,  /* a size that even the oldest codecs take */
	CHECK_HEIGHT = 288,
};

struct encoder {
	AVCodecContext *ctx;
	struct converter *converter;
	AVBufferPool *pool; /* of pictures: the codec keeps some for as long as it needs them */
	AVFrame *loaded;    /* read, not encoded yet; empty if there is none */
	AVFrame *current;   /* encoded last */
	AVRational rate;    /* frames per second; num 0: not known */
	bool is_drained;
	bool keys_by_time;
	bool wants_key;   /* whatever the time */
	int64_t next_key; /* ticks */
};

const AVCodec *encoder_find(const char *name)
{
	const AVCodec *codec = avcodec_find_encoder_by_name(name);
	const AVCodecDescriptor *desc = codec ? NULL : avcodec_descriptor_get_by_name(name);
	if (desc)
		codec = avcodec_find_encoder(desc->id);
	return codec && codec->type == AVMEDIA_TYPE_VIDEO ? codec : NULL;
}

static bool wants_even_sides(const AVCodecContext *ctx)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(ctx->pix_fmt);
	const AVCodecDescriptor *codec = avcodec_descriptor_get(ctx->codec_id);
	bool lossy = codec && codec->props & AV_CODEC_PROP_LOSSY;
	return lossy && (desc->log2_chroma_w > 0 || desc->log2_chroma_h > 0);
}

static int set_size(
	AVCodecContext *ctx, const struct picture_format *format, struct problem *problem)
{
	uint32_t mask = wants_even_sides(ctx) ? ~1u : ~0u;
	ctx->width = (int)(format->width & mask);
	ctx->height = (int)(format->height & mask);
	if (ctx->width > 0 && ctx->height > 0)
		return 0;
	return problem_set(problem, -EOPNOTSUPP, "pictures of %ux%u are too small for %s",
		format->width, format->height, ctx->codec->name);
}

/* A context that is ready to be opened. */
static int prepare(AVCodecContext **ctx_out, const struct encoder_settings *settings,
	const struct picture_format *format, struct problem *problem)
{
	const AVCodec *codec = encoder_find(settings->codec);
	AVCodecContext *ctx = avcodec_alloc_context3(codec);
	if (!ctx) {
		problem_set(problem, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	enum AVPixelFormat from = pixel_format_of(format->fourcc);
	int r = settings_pix_fmt(settings, codec, from, &ctx->pix_fmt, problem);
	if (r == 0)
		r = set_size(ctx, format, problem);
	if (r == 0)
		r = settings_apply(settings, ctx, problem);
	if (r < 0) {
		avcodec_free_context(&ctx);
		return r;
	}
	convert_choose_colour(format, ctx);
	ctx->sample_aspect_ratio = (AVRational){ 1, 1 };
	*ctx_out = ctx;
	return 0;
}

static int open_codec(struct encoder *e, const struct encoder_settings *settings,
	const struct picture_format *format, AVRational time_base, unsigned flags,
	struct problem *problem)
{
	int r = prepare(&e->ctx, settings, format, problem);
	if (r < 0)
		return r;
	e->ctx->time_base = time_base;
	if (flags & ENCODER_GLOBAL_HEADER)
		e->ctx->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
	const AVCodec *codec = e->ctx->codec; /* the context forgets it when this fails */
	avlog_forget();
	r = avcodec_open2(e->ctx, codec, NULL);
	if (r == 0)
		return 0;
	r = avlog_problem(problem, r, "%s cannot be opened for %dx%d", codec->name, e->ctx->width,
		e->ctx->height);
	avcodec_free_context(&e->ctx);
	return r;
}

/*
 * A fine clock keeps the times of a source whose rate varies. Some old codecs count frames instead
 * and refuse it: those get one tick a frame.
 */
static int open_codec_at_any_rate(struct encoder *e, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem)
{
	AVRational frame = av_inv_q(settings_rate(settings));
	if (flags & ENCODER_CONSTANT_RATE)
		return open_codec(e, settings, format, frame, flags, problem);
	struct problem coarse;
	int r = open_codec(e, settings, format, (AVRational){ 1, TICKS_HZ }, flags, problem);
	if (r < 0 && open_codec(e, settings, format, frame, flags, &coarse) == 0)
		return 0;
	return r;
}

static int open_pool(struct encoder *e)
{
	int size = av_image_get_buffer_size(
		e->ctx->pix_fmt, e->ctx->width, e->ctx->height, PICTURE_ALIGN);
	if (size < 0)
		return -EOPNOTSUPP;
	/* swscale's SIMD code may write past the end of the last row */
	e->pool = av_buffer_pool_init((size_t)size + PICTURE_ALIGN, NULL);
	e->loaded = av_frame_alloc();
	e->current = av_frame_alloc();
	return e->pool && e->loaded && e->current ? 0 : -ENOMEM;
}

int encoder_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem)
{
	if (pixel_format_of(format->fourcc) == AV_PIX_FMT_NONE) {
		char name[8];
		return problem_set(problem, -EOPNOTSUPP, "frames of format %s cannot be read",
			sluice_fourcc_name(format->fourcc, name));
	}
	_cleanup_(encoder_destroyp) struct encoder *e = calloc(1, sizeof(*e));
	if (!e)
		return problem_set(problem, -ENOMEM, "out of memory");
	int r = open_codec_at_any_rate(e, settings, format, flags, problem);
	if (r == 0)
		r = converter_create(&e->converter, format, e->ctx, problem);
	if (r < 0)
		return r;
	if ((r = open_pool(e)) < 0)
		return problem_set(problem, r, "no memory for pictures of %dx%d", e->ctx->width,
			e->ctx->height);
	e->rate = settings->rate;
	e->keys_by_time = settings->gop < 0;
	*encoder_out = TAKE_PTR(e);
	return 0;
}

int encoder_check(const struct encoder_settings *settings, struct problem *problem)
{
	if (!encoder_find(settings->codec))
		return problem_set(problem, -EINVAL,
			"FFmpeg has no video encoder \"%s\" here: `ffmpeg -encoders` lists them",
			settings->codec);
	const struct picture_format format = {
		.fourcc = 0x34325258, /* DRM_FORMAT_XRGB8888: what desktops send */
		.width = CHECK_WIDTH,
		.height = CHECK_HEIGHT,
		.full_range = true,
	};
	struct encoder *e = NULL;
	int r = encoder_open(&e, settings, &format, 0, problem);
	encoder_destroy(e);
	return r;
}

void encoder_size(const struct encoder *encoder, int *width_out, int *height_out)
{
	*width_out = encoder->ctx->width;
	*height_out = encoder->ctx->height;
}

AVRational encoder_time_base(const struct encoder *encoder)
{
	return encoder->ctx->time_base;
}

int encoder_describe(const struct encoder *encoder, AVStream *stream)
{
	stream->time_base = encoder->ctx->time_base;
	stream->sample_aspect_ratio = encoder->ctx->sample_aspect_ratio;
	/* a rate that is only guessed would end up in the file's header as a fact */
	if (encoder->rate.num > 0)
		stream->avg_frame_rate = encoder->rate;
	return avcodec_parameters_from_context(stream->codecpar, encoder->ctx) < 0 ? -ENOMEM : 0;
}

/* Give an empty frame memory from the pool. */
static int new_picture(struct encoder *e, AVFrame *picture)
{
	const AVCodecContext *ctx = e->ctx;
	picture->buf[0] = av_buffer_pool_get(e->pool);
	if (!picture->buf[0])
		return -ENOMEM;
	picture->format = ctx->pix_fmt;
	picture->width = ctx->width;
	picture->height = ctx->height;
	picture->color_primaries = ctx->color_primaries;
	picture->color_trc = ctx->color_trc;
	picture->colorspace = ctx->colorspace;
	picture->color_range = ctx->color_range;
	picture->sample_aspect_ratio = ctx->sample_aspect_ratio;
	int r = av_image_fill_arrays(picture->data, picture->linesize, picture->buf[0]->data,
		ctx->pix_fmt, ctx->width, ctx->height, PICTURE_ALIGN);
	return r < 0 ? -EINVAL : 0;
}

int encoder_load(struct encoder *encoder, const struct sluice_frame *frame)
{
	AVFrame *picture = encoder->loaded;
	av_frame_unref(picture);
	int r = new_picture(encoder, picture);
	if (r == 0)
		r = converter_run(encoder->converter, frame, picture);
	if (r < 0)
		av_frame_unref(picture);
	return r;
}

void encoder_unload(struct encoder *encoder)
{
	av_frame_unref(encoder->loaded);
}

static void mark_key(struct encoder *e, AVFrame *picture)
{
	picture->pict_type = AV_PICTURE_TYPE_NONE;
	bool is_due = e->keys_by_time && picture->pts >= e->next_key;
	if (!is_due && !e->wants_key)
		return;
	picture->pict_type = AV_PICTURE_TYPE_I;
	e->wants_key = false;
	/* on a grid of seconds, or the delay until the next frame would add up */
	int64_t interval = (int64_t)(KEY_INTERVAL_S / av_q2d(e->ctx->time_base));
	e->next_key = (picture->pts / interval + 1) * interval;
}

int encoder_encode(struct encoder *encoder, int64_t ticks, struct problem *problem)
{
	AVFrame *picture = encoder->loaded;
	if (picture->buf[0]) {
		av_frame_unref(encoder->current);
		encoder->loaded = encoder->current;
		encoder->current = picture;
	}
	picture = encoder->current;
	picture->pts = ticks;
	mark_key(encoder, picture);
	avlog_forget();
	int r = avcodec_send_frame(encoder->ctx, picture);
	if (r < 0)
		return avlog_problem(problem, r, "%s failed", encoder->ctx->codec->name);
	return 0;
}

void encoder_request_key(struct encoder *encoder)
{
	encoder->wants_key = true;
}

int encoder_drain(struct encoder *encoder, struct problem *problem)
{
	avlog_forget();
	encoder->is_drained = true;
	int r = avcodec_send_frame(encoder->ctx, NULL);
	if (r < 0)
		return avlog_problem(problem, r, "%s failed", encoder->ctx->codec->name);
	return 0;
}

int encoder_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem)
{
	int r = avcodec_receive_packet(encoder->ctx, packet);
	if (r == 0)
		return 1;
	if (r == AVERROR(EAGAIN) || r == AVERROR_EOF)
		return 0;
	return avlog_problem(problem, r, "%s failed", encoder->ctx->codec->name);
}

/*
 * SVT-AV1 waits for ever in its destructor when it was not told that no picture will follow, and
 * when it was but there has been none: it gets a black one then.
 */
static void end_codec(struct encoder *e)
{
	AVPacket *packet = av_packet_alloc();
	if (packet && !e->current->buf[0] && new_picture(e, e->current) == 0) {
		memset(e->current->buf[0]->data, 0, e->current->buf[0]->size);
		e->current->pts = 0;
		avcodec_send_frame(e->ctx, e->current);
	}
	if (packet && avcodec_send_frame(e->ctx, NULL) == 0)
		while (avcodec_receive_packet(e->ctx, packet) == 0)
			av_packet_unref(packet);
	av_packet_free(&packet);
}

struct encoder *encoder_destroy(struct encoder *encoder)
{
	if (!encoder)
		return NULL;
	if (encoder->ctx && encoder->current && !encoder->is_drained)
		end_codec(encoder);
	av_frame_free(&encoder->loaded);
	av_frame_free(&encoder->current);
	encoder->converter = converter_destroy(encoder->converter);
	avcodec_free_context(&encoder->ctx);
	av_buffer_pool_uninit(&encoder->pool);
	free(encoder);
	return NULL;
}
