/*
 * A listener for a capture, and programs beside it, for the tests of captures. The listener does what
 * the broker's bridge does: it reads on a worker thread, one buffer at a time, while one more may
 * wait. It checks that each frame carries a newer stamp than the one before.
 */
#pragma once

#include <sys/types.h>

#include "broker/capture/capture.h"
#include "common/worker.h"

struct probe {
	struct loop *loop;
	struct watch *tick;
	struct worker *worker;
	struct capture *capture;
	struct capture_buffer *reading, *waiting;
	bool cancelled;   /* what is being read is for nobody any more */
	unsigned slow_ms; /* that a read takes longer */
	uint8_t *pixels;
	struct video_format format;

	unsigned formats, frames, stale, refused, superseded, gone;
	char reason[256];  /* of the last gone */
	char refusal[256]; /* of the last refused */
	struct frame_info info;
	uint32_t number; /* of the last frame */
	unsigned mapped; /* frames that could be read in a mapping too */
	bool is_mapped_wrongly;
	struct {
		bool is_mapped, is_wrong;
	} seen;             /* by the worker in what it reads now */
	unsigned forgotten; /* mappings that are no more */
	uint32_t divisible; /* if set: numbers that are divisible by it are failures */

	bool (*until)(const struct probe *);
	unsigned want;
	uint64_t deadline;
	bool reached;
};

/* Capture "pipewire:TARGET". */
void probe_open(struct probe *probe, const char *target);

/* Ends the programs beside us, too. */
void probe_close(struct probe *probe);

/* Run until the condition holds (true) or the time is over. want is for the condition. */
bool probe_run(
	struct probe *probe, unsigned seconds, bool (*until)(const struct probe *), unsigned want);

/* Conditions: so many, or more. */
bool has_frames(const struct probe *probe);
bool has_formats(const struct probe *probe);
bool has_stale(const struct probe *probe);
bool has_gone(const struct probe *probe);
bool has_refused(const struct probe *probe);

/* Count from 0 again: the next frames come from another producer, whose numbers begin anew. */
void probe_forget(struct probe *probe);

/* Run a shell command; it dies with us. */
pid_t start(const char *command);
void stop(pid_t pid);
void stop_all(void);
