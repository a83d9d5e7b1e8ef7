/*
 * What the pipewire*.c files tell each other; nobody else includes this.
 *
 *	pipewire.c          the capture: finds its target, connects, notices the end, tries again
 *	pipewire_target.c   what the user wrote behind "pipewire:"
 *	pipewire_graph.c    the connection to the daemon, and which video sources it has
 *	pipewire_stream.c   one pw_stream to one node: negotiation, buffers coming and going
 *	pipewire_format.c   SPA formats and parameters <-> struct video_format
 *	pipewire_picture.c  what a buffer says about itself, checked: planes, crop, damage, time
 *	pipewire_memory.c   the memory of a buffer, and how to read it safely
 *
 * Everything runs on the loop thread but pipewire_memory_copy().
 */
#pragma once

#include <stdatomic.h>
#include <spa/buffer/buffer.h>
#include <spa/pod/builder.h>

#include "broker/capture/capture.h"
#include "common/list.h"

struct pw_context;
struct pw_core;

enum {
	PIPEWIRE_TARGET_MAX = 255, /* bytes of a node's name */
	PIPEWIRE_NODES_MAX = 1024, /* video sources that are remembered */
	PIPEWIRE_TEXT_MAX = 256,   /* bytes of a reason, with the NUL */
	PIPEWIRE_PARAMS_MAX = 8,
	PIPEWIRE_PODS_BYTES = 4096, /* room to build parameters in */
};

/* --- the target --- */

enum pipewire_target_kind {
	PIPEWIRE_BY_NAME,
	PIPEWIRE_BY_SERIAL,
	PIPEWIRE_BY_ID,
};

struct pipewire_target {
	enum pipewire_target_kind kind;
	char name[PIPEWIRE_TARGET_MAX + 1];
	uint64_t number; /* serial or id */
	bool has_remote;
	int remote_fd; /* owned until the graph takes it */
};

/**
 * "NAME", "SERIAL", "id=ID", each with ",remote-fd=N" or without.
 *
 * target_out  [give] its remote_fd is then the caller's
 * error       a sentence that says what to write instead
 *
 * 0 or -EINVAL; fd N is left as it was on failure.
 */
int pipewire_target_parse(
	struct pipewire_target *target_out, const char *rest, char *error, size_t error_size);

/* "node NAME", "object.serial 38", "node id 36". Returns buf. */
const char *pipewire_target_describe(const struct pipewire_target *target, char *buf, size_t size);

/* --- the daemon and its nodes --- */

/* A video source. */
struct pipewire_node {
	struct list link;
	uint32_t id;
	uint64_t serial; /* 0: the daemon does not say */
	bool says_video; /* false: it says nothing about itself, as drivers do, and may be named */
	char name[PIPEWIRE_TARGET_MAX + 1];
};

struct pipewire_graph;

/**
 * Connect to the daemon and begin to list its nodes.
 *
 * context    [borrow] until destroyed
 * remote_fd  [take] in every outcome: the daemon's socket; NULL: the usual socket
 * graph_out  [give]
 */
int pipewire_graph_connect(
	struct pipewire_graph **graph_out, struct pw_context *context, int *remote_fd);

struct pipewire_graph *pipewire_graph_destroy(struct pipewire_graph *graph);

struct pw_core *pipewire_graph_core(const struct pipewire_graph *graph);

/* The connection has ended. */
bool pipewire_graph_lost(const struct pipewire_graph *graph);

/* All nodes that were there at the beginning have been listed. */
bool pipewire_graph_listed(const struct pipewire_graph *graph);

/* [lend] until the loop runs again. NULL if it is not there. */
const struct pipewire_node *pipewire_graph_find(
	const struct pipewire_graph *graph, const struct pipewire_target *target);

/* Is this very node still there? */
bool pipewire_graph_has(const struct pipewire_graph *graph, const struct pipewire_node *node);

/* Has anything else than `source` been linked to our node `sink`? */
bool pipewire_graph_strayed(const struct pipewire_graph *graph, uint32_t source, uint32_t sink);

/* "there are: a, b, c" or "there is no video source". Returns buf. */
const char *pipewire_graph_describe(const struct pipewire_graph *graph, char *buf, size_t size);

/* --- formats --- */

/* What we take: any of our formats, any size, any rate, in host memory. Into builder's room. */
const struct spa_pod *pipewire_build_formats(struct spa_pod_builder *builder);

/* Memory and metadata that we take once the format is agreed on. Returns how many params. */
unsigned pipewire_build_buffers(
	struct spa_pod_builder *builder, const struct spa_pod *params[PIPEWIRE_PARAMS_MAX]);

/* 0, or -EOPNOTSUPP or -ERANGE: not a format that we offered. */
int pipewire_parse_format(const struct spa_pod *param, struct video_format *format_out);

