/*
 * NVENC, through libavcodec, with pictures where the broker put them.
 *
 * A lent frame becomes an AVFrame around its CUdeviceptr; the last reference to that gives the frame
 * back. libavcodec registers each pointer with NVENC once and keeps that until it is closed, so it is
 * opened anew when frames come from other memory, before the old is given up. All of it happens in
 * the caller's thread.
 *
 * Frames may be kept only as long as the broker lets us, so libavcodec is told to let each picture go
 * with its packet. Where that cannot be had (B-frames, lookahead, no reserved holds, planes that lie
 * otherwise than NVENC reads them), each picture is copied once on the GPU into memory of our own.
 */
#include "consumer/encoder/nvenc.h"

#include <errno.h>
#include <ffnvcodec/dynlink_cuda.h> /* what the next would take from NVIDIA's own header */
#include <libavutil/hwcontext.h>
#include <libavutil/hwcontext_cuda.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <stdio.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/codec.h"
#include "consumer/encoder/encoder_backend.h"
#include "consumer/encoder/gpu.h"
#include "consumer/encoder/nvenc_form.h"

enum {
	HOLDS = 2, /* the picture that was encoded last, and the next one */
	NOTE_BYTES = 256,
};

struct nvenc {
	struct encoder base;
	struct encoder_settings settings;
	struct picture_format format;
	unsigned flags;
	struct gpu *gpu;
	AVBufferRef *device, *frames; /* FFmpeg's names of the context, and of pictures in it */
	struct codec codec;           /* closed from forget() to the next picture */
	AVRational time_base;
	int width, height;   /* of what is encoded */
	int64_t bit_rate;    /* that was asked for since; 0: none was */
	AVFrame *loaded;     /* not encoded yet; empty if there is none. opaque: its lent frame */
	AVFrame *current;    /* encoded last; empty if it could not be kept, or another is loaded */
	unsigned n_kept;     /* lent frames, of which somebody has a reference */
	uint64_t generation; /* of the memory that is registered; 0: none is */
	bool is_ended;       /* the session: what is in it comes out, but it takes no more */
	bool is_copying;
	char note[NOTE_BYTES]; /* why */
};

static struct nvenc *of(struct encoder *encoder)
{
	return (struct nvenc *)encoder;
}

/* --- What it wants ----------------------------------------------------------------------------*/

static void nvenc_want(const struct encoder_settings *settings,
	const struct sluice_stream_info *info, struct sluice_view_request *request)
{
	request->memory = SLUICE_MEMORY_CUDA;
	if (request->reserved_holds == 0 && request->max_holds == 0)
		request->reserved_holds = request->max_holds = HOLDS;
	if (request->fourcc == 0)
		request->fourcc = nvenc_wanted_fourcc(settings, info);
}

/* --- Opening ----------------------------------------------------------------------------------*/

static int open_device(struct nvenc *e, struct problem *problem)
{
	e->device = av_hwdevice_ctx_alloc(AV_HWDEVICE_TYPE_CUDA);
	if (!e->device)
		return problem_set(problem, -EOPNOTSUPP, "this FFmpeg was built without CUDA");
	AVHWDeviceContext *device = (AVHWDeviceContext *)e->device->data;
	AVCUDADeviceContext *cuda = device->hwctx;
	cuda->cuda_ctx = e->format.cuda_context;
	avlog_forget();
	int r = av_hwdevice_ctx_init(e->device);
	return r < 0 ? avlog_problem(problem, r, "FFmpeg cannot use %s", gpu_name(e->gpu)) : 0;
}

static int open_frames(struct nvenc *e, const AVCodecContext *ctx, struct problem *problem)
{
	e->frames = av_hwframe_ctx_alloc(e->device);
	if (!e->frames)
		return problem_set(problem, -ENOMEM, "out of memory");
	AVHWFramesContext *frames = (AVHWFramesContext *)e->frames->data;
	frames->format = AV_PIX_FMT_CUDA;
	frames->sw_format = nvenc_form(e->format.fourcc);
	frames->width = ctx->width;
	frames->height = ctx->height;
	avlog_forget();
	int r = av_hwframe_ctx_init(e->frames);
	return r < 0 ? avlog_problem(
			       problem, r, "FFmpeg has no such pictures on %s", gpu_name(e->gpu))
		     : 0;
}

/* Whatever the user's options say, an option that this FFmpeg does not have is 0. */
static int64_t option(const AVCodecContext *ctx, const char *name)
{
	int64_t value = 0;
	return av_opt_get_int(ctx->priv_data, name, 0, &value) < 0 ? 0 : value;
}

/* A session that knows lent memory would keep that registered, and frames in it: it is the last. */
static void copy_because(struct nvenc *e, const char *why)
{
	e->is_copying = true;
	e->is_ended = e->generation != 0;
	snprintf(e->note, sizeof(e->note), "each picture is copied once on the GPU: %s", why);
}

