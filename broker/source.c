#include "broker/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/gpu_slots.h"
#include "common/log.h"

static struct gpu *gpu_of(const struct source *source)
{
	return source->device ? source->device->gpu : NULL;
}

/* Slots on its GPU; without ops if it has none. Says why. */
static struct slot_source gpu_slots_of(struct source *source, const struct source_place *place)
{
	struct device *device = source->device;
	snprintf(source->stream.gpu_text, sizeof(source->stream.gpu_text), "%s",
		device ? device->text : "the stream is to have no GPU (--gpu, --gpu-of)");
	if (!device || !device->gpu)
		return (struct slot_source){ 0 };
	return gpu_slots(device->gpu, &device->description, place->gpu_budget);
}

/* Where its slots are. -ENODEV: it needs a GPU, and there is none. */
static int set_memory(
	struct source *source, const struct source_place *place, char *error, size_t error_size)
{
	struct stream *stream = &source->stream;
	struct slot_source host = slots_host(place->budget);
	struct slot_source gpu = gpu_slots_of(source, place);
	if (source->is_gpu && !gpu.ops) {
		snprintf(error, error_size, "it needs a GPU: %s", stream->gpu_text);
		return -ENODEV;
	}
	stream_set_memory(stream, source->is_gpu ? &gpu : &host, source->is_gpu ? &host : &gpu);
	return 0;
}

static void give_up(struct source *source, const char *reason)
{
	source->backoff = (struct backoff){ .failures = BACKOFF_TRIES };
	stream_give_up(&source->stream, reason);
}

/* The GPU has failed it, which may pass. */
static void wait_for_retry(
	struct source *source, const struct source_place *place, const char *reason)
{
	char text[512];
	backoff_fail(&source->backoff, clock_ns());
	bool is_over = backoff_is_latched(&source->backoff);
	snprintf(text, sizeof(text), "cannot start: %.400s%s", reason,
		is_over ? "; it was tried three times" : "; tried again soon");
	log_error("stream=%s %s", source->stream.name, text);
	if (is_over)
		give_up(source, text);
	else
		stream_set_state(&source->stream, STREAM_WAITING, text);
	watch_arm(place->retry, 0);
}

int source_start(
	struct source *source, const struct source_place *place, char *error, size_t error_size)
{
	struct capture *capture;
	struct capture_place where = {
		.loop = place->loop,
		.name = source->stream.name,
		.gpu = gpu_of(source),
	};
	int r = set_memory(source, place, error, error_size);
	if (r < 0)
		return r;
	r = capture_create(&capture, &where, source->stream.source, error, error_size);
	if (r < 0)
		return r;
	r = bridge_create(&source->bridge, place->loop, capture, &source->stream, where.gpu);
	if (r == 0) {
		backoff_reset(&source->backoff);
		return 0;
	}
	if (source->is_gpu) {
		/* a lost device is its own story */
		if (!gpu_is_lost(where.gpu))
			wait_for_retry(source, place, gpu_error(where.gpu));
		return 0;
	}
	snprintf(error, error_size, "cannot start: %s", strerror(-r));
	return r;
}

static void restart(struct source *source, const struct source_place *place)
{
	char reason[512];
	if (source_start(source, place, reason, sizeof(reason)) == 0)
		return;
	log_error("stream=%s %s", source->stream.name, reason);
	give_up(source, reason);
}

void source_lose_gpu(struct source *source, const char *reason)
{
	snprintf(source->stream.gpu_text, sizeof(source->stream.gpu_text), "%s", reason);
	if (!source->is_gpu) {
		if (source->bridge)
			bridge_drop_gpu(source->bridge, reason);
		return;
	}
	source->bridge = bridge_destroy(source->bridge);
	stream_end_views(
		&source->stream, reason); /* converted ones too have memory of the device */
	stream_set_state(&source->stream, STREAM_WAITING, reason);
}

/* The pictures of a host stream never stopped: it has GPU memory to offer again. */
static void regain_mirror(struct source *source, const struct source_place *place)
{
	struct slot_source gpu = gpu_slots_of(source, place), none = { 0 };
	if (!source->bridge)
		return;
	stream_set_mirror(&source->stream, &gpu);
	if (bridge_regain_gpu(source->bridge, gpu_of(source)) < 0)
		stream_set_mirror(&source->stream, &none);
}

void source_regain_gpu(struct source *source, const struct source_place *place)
{
	if (source->is_gpu)
		restart(source, place);
	else
		regain_mirror(source, place);
}

void source_give_up_gpu(struct source *source, const char *reason)
{
	snprintf(source->stream.gpu_text, sizeof(source->stream.gpu_text), "%s", reason);
	if (source->is_gpu)
		give_up(source, reason);
}

uint64_t source_retry(struct source *source, const struct source_place *place)
{
	struct backoff *backoff = &source->backoff;
	if (source->bridge || backoff->failures == 0 || !gpu_of(source))
		return UINT64_MAX;
	if (backoff_allows(backoff, clock_ns()))
		restart(source, place);
	bool is_pending = !source->bridge && backoff->failures > 0 && !backoff_is_latched(backoff);
	return is_pending ? backoff->retry_ns : UINT64_MAX;
}
