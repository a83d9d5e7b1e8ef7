/*
 * Makes the frames of a stream out of captured pictures: decides which view is filled from what, and
 * when. The only file that knows both sides. The copying is done by lanes, one for each view.
 *
 * The native view gets every captured picture, and its mirror a copy of the newest while somebody
 * wants the mirror. If nobody wants the native view of a host stream but its GPU view is wanted, the
 * GPU view gets the pictures directly and the CPU copies nothing.
 *
 * What makes the frames of a view and fails is tried again after 1 s and 2 s; after the third failure the
 * view, or with the native view the stream, is given up, with the reason.
 */
#pragma once

#include "broker/capture/capture.h"
#include "broker/stream.h"

struct bridge;

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

/* Nothing of the GPU is used any more; its view has ended for everybody, with this reason. Frames in host
 * memory go on. For a host stream only. */
void bridge_drop_gpu(struct bridge *bridge, const char *reason);

/* After that: there is a GPU again, and the stream's mirror has a source of memory on it. 0 or negative
 * errno: then nothing has changed. */
int bridge_regain_gpu(struct bridge *bridge, struct gpu *gpu);

/* Waits for a running copy; the stream gets no more frames. Takes NULL. Returns NULL. */
struct bridge *bridge_destroy(struct bridge *bridge);

DEFINE_CLEANUP(struct bridge *, bridge_destroy);

#ifdef SLUICE_FAULTS
/* Test: how long a mirror that nobody wants keeps its memory; 0: as ever. */
extern uint64_t bridge_test_linger_ns;
#endif
