#include "consumer/encoder/settings.h"

#include <errno.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "consumer/encoder/avlog.h"

#define NVENC_CQ_USUAL "23" /* of 1 to 51: visually clean */

enum {
	GOP_BACKSTOP_S = 2, /* for encoders that do not hear of the key frame each second */
	QSCALE_USUAL = 3,   /* of 1 to 31: visually clean */
	PIXELS_PER_BIT = 10,
	KEY_MAX = 64,         /* bytes of an option's name */
	LABEL_MAX = 128,      /* bytes of an option as a sentence shows it */
	SLICED_SIDE_MIN = 64, /* pixels: FFV1 finds a way to cut any such picture */
};

/*
 * Each frame is encoded when it comes and comes out at once, with a speed that a desktop can keep
 * up with: what a user gives goes before.
 */
static const struct {
	const char *codec, *key, *value;
} live_defaults[] = {
	{ "libx264", "preset", "veryfast" },
	{ "libx264", "tune", "zerolatency" },
	{ "libx264", "forced-idr", "1" },
	{ "libx264rgb", "preset", "veryfast" },
	{ "libx264rgb", "tune", "zerolatency" },
	{ "libx264rgb", "forced-idr", "1" },
	{ "libx265", "preset", "ultrafast" },
	{ "libx265", "tune", "zerolatency" },
	{ "libx265", "forced-idr", "1" },
	{ "h264_nvenc", "preset", "p4" },
	{ "h264_nvenc", "tune", "ll" },
	{ "h264_nvenc", "zerolatency", "1" },
	{ "h264_nvenc", "delay", "0" },
	{ "h264_nvenc", "bf", "0" },
	{ "h264_nvenc", "forced-idr", "1" },
	{ "hevc_nvenc", "preset", "p4" },
	{ "hevc_nvenc", "tune", "ll" },
	{ "hevc_nvenc", "zerolatency", "1" },
	{ "hevc_nvenc", "delay", "0" },
	{ "hevc_nvenc", "bf", "0" },
	{ "hevc_nvenc", "forced-idr", "1" },
	{ "av1_nvenc", "preset", "p4" },
	{ "av1_nvenc", "tune", "ll" },
	{ "av1_nvenc", "zerolatency", "1" },
	{ "av1_nvenc", "delay", "0" },
	{ "av1_nvenc", "bf", "0" },
	{ "av1_nvenc", "forced-idr", "1" },
	{ "libx265", "x265-params", "log-level=error" }, /* it prints on stderr by itself */
	{ "libvpx", "deadline", "realtime" },
	{ "libvpx", "cpu-used", "8" },
	{ "libvpx", "lag-in-frames", "0" },
	{ "libvpx-vp9", "deadline", "realtime" },
	{ "libvpx-vp9", "lag-in-frames", "0" },
	{ "libvpx-vp9", "cpu-used", "8" },
	{ "libvpx-vp9", "row-mt", "1" },
	{ "libaom-av1", "usage", "realtime" },
	{ "libaom-av1", "cpu-used", "8" },
	{ "libaom-av1", "lag-in-frames", "0" },
	{ "libsvtav1", "preset", "10" },
	{ "ffv1", "g", "1" },
};

AVRational settings_rate(const struct encoder_settings *settings)
{
	return settings->rate.num > 0 ? settings->rate : (AVRational){ SETTINGS_RATE_USUAL, 1 };
}

/* The formats that the codec takes, ended by AV_PIX_FMT_NONE; NULL: any. */
static const enum AVPixelFormat *formats_of(const AVCodec *codec)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
	const void *formats = NULL;
	avcodec_get_supported_config(NULL, codec, AV_CODEC_CONFIG_PIX_FORMAT, 0, &formats, NULL);
	return formats;
#else
	return codec->pix_fmts;
#endif
}

static bool takes(const enum AVPixelFormat *formats, enum AVPixelFormat format)
{
	if (!formats)
		return true;
	for (; *formats != AV_PIX_FMT_NONE; formats++)
		if (*formats == format)
			return true;
	return false;
}

static int users_pix_fmt(const char *name, const AVCodec *codec, enum AVPixelFormat *format_out,
	struct problem *problem)
{
	enum AVPixelFormat format = av_get_pix_fmt(name);
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(format);
	if (!desc || desc->flags & AV_PIX_FMT_FLAG_HWACCEL)
		return problem_set(problem, -EINVAL,
			"there is no pixel format \"%s\": `ffmpeg -pix_fmts` lists them", name);
	if (!takes(formats_of(codec), format))
		return problem_set(problem, -EINVAL,
			"%s does not take pixel format %s: `ffmpeg -h encoder=%s` lists its own",
			codec->name, name, codec->name);
	*format_out = format;
	return 0;
}

