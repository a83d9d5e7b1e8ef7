/*
 * Writes the seeds of the fuzzers: make_corpus DIRECTORY makes DIRECTORY/wire and DIRECTORY/session.
 * To be run again when messages or steps change; inputs that once crashed are kept beside them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/access.h"
#include "proto/wire.h"
#include "tests/fuzz_session.h"

static const char *directory;

static void write_seed(const char *fuzzer, const char *name, const void *data, size_t len)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", directory, fuzzer);
	mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%s", directory, fuzzer, name);
	FILE *f = fopen(path, "we");
	if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0) {
		perror(path);
		exit(EXIT_FAILURE);
	}
}

/* --- wire: every message of the protocol, empty and full -------------------------------------- */

enum { REPEATED = 2, DEPTH_MAX = 6 };

static unsigned char next_byte;

static size_t put_varint(unsigned char *out, uint64_t n)
{
	size_t len = 0;
	for (; n >= 0x80; n >>= 7)
		out[len++] = (unsigned char)(n | 0x80);
	out[len++] = (unsigned char)n;
	return len;
}

static size_t put_message(
	unsigned char *out, const ProtobufCMessageDescriptor *descriptor, unsigned depth);

static size_t put_bytes(unsigned char *out, const void *data, size_t len)
{
	size_t used = put_varint(out, len);
	memcpy(out + used, data, len);
	return used + len;
}

static size_t put_field(unsigned char *out, const ProtobufCFieldDescriptor *field, unsigned depth)
{
	unsigned char inner[4096];
	size_t len;
	switch (field->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		len = put_varint(out, (uint64_t)field->id << 3 | 2);
		return len + put_bytes(out + len, inner,
				     put_message(inner, field->descriptor, depth + 1));
	case PROTOBUF_C_TYPE_STRING:
		len = put_varint(out, (uint64_t)field->id << 3 | 2);
		return len + put_bytes(out + len, field->name, strlen(field->name));
	case PROTOBUF_C_TYPE_FIXED64:
		len = put_varint(out, (uint64_t)field->id << 3 | 1);
		memset(out + len, ++next_byte, 8);
		return len + 8;
	default:
		len = put_varint(out, (uint64_t)field->id << 3 | 0);
		return len + put_varint(out + len,
				     field->type == PROTOBUF_C_TYPE_BOOL ? 1 : 200u + next_byte++);
	}
}

static size_t put_message(
	unsigned char *out, const ProtobufCMessageDescriptor *descriptor, unsigned depth)
{
	size_t len = 0;
	for (unsigned i = 0; i < descriptor->n_fields && depth < DEPTH_MAX; i++) {
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		unsigned n = field->label == PROTOBUF_C_LABEL_REPEATED ? REPEATED : 1;
		while (n-- > 0)
			len += put_field(out + len, field, depth);
	}
	return len;
}

static void write_messages(void)
{
	const ProtobufCMessageDescriptor *packet = &sluice__packet__descriptor;
	for (unsigned i = 0; i < packet->n_fields; i++) {
		unsigned char data[8192], empty[8];
		char name[64];
		size_t len = put_field(data, &packet->fields[i], 0);
		write_seed("wire", packet->fields[i].name, data, len);
		len = put_varint(empty, (uint64_t)packet->fields[i].id << 3 | 2);
		empty[len++] = 0;
		snprintf(name, sizeof(name), "%s-empty", packet->fields[i].name);
		write_seed("wire", name, empty, len);
	}
	write_seed("wire", "two-bodies",
		"\x0a\x05\x22\x03"
		"abc\x12\x02\x08\x01",
		11);
	write_seed("wire", "unknown-fields", "\x12\x05\x08\x01\xa0\x06\x01\xf8\x06\x01", 10);
}

/* --- session: lives of clients ---------------------------------------------------------------- */

enum { ALL = ROLE_ALL, SECOND = 1 << 6, THIRD = 2 << 6, A = 0, B = 1, MAILBOX = 0, FIFO = 1 };

