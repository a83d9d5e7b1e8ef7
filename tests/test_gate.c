/* Every message in every state with every number of descriptors and every role. */
#include "tests/test.h"

#include <limits.h>
#include <string.h>

#include "broker/access.h"
#include "broker/gate.h"
#include "common/fd.h"
#include "proto/wire.h"

/* What PROTOCOL.md says: the state and the role that a client's message needs. */
static const struct {
	int body;
	enum session_state state;
	unsigned role;
} permitted[] = {
	{ SLUICE__PACKET__BODY_HELLO, SESSION_NEW, 0 },
	{ SLUICE__PACKET__BODY_LIST_STREAMS, SESSION_READY, 0 },
	{ SLUICE__PACKET__BODY_SUBSCRIBE, SESSION_READY, ROLE_CONSUME },
	{ SLUICE__PACKET__BODY_UNSUBSCRIBE, SESSION_READY, ROLE_CONSUME },
	{ SLUICE__PACKET__BODY_BOUND, SESSION_READY, ROLE_CONSUME },
	{ SLUICE__PACKET__BODY_RELEASE, SESSION_READY, ROLE_CONSUME },
	{ SLUICE__PACKET__BODY_STATUS_REQUEST, SESSION_READY, ROLE_OBSERVE },
};

static int expected(const struct gate_input *input)
{
	for (unsigned i = 0; i < sizeof(permitted) / sizeof(permitted[0]); i++) {
		if (permitted[i].body != input->body)
			continue;
		if (permitted[i].state != input->state || input->n_fds > 0)
			return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
		bool may = !permitted[i].role || (permitted[i].role & input->roles);
		return may ? 0 : SLUICE__ERROR_CODE__ERROR_PERMISSION;
	}
	return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
}

static void check(const struct gate_input *input)
{
	char row[96], text[WIRE_TEXT_MAX + 1] = "";
	snprintf(row, sizeof(row), "%s (%d), %u fds, state %d, roles %u",
		wire_body_name(input->body), input->body, input->n_fds, (int)input->state,
		input->roles);
	int code = gate_check(input, text, sizeof(text));
	CHECK_ROW(code == expected(input), row);
	CHECK_ROW((code != 0) == (text[0] != 0), row);
}

TEST(every_message_state_number_of_descriptors_and_role)
{
	static const unsigned n_fds[] = { 0, 1, 2, FDSET_MAX };
	unsigned checked = 0;
	for (int body = -2; body < 64; body++)
		for (int state = 0; state < SESSION_STATES; state++)
			for (unsigned i = 0; i < sizeof(n_fds) / sizeof(n_fds[0]); i++)
				for (unsigned roles = 0; roles <= ROLE_ALL; roles++) {
					struct gate_input input = { body, n_fds[i],
						(enum session_state)state, roles };
					check(&input);
					checked++;
				}
	CHECK_EQ(checked, 66 * SESSION_STATES * 4 * (ROLE_ALL + 1));
}

TEST(every_message_of_the_protocol_has_a_side)
{
	for (unsigned i = 0; i < sluice__packet__descriptor.n_fields; i++) {
		int body = (int)sluice__packet__descriptor.fields[i].id;
		char text[128];
		struct gate_input input = { body, 0, body == 1 ? SESSION_NEW : SESSION_READY,
			ROLE_ALL };
		bool from_client = body <= SLUICE__PACKET__BODY_STATUS_REQUEST;
		CHECK_ROW((gate_check(&input, text, sizeof(text)) == 0) == from_client,
			wire_body_name(body));
	}
}

TEST(numbers_that_no_message_has_are_refused)
{
	static const int bodies[] = { INT_MIN, -1, 0, 8, 32, 1000, INT_MAX };
	for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		char text[128];
		struct gate_input input = { bodies[i], 0, SESSION_READY, ROLE_ALL };
		CHECK_EQ(
			gate_check(&input, text, sizeof(text)), SLUICE__ERROR_CODE__ERROR_PROTOCOL);
		CHECK_STR(text, "message \"unknown\" is not for a client to send");
	}
}

TEST(the_sentence_says_what_was_wrong)
{
	static const struct {
		struct gate_input input;
		const char *says;
	} rows[] = {
		{ { SLUICE__PACKET__BODY_FRAME, 0, SESSION_READY, ROLE_ALL },
			"message \"frame\" is not for a client to send" },
		{ { SLUICE__PACKET__BODY_RELEASE, 0, SESSION_NEW, ROLE_ALL },
			"message \"release\" is not allowed before hello" },
		{ { SLUICE__PACKET__BODY_HELLO, 0, SESSION_READY, ROLE_ALL },
			"message \"hello\" is not allowed after hello" },
		{ { SLUICE__PACKET__BODY_HELLO, 0, SESSION_ENDED, ROLE_ALL },
			"message \"hello\" is not allowed after bye" },
		{ { SLUICE__PACKET__BODY_BOUND, 2, SESSION_READY, ROLE_ALL },
			"message \"bound\" came with 2 descriptors, not 0" },
		{ { SLUICE__PACKET__BODY_SUBSCRIBE, 0, SESSION_READY, ROLE_OBSERVE },
			"this user may not send \"subscribe\": the broker's configuration decides "
			"([access])" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[256];
		CHECK(gate_check(&rows[i].input, text, sizeof(text)) != 0);
		CHECK_STR(text, rows[i].says);
	}
}
