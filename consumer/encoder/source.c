#include "consumer/encoder/source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/choose.h"
#include "consumer/encoder/say.h"

enum stream_state {
	STATE_UNKNOWN, /* the broker has not told of this stream */
	STATE_WAITING,
	STATE_LIVE,
};

struct source {
	const struct options *options;
	source_ending_fn ending;
	void *ending_data;
	struct choice choice;         /* for the view */
	char said[CHOICE_TEXT_BYTES]; /* of it, last */
	struct sluice *conn;          /* NULL while the broker is waited for */
	struct sluice_view *view;     /* NULL while the stream is waited for */
	bool was_subscribed;          /* --wait has done its work, --reconnect decides now */
	enum stream_state state;
	char why[sizeof(((struct sluice_stream_info *)NULL)->text)]; /* why it waits */
	struct sluice_view_stats past;                               /* of views that have ended */
};

static bool is_patient(const struct source *s)
{
	return s->was_subscribed ? s->options->reconnect : s->options->wait;
}

static void on_stream(void *data, const struct sluice_stream_info *info)
{
	static const enum stream_state states[] = {
		[SLUICE_STREAM_WAITING] = STATE_WAITING,
		[SLUICE_STREAM_LIVE] = STATE_LIVE,
		[SLUICE_STREAM_REMOVED] = STATE_UNKNOWN,
	};
	struct source *s = data;
	if (strcmp(info->name, s->options->stream) != 0)
		return;
	s->state = states[info->state];
	snprintf(s->why, sizeof(s->why), "%s", info->text);
}

static void add_stats(struct sluice_view_stats *sum, const struct sluice_view_stats *stats)
{
	sum->received += stats->received;
	sum->taken += stats->taken;
	sum->missed += stats->missed;
	sum->revoked += stats->revoked;
	sum->reconnects += stats->reconnects;
	sum->paced += stats->paced;
}

static void drop_view(struct source *s)
{
	struct sluice_view_stats stats;
	if (!s->view)
		return;
	s->ending(s->ending_data);
	sluice_view_get_stats(s->view, &stats);
	add_stats(&s->past, &stats);
	s->view = sluice_unsubscribe(s->view);
}

static void drop_connection(struct source *s)
{
	drop_view(s);
	s->conn = sluice_close(s->conn);
	s->state = STATE_UNKNOWN;
}

static int connect_to_broker(struct source *s, struct problem *problem)
{
	const struct sluice_options options = {
		.socket = s->options->socket,
		.flags = s->options->reconnect ? SLUICE_RECONNECT : 0,
	};
	int r = sluice_connect(&s->conn, &options);
	if (r < 0)
		return problem_set(problem, r, "%s", sluice_error(NULL));
	r = sluice_watch(s->conn, on_stream, s);
	return r < 0 ? problem_set(problem, r, "%s", sluice_error(s->conn)) : 0;
}

/* 0: it is not there, which subscribing says better. */
static int find_stream(
	struct source *s, struct sluice_stream_info *info_out, struct problem *problem)
{
	struct sluice_stream_info *infos = NULL;
	int n = sluice_streams(s->conn, &infos), found = 0;
	if (n < 0)
		return problem_set(problem, n, "%s", sluice_error(s->conn));
	for (int i = 0; i < n && !found; i++) {
		found = strcmp(infos[i].name, s->options->stream) == 0;
		if (found)
			*info_out = infos[i];
	}
	free(infos);
	return found;
}

/* Who encodes, and what he wants of the broker. */
static int choose_for_stream(struct source *s, struct problem *problem)
{
	const struct encoder_settings *wanted = &s->options->encoder;
	struct sluice_stream_info info;
	int found = 0;
	struct gpu *before = s->choice.gpu; /* an encoder may still be in its context */
	if (choose_is_auto(wanted->codec) || encoder_is_on_gpu(wanted))
		found = find_stream(s, &info, problem);
	s->choice = (struct choice){ 0 };
	int r = found < 0 ? found : choose(&s->choice, s->options, found ? &info : NULL, problem);
	if (!s->choice.gpu)
		s->choice.gpu = before;
	else
		gpu_close(before);
	return r;
}

static bool is_quiet(const struct source *s)
{
	return s->options->quiet;
}

static void say_choice(struct source *s)
{
	const char *text = s->choice.text;
	enum sluice_memory wanted = s->choice.request.memory;
	if (!is_quiet(s) && text[0] && strcmp(text, s->said) != 0)
		say("%s", text);
	snprintf(s->said, sizeof(s->said), "%s", text);
	if (!is_quiet(s) && sluice_view_memory(s->view) != wanted)
		say("frames come in host memory: %s", sluice_view_note(s->view));
}

/* Did the broker refuse only what the encoder would rather have? */
static bool can_do_with_less(const struct source *s, int r)
{
	return r == -EBUSY && s->choice.request.reserved_holds != s->options->view.reserved_holds;
}