#define HELLO(who)        (who) | FUZZ_CONNECT, (who) | FUZZ_HELLO, 1, 5
#define SUBSCRIBE(who, s) (who) | FUZZ_SUBSCRIBE, (s), MAILBOX, 0, 2, 0, 0
#define BOUND(who, s)     (who) | FUZZ_BOUND, (s), 0, 0, 0
#define CONSUME(who, s)   HELLO(who), SUBSCRIBE(who, s), BOUND(who, s)
#define READ(who)         (who) | FUZZ_READ, 50
#define PUBLISH(s, n)     FUZZ_PUBLISH, (s), (n)
#define RELEASE(who, i)   (who) | FUZZ_RELEASE, (i), 0
#define RESIZE(s, side)   FUZZ_RESIZE, (s), (side)

#define SEED(name, ...)                                               \
	do {                                                          \
		static const unsigned char seed_[] = { __VA_ARGS__ }; \
		write_seed("session", name, seed_, sizeof(seed_));    \
	} while (0)

static void write_sessions(void)
{
	SEED("consume", ALL, CONSUME(0, A), PUBLISH(A, 3), READ(0), RELEASE(0, 0), RELEASE(0, 1),
		PUBLISH(A, 9), READ(0));
	SEED("fifo", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, FIFO, 5, 1, 0, 0, BOUND(0, A), PUBLISH(A, 9),
		READ(0), RELEASE(0, 0), READ(0), RELEASE(0, 1));
	SEED("paced", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, FIFO, 5, 2, 0, 64, BOUND(0, A),
		PUBLISH(A, 9), READ(0), RELEASE(0, 0), FUZZ_WAIT, READ(0), RESIZE(A, 8), FUZZ_WAIT,
		READ(0));
	SEED("other-form", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, MAILBOX, 0, 2, 0, 8, READ(0),
		FUZZ_SUBSCRIBE, A, MAILBOX, 0, 2, 0, 32, FUZZ_SUBSCRIBE, A, MAILBOX, 0, 2, 0, 128,
		READ(0), PUBLISH(A, 3));
	SEED("reserved", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, MAILBOX, 0, 0, 5, 0, BOUND(0, A),
		CONSUME(SECOND, A), PUBLISH(A, 15), READ(0), FUZZ_WAIT, READ(0));
	SEED("revoked", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, MAILBOX, 0, 16, 0, 0, BOUND(0, A),
		PUBLISH(A, 15), READ(0), RELEASE(0, 0), RELEASE(0, 7), PUBLISH(A, 15));
	SEED("release-twice", ALL, CONSUME(0, A), PUBLISH(A, 1), READ(0), RELEASE(0, 0),
		RELEASE(0, 0), READ(0));
	SEED("release-wrong", ALL, CONSUME(0, A), CONSUME(SECOND, A), PUBLISH(A, 2), READ(0),
		READ(SECOND), FUZZ_RELEASE, 0, 3, SECOND | FUZZ_RELEASE, 0, 5, READ(0));
	SEED("resize", ALL, CONSUME(0, A), PUBLISH(A, 2), READ(0), RESIZE(A, 1), RESIZE(A, 2),
		RELEASE(0, 0), FUZZ_BOUND, A, 1, 0, 0, BOUND(0, A), PUBLISH(A, 2), READ(0));
	SEED("bound-error", ALL, HELLO(0), SUBSCRIBE(0, A), FUZZ_BOUND, A, 0, 13, 6,
		SUBSCRIBE(0, A), BOUND(0, A), BOUND(0, A));
	SEED("watch", ALL, HELLO(0), FUZZ_LIST, 1, RESIZE(B, 1), FUZZ_GONE, B, FUZZ_REMOVE, B,
		READ(0), SUBSCRIBE(0, B), RESIZE(B, 0), BOUND(0, B));
	SEED("removed", ALL, CONSUME(0, A), CONSUME(SECOND, B), PUBLISH(A, 2), FUZZ_REMOVE, A,
		READ(0), RELEASE(0, 0), PUBLISH(B, 2));
	SEED("unsubscribe", ALL, CONSUME(0, A), PUBLISH(A, 2), FUZZ_UNSUBSCRIBE, A, 0,
		SUBSCRIBE(0, A), BOUND(0, A), PUBLISH(A, 1), FUZZ_UNSUBSCRIBE, A, 9);
	SEED("status", ALL, CONSUME(0, A), CONSUME(SECOND, B), PUBLISH(A, 3), SECOND | FUZZ_CLOSE,
		THIRD | FUZZ_CONNECT, THIRD | FUZZ_HELLO, 1, 5, THIRD | FUZZ_STATUS, 0, 0,
		THIRD | FUZZ_STATUS, 1, 62, THIRD | FUZZ_STATUS, 1, 63, READ(THIRD));
	SEED("few-fds", ALL | FUZZ_FEW_FDS, CONSUME(0, A), CONSUME(SECOND, A), SUBSCRIBE(SECOND, B),
		READ(SECOND));
	SEED("few-bytes", ALL | FUZZ_FEW_BYTES, CONSUME(0, A), CONSUME(SECOND, A), RESIZE(A, 3),
		READ(0));
	SEED("observer", ROLE_OBSERVE, HELLO(0), SUBSCRIBE(0, A), FUZZ_STATUS, 0, 0, READ(0));
	SEED("refused", 0, HELLO(0), READ(0));
	SEED("no-hello", ALL, FUZZ_CONNECT, FUZZ_WAIT, READ(0), SECOND | FUZZ_CONNECT,
		SECOND | FUZZ_LIST, 1, READ(SECOND));
	SEED("raw", ALL, FUZZ_CONNECT, FUZZ_RAW, 0, 9, 0x0a, 7, 0x08, 1, 0x10, 1, 0x22, 1, 'x',
		FUZZ_RAW, 0, 4, 0x12, 2, 0x08, 1, READ(0), FUZZ_RAW, 2, 2, 0x12, 0, READ(0));
	SEED("noise", ALL, HELLO(0), FUZZ_RAW, 3, 4, 0xde, 0xad, 0xbe, 0xef, HELLO(SECOND),
		SECOND | FUZZ_RAW, 0, 0, READ(0));
	SEED("bye", ALL, CONSUME(0, A), CONSUME(SECOND, A), PUBLISH(A, 1), FUZZ_BYE, 0,
		RELEASE(0, 0), RESIZE(A, 1), READ(0), SECOND | FUZZ_BYE, 1);
	SEED("queue-revoked", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, MAILBOX, 0, 0, 5, 0, BOUND(0, A),
		HELLO(SECOND), SECOND | FUZZ_SUBSCRIBE, A, FIFO, 5, 1, 0, 0, BOUND(SECOND, A),
		PUBLISH(A, 15), READ(SECOND), RELEASE(SECOND, 0), READ(SECOND));
	SEED("no-memory", ALL, CONSUME(0, A), PUBLISH(A, 2), RESIZE(A, FUZZ_TOO_BIG), RELEASE(0, 0),
		PUBLISH(A, 2), RESIZE(A, 1), READ(0), BOUND(0, A), PUBLISH(A, 1));
	SEED("few-clients", ALL | FUZZ_FEW_CLIENTS, HELLO(0), HELLO(SECOND), HELLO(THIRD),
		READ(THIRD));
	SEED("small-socket", ALL | FUZZ_SMALL_SOCKETS, HELLO(0), FUZZ_SUBSCRIBE, A, MAILBOX, 0, 16,
		0, 0, BOUND(0, A), PUBLISH(A, 15), FUZZ_LIST, 1, CONSUME(SECOND, A), PUBLISH(A, 1));
	SEED("small-socket-list", ALL | FUZZ_SMALL_SOCKETS, HELLO(0), FUZZ_LIST, 1, FUZZ_LIST, 1,
		FUZZ_LIST, 1, FUZZ_LIST, 1, FUZZ_LIST, 1, FUZZ_LIST, 1, FUZZ_LIST, 1, FUZZ_LIST, 1,
		FUZZ_LIST, 1, FUZZ_LIST, 1);
	SEED("too-much", ALL, HELLO(0), FUZZ_SUBSCRIBE, A, FIFO, 33, 17, 0, 0, FUZZ_SUBSCRIBE, A,
		FIFO, 6, 1, 0, 0, FUZZ_SUBSCRIBE, A, 2, 1, 1, 0, 0, FUZZ_SUBSCRIBE, A, 0, 0, 0, 6,
		0, FUZZ_SUBSCRIBE, A, 0, 0, 0, 0, 0x1f, READ(0));
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: make_corpus DIRECTORY\n");
		return EXIT_FAILURE;
	}
	directory = argv[1];
	mkdir(directory, 0777);
	write_messages();
	write_sessions();
	return EXIT_SUCCESS;
}
