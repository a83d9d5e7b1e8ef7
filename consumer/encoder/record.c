#include "consumer/encoder/record.h"

#include <errno.h>

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/parts.h"
#include "consumer/encoder/source.h"
#include "consumer/encoder/stop.h"

enum {
	WAIT_MS = 100,   /* between looks at the clock and at signals */
	IN_FLIGHT = 256, /* frames that an encoder holds back, for their latency */
	MORE = 1,        /* step(): go on */
};

#define STILL_NS (1 * NS_PER_S)    /* without a frame, then the last is shown again */
#define STALE_NS (1 * NS_PER_S)    /* a first frame this old is a picture that stood still */
#define LATE_NS  (250 * NS_PER_MS) /* for frames on their way when the time is up */

/* What is remembered of a frame after it was given back. */
struct picture {
	uint64_t seq, generation;
	uint64_t pts_ns, captured_ns, published_ns, received_ns;
	uint64_t taken_ns;
};

struct in_flight {
	int64_t ticks;
	uint64_t captured_ns; /* 0: not to be counted */
};

struct recording {
	const struct options *options;
	const AVOutputFormat *format;
	struct stats *stats;
	struct problem *problem;
	struct source *source;
	AVPacket *packet;

	/* where packets go, and the encoder of the part that is written */
	struct parts *parts;
	struct encoder *encoder; /* NULL: no part has begun */
	struct picture_format picture;
	uint64_t base_ns;   /* the time that is 0 in the file */
	int64_t last_ticks; /* -1: nothing is in it yet */

	struct picture last;
	uint64_t first_pts_ns;    /* 0: no frame has come */
	uint64_t last_encoded_ns; /* when this process encoded something */
	unsigned next_in_flight;
	struct in_flight in_flight[IN_FLIGHT];
};

static void remember(struct recording *r, int64_t ticks, uint64_t captured_ns)
{
	r->in_flight[r->next_in_flight++ % IN_FLIGHT] = (struct in_flight){ ticks, captured_ns };
}

static void count_latency(struct recording *r, int64_t ticks)
{
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		struct in_flight *f = &r->in_flight[i];
		if (f->captured_ns == 0 || f->ticks != ticks)
			continue;
		histogram_add(&r->stats->encoding, now_ns() - f->captured_ns);
		f->captured_ns = 0;
		return;
	}
}

/* Move what the encoder has ready into the file. */
static int write_packets(struct recording *r)
{
	int ready;
	while ((ready = encoder_receive(r->encoder, r->packet, r->problem)) == 1) {
		count_latency(r, r->packet->pts);
		r->stats->packet_bytes += (uint64_t)r->packet->size;
		int result = parts_write(r->parts, r->packet, r->problem);
		if (result < 0)
			return result;
	}
	return ready;
}

/* Encode what is loaded, or the same picture once more. Times in the file only go forward. */
static int encode(struct recording *r, uint64_t pts_ns, uint64_t captured_ns)
{
	AVRational base = encoder_time_base(r->encoder);
	int64_t offset_ns = pts_ns > r->base_ns ? (int64_t)(pts_ns - r->base_ns) : 0;
	int64_t ticks = av_rescale_q(offset_ns, (AVRational){ 1, NS_PER_S }, base);
	if (ticks <= r->last_ticks)
		ticks = r->last_ticks + 1;
	remember(r, ticks, captured_ns);
	if (parts_want_key(r->parts, ticks))
		encoder_request_key(r->encoder);
	int result = encoder_encode(r->encoder, ticks, r->problem);
	if (result < 0)
		return result;
	r->last_ticks = ticks;
	r->last_encoded_ns = now_ns();
	return write_packets(r);
}

static int drain(struct recording *r)
{
	int result = encoder_drain(r->encoder, r->problem);
	return result < 0 ? result : write_packets(r);
}

