/*
 * Pictures of another format and size by the CPU: libswscale. The only files that see it are these;
 * without it (SLUICE_SCALE off) nothing can be converted, and the sentence says so.
 *
 * As on a GPU: where the picture gets smaller each pixel is the mean of the area that it covers, else
 * it is interpolated bilinearly; chroma is sited left.
 */
#pragma once

#include "common/cleanup.h"
#include "common/format.h"

struct scaler;

/* Can the one be made of the other? why_out [lend] for ever: if not, a sentence; may be NULL. Pure. */
bool scale_can(
	const struct video_format *from, const struct video_format *to, const char **why_out);

/**
 * Takes milliseconds: for a thread of its own. From any thread.
 *
 * scaler_out  [give]
 *
 * 0; -EOPNOTSUPP: these sizes are too far apart for it; -ENOMEM.
 */
int scaler_create(
	struct scaler **scaler_out, const struct video_format *from, const struct video_format *to);

/* Is it for these two? */
bool scaler_fits(const struct scaler *scaler, const struct video_format *from,
	const struct video_format *to);

/**
 * Convert. From any thread, one at a time. Blocks for as long as that takes.
 *
 * from, to  [borrow] pictures, laid out as their formats say
 *
 * 0, or -EIO.
 */
int scaler_run(struct scaler *scaler, const uint8_t *from, uint8_t *to);

/* Takes NULL. Returns NULL. */
struct scaler *scaler_destroy(struct scaler *scaler);

DEFINE_CLEANUP(struct scaler *, scaler_destroy);
