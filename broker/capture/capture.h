/*
 * A capture: where frames come from. pipewire.c and pattern.c implement it; bridge.c drives it.
 *
 * Everything happens on the loop thread but capture_buffer.read, which the bridge runs on the
 * source's worker. A capture never blocks the loop and never touches a pool.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "broker/frame.h"
#include "broker/gpu/gpu.h"
#include "common/format.h"
#include "common/loop.h"

struct capture;
struct capture_buffer;

/* A picture as it lies in this process's memory, so that a GPU can read it without a CPU copy. */
struct capture_mapping {
	void *map; /* [lend] as long as the buffer exists: until revoke(buffer) returns */
	uint64_t size_bytes;
	uint64_t offset[FORMAT_PLANES_MAX]; /* bytes from map to each plane, for this picture */
	uint32_t stride[FORMAT_PLANES_MAX]; /* bytes from row to row */
};

/* One picture that is ready to be copied. Owned by the capture. */
struct capture_buffer {
	/**
	 * Write the picture into a slot. Runs on the worker thread. NULL if record is set.
	 *
	 * pixels  [borrow] format.size_bytes of the format that was announced
	 * seq     the number that the frame will have
	 *
	 * 0, or negative errno if the picture is not fit to be published (-ESTALE: its memory is gone).
	 */
	int (*read)(struct capture_buffer *buffer, uint8_t *pixels,
		const struct video_format *format, uint64_t seq);

	/* The picture in memory that a GPU may be able to read; NULL: only read() can. */
	const struct capture_mapping *mapping;

	/**
	 * The picture is in memory of the stream's GPU: say what is to be submitted for it to get into a
	 * slot. NULL for host memory. On the loop.
	 *
	 * to    [borrow] for the call
	 * work  draw and copy are set here, to what the buffer [lend]s until it is given back
	 */
	void (*record)(struct capture_buffer *buffer, const struct gpu_picture *to, uint64_t seq,
		struct gpu_work *work);

	/* Set by the bridge before it gives the buffer back: a frame was made of it. */
	bool published;

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

	/* Everybody has given the newest frame back. For sources that go by it; may be NULL. */
	void (*next)(struct capture *capture);

	/* Stops and frees. Revokes what the bridge has first. Returns NULL. */
	struct capture *(*destroy)(struct capture *capture);
};

/* The common part: the first member of every capture. */
struct capture {
	const struct capture_ops *ops;
	const struct capture_listener *listener;
	void *listener_data;
};

/* What a capture is made for. */
struct capture_place {
	struct loop *loop; /* [borrow] until destroyed */
	const char *name;  /* [borrow] of the stream, for the log */
	struct gpu *gpu;   /* [borrow] until destroyed; NULL: the stream has none */
};

/**
 * What `--source NAME=KIND:REST` makes of KIND:REST.
 *
 * place        [borrow] for the call
 * spec         [borrow] "pattern:640x480@30:NV12", "pipewire:TARGET"
 * capture_out  [give] to ops->destroy(); not started yet
 * error        [borrow] room for a sentence, written on failure
 *
 * 0, or -EINVAL with a sentence that says what to write instead.
 */
int capture_create(struct capture **capture_out, const struct capture_place *place,
	const char *spec, char *error, size_t error_size);

/* Does this source give pictures in GPU memory? */
bool capture_is_gpu(const char *spec);

/* "pattern:WIDTHxHEIGHT@FPS[:FORMAT][:gpu]", rest without the kind. As capture_create(). */
int capture_pattern_create(struct capture **capture_out, const struct capture_place *place,
	const char *rest, char *error, size_t error_size);

/**
 * The pattern in GPU memory, drawn ahead: a frame is one copy on the GPU.
 *
 * fps  0: as capture_ops.next says
 */
int capture_gpu_pattern_create(struct capture **capture_out, const struct capture_place *place,
	const struct video_format *format, unsigned fps);

/* "pipewire:TARGET", rest without the kind. As capture_create(). */
int capture_pipewire_create(struct capture **capture_out, const struct capture_place *place,
	const char *rest, char *error, size_t error_size);