/* Finish the part, as far as it can be. */
static int end_part(struct recording *r)
{
	int drained = r->encoder && parts_are_open(r->parts) ? drain(r) : 0;
	int ended = parts_end(r->parts, r->problem);
	r->encoder = encoder_destroy(r->encoder);
	return drained < 0 ? drained : ended;
}

/* The frame is given back already: this may take its time. encoder [take] */
static int begin_part(struct recording *r, struct encoder **encoder,
	const struct picture_format *picture, uint64_t base_ns)
{
	int result = end_part(r);
	if (result < 0)
		return result;
	r->encoder = TAKE_PTR(*encoder);
	r->picture = *picture;
	r->base_ns = base_ns;
	r->last_ticks = -1;
	return parts_begin(r->parts, r->encoder, picture, r->problem);
}

static uint64_t limit_ns(const struct recording *r)
{
	return (uint64_t)r->options->limit_us * NS_PER_US;
}

static bool is_past_limit(const struct recording *r, uint64_t pts_ns)
{
	return limit_ns(r) && r->first_pts_ns && pts_ns >= r->first_pts_ns + limit_ns(r);
}

/* After a new subscription the broker sends the newest frame again. */
static bool is_known(const struct recording *r, const struct sluice_frame *frame)
{
	return r->stats->frames > 0 && frame->seq == r->last.seq &&
	       frame->generation == r->last.generation;
}

static struct picture picture_of(const struct recording *r, const struct sluice_frame *frame)
{
	struct picture p = {
		.seq = frame->seq,
		.generation = frame->generation,
		.pts_ns = frame->pts_ns,
		.captured_ns = frame->captured_ns,
		.published_ns = frame->published_ns,
		.received_ns = frame->received_ns,
		.taken_ns = now_ns(),
	};
	/* the recording begins now, not when the desktop last moved */
	bool is_stale = !r->first_pts_ns && frame->pts_ns + STALE_NS < frame->received_ns;
	if (is_stale) {
		p.pts_ns = frame->received_ns;
		p.captured_ns = 0;
	}
	return p;
}

static void count_picture(struct recording *r, const struct picture *p)
{
	struct stats *stats = r->stats;
	bool is_new_counting = p->generation != r->last.generation && p->seq <= r->last.seq;
	stats_add_frame(stats, p->seq, is_new_counting);
	if (p->captured_ns && p->received_ns > p->published_ns)
		histogram_add(&stats->delivery, p->received_ns - p->published_ns);
	if (!r->first_pts_ns) {
		r->first_pts_ns = p->pts_ns;
		stats->begin_ns = p->taken_ns;
	}
	r->last = *p;
}

/* Read the pixels into r's encoder, or into a new one if the format is not the same. */
static int load(struct recording *r, const struct sluice_frame *frame,
	const struct picture_format *format, struct encoder **fresh_out)
{
	struct encoder *encoder = r->encoder;
	if (!encoder || !picture_format_equal(format, &r->picture)) {
		int result = encoder_open(fresh_out, &r->options->encoder, format,
			output_encoder_flags(r->format), r->problem);
		if (result < 0)
			return result;
		encoder = *fresh_out;
	}
	int result = encoder_load(encoder, frame);
	if (result < 0)
		return problem_set(r->problem, result, "a frame could not be read");
	if (sluice_frame_valid(frame))
		return 0;
	encoder_unload(encoder);
	return -ESTALE;
}

/* frame [take]: it is held while its pixels are read, no longer. MORE, 0: done, or negative. */
static int on_frame(struct recording *r, struct sluice_frame *frame)
{
	_cleanup_(encoder_destroyp) struct encoder *fresh = NULL;
	const struct picture_format format = picture_format_of(frame);
	const struct picture p = picture_of(r, frame);
	bool is_late = is_past_limit(r, p.pts_ns);
	bool is_skipped = is_late || is_known(r, frame);
	int result = is_skipped ? 0 : load(r, frame, &format, &fresh);
	sluice_frame_release(frame);
	if (is_skipped)
		return is_late ? 0 : MORE;
	if (result == -ESTALE) {
		r->stats->torn++;
		return MORE;
	}
	if (result == 0 && fresh)
		result = begin_part(r, &fresh, &format, p.pts_ns);
	if (result < 0)
		return result;
	count_picture(r, &p);
	result = encode(r, p.pts_ns, p.captured_ns);
	if (result < 0)
		return result;
	return r->options->limit_frames == (int64_t)r->stats->frames ? 0 : MORE;
}

