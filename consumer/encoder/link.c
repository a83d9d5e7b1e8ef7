#include "consumer/encoder/link.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/listen.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/queue.h"
#include "consumer/encoder/say.h"
#include "consumer/encoder/stop.h"

#define RETRY_FIRST_NS (NS_PER_S / 2)
#define RETRY_MAX_NS   (10 * NS_PER_S)
#define HELD_NS        (10 * NS_PER_S)  /* a connection that held so long was a good one */
#define ASK_AGAIN_NS   NS_PER_S         /* for a key frame that did not come */
#define HANG_UP_NS     (NS_PER_S / 2)   /* for the goodbye to a server that is gone */
#define END_GRACE_NS   (2 * NS_PER_S)   /* for what is left when all ends; under STOP_GRACE_S */
#define ABANDON_NS     (NS_PER_S / 2)   /* after that, for a call that cannot be broken */
#define FRESH_NS       (NS_PER_S / 2)   /* what a server may get that waited for its connection */
#define LOOK_NS        (50 * NS_PER_MS) /* between looks at the clock */
#define FOR_EVER_NS    (UINT64_MAX / 2)

struct link {
	struct link_settings settings;
	char *url; /* of the settings: a connection that hangs outlives its owner */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */

	/* under the lock */
	struct queue queue;
	bool is_away;      /* packets are thrown away */
	bool is_choosy;    /* … until a key frame comes */
	uint64_t asked_ns; /* for one */
	bool is_ending;
	bool is_done; /* the thread has nothing more to do; with result */
	int result;
	struct problem problem; /* if result is negative */
	struct link_stats stats;

	/* the thread's */
	struct output *output; /* NULL: not connected */
	struct track *track;
	uint64_t connected_ns; /* 0: never was */
	uint64_t retry_ns;     /* the next pause */
	uint64_t call_ns;      /* when the deadline was set */

	/* asked while a call blocks */
	_Atomic uint64_t deadline_ns;
	_Atomic uint64_t end_ns; /* of everything; 0: not yet */
	_Atomic bool is_overdue; /* a call was broken because of the deadline */
	bool is_abandoned;       /* the owner's: the thread may still run */
};

static int is_hopeless(void *data)
{
	struct link *l = data;
	uint64_t now = now_ns(), end = atomic_load(&l->end_ns);
	bool is_late = now >= atomic_load(&l->deadline_ns) || (end && now >= end);
	if (is_late)
		atomic_store(&l->is_overdue, true);
	return is_late || stop_is_overdue(NULL);
}

static void set_deadline(struct link *l, uint64_t ns)
{
	l->call_ns = now_ns();
	atomic_store(&l->is_overdue, false);
	atomic_store(&l->deadline_ns, l->call_ns + ns);
}

/* FFmpeg's words for a call that we broke say nothing. */
static int explain(struct link *l, int r, struct problem *problem)
{
	if (r == 0 || !atomic_load(&l->is_overdue))
		return r;
	return problem_set(problem, -ETIMEDOUT, "%s does not answer: given up after %.1f s",
		l->settings.url, (double)(now_ns() - l->call_ns) / (double)NS_PER_S);
}

/* Wait for a change or for this time. The lock is held. */
static void wait_until(struct link *l, uint64_t ns)
{
	const struct timespec at = { (time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S) };
	pthread_cond_timedwait(&l->changed, &l->lock, &at);
}

static int hang_up(struct link *l, struct problem *problem)
{
	uint64_t bytes;
	int r = explain(l, output_close(&l->output, &bytes, problem), problem);
	pthread_mutex_lock(&l->lock);
	l->stats.bytes += bytes;
	pthread_mutex_unlock(&l->lock);
	return r;
}

/* What waits would be seen too late: go on with a key frame. The lock is held. */
static void start_afresh(struct link *l)
{
	l->stats.late += queue_drop_packets(&l->queue);
	l->is_choosy = true;
	l->asked_ns = 0;
}

