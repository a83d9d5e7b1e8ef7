#include "consumer/encoder/output.h"

#include <errno.h>
#include <libavutil/avstring.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/listen.h"

enum { USUAL_RATE = 60 /* frames per second: how long a last packet is shown */ };

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define MP4S    "mp4,mov,ipod,ismv,f4v,3gp,3g2,psp"

/*
 * What makes a container playable although its end is missing; and RTSP goes through what lets its
 * first connection through.
 */
static const struct {
	const char *muxers; /* separated by commas */
	const char *key, *value;
} muxer_defaults[] = {
	{ MP4S, "movflags", "+frag_keyframe+empty_moov+default_base_moof" },
	{ MP4S, "frag_duration", "1000000" },
	{ MP4S, "min_frag_duration", "500000" },
	{ "matroska,webm", "cluster_time_limit", "1000" },
	{ "rtsp", "rtsp_transport", "tcp" },
};

/* Names of protocols that are no servers. */
static const struct {
	const char *protocol;
	enum output_kind kind;
} local[] = {
	{ "file", OUTPUT_FILE },
	{ "pipe", OUTPUT_PIPE },
	{ "fd", OUTPUT_PIPE },
	{ "md5", OUTPUT_PIPE },
};

/* The container that everybody sends over a protocol. */
static const struct {
	const char *protocols, *muxer;
} usual[] = {
	{ "rtmp,rtmps,rtmpt,rtmpe,rtmpte,rtmpts", "flv" },
	{ "srt,udp,rist", "mpegts" },
	{ "rtsp,rtsps", "rtsp" },
	{ "rtp", "rtp" },
};

struct output {
	AVFormatContext *ctx;
	AVRational encoder_time_base;
	int64_t start; /* ticks of the encoder: what is 0 here; AV_NOPTS_VALUE: none came */
	int64_t usual_duration; /* of a packet, in ticks of the encoder */
	bool failed;            /* a write did not work: no trailer */
	bool has_header;
	uint64_t packet_bytes;
	int64_t timeout_us;
	char path[];
};

static struct output *output_destroy(struct output *output)
{
	if (!output)
		return NULL;
	if (output->ctx && !(output->ctx->oformat->flags & AVFMT_NOFILE))
		avio_closep(&output->ctx->pb);
	avformat_free_context(output->ctx);
	free(output);
	return NULL;
}

DEFINE_CLEANUP(struct output *, output_destroy);

static bool is_one_of(const char *name, const char *list)
{
	size_t n = strlen(name);
	for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == 0))
			return true;
	return false;
}

/* "rtmp" of "rtmp://…"; false: it is a file's name. A colon behind anything else is part of that. */
static bool protocol_of(const char *path, char *protocol, size_t size)
{
	size_t n = strspn(path, LETTERS "0123456789+.-");
	if (strspn(path, LETTERS) == 0 || path[n] != ':')
		return false;
	snprintf(protocol, size, "%.*s", (int)n, path);
	return true;
}

static enum output_kind kind_by_name(const char *path)
{
	char protocol[32];
	if (!protocol_of(path, protocol, sizeof(protocol)))
		return OUTPUT_FILE;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		if (strcmp(protocol, local[i].protocol) == 0)
			return local[i].kind;
	return OUTPUT_SERVER;
}

enum output_kind output_kind_of(const char *path)
{
	struct stat st;
	enum output_kind kind = kind_by_name(path);
	if (kind != OUTPUT_FILE)
		return kind;
	av_strstart(path, "file:", &path);
	bool is_pipe = stat(path, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode));
	return is_pipe ? OUTPUT_PIPE : OUTPUT_FILE;
}

static const char *usual_muxer(const char *path)
{
	char protocol[32];
	if (!protocol_of(path, protocol, sizeof(protocol)))
		return NULL;
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		if (is_one_of(protocol, usual[i].protocols))
			return usual[i].muxer;
	return NULL;
}

