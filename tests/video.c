#include "tests/video.h"

#include <libavutil/pixdesc.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "tests/test.h"

static bool open_decoder(struct video *v)
{
	const AVCodec *codec = NULL;
	if (avformat_find_stream_info(v->file, NULL) < 0)
		return false;
	if (av_find_best_stream(v->file, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0) != 0 || !codec)
		return false;
	v->codec = avcodec_alloc_context3(codec);
	CHECK(v->codec);
	CHECK(avcodec_parameters_to_context(v->codec, v->file->streams[0]->codecpar) == 0);
	return avcodec_open2(v->codec, codec, NULL) == 0;
}

bool video_open(struct video *video, const char *path)
{
	*video = (struct video){ .packet = av_packet_alloc(), .frame = av_frame_alloc() };
	CHECK(video->packet && video->frame);
	if (avformat_open_input(&video->file, path, NULL, NULL) == 0 && open_decoder(video))
		return true;
	video_close(video);
	return false;
}

static void feed(struct video *v)
{
	if (av_read_frame(v->file, v->packet) < 0) {
		avcodec_send_packet(v->codec, NULL);
		v->is_drained = true;
		return;
	}
	if (v->n_packets++ == 0)
		v->begins_with_key = v->packet->flags & AV_PKT_FLAG_KEY;
	avcodec_send_packet(v->codec, v->packet);
	av_packet_unref(v->packet);
}

bool video_next(struct video *video, AVFrame **frame_out)
{
	for (;;) {
		int r = avcodec_receive_frame(video->codec, video->frame);
		if (r == 0) {
			*frame_out = video->frame;
			return true;
		}
		if (r != AVERROR(EAGAIN) || video->is_drained)
			return false;
		feed(video);
	}
}

void video_close(struct video *video)
{
	av_frame_free(&video->frame);
	av_packet_free(&video->packet);
	avcodec_free_context(&video->codec);
	avformat_close_input(&video->file);
}

double video_ms(const struct video *video, const AVFrame *frame)
{
	return (double)frame->best_effort_timestamp * av_q2d(video->file->streams[0]->time_base) *
	       1000;
}

/* The upper 8 bits of each sample of a component that has more, in little-endian words. */
static enum stamp_result read_deep(
	const AVFrame *frame, const AVComponentDescriptor *comp, uint32_t *number_out)
{
	uint32_t width = (uint32_t)frame->width, height = (uint32_t)frame->height;
	_cleanup_free_ uint8_t *luma = malloc((size_t)width * height);
	if (!luma)
		return STAMP_NONE;
	for (uint32_t y = 0; y < height; y++) {
		const uint8_t *row = frame->data[comp->plane] + comp->offset +
				     (size_t)y * (unsigned)frame->linesize[comp->plane];
		for (uint32_t x = 0; x < width; x++) {
			const uint8_t *sample = row + (size_t)x * (unsigned)comp->step;
			unsigned value = (sample[0] | (unsigned)sample[1] << 8) >> comp->shift;
			luma[(size_t)y * width + x] = (uint8_t)(value >> (comp->depth - 8));
		}
	}
	return stamp_read_luma(luma, width, 1, width, height, number_out);
}

enum stamp_result video_stamp(const AVFrame *frame, uint32_t *number_out)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
	bool is_rgb = desc->flags & AV_PIX_FMT_FLAG_RGB;
	const AVComponentDescriptor *comp = &desc->comp[is_rgb ? 1 : 0]; /* green or luma */
	if (comp->depth > 8)
		return read_deep(frame, comp, number_out);
	return stamp_read_luma(frame->data[comp->plane] + comp->offset,
		(uint32_t)frame->linesize[comp->plane], (unsigned)comp->step,
		(uint32_t)frame->width, (uint32_t)frame->height, number_out);
}

static void add(struct video_summary *s, const struct video *v, const AVFrame *frame)
{
	uint32_t number;
	double ms = video_ms(v, frame);
	if (s->frames++ == 0)
		s->first_ms = ms;
	else if (ms <= s->last_ms)
		s->is_monotonic = false;
	s->last_ms = ms;
	s->width = frame->width;
	s->height = frame->height;
	if (video_stamp(frame, &number) != STAMP_OK) {
		if (s->damaged++ == 0)
			s->first_damaged = s->frames - 1;
		return;
	}
	if (s->frames == 1)
		s->first = number;
	else if (number == s->last)
		s->repeats++;
	else if (number != s->last + 1)
		s->jumps++;
	s->last = number;
}

struct video_summary video_summarize(const char *path)
{
	struct video_summary s = { .is_monotonic = true };
	struct video v;
	AVFrame *frame;
	if (!video_open(&v, path))
		return s;
	while (video_next(&v, &frame))
		add(&s, &v, frame);
	s.begins_with_key = v.begins_with_key;
	video_close(&v);
	return s;
}