/* It took its time, and the first thing that the server shows should not be old. */
static void be_connected(struct link *l)
{
	uint64_t now = l->connected_ns = now_ns();
	pthread_mutex_lock(&l->lock);
	l->stats.was_connected = true;
	if (l->is_away || queue_is_older(&l->queue, FRESH_NS, now))
		start_afresh(l);
	l->is_away = false;
	pthread_mutex_unlock(&l->lock);
}

/* What comes while nobody looks at it is not kept: a viewer comes when he comes. */
static void await_viewer(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->is_away = true;
	l->stats.late += queue_drop_packets(&l->queue);
	pthread_mutex_unlock(&l->lock);
}

static int connect_to_server(struct link *l, struct problem *problem)
{
	const struct output_patience patience = {
		.interrupt = { is_hopeless, l },
		.timeout_us = (int64_t)(l->settings.timeout_ns / NS_PER_US),
	};
	bool listens = listen_is_asked(l->settings.url);
	if (listens)
		await_viewer(l);
	set_deadline(l, listens ? FOR_EVER_NS : l->settings.timeout_ns);
	int r = output_open(
		&l->output, l->settings.url, l->settings.format, l->track, &patience, problem);
	if (r == 0)
		be_connected(l);
	return explain(l, r, problem);
}

/* track [take] */
static int change_track(struct link *l, struct track *track, struct problem *problem)
{
	track_destroy(l->track);
	l->track = track;
	set_deadline(l, l->settings.timeout_ns);
	int r = l->output ? hang_up(l, problem) : 0;
	return r == 0 ? connect_to_server(l, problem) : r;
}

/* packet [take] */
static int send_packet(struct link *l, AVPacket *packet, struct problem *problem)
{
	set_deadline(l, l->settings.timeout_ns);
	int r = explain(l, output_write(l->output, packet, problem), problem);
	av_packet_free(&packet);
	return r;
}

/* Throw away what waits, but for the newest track. The lock is held. */
static void forget_packets(struct link *l)
{
	struct queue_item item;
	l->stats.late += l->queue.n_packets;
	while (queue_take(&l->queue, &item)) {
		av_packet_free(&item.packet);
		if (!item.track)
			continue;
		track_destroy(l->track);
		l->track = item.track;
	}
}

static void be_away(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->is_away = true;
	forget_packets(l);
	pthread_mutex_unlock(&l->lock);
}

/* Returns how many packets were not sent until now. */
static uint64_t count_return(struct link *l, bool was_there)
{
	pthread_mutex_lock(&l->lock);
	l->stats.republished += was_there;
	uint64_t late = l->stats.late;
	pthread_mutex_unlock(&l->lock);
	return late;
}

/* false: everything ends before the pause does. */
static bool pause_for(struct link *l, uint64_t ns)
{
	uint64_t until = now_ns() + ns;
	pthread_mutex_lock(&l->lock);
	while (!l->is_ending && now_ns() < until)
		wait_until(l, until);
	bool is_ending = l->is_ending;
	forget_packets(l);
	pthread_mutex_unlock(&l->lock);
	return !is_ending;
}

/* Later each time, unless the last connection held. */
static uint64_t next_pause(struct link *l)
{
	uint64_t pause = l->retry_ns;
	if (listen_is_asked(l->settings.url))
		return pause;
	l->retry_ns = pause * 2 < RETRY_MAX_NS ? pause * 2 : RETRY_MAX_NS;
	return pause;
}

/* Until it is there. 0, or negative with the sentence of the last attempt. */
static int try_again(struct link *l, uint64_t lost_ns, struct problem *problem)
{
	uint64_t patience = l->settings.patience_ns;
	int r;
	do {
		if (patience && now_ns() - lost_ns >= patience)
			return -ETIMEDOUT;
		if (!pause_for(l, next_pause(l)))
			return problem_set(problem, -ENOTCONN,
				"%s was not there when the recording ended: its last part was not "
				"sent",
				l->settings.url);
		r = connect_to_server(l, problem);
		if (r < 0)
			output_close(&l->output, &(uint64_t){ 0 }, &(struct problem){ "" });
	} while (r < 0);
	return 0;
}