static bool is_lossless(const AVCodec *codec)
{
	const AVCodecDescriptor *desc = avcodec_descriptor_get(codec->id);
	return desc && desc->props & AV_CODEC_PROP_LOSSLESS && !(desc->props & AV_CODEC_PROP_LOSSY);
}

static bool is_deep(enum AVPixelFormat format)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(format);
	return desc && desc->comp[0].depth > 8;
}

/* 4:2:0 in the range that the codec names first; AV_PIX_FMT_NONE if it has neither. */
static enum AVPixelFormat first_420(const enum AVPixelFormat *formats, enum AVPixelFormat from)
{
	/* HDR in 8 bits has bands that everybody sees */
	if (is_deep(from) && takes(formats, AV_PIX_FMT_YUV420P10))
		return AV_PIX_FMT_YUV420P10;
	for (; *formats != AV_PIX_FMT_NONE; formats++)
		if (*formats == AV_PIX_FMT_YUV420P || *formats == AV_PIX_FMT_YUVJ420P)
			return *formats;
	return AV_PIX_FMT_NONE;
}

int settings_pix_fmt(const struct encoder_settings *settings, const AVCodec *codec,
	enum AVPixelFormat from, enum AVPixelFormat *format_out, struct problem *problem)
{
	if (settings->pix_fmt)
		return users_pix_fmt(settings->pix_fmt, codec, format_out, problem);
	const enum AVPixelFormat *formats = formats_of(codec);
	enum AVPixelFormat format = from;
	/* the same samples in another order; FFmpeg would find 16 bits nearer */
	if (from == AV_PIX_FMT_P010 && formats && !takes(formats, from) &&
		takes(formats, AV_PIX_FMT_YUV420P10)) {
		format = AV_PIX_FMT_YUV420P10;
	} else if (formats && !takes(formats, from)) {
		format = is_lossless(codec) ? AV_PIX_FMT_NONE : first_420(formats, from);
		if (format == AV_PIX_FMT_NONE)
			format = avcodec_find_best_pix_fmt_of_list(formats, from, 0, NULL);
	}
	if (format == AV_PIX_FMT_NONE)
		return problem_set(
			problem, -EINVAL, "%s takes no pictures in host memory", codec->name);
	*format_out = format;
	return 0;
}

/* x264 and x265 complain on stderr by themselves about names that they do not know. */
static const struct {
	const char *codec; /* how its name begins */
	const char *key;
	const char *values;
} named_values[] = {
	{ "libx264", "preset",
		"ultrafast superfast veryfast faster fast medium slow slower veryslow placebo" },
	{ "libx265", "preset",
		"ultrafast superfast veryfast faster fast medium slow slower veryslow placebo" },
	{ "libx264", "profile", "baseline main high high10 high422 high444" },
	{ "libx265", "profile",
		"main main10 main12 main444-8 main422-10 main444-10 main422-12 main444-12" },
	{ "libx264", "tune", "film animation grain stillimage psnr ssim fastdecode zerolatency" },
	{ "libx265", "tune", "psnr ssim grain fastdecode zerolatency animation" },
};

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool has_word(const char *words, const char *word, size_t n)
{
	for (; *words; words += strcspn(words, " "), words += strspn(words, " "))
		if (strcspn(words, " ") == n && strncmp(words, word, n) == 0)
			return true;
	return false;
}

/* value: one word, or several with commas between them, as tunes may be given */
static bool has_words(const char *words, const char *value)
{
	for (;; value++) {
		size_t n = strcspn(value, ",");
		if (!has_word(words, value, n))
			return false;
		value += n;
		if (!*value)
			return true;
	}
}

static int check_named_value(
	const AVCodec *codec, const char *key, const char *value, struct problem *problem)
{
	for (size_t i = 0; i < sizeof(named_values) / sizeof(named_values[0]); i++) {
		const char *words = named_values[i].values;
		if (!begins_with(codec->name, named_values[i].codec) ||
			strcmp(named_values[i].key, key) != 0 || has_words(words, value))
			continue;
		return problem_set(problem, -EINVAL, "%s has no %s \"%s\": it has %s", codec->name,
			key, value, words);
	}
	return 0;
}

static bool has_private_option(const AVCodecContext *ctx, const char *key)
{
	return ctx->priv_data && av_opt_find(ctx->priv_data, key, NULL, 0, 0);
}

