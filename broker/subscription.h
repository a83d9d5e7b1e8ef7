/*
 * A client's subscription to a view: says to the client what the fan-out decides for it.
 */
#pragma once

#include "broker/client.h"

struct subscription {
	struct subscriber subscriber; /* first member: the fan-out's part */
	struct client *client;
	struct view *view;
	struct form form;             /* what the view must be */
	struct watch *pace_timer;     /* NULL: every frame is for it */
	uint32_t offered;             /* generation sent last, 0: none */
	bool bound;                   /* the client has answered it */
	Sluice__Readiness readiness;  /* as granted */
	char note[WIRE_TEXT_MAX + 1]; /* why it is not what was asked for */
	unsigned fds_in_flight;
	uint64_t offer_number;    /* client::generations_sent of the generation sent last */
	bool postponed;           /* a generation could not be sent: try again soon */
	uint64_t bytes;           /* charged to the user */
	struct histogram latency; /* published to received, as the client says */
};

/**
 * Answer a Subscribe: Subscribed and the generation, or Error. Never fails the client.
 */
void subscription_create(struct client *client, const Sluice__Subscribe *request);

/* Leaves the view, gives back what was charged. Takes NULL. Returns NULL. */
struct subscription *subscription_destroy(struct subscription *s);

/* The client's subscription to a view, or NULL. */
struct subscription *subscription_find(struct client *client, uint32_t view);

/* Send the view's generation, if it has one. The view may have become what was not asked for. */
void subscription_rebind(struct subscription *s);

/* The client has mapped a generation, or could not. 0 or a protocol error code with a sentence. */
int subscription_on_bound(
	struct subscription *s, const Sluice__Bound *bound, char *text, size_t text_size);

/* The client gives a frame back. As above. */
int subscription_on_release(
	struct subscription *s, const Sluice__Release *release, char *text, size_t text_size);

/* Try again what was postponed. */
void subscription_retry(struct subscription *s);

/* Tell the client that the view has ended for it, and destroy. */
void subscription_end(struct subscription *s, int code, const char *text);
