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
	struct samples read;        /* from the broker's submission of the copy to pixels read */
	/* what that consists of */
	struct samples copy;    /* from the submission to published */
	struct samples receive; /* from published to received */
	struct samples fetch;   /* from received to pixels read */
};

/* Of the view, as it is told after its end. */
struct granted {
	enum sluice_memory memory;
	enum sluice_readiness readiness;
	struct sluice_view_stats stats;
};

struct tally {
	uint64_t frames;    /* that were valid after reading, and so were verified */
	uint64_t wrong;     /* of these: another stamp, or none */
	uint64_t torn;      /* of the wrong ones: parts of two frames */
	uint64_t backwards; /* seq did not rise */
	uint64_t early;     /* came before their pixels were there */
	uint64_t revoked;   /* not valid after reading: whatever was read is no mistake */
	uint64_t start_ns;  /* the driver's start, before the subscription */
	uint64_t first_ns;  /* from subscribing to the pixels of the first frame */
	uint64_t lost_ns; /* from the last frame to the news that there will be no more; 0: none */
	uint64_t end_ns;  /* unsubscribing and closing */
	struct granted granted;
	struct span span;
};

/* Forget the figures, and begin anew; counts of what is wrong stay. */
void span_begin(struct span *span);

/* A frame was read at this time. */
void span_add(struct span *span, const struct sluice_frame *frame, uint64_t now_ns);

/* Note what is known of the view. view [borrow] for the call */
void tally_note_view(struct tally *tally, const struct sluice_view *view);

/* On stdout. Ends the process if it cannot be written. */
void report_print(struct tally *tally, bool as_json);