/* label: how the user wrote it */
static int set_option(AVCodecContext *ctx, const char *key, const char *value, const char *label,
	struct problem *problem)
{
	int r = check_named_value(ctx->codec, key, value, problem);
	if (r < 0)
		return r;
	avlog_forget();
	r = av_opt_set(ctx, key, value, AV_OPT_SEARCH_CHILDREN);
	if (r == AVERROR_OPTION_NOT_FOUND)
		return problem_set(problem, -EINVAL,
			"%s has no option %s: `ffmpeg -h encoder=%s` lists what it has",
			ctx->codec->name, label, ctx->codec->name);
	if (r < 0) {
		avlog_problem(problem, r, "%s cannot be set", label);
		return -EINVAL;
	}
	return 0;
}

/* An option of our own name, which not every codec has. */
static int set_private(
	AVCodecContext *ctx, const char *key, const char *value, struct problem *problem)
{
	char label[32];
	snprintf(label, sizeof(label), "-%s", key);
	if (!has_private_option(ctx, key))
		return problem_set(problem, -EINVAL,
			"%s has no option %s: `ffmpeg -h encoder=%s` lists what it has",
			ctx->codec->name, label, ctx->codec->name);
	return set_option(ctx, key, value, label, problem);
}

/* "none": what the codec itself does when nobody asks for anything. */
static int set_preset_or_tune(
	AVCodecContext *ctx, const char *key, const char *value, struct problem *problem)
{
	if (!value)
		return 0;
	if (strcmp(value, "none") != 0)
		return set_private(ctx, key, value, problem);
	if (has_private_option(ctx, key))
		av_opt_set(ctx->priv_data, key, NULL, 0);
	return 0;
}

static int set_quality(
	const struct encoder_settings *settings, AVCodecContext *ctx, struct problem *problem)
{
	char value[32];
	if (settings->crf >= 0) {
		snprintf(value, sizeof(value), "%g", settings->crf);
		return set_private(ctx, "crf", value, problem);
	}
	if (settings->qp < 0)
		return 0;
	if (has_private_option(ctx, "qp")) {
		snprintf(value, sizeof(value), "%d", (int)settings->qp);
		return set_private(ctx, "qp", value, problem);
	}
	/* the older encoders know it as the "qscale" */
	ctx->flags |= AV_CODEC_FLAG_QSCALE;
	ctx->global_quality = (int)settings->qp * FF_QP2LAMBDA;
	return 0;
}

static bool has_users_option(const struct encoder_settings *settings, const char *key)
{
	size_t n = strlen(key);
	for (int64_t i = 0; i < settings->n_options; i++)
		if (strncmp(settings->option[i], key, n) == 0 && settings->option[i][n] == '=')
			return true;
	return false;
}

/* NVENC's constant quality is none when a bit rate or another rate control is asked for. */
static bool set_usual_cq(const struct encoder_settings *settings, AVCodecContext *ctx)
{
	if (settings->qp >= 0 || !has_private_option(ctx, "cq") || !has_private_option(ctx, "rc"))
		return false;
	if (!has_users_option(settings, "rc") && !has_users_option(settings, "b"))
		av_opt_set(ctx->priv_data, "cq", NVENC_CQ_USUAL, 0);
	return true;
}

/*
 * An encoder without a constant quality of its own would fall back on FFmpeg's 200 kbit/s, which is
 * mush for a desktop.
 */
static void set_usual_quality(const struct encoder_settings *settings, AVCodecContext *ctx)
{
	enum { FFMPEGS_BIT_RATE = 200000 };
	if (settings->bit_rate > 0) {
		ctx->bit_rate = settings->bit_rate;
		return;
	}
	if (set_usual_cq(settings, ctx))
		return;
	if (settings->crf >= 0 || settings->qp >= 0 || ctx->bit_rate != FFMPEGS_BIT_RATE)
		return;
	if (has_private_option(ctx, "crf")) {
		AVRational rate = settings_rate(settings);
		ctx->bit_rate = av_rescale((int64_t)ctx->width * ctx->height, rate.num,
			(int64_t)rate.den * PIXELS_PER_BIT);
	} else {
		ctx->flags |= AV_CODEC_FLAG_QSCALE;
		ctx->global_quality = QSCALE_USUAL * FF_QP2LAMBDA;
	}
}

/* "-maxrate" and "-bufsize": of no use without each other to most codecs. */
static void set_limits(const struct encoder_settings *settings, AVCodecContext *ctx)
{
	int64_t max = settings->max_bit_rate, bits = settings->buffer_bits;
	/* x264 changes its bit rate later only if there was a limit from the start, and takes
	 * long to get there unless that was the same number */
	if (settings->may_change && max == 0)
		max = settings->bit_rate;
	if (bits == 0)
		bits = max;
	ctx->rc_max_rate = max;
	ctx->rc_buffer_size = (int)(bits < INT_MAX ? bits : INT_MAX);
}

