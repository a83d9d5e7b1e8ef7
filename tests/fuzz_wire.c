/*
 * libFuzzer: bytes from a peer. Whatever decodes must encode again, and what comes out must be a
 * packet that encodes to the same bytes. Names and texts of a peer are checked on the way.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* Numbers of enums that are negative take twice the room when they are written properly. */
static unsigned char first[4 * WIRE_PACKET_MAX], second[4 * WIRE_PACKET_MAX];

static void drop_unknown(ProtobufCMessage *message);

static void drop_unknown_below(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	char *member = (char *)message + field->offset;
	const char *quantifier = (const char *)message + field->quantifier_offset;
	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		size_t n = *(const size_t *)(const void *)quantifier;
		for (size_t i = 0; i < n; i++)
			drop_unknown((*(ProtobufCMessage ***)(void *)member)[i]);
		return;
	}
	bool is_chosen = !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
			 *(const uint32_t *)(const void *)quantifier == field->id;
	if (is_chosen && *(ProtobufCMessage **)(void *)member)
		drop_unknown(*(ProtobufCMessage **)(void *)member);
}

/* Fields that we do not know are kept by protobuf-c as they came, tag 0 included: not ours to judge. */
static void drop_unknown(ProtobufCMessage *message)
{
	message->n_unknown_fields = 0;
	for (unsigned i = 0; i < message->descriptor->n_fields; i++)
		if (message->descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			drop_unknown_below(message, &message->descriptor->fields[i]);
}

static void decode_and_encode(const uint8_t *data, size_t size, struct wire_arena *arena)
{
	Sluice__Packet *packet;
	size_t first_len, second_len;
	if (wire_decode(data, size, arena, &packet) < 0)
		return;
	require(arena->used <= arena->size);
	require(strcmp(wire_body_name((int)packet->body_case), "unknown") != 0);
	drop_unknown(&packet->base);
	if (wire_encode(packet, first, sizeof(first), &first_len) < 0)
		return;
	/* it may need more of an arena than the original had */
	static struct wire_arena *large;
	if (!large)
		large = wire_arena_create(16 * WIRE_PACKET_ARENA);
	require(large && wire_decode(first, first_len, large, &packet) == 0);
	require(wire_encode(packet, second, sizeof(second), &second_len) == 0);
	require(first_len == second_len && memcmp(first, second, first_len) == 0);
}

static void check_text(const uint8_t *data, size_t size)
{
	char text[WIRE_NAME_MAX + 2];
	size_t n = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
	memcpy(text, data, n);
	text[n] = 0;
	size_t len = strlen(text);
	bool was_name = wire_name_check(text) == 0;
	char clean[sizeof(text)];
	memcpy(clean, text, sizeof(text));
	text_clean(clean);
	require(strlen(clean) == len);
	require(!was_name || strcmp(text, clean) == 0);
	require((wire_name_check(clean) == 0) == (len >= 1 && len <= WIRE_NAME_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct wire_arena *request, *any;
	if (!request) {
		request = wire_arena_create(WIRE_REQUEST_ARENA);
		any = wire_arena_create(WIRE_PACKET_ARENA);
		require(request && any);
	}
	if (size <= WIRE_REQUEST_MAX)
		decode_and_encode(data, size, request);
	if (size <= WIRE_PACKET_MAX)
		decode_and_encode(data, size, any);
	check_text(data, size);
	return 0;
}
