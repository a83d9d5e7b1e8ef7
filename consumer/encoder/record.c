#include "consumer/encoder/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "consumer/encoder/cfr.h"
#include "consumer/encoder/child.h"
#include "consumer/encoder/control.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/latency.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/parts.h"
#include "consumer/encoder/say.h"
#include "consumer/encoder/source.h"
#include "consumer/encoder/stop.h"

enum {
	WAIT_MS = 100, /* between looks at the clock and at signals */
	MORE = 1,      /* step(): go on */
};

#define STILL_NS (1 * NS_PER_S)    /* without a frame, then the last is shown again */
#define KEPT_NS  (250 * NS_PER_MS) /* without a frame, then the last is given back */
#define STALE_NS (1 * NS_PER_S)    /* a first frame this old is a picture that stood still */
#define LATE_NS  (250 * NS_PER_MS) /* for frames on their way when the time is up */
#define LEAP_NS  (10 * NS_PER_S)   /* so far ahead of the clock a time is wrong */

/* What is remembered of a frame after it was given back. */
struct picture {
	uint64_t seq, generation;
	uint64_t pts_ns, captured_ns, published_ns, received_ns;
	uint64_t taken_ns;
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
	struct encoder *spare; /* opened for a picture that was torn by then; NULL: there is none */
	struct picture_format spare_picture;
	uint64_t base_ns;    /* the time that is 0 in the file */
	int64_t phase_ticks; /* how far that is behind a full second */
	int64_t second; /* of the capture's clock, since the file began; -1: nothing is in it yet */
	int64_t last_ticks; /* -1: nothing is in it yet */

	struct cfr cfr; /* with --cfr */

	struct control *control;
	bool is_key_asked; /* a still picture is shown again at once then */
	bool is_quit_asked;
	int64_t bit_rate; /* that was asked for since; 0: none was */

	struct picture last;
	bool is_last_counted;     /* as a frame of the file */
	bool is_new_counting;     /* of numbers, since the last one that was counted */
	bool is_time_up;          /* a frame came that is past the limit */
	uint64_t first_pts_ns;    /* 0: no frame has come */
	uint64_t last_encoded_ns; /* when this process encoded something */
	struct latency latency;
	char note[PROBLEM_MAX]; /* what the encoder said last */
};

/* Move what the encoder has ready into the file. */
static int write_packets(struct recording *r)
{
	int ready;
	uint64_t ns;
	while ((ready = encoder_receive(r->encoder, r->packet, r->problem)) == 1) {
		if (latency_end(&r->latency, r->packet->pts, &ns))
			stats_add_latency(r->stats, ns);
		r->stats->packet_bytes += (uint64_t)r->packet->size;
		int result = parts_write(r->parts, r->packet, r->problem);
		if (result < 0)
			return result;
	}
	return ready;
}

/*
 * A key frame each second, on a grid of the capture's clock: the same frames are key frames in every
 * process, so that players can change from one rung of a ladder to another.
 */
static bool begins_second(struct recording *r, int64_t ticks)
{
	if (r->options->encoder.gop >= 0)
		return false;
	int64_t second = av_rescale_q_rnd(r->phase_ticks + ticks, encoder_time_base(r->encoder),
		(AVRational){ 1, 1 }, AV_ROUND_DOWN);
	bool begins = second > r->second;
	r->second = second;
	return begins;
}

static int encode_ticks(struct recording *r, int64_t ticks, uint64_t captured_ns)
{
	latency_begin(&r->latency, ticks, captured_ns);
	bool is_key_due = begins_second(r, ticks);
	bool is_boundary = parts_want_key(r->parts, ticks);
	if (r->is_key_asked || is_key_due || is_boundary)
		encoder_request_key(r->encoder);
	r->is_key_asked = false;
	int result = encoder_encode(r->encoder, ticks, r->problem);
	if (result < 0)
		return result;
	r->last_ticks = ticks;
	r->last_encoded_ns = now_ns();
	return write_packets(r);
}

static int64_t ticks_of(const struct recording *r, int64_t ns)
{
	return av_rescale_q(ns, (AVRational){ 1, NS_PER_S }, encoder_time_base(r->encoder));
}

