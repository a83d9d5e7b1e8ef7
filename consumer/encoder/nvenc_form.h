/* In which form NVENC takes pictures, and which one is asked of the broker for it. */
#pragma once

#include <libavcodec/avcodec.h>
#include <stdint.h>

#include "consumer/encoder/encoder.h"

/* NVENC's codec of that name; NULL: it is not NVENC's. Lives for ever. */
const AVCodec *nvenc_find(const char *name);

/* FFmpeg's name of a form that NVENC reads; AV_PIX_FMT_NONE: it does not. Alpha is not looked at. */
enum AVPixelFormat nvenc_form(uint32_t fourcc);

/* What the broker makes, of the same samples as in pictures of --pix-fmt; 0: it makes none. NULL: 0. */
uint32_t nvenc_fourcc_for(const char *pix_fmt);

/**
 * What to ask the broker for: what NVENC does not read, the broker converts.
 *
 * settings  [borrow] whose codec is one of NVENC's
 * info      [borrow] the stream; NULL: it is not known yet
 *
 * DRM format code; 0: the stream's own form, or nobody knows yet.
 */
uint32_t nvenc_wanted_fourcc(
	const struct encoder_settings *settings, const struct sluice_stream_info *info);
