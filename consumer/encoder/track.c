#include "consumer/encoder/track.h"

#include <errno.h>
#include <libavformat/avformat.h>
#include <stdlib.h>

static int read_stream(struct track *track, const AVStream *stream)
{
	track->time_base = stream->time_base;
	track->frame_rate = stream->avg_frame_rate;
	track->codec = avcodec_parameters_alloc();
	if (!track->codec || avcodec_parameters_copy(track->codec, stream->codecpar) < 0)
		return -ENOMEM;
	return 0;
}

int track_create(struct track **track_out, const struct encoder *encoder)
{
	_cleanup_(track_destroyp) struct track *track = calloc(1, sizeof(*track));
	AVFormatContext *scratch = avformat_alloc_context(); /* an AVStream is part of a file */
	AVStream *stream = scratch ? avformat_new_stream(scratch, NULL) : NULL;
	int r = track && stream ? encoder_describe(encoder, stream) : -ENOMEM;
	if (r == 0)
		r = read_stream(track, stream);
	avformat_free_context(scratch);
	if (r == 0)
		*track_out = TAKE_PTR(track);
	return r;
}

struct track *track_destroy(struct track *track)
{
	if (!track)
		return NULL;
	avcodec_parameters_free(&track->codec);
	free(track);
	return NULL;
}