/* Encode what is loaded, or the same picture once more. Times in the file only go forward. */
static int encode(struct recording *r, uint64_t pts_ns, uint64_t captured_ns)
{
	int64_t offset_ns = pts_ns > r->base_ns ? (int64_t)(pts_ns - r->base_ns) : 0;
	int64_t phase_ns = (int64_t)(r->base_ns % NS_PER_S);
	int64_t ticks = ticks_of(r, phase_ns + offset_ns) - r->phase_ticks;
	if (ticks <= r->last_ticks)
		ticks = r->last_ticks + 1;
	return encode_ticks(r, ticks, captured_ns);
}

static int drain(struct recording *r)
{
	int result = encoder_drain(r->encoder, r->problem);
	return result < 0 ? result : write_packets(r);
}

/* Finish the part, as far as it can be. */
static int end_part(struct recording *r)
{
	struct problem ignored;
	int drained = r->encoder && parts_are_open(r->parts) ? drain(r) : 0;
	/* finishing a file may take longer than a frame may be kept */
	if (r->encoder)
		encoder_let_go(r->encoder, &ignored);
	int ended = parts_end(r->parts, r->problem);
	r->encoder = encoder_destroy(r->encoder);
	return drained < 0 ? drained : ended;
}

/* What the encoder has to say, once. */
static void say_note(struct recording *r)
{
	const char *note = encoder_note(r->encoder);
	if (!r->options->quiet && note[0] && strcmp(note, r->note) != 0)
		say("%s", note);
	snprintf(r->note, sizeof(r->note), "%s", note);
}

