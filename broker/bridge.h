/*
 * Carries captured pictures into the slots of a stream: the only file that knows both. Each bridge
 * has its own worker thread for the copies; everything else happens on the loop.
 */
#pragma once

#include "broker/capture/capture.h"
#include "broker/stream.h"

struct bridge;

/**
 * Start to capture into a stream's native view.
 *
 * capture     [take] in every outcome
 * stream      [borrow] until bridge_destroy()
 * bridge_out  [give]
 */
int bridge_create(struct bridge **bridge_out, struct loop *loop, struct capture *capture,
	struct stream *stream);

/* Waits for a running copy; the stream gets no more frames. Takes NULL. Returns NULL. */
struct bridge *bridge_destroy(struct bridge *bridge);

DEFINE_CLEANUP(struct bridge *, bridge_destroy);

#ifdef SLUICE_FAULTS
/* Test: wait this long after a slot was written before it is published, in ms. */
extern unsigned bridge_fault_slow_ms;
#endif
