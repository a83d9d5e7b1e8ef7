/* The streams of the broker: the list, and the changes that a watcher is told of. */
#pragma once

#include "consumer/sluice_consumer.h"
#include "proto/wire.h"

/* Changes that may wait for the user: every stream goes, and as many others come. */
enum { STREAMS_CHANGES_MAX = 2 * WIRE_STREAMS_MAX };

struct streams {
	sluice_stream_fn fn; /* NULL: nobody watches */
	void *data;

	/* ListStreams is answered in order, so a count tells which answer is whose. */
	uint64_t asked;
	uint64_t answered;
	uint64_t watch_answer; /* tells the watcher what exists; 0: none */
	uint64_t list_answer;  /* sluice_streams() waits for it; 0: it does not */
	bool is_watching;      /* the broker sends changes */

	struct sluice_stream_info *list; /* for sluice_streams() */
	int n_list;                      /* entries, or negative */

	struct sluice_stream_info *changes; /* STREAMS_CHANGES_MAX of them; NULL: never watched */
	unsigned n_changes;                 /* that wait for the user, oldest first */

	char known[WIRE_STREAMS_MAX][WIRE_NAME_MAX + 1]; /* to the watcher */
	unsigned n_known;
};

void streams_finish(struct streams *streams);

/* Ask for the list; with watch for all changes from now on as well. */
void streams_ask(struct sluice *conn, bool watch);

/* The session begins: watch again, if somebody does. */
void streams_on_up(struct sluice *conn);

/* The session is lost. */
void streams_on_lost(struct sluice *conn);

/* Handlers of session.c. 0 or negative. */
int streams_on_streams(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);
int streams_on_changed(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds);

/* Call the watcher for each change that waits. Only where the user may be called. */
void streams_tell(struct sluice *conn);
