/* What the broker knows of itself, page by page, and the same as JSON. */
#pragma once

#include <stdbool.h>

#include "consumer/error.h"

struct sluice;

/* One page. [lend] until it returns. 0 or negative errno: read no further. */
typedef int (*status_fn)(void *data, const Sluice__Status *page);

struct status {
	uint32_t request; /* that is waited for; 0: none */
	status_fn fn;
	void *data;
	int result;       /* of the request: 0 or negative */
	uint64_t next;    /* from where to go on; 0: that was all */
	bool has_clients; /* a page had some: no stream may follow */
};

/**
 * Read all pages. Blocks for the connection's timeout at most for each.
 *
 * 0; -EACCES; what fn returned; or negative as the public calls.
 */
int status_read(struct sluice *conn, status_fn fn, void *data);

/* Handlers of session.c. */
int status_on_status(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
bool status_on_refused(
	struct sluice *conn, uint32_t request, enum sluice_error_code code, const char *text);