/* No frame is kept: this may take its time. encoder [take] */
static int begin_part(struct recording *r, struct encoder **encoder,
	const struct picture_format *picture, uint64_t base_ns)
{
	int result = end_part(r);
	if (result < 0)
		return result;
	r->encoder = TAKE_PTR(*encoder);
	r->picture = *picture;
	r->base_ns = base_ns;
	r->phase_ticks = ticks_of(r, (int64_t)(base_ns % NS_PER_S));
	r->second = -1;
	r->last_ticks = -1;
	r->stats->codec = source_encoder(r->source)->codec;
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
	return r->first_pts_ns && frame->seq == r->last.seq &&
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

static void update_stats(struct recording *r)
{
	struct sluice_view_stats view;
	source_get_stats(r->source, &view);
	/* who asked for every frame is told of those that he did not get as dropped */
	bool is_wished = r->options->view.delivery == SLUICE_MAILBOX;
	r->stats->paced = view.paced;
	r->stats->skipped = view.paced + (is_wished ? view.missed : 0);
	r->stats->dropped = is_wished ? 0 : view.missed;
	r->stats->revoked = view.revoked;
	r->stats->reconnects = view.reconnects;
}

/* The newest picture goes into the file. */
static void count_frame(struct recording *r)
{
	update_stats(r);
	stats_add_frame(r->stats, r->last.seq, r->is_new_counting);
	r->is_last_counted = true;
	r->is_new_counting = false;
}

static void count_picture(struct recording *r, const struct picture *p)
{
	struct stats *stats = r->stats;
	r->is_new_counting |= p->generation != r->last.generation && p->seq <= r->last.seq;
	r->is_last_counted = false;
	if (p->captured_ns && p->received_ns > p->published_ns)
		histogram_add(&stats->delivery, p->received_ns - p->published_ns);
	if (!r->first_pts_ns) {
		r->first_pts_ns = p->pts_ns;
		stats->begin_ns = p->taken_ns;
	}
	r->last = *p;
}

static int open_encoder(
	struct recording *r, const struct picture_format *format, struct encoder **encoder_out)
{
	unsigned flags = output_encoder_flags(r->format);
	if (r->options->cfr)
		flags |= ENCODER_CONSTANT_RATE;
	int result =
		encoder_open(encoder_out, source_encoder(r->source), format, flags, r->problem);
	/* a wish of before holds on; one that was granted once is granted again */
	struct problem problem;
	if (result == 0 && r->bit_rate > 0)
		encoder_set_bit_rate(*encoder_out, r->bit_rate, &problem);
	return result;
}

/* Opening takes time, in which a frame is taken back perhaps. Then this is for the next one. */
static int fresh_encoder(
	struct recording *r, const struct picture_format *format, struct encoder **encoder_out)
{
	_cleanup_(encoder_destroyp) struct encoder *spare = TAKE_PTR(r->spare);
	if (!spare || !picture_format_equal(format, &r->spare_picture))
		return open_encoder(r, format, encoder_out);
	*encoder_out = TAKE_PTR(spare);
	return 0;
}

/* Load it into r's encoder, or into a new one if the format is not the same. frame [take] */
static int load(struct recording *r, struct sluice_frame *frame,
	const struct picture_format *format, struct encoder **fresh_out)
{
	struct encoder *encoder = r->encoder;
	if (!encoder || !picture_format_equal(format, &r->picture)) {
		int result = fresh_encoder(r, format, fresh_out);
		if (result < 0) {
			sluice_frame_release(frame);
			return result;
		}
		encoder = *fresh_out;
	}
	encoder_set_holds(encoder, source_encoder(r->source)->holds);
	return encoder_load(encoder, frame, r->problem);
}

static bool has_all_frames(const struct recording *r)
{
	uint64_t n = r->stats->frames + (r->options->cfr ? r->stats->repeated : 0);
	return r->options->limit_frames > 0 && n >= (uint64_t)r->options->limit_frames;
}

/* With --cfr: frames of the newest picture. */
static int write_due(struct recording *r, struct cfr_frames due)
{
	for (uint64_t i = 0; i < due.n && !has_all_frames(r); i++) {
		uint64_t captured_ns = 0;
		if (r->is_last_counted) {
			r->stats->repeated++;
		} else {
			count_frame(r);
			captured_ns = r->last.captured_ns;
		}
		int result = encode_ticks(r, (int64_t)(due.first + i), captured_ns);
		if (result < 0)
			return result;
	}
	r->stats->unused = r->cfr.dropped;
	return 0;
}

/* What the file shows until this picture: known now, and written before the picture is loaded. */
static int show_until(struct recording *r, const struct picture *p)
{
	if (!r->options->cfr || !r->encoder)
		return 0;
	/* a source's mistake must not become a million frames */
	uint64_t clock_ns = r->first_pts_ns + (p->taken_ns - r->stats->begin_ns),
		 pts_ns = p->pts_ns;
	if (pts_ns > clock_ns + LEAP_NS)
		pts_ns = clock_ns;
	return write_due(r, cfr_add(&r->cfr, pts_ns));
}

/* A picture was read. */
static int show(struct recording *r, const struct picture *p, bool is_first_of_part)
{
	count_picture(r, p);
	AVRational rate = r->options->encoder.rate;
	if (r->options->cfr && is_first_of_part)
		return write_due(
			r, cfr_begin(&r->cfr, (uint64_t)rate.num, (uint64_t)rate.den, p->pts_ns));
	if (r->options->cfr)
		return 0;
	count_frame(r);
	return encode(r, p->pts_ns, p->captured_ns);
}

/* Not to be encoded: it came past the time limit, or a second time. */
static bool is_unwanted(struct recording *r, const struct sluice_frame *frame, uint64_t pts_ns)
{
	r->is_time_up = is_past_limit(r, pts_ns);
	return r->is_time_up || is_known(r, frame);
}

/* It was written again while it was read. fresh [take]: opened for it, and good for the next one. */
static void lose(struct recording *r, struct encoder **fresh, const struct picture_format *format)
{
	cfr_lose(&r->cfr);
	r->stats->torn++;
	if (!*fresh)
		return;
	r->spare = TAKE_PTR(*fresh);
	r->spare_picture = *format;
}

/* frame [take]: who encodes gives it back. MORE, 0: done, or negative. */
static int on_frame(struct recording *r, struct sluice_frame *frame)
{
	_cleanup_(encoder_destroyp) struct encoder *fresh = NULL;
	const struct picture_format format = picture_format_of(frame);
	const struct picture p = picture_of(r, frame);
	if (is_unwanted(r, frame, p.pts_ns)) {
		sluice_frame_release(frame);
		return r->is_time_up ? 0 : MORE;
	}
	int result = show_until(r, &p);
	if (result < 0) {
		sluice_frame_release(frame);
		return result;
	}
	result = load(r, frame, &format, &fresh);
	if (result == -ESTALE) {
		lose(r, &fresh, &format);
		return MORE;
	}
	bool is_first_of_part = fresh;
	/* a new file may take its time */
	if (result == 0 && fresh)
		result = encoder_let_go(fresh, r->problem);
	if (result == 0 && fresh)
		result = begin_part(r, &fresh, &format, p.pts_ns);
	if (result == 0)
		result = show(r, &p, is_first_of_part);
	if (result < 0)
		return result;
	say_note(r);
	return has_all_frames(r) ? 0 : MORE;
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

/* What the pictures' clock shows when none is on its way. */
static uint64_t settled_ns(const struct recording *r, uint64_t now)
{
	uint64_t elapsed = now - r->stats->begin_ns;
	return r->first_pts_ns + (elapsed > LATE_NS ? elapsed - LATE_NS : 0);
}

static int go_on_at_constant_rate(struct recording *r, uint64_t now)
{
	int result = write_due(r, cfr_pass(&r->cfr, settled_ns(r, now)));
	if (result < 0)
		return result;
	return has_all_frames(r) ? 0 : MORE;
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
	int result = 0;
	if (now >= r->last.taken_ns + KEPT_NS)
		result = encoder_let_go(r->encoder, r->problem);
	if (result < 0)
		return result;
	if (r->options->cfr)
		return go_on_at_constant_rate(r, now);
	if (now < r->last_encoded_ns + STILL_NS && !r->is_key_asked)
		return MORE;
	result = repeat(r, r->first_pts_ns + elapsed);
	return result < 0 ? result : MORE;
}

static int show_until_end_at_constant_rate(struct recording *r)
{
	uint64_t end = r->first_pts_ns + (now_ns() - r->stats->begin_ns);
	uint64_t limit = limit_ns(r) ? r->first_pts_ns + limit_ns(r) : UINT64_MAX;
	bool is_exact = r->is_time_up || end >= limit;
	return write_due(r, cfr_end(&r->cfr, is_exact ? limit : end, is_exact));
}

/* The last picture was seen until the end. */
static int show_until_end(struct recording *r)
{
	uint64_t now = now_ns();
	if (r->encoder && r->options->cfr)
		return show_until_end_at_constant_rate(r);
	if (!r->encoder || now < r->last_encoded_ns + LATE_NS)
		return 0;
	uint64_t elapsed = now - r->stats->begin_ns;
	if (limit_ns(r) && elapsed > limit_ns(r))
		elapsed = limit_ns(r);
	return repeat(r, r->first_pts_ns + elapsed);
}

/* How long a frame is waited for: until the clock is to be looked at, or another one is due. */
static int wait_ms(const struct recording *r)
{
	uint64_t now = now_ns();
	if (!r->options->cfr || !r->encoder)
		return WAIT_MS;
	uint64_t due = cfr_next_ns(&r->cfr), clock = settled_ns(r, now);
	if (due >= clock + WAIT_MS * NS_PER_MS)
		return WAIT_MS;
	return due > clock ? (int)((due - clock) / NS_PER_MS) + 1 : 0;
}

/* What cannot be kept is lost for repeat() alone, which says so itself. */
static void on_ending(void *data)
{
	struct recording *r = data;
	struct problem problem;
	if (r->encoder)
		encoder_forget(r->encoder, &problem);
}

/* A control_fn. */
static int on_command(void *data, enum control_command command, int64_t bit_rate,
	char answer[CONTROL_ANSWER_MAX], struct problem *problem)
{
	struct recording *r = data;
	int result = 0;
	switch (command) {
	case CONTROL_KEY:
		r->is_key_asked = true;
		break;
	case CONTROL_BIT_RATE:
		if (!r->encoder)
			return problem_set(problem, -EAGAIN, "no frame has come yet: try again");
		result = encoder_set_bit_rate(r->encoder, bit_rate, problem);
		if (result == 0)
			r->bit_rate = bit_rate;
		break;
	case CONTROL_STATS:
		stats_format_json(r->stats, answer, CONTROL_ANSWER_MAX);
		break;
	case CONTROL_QUIT:
		r->is_quit_asked = true;
		break;
	}
	return result;
}

/* MORE, 0: done, or negative. */
static int step(struct recording *r)
{
	struct sluice_frame *frame;
	control_poll(r->control);
	if (stop_is_asked() || r->is_quit_asked)
		return 0;
	int result = source_next(r->source, wait_ms(r), &frame, r->problem);
	if (result == 1)
		result = on_frame(r, frame);
	else if (result == 0)
		result = on_silence(r);
	if (result == MORE && (result = parts_check(r->parts, r->problem)) == 0)
		result = MORE;
	if (r->options->is_supervised && parts_have_begun(r->parts))
		child_tell_ready();
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
	r->spare = encoder_destroy(r->spare);
	r->stats->end_ns = r->stats->begin_ns ? now_ns() : 0;
	r->source = source_destroy(r->source);
	r->control = control_destroy(r->control);
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
		result = control_create(&r.control, options->control_path, on_command, &r, problem);
	if (result == 0)
		result = source_create(&r.source, options, on_ending, &r, problem);
	if (result == 0)
		result = run(&r);
	return finish(&r, result);
}
