/*
 * An output that waits for its viewer: http://ADDRESS:PORT/?listen=1. FFmpeg's HTTP can listen, but is
 * told by an option that no URL has.
 */
#pragma once

#include <libavformat/avformat.h>
#include <stdbool.h>

/* Does this URL say so? It is opened when somebody comes. */
bool listen_is_asked(const char *url);

/**
 * What FFmpeg opens such a URL with.
 *
 * format       [borrow] its MIME type is what browsers go by
 * url_out      [give] to free(): the URL without our word
 * options_out  [give] to av_dict_free()
 *
 * 0 or -ENOMEM. If it is no such URL, the same URL and no options.
 */
int listen_prepare(
	const char *url, const AVOutputFormat *format, char **url_out, AVDictionary **options_out);
