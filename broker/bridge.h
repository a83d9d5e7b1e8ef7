/*
 * Makes the frames of a stream out of captured pictures: decides which view is filled from what, and
 * when. The only file that knows both sides. The copying is done by lanes, one for each view.
 *
 * The native view gets every captured picture, and its mirror a copy of the newest while somebody
 * wants the mirror. If nobody wants the native view of a host stream but its GPU view is wanted, the
 * GPU view gets the pictures directly and the CPU copies nothing.
 */
#pragma once

#include "broker/capture/capture.h"
#include "broker/stream.h"

struct bridge;

struct bridge_listener {
	/* The GPU is lost. Called from deep within: act later. May be called more than once. */
	void (*gpu_lost)(void *data, struct gpu *gpu);
};

/**
 * Start to capture into a stream.
 *
 * capture     [take] in every outcome
 * stream      [borrow] until bridge_destroy(); its memory is set
 * gpu         [borrow] until bridge_destroy() or bridge_drop_gpu(); NULL: host memory only
 * bridge_out  [give]
 */
int bridge_create(struct bridge **bridge_out, struct loop *loop, struct capture *capture,
	struct stream *stream, struct gpu *gpu);

/* listener [borrow] until bridge_destroy() */
void bridge_set_listener(
	struct bridge *bridge, const struct bridge_listener *listener, void *listener_data);

/* Nothing of the GPU is used any more; its view has ended for everybody, with this reason. For a host
 * stream only. */
void bridge_drop_gpu(struct bridge *bridge, const char *reason);

/* Waits for a running copy; the stream gets no more frames. Takes NULL. Returns NULL. */
struct bridge *bridge_destroy(struct bridge *bridge);

DEFINE_CLEANUP(struct bridge *, bridge_destroy);