/* The folder that a file is in: "." for a bare name. */
static void folder_of(const char *path, char *folder, size_t size)
{
	const char *slash = strrchr(path, '/');
	if (!slash)
		snprintf(folder, size, ".");
	else
		snprintf(folder, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static int check_file(const char *path, struct problem *problem)
{
	struct stat st;
	char folder[PATH_MAX];
	av_strstart(path, "file:", &path);
	if (strlen(path) >= PATH_MAX)
		return problem_set(problem, -ENAMETOOLONG,
			"the output's name is longer than %d bytes", PATH_MAX - 1);
	folder_of(path, folder, sizeof(folder));
	if (stat(folder, &st) < 0)
		return problem_set(problem, -errno, "cannot write %s: the folder %s: %s", path,
			folder, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return problem_set(
			problem, -ENOTDIR, "cannot write %s: %s is no folder", path, folder);
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return problem_set(problem, -EISDIR,
				"cannot write %s: it is a folder, give a file in it", path);
		if (access(path, W_OK) == 0)
			return 0;
	} else if (access(folder, W_OK | X_OK) == 0) {
		return 0;
	}
	return problem_set(problem, -errno, "cannot write %s: %s", path, strerror(errno));
}

static int check_pipe(const char *path, struct problem *problem)
{
	if (strcmp(path, "pipe:1") == 0 && isatty(STDOUT_FILENO))
		return problem_set(problem, -EINVAL,
			"the video would go to a terminal: redirect the standard output");
	return 0;
}

static int check_server(const char *path, struct problem *problem)
{
	if (avio_find_protocol_name(path))
		return 0;
	return problem_set(problem, -EINVAL,
		"FFmpeg cannot send to %s here: `ffmpeg -protocols` lists what it knows", path);
}

static int check_place(const char *path, struct problem *problem)
{
	switch (kind_by_name(path)) {
	case OUTPUT_FILE:
		return check_file(path, problem);
	case OUTPUT_PIPE:
		return check_pipe(path, problem);
	case OUTPUT_SERVER:
		return check_server(path, problem);
	}
	return 0;
}

static int choose_format(const char *path, const char *muxer, const AVOutputFormat **format_out,
	struct problem *problem)
{
	const char *name = muxer ? muxer : usual_muxer(path);
	const AVOutputFormat *format = av_guess_format(name, name ? NULL : path, NULL);
	if (format) {
		*format_out = format;
		return 0;
	}
	if (muxer)
		problem_set(problem, -EINVAL,
			"FFmpeg has no container \"%s\" here: `ffmpeg -muxers` lists them", muxer);
	else
		problem_set(problem, -EINVAL,
			"the name %s does not say which container: end it with .mp4, .mkv, .ts, or "
			"give -f",
			path);
	return -EINVAL;
}

static bool can_hold(const AVOutputFormat *format, enum AVCodecID codec)
{
	unsigned tag;
	/* Matroska denies what it only holds in the way of AVI, and takes it all the same */
	return avformat_query_codec(format, codec, FF_COMPLIANCE_NORMAL) != 0 ||
	       (format->codec_tag && av_codec_get_tag2(format->codec_tag, codec, &tag));
}

int output_check(const char *path, const char *muxer, const AVCodec *codec,
	const AVOutputFormat **format_out, struct problem *problem)
{
	const AVOutputFormat *format = NULL;
	int r = choose_format(path, muxer, &format, problem);
	if (r < 0)
		return r;
	if (!can_hold(format, codec->id))
		return problem_set(problem, -EINVAL,
			"%s cannot hold %s: choose another container (.mkv and .nut hold most) or "
			"another codec",
			format->name, codec->name);
	if (!(format->flags & AVFMT_NOFILE))
		r = check_place(path, problem);
	if (r == 0)
		*format_out = format;
	return r;
}

unsigned output_encoder_flags(const AVOutputFormat *format)
{
	unsigned flags = 0;
	if (format->flags & AVFMT_GLOBALHEADER)
		flags |= ENCODER_GLOBAL_HEADER;
	/* mp4 keeps any time that it is given, but has no flag for that: one of the others shows
	 * it */
	if (!(format->flags & (AVFMT_VARIABLE_FPS | AVFMT_NOTIMESTAMPS | AVFMT_TS_NONSTRICT |
				      AVFMT_TS_NEGATIVE)))
		flags |= ENCODER_CONSTANT_RATE;
	return flags;
}

static int muxer_options(const AVOutputFormat *format, AVDictionary **options_out)
{
	for (size_t i = 0; i < sizeof(muxer_defaults) / sizeof(muxer_defaults[0]); i++) {
		if (!is_one_of(format->name, muxer_defaults[i].muxers))
			continue;
		if (av_dict_set(options_out, muxer_defaults[i].key, muxer_defaults[i].value, 0) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int add_stream(struct output *o, const struct track *track)
{
	AVStream *stream = avformat_new_stream(o->ctx, NULL);
	if (!stream || avcodec_parameters_copy(stream->codecpar, track->codec) < 0)
		return -ENOMEM;
	stream->time_base = track->time_base;
	stream->avg_frame_rate = track->frame_rate;
	stream->sample_aspect_ratio = track->codec->sample_aspect_ratio;
	o->encoder_time_base = track->time_base;
	if (output_encoder_flags(o->ctx->oformat) & ENCODER_CONSTANT_RATE)
		stream->avg_frame_rate = av_inv_q(o->encoder_time_base);
	AVRational rate = stream->avg_frame_rate;
	AVRational usual_time = rate.num > 0 ? av_inv_q(rate) : (AVRational){ 1, USUAL_RATE };
	o->usual_duration = av_rescale_q(1, usual_time, o->encoder_time_base);
	return 0;
}

/* When it began, for containers that have a place for that. */
static int date(AVFormatContext *ctx)
{
	char text[40];
	struct timespec now;
	struct tm utc;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + n, sizeof(text) - n, ".%06ldZ", now.tv_nsec / 1000);
	return av_dict_set(&ctx->metadata, "creation_time", text, 0) < 0 ? -ENOMEM : 0;
}

static int write_header(struct output *o, struct problem *problem)
{
	AVDictionary *options = NULL;
	avlog_forget();
	int r = muxer_options(o->ctx->oformat, &options);
	if (r == 0)
		r = avformat_write_header(o->ctx, &options);
	av_dict_free(&options);
	if (r < 0)
		return avlog_problem(problem, r, "cannot write %s", o->path);
	o->has_header = true;
	return 0;
}

/* FFmpeg would take 12:30.mkv for a protocol. url_out [give] */
static int name_for_ffmpeg(const struct output *o, char **url_out, AVDictionary **options_out)
{
	if (kind_by_name(o->path) != OUTPUT_FILE || av_strstart(o->path, "file:", NULL))
		return listen_prepare(
			o->path, o->ctx->oformat, o->timeout_us, url_out, options_out);
	return asprintf(url_out, "file:%s", o->path) < 0 ? -ENOMEM : 0;
}

static int open_file(struct output *o, struct problem *problem)
{
	if (o->ctx->oformat->flags & AVFMT_NOFILE)
		return 0;
	_cleanup_free_ char *url = NULL;
	AVDictionary *options = NULL;
	if (name_for_ffmpeg(o, &url, &options) < 0)
		return problem_set(problem, -ENOMEM, "out of memory");
	/* seven whole packets of MPEG-TS; the URL's own pkt_size comes after it */
	if (strcmp(o->ctx->oformat->name, "mpegts") == 0)
		av_dict_set(&options, "pkt_size", "1316", 0);
	avlog_forget();
	int r = avio_open2(
		&o->ctx->pb, url, AVIO_FLAG_WRITE, &o->ctx->interrupt_callback, &options);
	av_dict_free(&options);
	return r < 0 ? avlog_problem(problem, r, "cannot write %s", o->path) : 0;
}

static int create(struct output **output_out, const char *path, const AVOutputFormat *format)
{
	size_t size = strlen(path) + 1;
	struct output *o = calloc(1, sizeof(*o) + size);
	if (!o)
		return -ENOMEM;
	memcpy(o->path, path, size);
	if (avformat_alloc_output_context2(&o->ctx, format, NULL, path) < 0) {
		free(o);
		return -ENOMEM;
	}
	o->start = AV_NOPTS_VALUE;
	o->ctx->flags |= AVFMT_FLAG_FLUSH_PACKETS;
	o->ctx->flush_packets = 1;
	*output_out = o;
	return 0;
}

int output_open(struct output **output_out, const char *path, const AVOutputFormat *format,
	const struct track *track, const struct output_patience *patience, struct problem *problem)
{
	_cleanup_(output_destroyp) struct output *o = NULL;
	if (create(&o, path, format) < 0 || add_stream(o, track) < 0 || date(o->ctx) < 0)
		return problem_set(problem, -ENOMEM, "out of memory");
	if (patience) {
		o->ctx->interrupt_callback = patience->interrupt;
		o->timeout_us = patience->timeout_us;
	}
	int r = open_file(o, problem);
	if (r == 0)
		r = write_header(o, problem);
	if (r < 0)
		return r;
	*output_out = TAKE_PTR(o);
	return 0;
}

int output_write(struct output *output, AVPacket *packet, struct problem *problem)
{
	AVStream *stream = output->ctx->streams[0];
	packet->stream_index = stream->index;
	if (output->start == AV_NOPTS_VALUE)
		output->start = packet->pts;
	packet->pts -= output->start;
	if (packet->dts != AV_NOPTS_VALUE)
		packet->dts -= output->start;
	if (packet->duration == 0)
		packet->duration = output->usual_duration;
	av_packet_rescale_ts(packet, output->encoder_time_base, stream->time_base);
	output->packet_bytes += (uint64_t)packet->size;
	avlog_forget();
	int r = av_write_frame(output->ctx, packet);
	av_packet_unref(packet);
	if (r >= 0)
		return 0;
	output->failed = true;
	return avlog_problem(problem, r, "cannot write %s", output->path);
}

bool output_has_failed(const struct output *output)
{
	return output->failed;
}

static int finish(struct output *o, uint64_t *bytes_out, struct problem *problem)
{
	int r = 0;
	avlog_forget();
	bool has_file = !(o->ctx->oformat->flags & AVFMT_NOFILE);
	/* RTSP's connection is closed by its trailer and by nothing else */
	if (o->has_header && (!o->failed || !has_file))
		r = av_write_trailer(o->ctx);
	if (o->failed)
		r = 0;
	if (!has_file) {
		*bytes_out = o->packet_bytes;
	} else {
		int64_t size = avio_size(o->ctx->pb), at = avio_tell(o->ctx->pb);
		*bytes_out = (uint64_t)(size > at ? size : at);
		int closed = avio_closep(&o->ctx->pb);
		if (r >= 0 && !o->failed)
			r = closed;
	}
	return r < 0 ? avlog_problem(problem, r, "cannot finish %s", o->path) : 0;
}

int output_close(struct output **output, uint64_t *bytes_out, struct problem *problem)
{
	struct output *o = TAKE_PTR(*output);
	*bytes_out = 0;
	int r = o ? finish(o, bytes_out, problem) : 0;
	output_destroy(o);
	return r;
}
