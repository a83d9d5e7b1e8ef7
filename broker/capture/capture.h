/*
 * A capture: where frames come from. pipewire.c and pattern.c implement it; bridge.c drives it.
 *
 * Everything happens on the loop thread but capture_buffer.read, which the bridge runs on the
 * source's worker. A capture never blocks the loop and never touches a pool.
 */
#pragma once

#include <stdint.h>

#include "broker/frame.h"
#include "common/format.h"
#include "common/loop.h"

struct capture;
struct capture_buffer;

/* One picture that is ready to be copied. Owned by the capture. */
struct capture_buffer {
	/**
	 * Write the picture into a slot. Runs on the worker thread.
	 *
	 * pixels  [borrow] format.size_bytes of the format that was announced
	 * seq     the number that the frame will have
	 *
	 * 0, or negative errno if the picture is not fit to be published (-ESTALE: its memory is gone).
	 */
	int (*read)(struct capture_buffer *buffer, uint8_t *pixels,
		const struct video_format *format, uint64_t seq);

	/* What is known of the frame; captured_ns and pts_ns are set, pts_ns never later than now. */
	struct frame_info info;
};

/* What a capture tells the bridge. Set once, before capture_start(). */
struct capture_listener {
	/* The frames to come are of this format: a new generation. */
	void (*format)(void *data, const struct video_format *format);

	/**
	 * The newest picture. The bridge gives it back with capture->ops->give_back(), from within this call
	 * or later; it has at most two at a time: one that is being read and one that waits.
	 */
	void (*buffer)(void *data, struct capture_buffer *buffer);

	/**
	 * A buffer that the bridge may still have is about to go away, or all of them (NULL): when this
	 * returns nobody reads it and it is given back. May block until a running read has ended.
	 */
	void (*revoke)(void *data, struct capture_buffer *buffer);

	/* The source is gone, with a sentence why; it tries again by itself. buffers are revoked. */
	void (*gone)(void *data, const char *reason);

	/* A picture was not fit to be used (corrupted, truncated, no memory): counted, with a sentence. */
	void (*refused)(void *data, const char *reason);

	/* So many pictures were given back unread, because a newer one was there. */
	void (*superseded)(void *data, unsigned count);
};

struct capture_ops {
	/* Begin to capture, and go on until destroy. 0 or negative errno. */
	int (*start)(struct capture *capture);

	/* The bridge is done with a buffer. Must not call the listener. */
	void (*give_back)(struct capture *capture, struct capture_buffer *buffer);

	/* Somebody wants frames, or nobody does any more. A hint; may be NULL. */
	void (*want)(struct capture *capture, bool wanted);

	/* Stops and frees. Revokes what the bridge has first. Returns NULL. */
	struct capture *(*destroy)(struct capture *capture);
};

/* The common part: the first member of every capture. */
struct capture {
	const struct capture_ops *ops;
	const struct capture_listener *listener;
	void *listener_data;
};

/**
 * What `--source NAME=KIND:REST` makes of KIND:REST.
 *
 * loop         [borrow] until destroyed
 * name         [borrow] of the stream, for the log
 * spec         [borrow] "pattern:640x480@30:NV12", "pipewire:TARGET"
 * capture_out  [give] to ops->destroy(); not started yet
 * error        [borrow] room for a sentence, written on failure
 *
 * 0, or -EINVAL with a sentence that says what to write instead.
 */
int capture_create(struct capture **capture_out, struct loop *loop, const char *name,
	const char *spec, char *error, size_t error_size);

/* "pattern:WIDTHxHEIGHT@FPS[:FORMAT]", rest without the kind. As capture_create(). */
int capture_pattern_create(struct capture **capture_out, struct loop *loop, const char *name,
	const char *rest, char *error, size_t error_size);

/* "pipewire:TARGET", rest without the kind. As capture_create(). */
int capture_pipewire_create(struct capture **capture_out, struct loop *loop, const char *name,
	const char *rest, char *error, size_t error_size);