/*
 * The picture stands still: a file that is to last as long as the recording did, and a server that
 * hangs up on silence, want it again.
 */
static int repeat(struct recording *r, uint64_t pts_ns)
{
	r->stats->repeated++;
	return encode(r, pts_ns, 0);
}

/* No frame came for a while. MORE, 0: done, or negative. */
static int on_silence(struct recording *r)
{
	uint64_t now = now_ns();
	if (!r->encoder)
		return MORE;
	uint64_t elapsed = now - r->stats->begin_ns;
	if (limit_ns(r) && elapsed >= limit_ns(r) + LATE_NS)
		return 0;
	if (now < r->last_encoded_ns + STILL_NS)
		return MORE;
	int result = repeat(r, r->first_pts_ns + elapsed);
	return result < 0 ? result : MORE;
}

/* The last picture was seen until the end. */
static int show_until_end(struct recording *r)
{
	uint64_t now = now_ns();
	if (!r->encoder || now < r->last_encoded_ns + LATE_NS)
		return 0;
	uint64_t elapsed = now - r->stats->begin_ns;
	if (limit_ns(r) && elapsed > limit_ns(r))
		elapsed = limit_ns(r);
	return repeat(r, r->first_pts_ns + elapsed);
}

static void update_stats(struct recording *r)
{
	struct sluice_view_stats view;
	source_get_stats(r->source, &view);
	r->stats->missed = view.missed;
	r->stats->revoked = view.revoked;
	r->stats->reconnects = view.reconnects;
}

/* MORE, 0: done, or negative. */
static int step(struct recording *r)
{
	struct sluice_frame *frame;
	if (stop_is_asked())
		return 0;
	int result = source_next(r->source, WAIT_MS, &frame, r->problem);
	if (result == 1)
		result = on_frame(r, frame);
	else if (result == 0)
		result = on_silence(r);
	if (result == MORE && (result = parts_check(r->parts, r->problem)) == 0)
		result = MORE;
	update_stats(r);
	stats_print_live(r->stats, now_ns());
	return result;
}

static int run(struct recording *r)
{
	int result;
	while ((result = step(r)) == MORE)
		;
	if (result == 0)
		result = show_until_end(r);
	return result;
}

/* All that is left to do, whatever happened. The first sentence stands. */
static int finish(struct recording *r, int result)
{
	struct problem closing, *first = r->problem;
	r->problem = &closing;
	int closed = r->parts ? end_part(r) : 0;
	if (r->parts && closed == 0)
		closed = parts_finish(r->parts, r->problem);
	r->parts = parts_destroy(r->parts);
	r->stats->end_ns = r->stats->begin_ns ? now_ns() : 0;
	r->source = source_destroy(r->source);
	av_packet_free(&r->packet);
	if (result < 0)
		return result;
	if (closed < 0)
		return problem_set(first, closed, "%s", closing.text);
	if (r->stats->frames == 0)
		return problem_set(first, -ENODATA,
			"no frame of stream \"%s\" came: nothing was written", r->options->stream);
	return 0;
}

int record(const struct options *options, const AVOutputFormat *format, struct stats *stats,
	struct problem *problem)
{
	struct recording r = {
		.options = options,
		.format = format,
		.stats = stats,
		.problem = problem,
		.packet = av_packet_alloc(),
	};
	int result = r.packet ? parts_create(&r.parts, options, format, stats, problem)
			      : problem_set(problem, -ENOMEM, "out of memory");
	if (result == 0)
		result = source_create(&r.source, options, problem);
	if (result == 0)
		result = run(&r);
	return finish(&r, result);
}