/* Does libavcodec let each picture go with its packet? */
static void choose_copying(struct nvenc *e)
{
	const AVCodecContext *ctx = e->codec.ctx;
	const char *what = NULL;
	if (ctx->max_b_frames > 0)
		what = "B-frames are made from several";
	else if (option(ctx, "rc-lookahead") > 0)
		what = "lookahead keeps some back";
	else if (option(ctx, "delay") > 1)
		what = "the option delay keeps some back";
	if (what)
		copy_because(e, what);
}

static void nvenc_set_holds(struct encoder *encoder, unsigned holds)
{
	struct nvenc *e = of(encoder);
	if (holds < HOLDS && !e->is_copying)
		copy_because(e, holds ? "one reserved hold is not enough to lend it to the encoder"
				      : "without reserved holds the broker may take it back");
}

/* Which option is to blame for pictures that would have to be converted here? */
static const char *remedy(const struct nvenc *e)
{
	if (!e->settings.pix_fmt)
		return "ask for --format NV12";
	return nvenc_fourcc_for(e->settings.pix_fmt) ? "leave --format out" : "leave --pix-fmt out";
}

/* Between the user's settings and libavcodec's opening. */
static int prepare(void *data, AVCodecContext *ctx, struct problem *problem)
{
	struct nvenc *e = data;
	uint32_t fourcc = e->format.fourcc;
	enum AVPixelFormat form = nvenc_form(fourcc);
	bool is_as_wanted = ctx->pix_fmt == pixel_format_of(fourcc) ||
			    nvenc_fourcc_for(e->settings.pix_fmt) == fourcc;
	if (form == AV_PIX_FMT_NONE || !is_as_wanted) {
		char name[8];
		return problem_set(problem, -EOPNOTSUPP,
			"%s does not take %s in GPU memory as %s: %s", ctx->codec->name,
			sluice_fourcc_name(fourcc, name), av_get_pix_fmt_name(ctx->pix_fmt),
			remedy(e));
	}
	int r = e->frames ? 0 : open_frames(e, ctx, problem);
	if (r < 0)
		return r;
	ctx->pix_fmt = AV_PIX_FMT_CUDA;
	ctx->sw_pix_fmt = form;
	ctx->hw_frames_ctx = av_buffer_ref(e->frames);
	return ctx->hw_frames_ctx ? 0 : problem_set(problem, -ENOMEM, "out of memory");
}

/* What is registered belongs to memory that is about to go, or is gone. */
static void close_session(struct nvenc *e)
{
	e->generation = 0;
	e->is_ended = false;
	codec_close(&e->codec);
}

static int open_session(struct nvenc *e, struct problem *problem)
{
	const struct codec_request request = { &e->settings, &e->format, e->flags, prepare, e };
	int r = codec_open(&e->codec, &request, problem);
	if (r < 0)
		return r;
	e->time_base = e->codec.ctx->time_base;
	e->width = e->codec.ctx->width;
	e->height = e->codec.ctx->height;
	return e->bit_rate > 0 ? codec_set_bit_rate(&e->codec, e->bit_rate, problem) : 0;
}

/* It may have been closed. */
static int need_session(struct nvenc *e, struct problem *problem)
{
	if (e->is_ended)
		close_session(e);
	return e->codec.ctx ? 0 : open_session(e, problem);
}

static void nvenc_destroy(struct encoder *encoder)
{
	struct nvenc *e = of(encoder);
	codec_close(&e->codec);
	av_frame_free(&e->loaded);
	av_frame_free(&e->current);
	av_buffer_unref(&e->frames);
	av_buffer_unref(&e->device);
	gpu_close(e->gpu);
	free(e);
}

static int nvenc_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem)
{
	struct nvenc *e = calloc(1, sizeof(*e));
	if (!e)
		return problem_set(problem, -ENOMEM, "out of memory");
	e->base.backend = &encoder_nvenc;
	e->settings = *settings;
	e->format = *format;
	e->flags = flags;
	e->loaded = av_frame_alloc();
	e->current = av_frame_alloc();
	int r = e->loaded && e->current ? 0 : problem_set(problem, -ENOMEM, "out of memory");
	if (r == 0)
		r = gpu_of_context(&e->gpu, format->cuda_context, problem);
	if (r == 0)
		r = open_device(e, problem);
	if (r == 0)
		r = open_session(e, problem);
	if (r < 0 || !e->codec.ctx) {
		nvenc_destroy(&e->base);
		return r;
	}
	choose_copying(e);
	nvenc_set_holds(&e->base, settings->holds);
	*encoder_out = &e->base;
	return 0;
}

