/*
 * A stream that can be had in host and in GPU memory: the real server, bridge, lanes and GPU, with
 * the peers of rig.h. Played are the source of the pictures, and the driver as mirror_driver.h says.
 *
 * Each picture has a number of its own stamped into it, which is not the frame's: that the right one
 * came, and from where, is seen in the slot.
 */
#pragma once

#include <stdatomic.h>

#include "broker/bridge.h"
#include "broker/gpu/gpu.h"
#include "tests/mirror_driver.h"
#include "tests/rig.h"
#include "tests/test.h"

enum {
	MIRROR_BUFFERS = 8,
	MIRROR_SIDE = 64,     /* pixels of the first format, width and height */
	MIRROR_HOLDS = 4,     /* frames that a peer may hold, and that may wait for it */
	MIRROR_QUIET_MS = 20, /* long enough for what would happen at once */
};

enum mirror_source {
	MIRROR_MAPPED,   /* host memory that is mapped: a GPU may read it */
	MIRROR_UNMAPPED, /* host memory that only read() can read */
	MIRROR_GPU,      /* drawn on the GPU */
};

/* One picture. */
struct mirror_buffer {
	struct capture_buffer base;
	struct capture_mapping mapping;
	struct mirror_scene *scene;
	uint8_t *writable; /* the memory of the mapping */
	struct gpu_draw draw;
	uint32_t number;
	bool lent;
};

struct mirror_scene {
	struct rig rig;
	struct stream *stream;
	struct gpu *gpu; /* NULL: lost */
	struct slot_device device;
	struct bridge *bridge;
	bool gpu_is_lost; /* as it said */

	/* the source */
	enum mirror_source source;
	struct capture capture;
	struct video_format format;
	struct mirror_buffer buffer[MIRROR_BUFFERS];
	uint32_t last_number;
	atomic_bool holds_reads; /* a read() does not end until this is false again */
	atomic_uint n_reads;
	unsigned n_records;
};

/* One stream, "test", with a format and no picture yet. Skips the test where there is no GPU. */
void mirror_open(struct mirror_scene *s, enum mirror_source source);

/* The same without a format: unmapped host memory, of which mirror_resize() makes the first one. */
void mirror_open_empty(struct mirror_scene *s);

/* The same with a real source: capture(s) makes it when the GPU is there. */
void mirror_open_with(struct mirror_scene *s, enum mirror_source source,
	struct capture *(*capture)(struct mirror_scene *s));

/* The peers are closed already. Nothing may be left of anything. */
void mirror_close(struct mirror_scene *s);

/* The view in host or in GPU memory. */
struct view *mirror_host(struct mirror_scene *s);
struct view *mirror_gpu(struct mirror_scene *s);

/* The source has another format from now on. */
void mirror_resize(struct mirror_scene *s, uint32_t width, uint32_t height);

/* The source has a picture. Returns its number. */
uint32_t mirror_offer(struct mirror_scene *s);

/* The same, and it is complete in every view that somebody wants. */
uint32_t mirror_feed(struct mirror_scene *s);

/* The buffer that was offered last is about to go away. */
void mirror_revoke_last(struct mirror_scene *s);

/* Fails the test unless the slot has this picture. The GPU is idle. */
void mirror_check_picture(
	struct mirror_scene *s, const struct view *view, unsigned slot, uint32_t number);

/* --- Time ------------------------------------------------------------------------------------- */

void mirror_run_ms(struct mirror_scene *s, unsigned ms);

/* Until this is so; fails the test after 10 s. */
void mirror_run_until(struct mirror_scene *s, bool (*is_so)(struct mirror_scene *s));

/* --- Peers ------------------------------------------------------------------------------------ */

/* What mirror_consume() asks for. */
Sluice__Subscribe mirror_request(Sluice__Memory memory, Sluice__Readiness readiness);

/* Connected, granted what it asks for, bound: every frame comes from now on. */
void mirror_consume(struct mirror_scene *s, struct peer *peer, Sluice__Memory memory,
	Sluice__Readiness readiness);
void mirror_consume_host(struct mirror_scene *s, struct peer *peer);
void mirror_consume_gpu(struct mirror_scene *s, struct peer *peer, Sluice__Readiness readiness);

/* Run until there is a packet, which is this one. */
void mirror_await(struct mirror_scene *s, struct peer *peer, int body);

/* ..., a frame that is complete. It is held. */
void mirror_await_frame(struct mirror_scene *s, struct peer *peer, uint64_t seq);

/* ..., one whose pixels are not there yet, with so many descriptors. It is held. */
void mirror_await_early(struct mirror_scene *s, struct peer *peer, uint64_t seq, unsigned n_fds);

/* ..., a complete frame with this picture, which is given back. */
void mirror_take(struct mirror_scene *s, struct peer *peer, uint64_t seq, uint32_t number);

/* ..., Ended, and the reason says this. */
void mirror_await_end(struct mirror_scene *s, struct peer *peer, const char *says);

/* Nothing comes, not even a little later. */
void mirror_expect_silence(struct mirror_scene *s, struct peer *peer);

/* The timeline of the nth subscriber of the GPU view, from 0, in the order in which they came. */
struct gpu_timeline *mirror_timeline(struct mirror_scene *s, unsigned nth);

/* Run until it has this value. */
void mirror_await_value(struct mirror_scene *s, struct gpu_timeline *timeline, uint64_t value);

/* --- Losing the GPU --------------------------------------------------------------------------- */

/* The driver says so at the next end of work. */
void mirror_break_gpu(void);

/* ..., or at the next call of this function of Vulkan. */
void mirror_break_gpu_in(const char *function);

/* The broker's part: the bridge does without, and the device is closed. */
void mirror_drop_gpu(struct mirror_scene *s, const char *reason);

/* It is whole and opened again. */
void mirror_regain_gpu(struct mirror_scene *s);
