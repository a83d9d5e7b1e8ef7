/*
 * The one gate: which message is allowed in which session state, with how many descriptors, and for
 * which role. A handler sees only what passed. Decides only.
 */
#pragma once

#include <stddef.h>

enum session_state {
	SESSION_NEW,   /* connected, has not said Hello */
	SESSION_READY, /* said Hello */
	SESSION_ENDED, /* was sent Bye */
	SESSION_STATES,
};

/* A message's number in the protocol's Packet and what came with it. */
struct gate_input {
	int body; /* Sluice__Packet__BodyCase */
	unsigned n_fds;
	enum session_state state;
	unsigned roles; /* enum access_role */
};

/**
 * 0: the handler may run. Otherwise an error code of the protocol (Sluice__ErrorCode), with a
 * sentence: PROTOCOL ends the session, PERMISSION only refuses the request.
 */
int gate_check(const struct gate_input *input, char *text, size_t text_size);
