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
 * timeout_us   how long one who has come may say nothing, or take nothing: nobody else is let in
 *              meanwhile; 0: for ever
 * url_out      [give] to free(): the URL without our word
 * options_out  [give] to av_dict_free()
 *
 * 0 or -ENOMEM. If it is no such URL, the same URL and no options.
 */
int listen_prepare(const char *url, const AVOutputFormat *format, int64_t timeout_us,
	char **url_out, AVDictionary **options_out);
