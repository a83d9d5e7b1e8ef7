/* What is known of a frame beside its pixels: plain data. */
#pragma once

#include <stdint.h>

enum { FRAME_DAMAGE_MAX = 16 };

struct frame_rect {
	uint32_t x, y, width, height; /* pixels */
};

/* All times are CLOCK_MONOTONIC. */
struct frame_info {
	uint64_t pts_ns;       /* when the picture is of */
	uint64_t captured_ns;  /* the broker got it */
	uint64_t begun_ns;     /* its copy from another view began; 0: it is none */
	uint64_t copied_ns;    /* its pixels were in the slot; 0: not yet */
	uint64_t published_ns; /* it was offered to the clients */
	unsigned n_damage;     /* 0: all may have changed */
	struct frame_rect damage[FRAME_DAMAGE_MAX];
};

/* The damage of a picture that was made of one of another size: what a pixel is mixed from is in it. */
void frame_scale_damage(struct frame_info *info, uint32_t from_width, uint32_t from_height,
	uint32_t to_width, uint32_t to_height);
