/*
 * The part of a driver that lavapipe lacks, played over it: it exports semaphores, and its work takes until
 * the test lets it end. What it exports are eventfds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct gpu_timeline;

/* What it is told to do, and what it was asked to. */
struct mirror_driver {
	bool exports_nothing; /* set before the device is opened */
	bool refuses_imports; /* of host memory */
	bool refuses_maps;
	bool holds_work;    /* see below */
	unsigned n_submits; /* since it was last set to 0 */
	unsigned n_maps;
	unsigned n_sync_fds; /* each stands at its own number */
};

extern struct mirror_driver mirror_driver;

/* Of all devices that are opened from now on; one at a time. */
void mirror_driver_play(void);

/* Work that is submitted from now on does not end, until it may or the broker blocks for it. */
void mirror_hold_work(void);
void mirror_let_work_end(void);

/* As its client can. */
void mirror_signal(struct gpu_timeline *timeline, uint64_t value);