static bool is_mistake(int r)
{
	return r == -EINVAL || r == -ENOMEM || r == -EPROTONOSUPPORT;
}

/*
 * Who came to an output that listens was no viewer, or a bad one: the next may be one. (FFmpeg's HTTP
 * loses a descriptor for each that it could not talk to.)
 */
static bool is_of_viewer(const struct link *l, int r)
{
	return listen_is_asked(l->settings.url) &&
	       (r == -EIO || r == -ETIMEDOUT || r == -EPIPE || r == -ECONNRESET);
}

/* A call failed, with this sentence. 0: the server is there again. */
static int recover(struct link *l, int failure, struct problem *problem)
{
	struct problem farewell;
	uint64_t lost_ns = now_ns(), late;
	bool was_there = l->connected_ns > 0;
	bool may_wait = (l->settings.wait && !is_mistake(failure)) || is_of_viewer(l, failure);
	if (!was_there && !may_wait)
		return failure;
	if (atomic_load(&l->end_ns))
		return failure;
	bool was_good = lost_ns - l->connected_ns >= HELD_NS || listen_is_asked(l->settings.url);
	if (was_there && was_good)
		l->retry_ns = RETRY_FIRST_NS;
	be_away(l);
	set_deadline(l, HANG_UP_NS);
	if (l->output)
		hang_up(l, &farewell);
	say("%s; trying again", problem->text);
	int r = try_again(l, lost_ns, problem);
	if (r < 0)
		return r;
	late = count_return(l, was_there);
	say("%s is %s after %.1f s; packets that were not sent until now: %llu", l->settings.url,
		was_there ? "back" : "there", (double)(now_ns() - lost_ns) / (double)NS_PER_S,
		(unsigned long long)late);
	return 0;
}

/* The next thing to do; false: all is done, and the owner wants the end. */
static bool next_item(struct link *l, struct queue_item *item_out)
{
	pthread_mutex_lock(&l->lock);
	bool has_one;
	while (!(has_one = queue_take(&l->queue, item_out)) && !l->is_ending)
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
	return has_one;
}

static int serve(struct link *l, struct problem *problem)
{
	struct queue_item item;
	int r = 0;
	while (r == 0 && next_item(l, &item)) {
		r = item.track ? change_track(l, item.track, problem)
			       : send_packet(l, item.packet, problem);
		if (r < 0)
			r = recover(l, r, problem);
	}
	return r;
}

