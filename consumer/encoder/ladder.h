/*
 * A ladder: one picture encoded in several sizes and bit rates, as players want that choose one by
 * what their network can carry. Each rung is a process of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "consumer/encoder/problem.h"

enum {
	LADDER_MAX = 16,       /* rungs */
	LADDER_CODEC_MAX = 31, /* bytes */
};

struct rung {
	char name[64];  /* "720p", "1280x720", "720p-libx265": no two are the same */
	uint32_t width; /* pixels; 0: what keeps the picture's proportions, as is height */
	uint32_t height;
	int64_t bit_rate;                 /* bits per second */
	char codec[LADDER_CODEC_MAX + 1]; /* "": the same as for all */
};

struct ladder {
	unsigned n; /* 0: there is none */
	struct rung rung[LADDER_MAX];
};

/* "1080p:6M,720p:3M:libx265,640x360:800k". ladder_out is written if true is returned. */
bool ladder_parse(const char *text, struct ladder *ladder_out);

/* NULL: there is no rung of that name. */
const struct rung *ladder_find(const struct ladder *ladder, const char *name);

/**
 * Where a rung's output goes: its name takes the place of each %r in `path`. Without one it is put in
 * front of a file's ending (talk.mp4: talk-720p.mp4), and behind the path of an URL
 * (rtmp://host/live/key: rtmp://host/live/key_720p).
 *
 * path_out  [give] to free()
 *
 * 0; -EINVAL: there is no place for it, with a sentence; or -ENOMEM.
 */
int ladder_path(const char *path, const char *rung, char **path_out, struct problem *problem);
