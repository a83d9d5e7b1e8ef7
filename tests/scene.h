/* The stage of the robustness tests: a broker and three healthy clients that must lose nothing. */
#pragma once

#include "tests/e2e.h"

enum { SCENE_HEALTHY = 3, SCENE_SLOTS = 12 };

struct scene {
	struct broker_process broker;
	struct healthy healthy[SCENE_HEALTHY];
	unsigned fds; /* of the broker with the healthy clients alone */
};

/* What the broker is started with: "test", 320x240 at 30 frames a second, SCENE_SLOTS slots. */
extern const char *const scene_options[];

void scene_begin(struct scene *s);

/* The broker has the descriptors that it had, and the healthy clients got every frame. */
void scene_end(struct scene *s);

/* From a fresh connection to holding n frames; the last one is raw->packet's. */
void hold_frames(struct raw *raw, unsigned n);

/* The same with one reserved frame. */
void hold_reserved(struct raw *raw);