static int set_users_options(
	const struct encoder_settings *settings, AVCodecContext *ctx, struct problem *problem)
{
	for (int64_t i = 0; i < settings->n_options; i++) {
		const char *text = settings->option[i], *equals = strchr(text, '=');
		char key[KEY_MAX], label[LABEL_MAX];
		if (!equals || equals == text || equals - text >= KEY_MAX)
			return problem_set(problem, -EINVAL, "-o %s: write key=value", text);
		snprintf(key, sizeof(key), "%.*s", (int)(equals - text), text);
		snprintf(label, sizeof(label), "-o %s", text);
		int r = set_option(ctx, key, equals + 1, label, problem);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Did the user ask for pictures to be held back? NVENC does so only if nothing says that it must not. */
static bool is_delay_wanted(const struct encoder_settings *settings)
{
	return settings->b_frames > 0 || has_users_option(settings, "bf") ||
	       has_users_option(settings, "rc-lookahead");
}

static bool forbids_delay(const char *key)
{
	return strcmp(key, "delay") == 0 || strcmp(key, "zerolatency") == 0;
}

/* An option that this version of the codec does not have is none that it needs. */
static void set_live_defaults(const struct encoder_settings *settings, AVCodecContext *ctx)
{
	bool is_delay_fine = is_delay_wanted(settings);
	for (size_t i = 0; i < sizeof(live_defaults) / sizeof(live_defaults[0]); i++)
		if (strcmp(live_defaults[i].codec, ctx->codec->name) == 0 &&
			!(is_delay_fine && forbids_delay(live_defaults[i].key)))
			av_opt_set(ctx, live_defaults[i].key, live_defaults[i].value,
				AV_OPT_SEARCH_CHILDREN);
}

/*
 * FFV1's version 3 has slices, and so threads. How many fit depends on the size in ways that only
 * the codec knows, and for a small picture there may be none that it takes.
 */
static void set_ffv1_version(AVCodecContext *ctx)
{
	if (ctx->codec_id == AV_CODEC_ID_FFV1 && ctx->width >= SLICED_SIDE_MIN &&
		ctx->height >= SLICED_SIDE_MIN)
		ctx->level = 3;
}

static bool is_tuned_for_latency(AVCodecContext *ctx)
{
	uint8_t *tune = NULL;
	if (!has_private_option(ctx, "tune") || av_opt_get(ctx->priv_data, "tune", 0, &tune) < 0)
		return false;
	bool is = tune && strstr((const char *)tune, "zerolatency");
	av_free(tune);
	return is;
}

/* Slices come out at once; frame threads hold back as many frames as there are cores. */
static void set_threads(AVCodecContext *ctx)
{
	bool is_x264 = begins_with(ctx->codec->name, "libx264");
	bool has_slices = ctx->codec->capabilities & AV_CODEC_CAP_SLICE_THREADS;
	ctx->thread_count = 0;
	if (is_x264 ? is_tuned_for_latency(ctx) : has_slices)
		ctx->thread_type = FF_THREAD_SLICE;
}

bool settings_takes_key_requests(const AVCodec *codec)
{
	return strcmp(codec->name, "libsvtav1") != 0;
}

int settings_apply(
	const struct encoder_settings *settings, AVCodecContext *ctx, struct problem *problem)
{
	AVRational rate = settings_rate(settings);
	ctx->framerate = rate;
	ctx->gop_size = (int)av_rescale(
		settings_takes_key_requests(ctx->codec) ? GOP_BACKSTOP_S : 1, rate.num, rate.den);
	set_live_defaults(settings, ctx);
	set_ffv1_version(ctx);
	if (settings->gop >= 0)
		ctx->gop_size = (int)settings->gop;
	if (settings->b_frames >= 0)
		ctx->max_b_frames = (int)settings->b_frames;
	int r = set_preset_or_tune(ctx, "preset", settings->preset, problem);
	if (r == 0)
		r = set_preset_or_tune(ctx, "tune", settings->tune, problem);
	if (r == 0 && settings->profile)
		r = set_option(ctx, "profile", settings->profile, "-profile", problem);
	if (r == 0)
		r = set_quality(settings, ctx, problem);
	if (r < 0)
		return r;
	set_usual_quality(settings, ctx);
	set_limits(settings, ctx);
	set_threads(ctx);
	/* last: they may say otherwise */
	return set_users_options(settings, ctx, problem);
}