/* --- memory --- */

/* One spa_data: mapped, or read through its descriptor, or just a pointer. */
struct pipewire_memory {
	const uint8_t *data; /* NULL: read it with pread() */
	int fd;              /* [borrow] from PipeWire until remove_buffer */
	uint64_t fd_offset;
	uint64_t limit; /* bytes that may be read */
	void *map;
	size_t map_bytes;
	const char *problem; /* why it cannot be read; NULL: it can */
};

/* Always succeeds: what cannot be read has a problem. data [borrow] until detached. */
void pipewire_memory_attach(struct pipewire_memory *memory, const struct spa_data *data);
void pipewire_memory_detach(struct pipewire_memory *memory);

struct pipewire_block {
	const struct pipewire_memory *memory;
	uint64_t offset; /* bytes, of the first row */
	uint32_t stride; /* bytes */
	uint32_t rows;
	uint32_t row_bytes;
};

/**
 * Copy rows to `to`, to_stride bytes apart. Any thread. The block must lie within memory's limit.
 * 0, or -ESTALE if the memory is shorter than it was.
 */
int pipewire_memory_copy(uint8_t *to, uint32_t to_stride, const struct pipewire_block *block);

/* --- pictures --- */

struct pipewire_plane {
	unsigned memory; /* which */
	uint64_t offset; /* bytes from its beginning */
	uint32_t stride;
};

/* A copy of a spa_chunk (the producer may change the original at any time). */
struct pipewire_chunk {
	uint64_t limit; /* bytes of memory behind it */
	uint32_t offset;
	uint32_t size;
	int32_t stride;
};

/* Where something has changed: nothing, some rectangles, or everything. */
struct pipewire_damage {
	bool all;
	unsigned n;
	struct frame_rect rect[FRAME_DAMAGE_MAX];
};

/**
 * Find the planes of the crop rectangle within the chunks.
 *
 * whole   the format as negotiated; its strides and offsets do not matter
 * crop    lies within it
 * planes  written on success only
 *
 * NULL, or a sentence why the picture is not fit to be used.
 */
const char *pipewire_locate(const struct video_format *whole, const struct frame_rect *crop,
	const struct pipewire_chunk *chunks, unsigned n_chunks,
	struct pipewire_plane planes[FORMAT_PLANES_MAX]);

/* The part of a region that lies in a picture of that size. False if there is none. */
bool pipewire_clip(const struct spa_region *region, uint32_t width, uint32_t height,
	struct frame_rect *rect_out);

/* The crop rectangle: the whole picture without (valid) metadata. False if it lies outside. */
bool pipewire_crop(const struct spa_buffer *buffer, const struct video_format *whole,
	struct frame_rect *crop_out);

/* What the producer says has changed within the crop. */
void pipewire_damage_read(struct pipewire_damage *damage, const struct spa_buffer *buffer,
	const struct frame_rect *crop);
void pipewire_damage_add(struct pipewire_damage *damage, const struct pipewire_damage *more);

/* A plausible time stamp is kept, any other replaced by now; never later than now. */
uint64_t pipewire_pts(int64_t pts, uint64_t now);

/* --- the stream --- */

enum pipewire_stream_state {
	PIPEWIRE_CONNECTING, /* no format yet, or no buffers */
	PIPEWIRE_NEGOTIATED, /* has both, and waits for the producer to start */
	PIPEWIRE_STREAMING,
	PIPEWIRE_OVER, /* an error, or the session manager has cut it */
};

struct pipewire_stream;

/**
 * Connect to a node.
 *
 * core       [borrow] until destroyed
 * node       [borrow]
 * capture    [borrow] whose listener gets formats and buffers
 * announced  [borrow] until destroyed: the format that the listener knows; kept up to date
 * name       of the stream, for people who look at the graph
 */
int pipewire_stream_open(struct pipewire_stream **stream_out, struct pw_core *core,
	const struct pipewire_node *node, struct capture *capture, struct video_format *announced,
	const char *name);

/* Revokes what the listener has, then disconnects. Not from within a PipeWire callback. */
struct pipewire_stream *pipewire_stream_destroy(struct pipewire_stream *stream);

enum pipewire_stream_state pipewire_stream_state(const struct pipewire_stream *stream);

/* In PipeWire's words; "" if it gave none. */
const char *pipewire_stream_error(const struct pipewire_stream *stream);

/* Our node's id in the graph, SPA_ID_INVALID as long as it has none. */
uint32_t pipewire_stream_node_id(const struct pipewire_stream *stream);

/* The listener is done with a buffer of a stream. */
void pipewire_stream_give_back(struct capture_buffer *base);

DEFINE_CLEANUP(struct pipewire_graph *, pipewire_graph_destroy);
DEFINE_CLEANUP(struct pipewire_stream *, pipewire_stream_destroy);
