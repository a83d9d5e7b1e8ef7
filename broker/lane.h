/*
 * A lane brings pictures into the slots of one view: from a captured buffer, or from the newest slot
 * of another view of the stream. One at a time; at most one step on the CPU (a worker thread) and one
 * on the GPU:
 *
 *	captured memory ──CPU──▶ host slot                      a host stream
 *	captured mapping ──GPU──▶ GPU slot                      its GPU view, if the mapping can be imported
 *	captured memory ──CPU──▶ staging ──GPU──▶ GPU slot      ..., if not
 *	host slot ──GPU──▶ GPU slot                             ..., beside host readers
 *	GPU picture ──GPU──▶ GPU slot                           a GPU stream: the one ingest copy
 *	GPU slot ──GPU──▶ host slot                             its host view
 *	GPU slot ──GPU──▶ staging ──CPU──▶ host slot            ..., if a memfd cannot be imported
 *	GPU slot ──GPU──▶ GPU slot                              a converted view in GPU memory
 *	host slot ──CPU──▶ host slot                            ..., in host memory where no GPU makes it
 *
 * Everything here is for the loop thread.
 */
#pragma once

#include "broker/capture/capture.h"
#include "broker/stream.h"

struct lane;

struct lane_listener {
	/* The picture is published, or could not be (negative: -ESTALE: its memory is gone; -ENODEV: the
	 * GPU is lost; -EBUSY: it has too much to do just now). The lane is idle. buffer is NULL if it came from another view. */
	void (*done)(void *data, struct lane *lane, struct capture_buffer *buffer, int result);
};

/**
 * view      [borrow] until destroyed
 * gpu       [borrow] until destroyed; NULL: host memory only
 * listener  [borrow] until destroyed
 * lane_out  [give]
 */
int lane_create(struct lane **lane_out, struct loop *loop, struct view *view, struct gpu *gpu,
	const struct lane_listener *listener, void *listener_data);

/* Cancels. Takes NULL. Returns NULL. */
struct lane *lane_destroy(struct lane *lane);

bool lane_is_busy(const struct lane *lane);

/* Whose picture it is reading; NULL: none. */
const struct capture_buffer *lane_buffer(const struct lane *lane);

/* In done, of one that failed: was it a step on the GPU? */
bool lane_was_on_gpu(const struct lane *lane);

/**
 * Bring a captured picture in. The lane is idle; the view has a generation.
 *
 * buffer  [borrow] until done, or lane_cancel() returns
 *
 * 0; POOL_FULL: no slot was free; -EBUSY: the GPU has too much to do just now; another negative errno: the
 * GPU failed.
 * Unless it is 0 done is not called.
 */
int lane_take_buffer(struct lane *lane, struct capture_buffer *buffer);

/* If somebody wants every frame of the lane's view, the newest frame of this other view is to be brought in too,
 * whatever comes after it. Nothing if it was brought in, or is expected, already. */
void lane_expect(struct lane *lane, const struct view *from);

/* The frame of another view that is to be brought in next: the oldest of those that are expected, else the newest. NULL: there is none that is newer than those that were. */
struct slot *lane_next(struct lane *lane, const struct view *from);

/* Bring in that frame, which is kept from being written meanwhile: as it is, if it is laid out as this view,
 * else converted. As above; 0 also if there is none. */
int lane_take_from(struct lane *lane, struct view *from);

/* The slot of the other view that it is reading; NULL: none. */
const struct slot *lane_reads(const struct lane *lane);

/* The view that this is of; NULL: none. */
const struct view *lane_source(const struct lane *lane);

/**
 * Stop: when this returns nobody reads the buffer, and the slot is abandoned, or published if it was
 * announced already. Blocks for the rest of a running copy or conversion, which by the CPU may be as long as
 * the greatest picture takes: so not for what can wait until the lane is idle. done is not called.
 *
 * The buffer that is free now, NULL: there was none.
 */
struct capture_buffer *lane_cancel(struct lane *lane);

/* The view's generation, or that of one it is made from, is about to go: forget what was imported of it. The lane
 * is idle. */
void lane_forget_memory(struct lane *lane);

/* A captured mapping is about to go. */
void lane_forget_mapping(struct lane *lane, const struct capture_mapping *mapping);

/**
 * Work with another GPU from now on, or with none (NULL). Stops as lane_cancel() does if a GPU has part in
 * the picture that is under way; a copy by the CPU alone goes on.
 */
struct capture_buffer *lane_set_gpu(struct lane *lane, struct gpu *gpu);

/* Did the last picture of another view take so long that others should not have to wait for the next? */
bool lane_is_slow(const struct lane *lane);

/* How pictures come into the view, as a sentence: "uploaded from ... without a CPU copy". */
const char *lane_way(const struct lane *lane);

DEFINE_CLEANUP(struct lane *, lane_destroy);