int nvenc_try(const struct encoder_settings *settings, const struct picture_format *format,
	struct problem *problem)
{
	struct encoder *encoder = NULL;
	int r = nvenc_open(&encoder, settings, format, 0, problem);
	if (encoder)
		nvenc_destroy(encoder);
	return r;
}

/* --- Pictures ---------------------------------------------------------------------------------*/

struct lent {
	struct sluice_frame *frame;
	struct nvenc *encoder;
};

/* Nobody has a reference to the picture any more. */
static void give_back(void *opaque, uint8_t *data)
{
	struct lent *lent = opaque;
	lent->encoder->n_kept--;
	sluice_frame_release(lent->frame);
	free(lent);
}

static int label(struct nvenc *e, AVFrame *picture, struct problem *problem)
{
	codec_label(&e->codec, picture);
	if (!picture->hw_frames_ctx)
		picture->hw_frames_ctx = av_buffer_ref(e->frames);
	return picture->hw_frames_ctx ? 0 : problem_set(problem, -ENOMEM, "out of memory");
}

/* Make an empty picture of a frame. frame [take] */
static int wrap(
	struct nvenc *e, struct sluice_frame *frame, AVFrame *picture, struct problem *problem)
{
	uint8_t *begin = gpu_pointer(frame->cuda.ptr);
	struct lent *lent = malloc(sizeof(*lent));
	if (lent) {
		*lent = (struct lent){ frame, e };
		picture->buf[0] = av_buffer_create(
			begin, frame->size_bytes, give_back, lent, AV_BUFFER_FLAG_READONLY);
	}
	if (!picture->buf[0]) {
		free(lent);
		sluice_frame_release(frame);
		return problem_set(problem, -ENOMEM, "out of memory");
	}
	e->n_kept++;
	picture->opaque = frame;
	for (unsigned p = 0; p < frame->n_planes; p++) {
		picture->data[p] = begin + frame->offset[p];
		picture->linesize[p] = (int)frame->stride[p];
	}
	int r = label(e, picture, problem);
	if (r < 0)
		av_frame_unref(picture);
	return r;
}

/* Make an empty picture: a copy in memory of our own. */
static int copy(struct nvenc *e, AVFrame *to, const AVFrame *from, struct problem *problem)
{
	avlog_forget();
	int r = av_hwframe_get_buffer(e->frames, to, 0);
	if (r < 0)
		r = avlog_problem(problem, r, "no memory on %s for a picture of %dx%d",
			gpu_name(e->gpu), from->width, from->height);
	if (r == 0)
		r = label(e, to, problem);
	if (r == 0)
		r = gpu_copy(e->gpu, to, from, problem);
	if (r < 0)
		av_frame_unref(to);
	return r;
}

/* NVENC is told of the first plane only, and where the others are follows from that. */
static bool lies_as_nvenc_reads(const struct nvenc *e, const struct sluice_frame *frame)
{
	if (frame->n_planes == 1)
		return true;
	uint32_t luma_bytes = frame->stride[0] * (uint32_t)e->height;
	return frame->n_planes == 2 && frame->stride[1] == frame->stride[0] &&
	       frame->offset[1] == luma_bytes;
}

/* Whoever reads other memory than before has let go of all that he had. */
static int use_memory_of(struct nvenc *e, const struct sluice_frame *frame, struct problem *problem)
{
	if (e->generation != 0 && e->generation != frame->generation)
		close_session(e);
	int r = need_session(e, problem);
	if (r == 0)
		e->generation = frame->generation;
	return r;
}

/* frame [take] */
static int load_copy(struct nvenc *e, struct sluice_frame *frame, struct problem *problem)
{
	int r = need_session(e, problem);
	AVFrame *lent = r == 0 ? av_frame_alloc() : NULL;
	if (!lent) {
		sluice_frame_release(frame);
		return r < 0 ? r : problem_set(problem, -ENOMEM, "out of memory");
	}
	r = wrap(e, frame, lent, problem);
	if (r == 0)
		r = copy(e, e->loaded, lent, problem);
	/* it is ours until `lent` goes */
	if (r == 0 && !sluice_frame_valid(frame)) {
		av_frame_unref(e->loaded);
		r = -ESTALE;
	}
	av_frame_free(&lent);
	return r;
}

/* For a picture. The newest of those before stays, as there may be no other. */
static void make_room(struct nvenc *e)
{
	if (!e->current->buf[0])
		av_frame_move_ref(e->current, e->loaded);
	else
		av_frame_unref(e->loaded);
}

/* frame [take] */
static int load_lent(struct nvenc *e, struct sluice_frame *frame, struct problem *problem)
{
	int r = use_memory_of(e, frame, problem);
	if (r < 0) {
		sluice_frame_release(frame);
		return r;
	}
	return wrap(e, frame, e->loaded, problem);
}

