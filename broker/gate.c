#include "broker/gate.h"

#include <stdio.h>

#include "broker/access.h"
#include "proto/wire.h"

struct rule {
	unsigned states; /* bits of session_state; 0: no client may send it */
	unsigned n_fds;
	unsigned role; /* 0: any */
};

static const struct rule rules[] = {
	[SLUICE__PACKET__BODY_HELLO] = { 1u << SESSION_NEW, 0, 0 },
	[SLUICE__PACKET__BODY_LIST_STREAMS] = { 1u << SESSION_READY, 0, 0 },
	[SLUICE__PACKET__BODY_SUBSCRIBE] = { 1u << SESSION_READY, 0, ROLE_CONSUME },
	[SLUICE__PACKET__BODY_UNSUBSCRIBE] = { 1u << SESSION_READY, 0, ROLE_CONSUME },
	[SLUICE__PACKET__BODY_BOUND] = { 1u << SESSION_READY, 0, ROLE_CONSUME },
	[SLUICE__PACKET__BODY_RELEASE] = { 1u << SESSION_READY, 0, ROLE_CONSUME },
	[SLUICE__PACKET__BODY_STATUS_REQUEST] = { 1u << SESSION_READY, 0, ROLE_OBSERVE },
};

enum { N_RULES = sizeof(rules) / sizeof(rules[0]) };

static const char *const state_names[SESSION_STATES] = {
	[SESSION_NEW] = "before hello",
	[SESSION_READY] = "after hello",
	[SESSION_ENDED] = "after bye",
};

int gate_check(const struct gate_input *input, char *text, size_t text_size)
{
	const char *name = wire_body_name(input->body);
	if (input->body <= 0 || input->body >= N_RULES || rules[input->body].states == 0) {
		snprintf(text, text_size, "message \"%s\" is not for a client to send", name);
		return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
	}
	const struct rule *rule = &rules[input->body];
	if (!(rule->states & 1u << input->state)) {
		snprintf(text, text_size, "message \"%s\" is not allowed %s", name,
			state_names[input->state]);
		return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
	}
	if (input->n_fds != rule->n_fds) {
		snprintf(text, text_size, "message \"%s\" came with %u descriptors, not %u", name,
			input->n_fds, rule->n_fds);
		return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
	}
	if (rule->role && !(input->roles & rule->role)) {
		snprintf(text, text_size,
			"this user may not send \"%s\": the broker's configuration decides ([access])",
			name);
		return SLUICE__ERROR_CODE__ERROR_PERMISSION;
	}
	return 0;
}
