/*
 * Motion JPEG from nvJPEG: a backend for GPUs without a video encoder. The broker makes the picture
 * what JPEG is made of, 4:2:0 of BT.601 in full range, once for all who ask, and it is encoded from
 * the slot that it is in: the frame is kept for as long as that takes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/encoder_backend.h"
#include "consumer/encoder/nvjpeg_gpu.h"
#include "consumer/encoder/settings.h"

enum {
	TICKS_HZ = 90000, /* MPEG's clock: a video time stamp of every container fits it */
	FOURCC_YUV420 = 0x32315559, /* DRM_FORMAT_YUV420 */
	MATRIX_BT601 = 6,
	ROOM_STEP_BYTES = 65536, /* of JPEGs, which are never quite of the same size */
};

/* A JPEG; data NULL: none. */
struct jpeg {
	AVBufferRef *buffer;
	size_t bytes;
};

struct nvjpeg {
	struct encoder base;
	struct nvjpeg_gpu *gpu;
	struct picture_format format;
	AVRational time_base;
	AVRational rate; /* frames per second; num 0: not known */
	AVBufferPool *pool;
	size_t room_bytes; /* of the pool's buffers, without FFmpeg's padding */
	struct jpeg loaded;
	struct jpeg current; /* encoded last */
	int64_t ticks;
	bool is_ready; /* current is to be received */
};

static struct nvjpeg *of(struct encoder *encoder)
{
	return (struct nvjpeg *)encoder;
}

static const AVCodec *nvjpeg_find(const char *name)
{
	return strcmp(name, "nvjpeg") == 0 ? avcodec_find_encoder(AV_CODEC_ID_MJPEG) : NULL;
}

static void nvjpeg_want(const struct encoder_settings *settings,
	const struct sluice_stream_info *info, struct sluice_view_request *request)
{
	request->memory = SLUICE_MEMORY_CUDA;
	request->flags &= ~(unsigned)SLUICE_HOST_FALLBACK;
	if (request->fourcc == 0)
		request->fourcc = FOURCC_YUV420;
	if (request->matrix == 0)
		request->matrix = MATRIX_BT601;
	if (request->range == SLUICE_RANGE_USUAL)
		request->range = SLUICE_RANGE_FULL;
}

static int nvjpeg_check(const struct encoder_settings *settings, struct problem *problem)
{
	struct nvjpeg_settings ours;
	int r = nvjpeg_settings_read(&ours, settings, problem);
	return r < 0 ? r : nvjpeg_gpu_check(problem);
}

static int check_format(const struct picture_format *format, struct problem *problem)
{
	char name[8];
	if (format->fourcc != FOURCC_YUV420)
		return problem_set(problem, -EOPNOTSUPP,
			"nvjpeg takes pictures of format I420 in full range, and these are %s",
			sluice_fourcc_name(format->fourcc, name));
	if (!format->full_range)
		return problem_set(problem, -EOPNOTSUPP,
			"nvjpeg takes pictures in full range, and these are in limited range");
	return 0;
}

static void nvjpeg_destroy(struct encoder *encoder);

static int nvjpeg_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem)
{
	struct nvjpeg_settings ours;
	int r = check_format(format, problem);
	if (r == 0)
		r = nvjpeg_settings_read(&ours, settings, problem);
	if (r < 0)
		return r;
	struct nvjpeg *n = calloc(1, sizeof(*n));
	if (!n)
		return problem_set(problem, -ENOMEM, "out of memory");
	n->base.backend = &encoder_nvjpeg;
	n->format = *format;
	n->rate = settings->rate;
	n->time_base = flags & ENCODER_CONSTANT_RATE ? av_inv_q(settings_rate(settings))
						     : (AVRational){ 1, TICKS_HZ };
	r = nvjpeg_gpu_create(&n->gpu, format->cuda_context, &ours, problem);
	if (r < 0)
		nvjpeg_destroy(&n->base);
	else
		*encoder_out = &n->base;
	return r;
}

static void nvjpeg_size(const struct encoder *encoder, int *width_out, int *height_out)
{
	const struct nvjpeg *n = (const struct nvjpeg *)encoder;
	*width_out = (int)n->format.width;
	*height_out = (int)n->format.height;
}

static AVRational nvjpeg_time_base(const struct encoder *encoder)
{
	return ((const struct nvjpeg *)encoder)->time_base;
}

