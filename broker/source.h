/*
 * A stream and what feeds it: its capture, its bridge, and what becomes of them when its GPU goes and comes
 * back. One whose GPU cannot do its part now is tried again after 1 s and 2 s, and given up after the third
 * time; the stream waits meanwhile and says why.
 */
#pragma once

#include "broker/bridge.h"
#include "broker/devices.h"
#include "broker/settings.h"
#include "broker/stream.h"
#include "common/backoff.h"

struct broker;

struct source {
	struct list link; /* broker::sources */
	struct broker *broker;
	struct stream stream;
	struct bridge
		*bridge; /* NULL while it is being taken down, waits for its GPU, or was given up */
	struct device *device;  /* NULL: none is wanted */
	bool is_gpu;            /* its pictures are in GPU memory */
	struct backoff backoff; /* of starts that failed */
};

/* What a source is given by its broker, all [borrow] until the source is destroyed. */
struct source_place {
	struct loop *loop;
	struct memory_budget *budget, *gpu_budget;
	struct watch *retry; /* armed by a source that is to be tried again: see source_retry() */
};

/**
 * stream  initialised, without a listener's call under way
 * place   [borrow] for the call; what is in it as said there
 *
 * 0: it runs, or will be tried again; -ENODEV: it needs a GPU, and there is none; or another negative
 * errno: it can never run. Then error has the sentence.
 */
int source_start(
	struct source *source, const struct source_place *place, char *error, size_t error_size);

/* Its device was lost, for this reason; nothing of it is used any more. */
void source_lose_gpu(struct source *source, const char *reason);

/* Its device is there again. */
void source_regain_gpu(struct source *source, const struct source_place *place);

/* Its device will not come back in this broker's life. */
void source_give_up_gpu(struct source *source, const char *reason);

/* Try again what is due. When it is due next, CLOCK_MONOTONIC ns; UINT64_MAX: nothing is. */
uint64_t source_retry(struct source *source, const struct source_place *place);
