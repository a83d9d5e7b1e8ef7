/* What was found, as it is added up and as it is told. */
#pragma once

#include <stdbool.h>

#include "consumer/check/samples.h"
#include "consumer/sluice_consumer.h"

/* How long frames took, and what they cost. */
struct span {
	uint64_t frames;
	uint64_t first_ns, last_ns; /* when the first and the last of them were read */
	uint64_t cpu_ns;            /* of this process, at its beginning */
	struct samples captured;    /* from the broker's submission of the copy to pixels read */
	struct samples published;   /* from published to received */
	struct samples received;    /* from received to pixels read */
};

struct tally {
	uint64_t frames;
	uint64_t wrong;     /* another stamp, or none, in a frame that was valid */
	uint64_t torn;      /* of these: parts of two frames */
	uint64_t backwards; /* seq did not rise */
	uint64_t revoked;   /* not valid after reading: whatever was read is no mistake */
	uint64_t start_ns;  /* the driver's start, before the subscription */
	uint64_t first_ns;  /* from subscribing to the pixels of the first frame */
	struct span span;
};

/* Forget the figures, and begin anew; counts of what is wrong stay. */
void span_begin(struct span *span);

/* A frame was read at this time. */
void span_add(struct span *span, const struct sluice_frame *frame, uint64_t now_ns);

/* On stdout. view [borrow]: what was granted. Ends the process if it cannot be written. */
void report_print(struct tally *tally, const struct sluice_view *view, bool as_json);