static int nvenc_load(struct encoder *encoder, struct sluice_frame *frame, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	make_room(e);
	if (!e->is_copying && !lies_as_nvenc_reads(e, frame))
		copy_because(e, "its planes lie otherwise than NVENC reads them");
	int r = e->is_copying ? load_copy(e, frame, problem) : load_lent(e, frame, problem);
	/* at a constant rate it is long before this one is encoded, and the next needs a hold too */
	if (r == 0)
		av_frame_unref(e->current);
	return r;
}

/* Replace a picture of a lent frame by a copy. */
static int let_go_of(struct nvenc *e, AVFrame *picture, struct problem *problem)
{
	if (!picture->opaque)
		return 0;
	AVFrame *own = av_frame_alloc();
	int r = own ? copy(e, own, picture, problem)
		    : problem_set(problem, -ENOMEM, "out of memory");
	av_frame_unref(picture);
	if (r == 0)
		av_frame_move_ref(picture, own);
	av_frame_free(&own);
	return r;
}

static int nvenc_let_go(struct encoder *encoder, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	int r = let_go_of(e, e->loaded, problem);
	if (r < 0) {
		av_frame_unref(e->current);
		return r;
	}
	return let_go_of(e, e->current, problem);
}

static int nvenc_forget(struct encoder *encoder, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	int r = nvenc_let_go(encoder, problem);
	if (e->generation != 0)
		close_session(e);
	return r;
}

/* --- Packets ----------------------------------------------------------------------------------*/

static void nvenc_size(const struct encoder *encoder, int *width_out, int *height_out)
{
	const struct nvenc *e = (const struct nvenc *)encoder;
	*width_out = e->width;
	*height_out = e->height;
}

static AVRational nvenc_time_base(const struct encoder *encoder)
{
	return ((const struct nvenc *)encoder)->time_base;
}

static int nvenc_describe(const struct encoder *encoder, AVStream *stream)
{
	const struct codec *codec = &((const struct nvenc *)encoder)->codec;
	return codec->ctx ? codec_describe(codec, stream) : -ENODEV;
}

static const char *nvenc_note(const struct encoder *encoder)
{
	return ((const struct nvenc *)encoder)->note;
}

static bool is_open(const struct nvenc *e)
{
	return e->codec.ctx != NULL;
}

static void nvenc_request_key(struct encoder *encoder)
{
	codec_request_key(&of(encoder)->codec);
}

static int nvenc_set_bit_rate(struct encoder *encoder, int64_t bit_rate, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	int r = need_session(e, problem);
	if (r == 0)
		r = codec_set_bit_rate(&e->codec, bit_rate, problem);
	if (r == 0)
		e->bit_rate = bit_rate;
	return r;
}

static int nvenc_encode(struct encoder *encoder, int64_t ticks, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	AVFrame *picture = e->loaded;
	if (picture->buf[0]) {
		av_frame_unref(e->current);
		e->loaded = e->current;
		e->current = picture;
	}
	picture = e->current;
	if (!picture->buf[0])
		return problem_set(problem, -EIO, "%s has lost its picture", e->settings.codec);
	int r = need_session(e, problem);
	if (r == 0 && e->is_copying)
		r = let_go_of(e, picture, problem);
	if (r == 0)
		r = codec_encode(&e->codec, picture, ticks, problem);
	if (r < 0 || e->is_copying || e->n_kept < HOLDS)
		return r;
	/* options may not say all: what counts is what it does */
	copy_because(e, "the encoder keeps some back");
	return codec_drain(&e->codec, problem);
}

static int nvenc_drain(struct encoder *encoder, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	return is_open(e) && !e->is_ended ? codec_drain(&e->codec, problem) : 0;
}

static int nvenc_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem)
{
	struct nvenc *e = of(encoder);
	return is_open(e) ? codec_receive(&e->codec, packet, problem) : 0;
}

/* As libavcodec does it for pictures in host memory: whether a session can be had at all. */
static int nvenc_check(const struct encoder_settings *settings, struct problem *problem)
{
	return encoder_software.check(settings, problem);
}

const struct encoder_backend encoder_nvenc = {
	.memories = ENCODER_TAKES(SLUICE_MEMORY_CUDA),
	.find = nvenc_find,
	.want = nvenc_want,
	.check = nvenc_check,
	.open = nvenc_open,
	.size = nvenc_size,
	.time_base = nvenc_time_base,
	.describe = nvenc_describe,
	.set_holds = nvenc_set_holds,
	.note = nvenc_note,
	.load = nvenc_load,
	.let_go = nvenc_let_go,
	.forget = nvenc_forget,
	.request_key = nvenc_request_key,
	.set_bit_rate = nvenc_set_bit_rate,
	.encode = nvenc_encode,
	.drain = nvenc_drain,
	.receive = nvenc_receive,
	.destroy = nvenc_destroy,
};