static void *run(void *data)
{
	struct link *l = data;
	struct problem problem, *last = &problem, farewell;
	avlog_keep_apart();
	int r = serve(l, &problem);
	set_deadline(l, r < 0 ? HANG_UP_NS : END_GRACE_NS);
	if (r < 0)
		last = &farewell;
	int closed = l->output ? hang_up(l, last) : 0;
	if (listen_is_asked(l->settings.url))
		closed = 0; /* FFmpeg complains of a viewer who hangs up on the last byte */
	pthread_mutex_lock(&l->lock);
	l->result = r < 0 ? r : closed;
	l->problem = problem;
	l->is_done = true;
	l->is_away = true;
	forget_packets(l);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int init_lock(struct link *l)
{
	pthread_condattr_t attr;
	int r = pthread_mutex_init(&l->lock, NULL);
	if (r == 0)
		r = pthread_condattr_init(&attr);
	if (r != 0)
		return -r;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	r = pthread_cond_init(&l->changed, &attr);
	pthread_condattr_destroy(&attr);
	return -r;
}

/* Signals are the owner's: they shall end what blocks there. */
static int start_thread(struct link *l)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&l->thread, NULL, run, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

int link_create(
	struct link **link_out, const struct link_settings *settings, struct problem *problem)
{
	struct link *l = calloc(1, sizeof(*l));
	if (!l)
		return problem_set(problem, -ENOMEM, "out of memory");
	l->settings = *settings;
	l->settings.url = l->url = strdup(settings->url);
	l->retry_ns = RETRY_FIRST_NS;
	queue_init(&l->queue);
	int r = l->url ? init_lock(l) : -ENOMEM;
	if (r == 0)
		r = start_thread(l);
	if (r < 0) {
		free(l->url);
		free(l);
		return problem_set(problem, r, "no thread can be started");
	}
	*link_out = l;
	return 0;
}

/* The lock is held. */
static int failure_of(const struct link *l, struct problem *problem)
{
	if (l->is_done && l->result < 0)
		*problem = l->problem;
	return l->is_done ? l->result : 0;
}

int link_begin(struct link *link, struct track *track, struct problem *problem)
{
	pthread_mutex_lock(&link->lock);
	int r = queue_add_track(&link->queue, track, now_ns());
	link->is_choosy = false; /* an encoder begins with a key frame */
	pthread_cond_broadcast(&link->changed);
	pthread_mutex_unlock(&link->lock);
	return r < 0 ? problem_set(problem, r, "out of memory") : 0;
}

/* Shall it be sent? The lock is held. */
static bool is_wanted(struct link *l, const AVPacket *packet, uint64_t now)
{
	if (l->is_away)
		return false;
	if (queue_is_full(&l->queue, now))
		start_afresh(l);
	if (!l->is_choosy)
		return true;
	if (!(packet->flags & AV_PKT_FLAG_KEY))
		return false;
	l->is_choosy = false;
	return true;
}

int link_write(struct link *link, AVPacket *packet, struct problem *problem)
{
	uint64_t now = now_ns();
	pthread_mutex_lock(&link->lock);
	if (!is_wanted(link, packet, now) || queue_add_packet(&link->queue, packet, now) < 0)
		link->stats.late++;
	int r = failure_of(link, problem);
	pthread_cond_broadcast(&link->changed);
	pthread_mutex_unlock(&link->lock);
	av_packet_unref(packet);
	return r;
}

bool link_wants_key(struct link *link)
{
	uint64_t now = now_ns();
	pthread_mutex_lock(&link->lock);
	bool wants = !link->is_away && link->is_choosy && now - link->asked_ns >= ASK_AGAIN_NS;
	if (wants)
		link->asked_ns = now;
	pthread_mutex_unlock(&link->lock);
	return wants;
}

int link_check(struct link *link, struct problem *problem)
{
	pthread_mutex_lock(&link->lock);
	int r = failure_of(link, problem);
	pthread_mutex_unlock(&link->lock);
	return r;
}

void link_get_stats(struct link *link, struct link_stats *stats_out)
{
	pthread_mutex_lock(&link->lock);
	*stats_out = link->stats;
	pthread_mutex_unlock(&link->lock);
}

/* A call that FFmpeg cannot break (a look-up of a name) is left behind: the process ends anyway. */
static void await_end(struct link *l)
{
	uint64_t end = now_ns() + END_GRACE_NS;
	pthread_mutex_lock(&l->lock);
	l->is_ending = true;
	atomic_store(&l->end_ns, end);
	pthread_cond_broadcast(&l->changed);
	while (!l->is_done && now_ns() < end + ABANDON_NS)
		wait_until(l, now_ns() + LOOK_NS);
	l->is_abandoned = !l->is_done;
	pthread_mutex_unlock(&l->lock);
}

int link_finish(struct link *link, struct problem *problem)
{
	await_end(link);
	if (link->is_abandoned)
		return problem_set(problem, -ETIMEDOUT, "%s does not answer", link->settings.url);
	return link_check(link, problem);
}

struct link *link_destroy(struct link *link)
{
	if (!link)
		return NULL;
	if (!link->is_ending)
		await_end(link);
	if (link->is_abandoned) {
		pthread_detach(link->thread);
		return NULL;
	}
	pthread_join(link->thread, NULL);
	queue_clear(&link->queue);
	track_destroy(link->track);
	pthread_cond_destroy(&link->changed);
	pthread_mutex_destroy(&link->lock);
	free(link->url);
	free(link);
	return NULL;
}
