/* One connection of libsluice with one view, and the scripted broker at its other end. */
#pragma once

#include "consumer/sluice_consumer.h"
#include "tests/fake_broker.h"
#include "tests/test.h"

enum { LONG_MS = 10000, SHORT_MS = 50 };

struct session {
	struct fake fake;
	struct sluice *conn;
	struct sluice_view *view;
};

extern const struct sluice_view_request fifo;

/* Run the script, connect and subscribe to "desktop". */
void begin(struct session *s, fake_script script, const struct sluice_view_request *request,
	unsigned flags);

/* Close, and wait for the script to end. */
void end(struct session *s);

/* The next frame, whatever it takes. */
struct sluice_frame *next(struct session *s);

/* Wait until the connection ends. Returns why. */
int wait_for_end(struct sluice *conn);

/* Read what the script sends until it has come to fake_tell(): sluice_dispatch()'s result. */
int sync_with(struct session *s);

struct sluice_view_stats stats_of(const struct session *s);