static int nvjpeg_describe(const struct encoder *encoder, AVStream *stream)
{
	const struct nvjpeg *n = (const struct nvjpeg *)encoder;
	AVCodecParameters *par = stream->codecpar;
	par->codec_type = AVMEDIA_TYPE_VIDEO;
	par->codec_id = AV_CODEC_ID_MJPEG;
	par->format = AV_PIX_FMT_YUVJ420P;
	par->width = (int)n->format.width;
	par->height = (int)n->format.height;
	par->color_range = AVCOL_RANGE_JPEG;
	par->color_primaries =
		(enum AVColorPrimaries)convert_known(n->format.primaries, AVCOL_PRI_NB);
	par->color_trc =
		(enum AVColorTransferCharacteristic)convert_known(n->format.transfer, AVCOL_TRC_NB);
	par->color_space = (enum AVColorSpace)convert_known(n->format.matrix, AVCOL_SPC_NB);
	par->sample_aspect_ratio = (AVRational){ 1, 1 };
	stream->sample_aspect_ratio = par->sample_aspect_ratio;
	stream->time_base = n->time_base;
	if (n->rate.num > 0)
		stream->avg_frame_rate = n->rate;
	return 0;
}

static void forget(struct jpeg *jpeg)
{
	av_buffer_unref(&jpeg->buffer);
	jpeg->bytes = 0;
}

/* A larger picture than any before makes a new pool; buffers of the old one live until their last use. */
static AVBufferRef *new_buffer(struct nvjpeg *n, size_t bytes)
{
	if (bytes > n->room_bytes) {
		av_buffer_pool_uninit(&n->pool);
		n->room_bytes =
			(bytes + bytes / 4) / ROOM_STEP_BYTES * ROOM_STEP_BYTES + ROOM_STEP_BYTES;
		n->pool = av_buffer_pool_init(n->room_bytes + AV_INPUT_BUFFER_PADDING_SIZE, NULL);
	}
	if (!n->pool)
		n->room_bytes = 0;
	return n->pool ? av_buffer_pool_get(n->pool) : NULL;
}

static int fetch(struct nvjpeg *n, size_t bytes, struct problem *problem)
{
	AVBufferRef *buffer = new_buffer(n, bytes);
	if (!buffer)
		return problem_set(problem, -ENOMEM, "no memory for a JPEG of %zu bytes", bytes);
	int r = nvjpeg_gpu_fetch(n->gpu, buffer->data, bytes, problem);
	if (r < 0) {
		av_buffer_unref(&buffer);
		return r;
	}
	memset(buffer->data + bytes, 0, AV_INPUT_BUFFER_PADDING_SIZE);
	n->loaded = (struct jpeg){ .buffer = buffer, .bytes = bytes };
	return 0;
}

/* It is encoded here, so that the frame can be given back; when it is shown, JPEG does not know. */
static int nvjpeg_load(struct encoder *encoder, struct sluice_frame *frame, struct problem *problem)
{
	struct nvjpeg *n = of(encoder);
	size_t bytes = 0;
	forget(&n->loaded);
	int r = nvjpeg_gpu_encode(n->gpu, frame, &bytes, problem);
	if (r == 0 && !sluice_frame_valid(frame))
		r = -ESTALE;
	sluice_frame_release(frame);
	return r < 0 ? r : fetch(n, bytes, problem);
}

static int nvjpeg_encode(struct encoder *encoder, int64_t ticks, struct problem *problem)
{
	struct nvjpeg *n = of(encoder);
	if (n->loaded.buffer) {
		forget(&n->current);
		n->current = n->loaded;
		n->loaded = (struct jpeg){ .bytes = 0 };
	}
	n->ticks = ticks;
	n->is_ready = true;
	return 0;
}

static int nvjpeg_drain(struct encoder *encoder, struct problem *problem)
{
	return 0;
}

static int nvjpeg_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem)
{
	struct nvjpeg *n = of(encoder);
	if (!n->is_ready)
		return 0;
	packet->buf = av_buffer_ref(n->current.buffer);
	if (!packet->buf)
		return problem_set(problem, -ENOMEM, "out of memory");
	packet->data = packet->buf->data;
	packet->size = (int)n->current.bytes;
	packet->pts = packet->dts = n->ticks;
	packet->time_base = n->time_base;
	packet->flags |= AV_PKT_FLAG_KEY;
	n->is_ready = false;
	return 1;
}

static void nvjpeg_destroy(struct encoder *encoder)
{
	struct nvjpeg *n = of(encoder);
	forget(&n->loaded);
	forget(&n->current);
	av_buffer_pool_uninit(&n->pool);
	n->gpu = nvjpeg_gpu_destroy(n->gpu);
	free(n);
}

const struct encoder_backend encoder_nvjpeg = {
	.memories = ENCODER_TAKES(SLUICE_MEMORY_CUDA),
	.find = nvjpeg_find,
	.want = nvjpeg_want,
	.check = nvjpeg_check,
	.open = nvjpeg_open,
	.size = nvjpeg_size,
	.time_base = nvjpeg_time_base,
	.describe = nvjpeg_describe,
	.load = nvjpeg_load,
	.encode = nvjpeg_encode,
	.drain = nvjpeg_drain,
	.receive = nvjpeg_receive,
	.destroy = nvjpeg_destroy,
};
