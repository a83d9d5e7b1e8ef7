/* A video file, read back with FFmpeg's libraries. */
#pragma once

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/stamp.h"

struct video {
	AVFormatContext *file;
	AVCodecContext *codec;
	AVPacket *packet;
	AVFrame *frame;
	bool is_drained;
	bool begins_with_key; /* the first packet is flagged as one */
	uint64_t n_packets;
};

/* false: there is no video in that file. */
bool video_open(struct video *video, const char *path);

/* false: there is no more. frame_out [lend] until the next call. */
bool video_next(struct video *video, AVFrame **frame_out);

void video_close(struct video *video);

/* The frame's time in milliseconds. */
double video_ms(const struct video *video, const AVFrame *frame);

/* Read the stamp of a decoded frame. */
enum stamp_result video_stamp(const AVFrame *frame, uint32_t *number_out);

struct video_summary {
	unsigned frames;
	unsigned damaged;       /* no stamp, or a torn one */
	unsigned first_damaged; /* which frame, from 0, if any is */
	bool begins_with_key;   /* the first packet is flagged as one */
	unsigned jumps;         /* numbers that are not the one before plus 1 */
	unsigned repeats;       /* the same number again */
	uint32_t first, last;
	bool is_monotonic; /* each frame is later than the one before */
	double first_ms, last_ms;
	int width, height;
};

/* Read all of it. An unreadable file has no frames. */
struct video_summary video_summarize(const char *path);
