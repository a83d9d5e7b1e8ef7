#include "broker/bridge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/worker.h"

/* What the worker thread is given: it touches nothing else. */
struct copy_job {
	struct capture_buffer *buffer; /* NULL: revoked while it was read */
	uint8_t *pixels;
	struct video_format format;
	uint64_t seq;
	uint64_t done_ns;
};

struct bridge {
	struct capture *capture;
	struct stream *stream;
	struct worker *worker;
	struct slot *slot; /* being written; NULL: none, or its result is for nobody any more */
	struct capture_buffer *waiting; /* came while the worker was busy: the newest one */
	struct copy_job job;
	char last_refusal[STREAM_TEXT_MAX]; /* empty after a good frame; each is logged once */
	struct log_limit log;
};

#ifdef SLUICE_FAULTS
#include <unistd.h>

unsigned bridge_fault_slow_ms;
#endif

static int run_copy(void *data)
{
	struct copy_job *job = data;
	int r = job->buffer->read(job->buffer, job->pixels, &job->format, job->seq);
#ifdef SLUICE_FAULTS
	usleep(bridge_fault_slow_ms * 1000);
#endif
	job->done_ns = clock_ns();
	return r;
}

static void give_back(struct bridge *b, struct capture_buffer *buffer)
{
	b->capture->ops->give_back(b->capture, buffer);
}

static void refuse(struct bridge *b, const char *reason)
{
	b->stream->native.counts.refused++;
	if (strcmp(b->last_refusal, reason) == 0)
		return;
	snprintf(b->last_refusal, sizeof(b->last_refusal), "%s", reason);
	log_limited(&b->log, LOG_LEVEL_WARNING, "stream=%s frames refused: %s", b->stream->name,
		reason);
	snprintf(b->stream->native.reason, sizeof(b->stream->native.reason), "frames refused: %s",
		reason);
}

/* A good one again. */
static void forgive(struct bridge *b)
{
	b->last_refusal[0] = 0;
	b->stream->native.reason[0] = 0;
}

/* The worker is idle: copy this buffer into a slot. */
static void begin_copy(struct bridge *b, struct capture_buffer *buffer)
{
	struct view *view = &b->stream->native;
	struct slot *slot;
	uint64_t seq;
	if (!view->generation || view_begin(view, &slot, &seq) != POOL_OK) {
		give_back(b, buffer);
		return;
	}
	b->slot = slot;
	b->job = (struct copy_job){
		.buffer = buffer,
		.pixels = generation_pixels(view->generation, slot),
		.format = view->generation->format,
		.seq = seq,
	};
	worker_post(b->worker, run_copy, &b->job);
}

static void begin_waiting(struct bridge *b)
{
	struct capture_buffer *next = b->waiting;
	b->waiting = NULL;
	if (next)
		begin_copy(b, next);
}

static void publish(struct bridge *b, struct capture_buffer *buffer, struct slot *slot)
{
	struct frame_info info = buffer->info;
	info.copied_ns = b->job.done_ns;
	give_back(b, buffer); /* the producer has few: before the fan-out */
	if (b->stream->state != STREAM_LIVE)
		stream_set_state(b->stream, STREAM_LIVE, "");
	view_publish(&b->stream->native, slot, &info);
	if (b->last_refusal[0])
		forgive(b);
}

static void on_copied(void *data, int result)
{
	struct bridge *b = data;
	struct capture_buffer *buffer = b->job.buffer;
	struct slot *slot = b->slot;
	b->slot = NULL;
	if (slot && result == 0) {
		publish(b, buffer, slot);
	} else if (slot) {
		pool_abandon(slot);
		give_back(b, buffer);
		refuse(b,
			result == -ESTALE ? "its memory is gone or too short" : strerror(-result));
	}
	begin_waiting(b);
}

/* The running copy, if any, is for nobody: wait for its end and forget its slot. */
static void cancel_copy(struct bridge *b)
{
	if (!b->slot)
		return;
	worker_wait(b->worker);
	pool_abandon(b->slot);
	b->slot = NULL;
	give_back(b, b->job.buffer);
}

static void drop_waiting(struct bridge *b)
{
	if (!b->waiting)
		return;
	give_back(b, b->waiting);
	b->waiting = NULL;
}

static void on_format(void *data, const struct video_format *format)
{
	struct bridge *b = data;
	char what[64];
	cancel_copy(b);
	drop_waiting(b);
	int r = view_configure(&b->stream->native, format);
	if (r < 0) {
		log_error("stream=%s %s", b->stream->name, b->stream->native.reason);
		stream_set_state(b->stream, STREAM_WAITING, b->stream->native.reason);
		return;
	}
	log_info("stream=%s generation=%u %s, %u slots of %llu bytes", b->stream->name,
		b->stream->native.generation->id, format_describe(format, what, sizeof(what)),
		b->stream->native.n_slots, (unsigned long long)format->size_bytes);
	stream_set_state(b->stream, STREAM_LIVE, "");
}

static void on_buffer(void *data, struct capture_buffer *buffer)
{
	struct bridge *b = data;
	if (!worker_busy(b->worker)) {
		begin_copy(b, buffer);
		return;
	}
	if (b->waiting) {
		drop_waiting(b);
		b->stream->native.counts.superseded++;
	}
	b->waiting = buffer;
}

static void on_revoke(void *data, struct capture_buffer *buffer)
{
	struct bridge *b = data;
	if (b->slot && (!buffer || b->job.buffer == buffer))
		cancel_copy(b);
	if (b->waiting && (!buffer || b->waiting == buffer))
		drop_waiting(b);
}

static void on_gone(void *data, const char *reason)
{
	struct bridge *b = data;
	on_revoke(b, NULL);
	if (strcmp(b->stream->text, reason) != 0)
		log_warning("stream=%s waits: %s", b->stream->name, reason);
	view_forget_newest(&b->stream->native);
	stream_set_state(b->stream, STREAM_WAITING, reason);
}

static void on_refused(void *data, const char *reason)
{
	refuse(data, reason);
}

static void on_superseded(void *data, unsigned count)
{
	struct bridge *b = data;
	b->stream->native.counts.superseded += count;
}

static const struct capture_listener listener = {
	.format = on_format,
	.buffer = on_buffer,
	.revoke = on_revoke,
	.gone = on_gone,
	.refused = on_refused,
	.superseded = on_superseded,
};

int bridge_create(struct bridge **bridge_out, struct loop *loop, struct capture *capture,
	struct stream *stream)
{
	_cleanup_(bridge_destroyp) struct bridge *b = calloc(1, sizeof(*b));
	if (!b) {
		capture->ops->destroy(capture);
		return -ENOMEM;
	}
	*b = (struct bridge){
		.capture = capture,
		.stream = stream,
		.log = { .burst = 3, .interval_ns = NS_PER_S },
	};
	capture->listener = &listener;
	capture->listener_data = b;
	int r = worker_create(&b->worker, loop, "sluice-copy", on_copied, b);
	if (r < 0)
		return r;
	r = capture->ops->start(capture);
	if (r < 0)
		return r;
	*bridge_out = TAKE_PTR(b);
	return 0;
}

struct bridge *bridge_destroy(struct bridge *b)
{
	if (!b)
		return NULL;
	on_revoke(b, NULL);
	b->capture = b->capture->ops->destroy(b->capture);
	b->worker = worker_destroy(b->worker);
	free(b);
	return NULL;
}
