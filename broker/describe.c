#include "broker/describe.h"

void describe_stream(const struct stream *stream, Sluice__StreamInfo *info_out)
{
	const struct generation *g = stream->native.generation;
	*info_out = (Sluice__StreamInfo)SLUICE__STREAM_INFO__INIT;
	info_out->name = (char *)stream->name;
	info_out->text = (char *)stream->text;
	info_out->source = (char *)stream->source;
	info_out->state = stream->state == STREAM_LIVE ? SLUICE__STREAM_STATE__STREAM_LIVE
						       : SLUICE__STREAM_STATE__STREAM_WAITING;
	if (g) {
		info_out->fourcc = g->format.fourcc;
		info_out->width = g->format.width;
		info_out->height = g->format.height;
	}
}