/* Holds that the user did not ask for are no reason to fail: shared ones will do. */
static int subscribe_with_holds(struct source *s)
{
	struct sluice_view_request *request = &s->choice.request;
	int r = sluice_subscribe(s->conn, s->options->stream, request, &s->view);
	if (!can_do_with_less(s, r))
		return r;
	request->reserved_holds = s->options->view.reserved_holds;
	return sluice_subscribe(s->conn, s->options->stream, request, &s->view);
}

static int subscribe(struct source *s, struct problem *problem)
{
	/* what the watcher tells from here on is newer than the answer */
	s->state = STATE_UNKNOWN;
	int r = choose_for_stream(s, problem);
	if (r < 0)
		return r;
	r = subscribe_with_holds(s);
	if (r < 0)
		return problem_set(
			problem, r, "stream \"%s\": %s", s->options->stream, sluice_error(s->conn));
	bool is_lent = sluice_view_memory(s->view) != SLUICE_MEMORY_HOST;
	s->choice.encoder.holds = is_lent ? s->choice.request.reserved_holds : 0;
	say_choice(s);
	s->was_subscribed = true;
	return 0;
}

/* Is this the failure that --wait is for? */
static bool is_absence(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED || r == -ECONNRESET || r == -ENODEV;
}

/* 0: connected and subscribed, as far as that goes now. */
static int make_progress(struct source *s, struct problem *problem)
{
	int r = s->conn ? 0 : connect_to_broker(s, problem);
	/* whoever waits does so for a live stream; whoever does not wants to hear what is wrong */
	if (r == 0 && !s->view && (s->state == STATE_LIVE || !is_patient(s)))
		r = subscribe(s, problem);
	if (r == 0 || !is_patient(s) || !is_absence(r))
		return r;
	if (r != -ENOENT)
		drop_connection(s);
	return 0;
}

int source_create(struct source **source_out, const struct options *options,
	source_ending_fn ending, void *data, struct problem *problem)
{
	_cleanup_(source_destroyp) struct source *s = calloc(1, sizeof(*s));
	if (!s)
		return problem_set(problem, -ENOMEM, "out of memory");
	s->options = options;
	s->ending = ending;
	s->ending_data = data;
	s->choice.encoder = options->encoder;
	int r = make_progress(s, problem);
	if (r < 0)
		return r;
	*source_out = TAKE_PTR(s);
	return 0;
}

/* 0: go on waiting. */
static int on_removed(struct source *s, struct problem *problem)
{
	drop_view(s);
	if (is_patient(s))
		return 0;
	return problem_set(problem, -ENODEV,
		"stream \"%s\" was removed: --reconnect waits for it to come back",
		s->options->stream);
}

/* 0: go on waiting. */
static int on_disconnected(struct source *s, int r, struct problem *problem)
{
	problem_set(problem, r, "%s", sluice_error(s->conn));
	if (!is_patient(s) || !is_absence(r))
		return r;
	drop_connection(s);
	return 0;
}

/* 1, 0: none waits, or negative. */
static int poll_view(struct source *s, struct sluice_frame **frame_out, struct problem *problem)
{
	if (!s->view)
		return 0;
	int r = sluice_view_next(s->view, frame_out);
	if (r == -ENODEV)
		return on_removed(s, problem);
	/* libsluice has reconnected, with the wishes of before: others may have come first */
	if (can_do_with_less(s, r)) {
		drop_view(s);
		return subscribe(s, problem);
	}
	if (r < 0)
		return on_disconnected(s, r, problem);
	if (r == 0 && s->state == STATE_WAITING && !is_patient(s))
		return problem_set(problem, -ENODEV,
			"stream \"%s\" has no picture now (%s): --wait and --reconnect wait for it",
			s->options->stream, s->why[0] ? s->why : "its source is gone");
	return r;
}

int source_next(struct source *source, int timeout_ms, struct sluice_frame **frame_out,
	struct problem *problem)
{
	int r = make_progress(source, problem);
	if (r == 0)
		r = poll_view(source, frame_out, problem);
	if (r != 0)
		return r;
	if (!source->conn) {
		poll(NULL, 0, timeout_ms);
		return 0;
	}
	r = sluice_wait(source->conn, timeout_ms);
	if (r < 0 && r != -EINTR)
		return on_disconnected(source, r, problem);
	return poll_view(source, frame_out, problem);
}

const struct encoder_settings *source_encoder(const struct source *source)
{
	return &source->choice.encoder;
}

void source_get_stats(const struct source *source, struct sluice_view_stats *stats_out)
{
	*stats_out = source->past;
	if (!source->view)
		return;
	struct sluice_view_stats stats;
	sluice_view_get_stats(source->view, &stats);
	add_stats(stats_out, &stats);
}

struct source *source_destroy(struct source *source)
{
	if (!source)
		return NULL;
	drop_connection(source);
	choice_finish(&source->choice);
	free(source);
	return NULL;
}
