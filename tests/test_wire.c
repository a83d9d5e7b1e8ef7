/* One datagram: bytes and descriptors, whole or not at all, and nobody's descriptor is lost. */
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/text.h"
#include "proto/wire.h"

static void make_pair(int pair[2])
{
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
}

static void close_pair(int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

static struct fdset some_fds(unsigned n)
{
	struct fdset set = { .n = n };
	for (unsigned i = 0; i < n; i++) {
		set.fd[i] = eventfd(i, EFD_CLOEXEC | EFD_NONBLOCK);
		CHECK(set.fd[i] >= 0);
	}
	return set;
}

TEST(bytes_and_descriptors_arrive_together_and_in_order)
{
	static const unsigned counts[] = { 0, 1, 2, FDSET_MAX };
	int pair[2];
	make_pair(pair);
	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct fdset sent = some_fds(counts[i]), got;
		char data[16];
		size_t len;
		CHECK_EQ(wire_send(pair[0], "frame", 5, &sent), WIRE_OK);
		CHECK_EQ(sent.n, 0);
		CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_OK);
		CHECK(len == 5 && memcmp(data, "frame", 5) == 0);
		CHECK_EQ(got.n, counts[i]);
		for (unsigned k = 0; k < got.n; k++) {
			eventfd_t n = 0;
			CHECK(fcntl(got.fd[k], F_GETFD) & FD_CLOEXEC);
			eventfd_read(got.fd[k], &n);
			CHECK_EQ(n, k);
		}
		fdset_close(&got);
	}
	close_pair(pair);
}

TEST(messages_keep_their_borders_and_their_own_descriptors)
{
	int pair[2];
	char data[16];
	size_t len;
	struct fdset one = some_fds(1), got;
	make_pair(pair);
	CHECK_EQ(wire_send(pair[0], "a", 1, NULL), WIRE_OK);
	CHECK_EQ(wire_send(pair[0], "bb", 2, &one), WIRE_OK);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_OK);
	CHECK(len == 1 && got.n == 0);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_OK);
	CHECK(len == 2 && got.n == 1);
	fdset_close(&got);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_AGAIN);
	CHECK_EQ(got.n, 0);
	close_pair(pair);
}

TEST(send_to_a_dead_peer_still_consumes_the_fds)
{
	int pair[2];
	make_pair(pair);
	struct fdset fds = some_fds(1);
	signal(SIGPIPE, SIG_DFL); /* whatever started the test */
	close(pair[1]);
	CHECK_EQ(wire_send(pair[0], "x", 1, &fds), -EPIPE); /* and no SIGPIPE */
	CHECK_EQ(fds.n, 0);
	close(pair[0]);
}

TEST(send_to_a_full_socket_still_consumes_the_fds)
{
	int pair[2];
	static char data[60000];
	struct fdset fds = { .n = 0 };
	make_pair(pair);
	int r = WIRE_OK, n = 0;
	while (r == WIRE_OK && n++ < 1000) {
		fds = some_fds(1);
		r = wire_send(pair[0], data, sizeof(data), &fds);
	}
	CHECK_EQ(r, WIRE_AGAIN);
	CHECK_EQ(fds.n, 0);
	close_pair(pair); /* the runner counts those in flight as well: they go with the socket */
}

TEST(send_never_blocks_on_a_blocking_socket)
{
	int pair[2], r = WIRE_OK;
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	while (r == WIRE_OK)
		r = wire_send(pair[0], "x", 1, NULL);
	CHECK_EQ(r, WIRE_AGAIN);
	close_pair(pair);
}

TEST(a_message_that_is_too_big_for_any_socket_is_an_error)
{
	int pair[2];
	size_t size = (size_t)64 << 20;
	char *data = calloc(1, size);
	CHECK(data != NULL);
	make_pair(pair);
	CHECK_EQ(wire_send(pair[0], data, size, NULL), -EMSGSIZE);
	free(data);
	close_pair(pair);
}

TEST(a_closed_peer_is_told_from_nothing_there)
{
	int pair[2];
	char data[8];
	size_t len;
	struct fdset got;
	make_pair(pair);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_AGAIN);
	CHECK_EQ(wire_send(pair[0], "last", 4, NULL), WIRE_OK);
	close(pair[0]);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_OK);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_CLOSED);
	CHECK_EQ(got.n, 0);
	close(pair[1]);
}

/* An empty datagram cannot be told from a close: it ends the connection as one. */
TEST(an_empty_datagram_is_the_end_and_its_descriptors_are_closed)
{
	int pair[2];
	char data[8];
	size_t len;
	struct fdset sent = some_fds(2), got;
	make_pair(pair);
	CHECK_EQ(wire_send(pair[0], "", 0, &sent), WIRE_OK);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), WIRE_CLOSED);
	CHECK_EQ(got.n, 0);
	close_pair(pair);
}

/* A peer that closes with messages unread leaves an error in front of what it said before. */
TEST(the_last_words_of_a_peer_that_did_not_read_are_heard)
{
	int pair[2];
	char data[8];
	size_t len;
	struct fdset got;
	make_pair(pair);
	CHECK_EQ(wire_send(pair[0], "unread", 6, NULL), WIRE_OK);
	CHECK_EQ(wire_send(pair[1], "bye", 3, NULL), WIRE_OK);
	close(pair[1]);
	CHECK_EQ(wire_recv(pair[0], data, sizeof(data), &len, &got), WIRE_OK);
	CHECK(len == 3 && memcmp(data, "bye", 3) == 0);
	CHECK_EQ(wire_recv(pair[0], data, sizeof(data), &len, &got), WIRE_CLOSED);
	close(pair[0]);
}

TEST(a_datagram_that_does_not_fit_is_a_protocol_error)
{
	int pair[2];
	char data[WIRE_REQUEST_MAX + 1] = { 0 };
	size_t len = 42;
	make_pair(pair);
	struct fdset sent = some_fds(3), got;
	CHECK_EQ(wire_send(pair[0], data, WIRE_REQUEST_MAX, NULL), WIRE_OK);
	CHECK_EQ(wire_recv(pair[1], data, WIRE_REQUEST_MAX, &len, &got), WIRE_OK);
	CHECK_EQ(len, WIRE_REQUEST_MAX);
	len = 42;
	CHECK_EQ(wire_send(pair[0], data, WIRE_REQUEST_MAX + 1, &sent), WIRE_OK);
	CHECK_EQ(wire_recv(pair[1], data, WIRE_REQUEST_MAX, &len, &got), -EPROTO);
	CHECK(got.n == 0 && len == 42);
	close_pair(pair);
}

/* One more than a set has room for: the kernel closes what does not fit, we the rest. */
TEST(descriptors_that_do_not_fit_are_a_protocol_error)
{
	int pair[2], fds[FDSET_MAX + 1];
	char data[8], control[CMSG_SPACE(sizeof(fds))];
	size_t len;
	struct fdset got;
	make_pair(pair);
	for (unsigned i = 0; i <= FDSET_MAX; i++)
		fds[i] = pair[0];
	struct iovec iov = { .iov_base = data, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	memset(control, 0, sizeof(control));
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	data[0] = 0;
	CHECK_EQ(sendmsg(pair[0], &msg, 0), 1);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), -EPROTO);
	CHECK_EQ(got.n, 0);
	close_pair(pair);
}

TEST(a_receiver_without_free_descriptors_gets_none_of_them)
{
	int pair[2];
	char data[8];
	size_t len;
	struct fdset sent, got;
	struct rlimit limit, old;
	if (test_under_valgrind())
		test_not_for_here("valgrind takes the descriptors all the same");
	make_pair(pair);
	sent = some_fds(4);
	CHECK_EQ(wire_send(pair[0], "x", 1, &sent), WIRE_OK);
	int next = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
	CHECK(next >= 0);
	close(next);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	limit = old;
	limit.rlim_cur = (rlim_t)next + 2; /* two of the four */
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK_EQ(wire_recv(pair[1], data, sizeof(data), &len, &got), -EMFILE);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	CHECK_EQ(got.n, 0);
	close_pair(pair);
}

TEST(what_is_no_socket_is_an_error)
{
	char data[8];
	size_t len;
	struct fdset fds = some_fds(1), got;
	int fd = eventfd(0, EFD_CLOEXEC);
	CHECK_EQ(wire_send(fd, "x", 1, &fds), -ENOTSOCK);
	CHECK_EQ(fds.n, 0);
	CHECK_EQ(wire_recv(fd, data, sizeof(data), &len, &got), -ENOTSOCK);
	CHECK_EQ(got.n, 0);
	close(fd);
}

/* --- encode and decode ----------------------------------------------------------------------- */

static struct wire_arena *make_arena(size_t size)
{
	struct wire_arena *arena = wire_arena_create(size);
	CHECK(arena != NULL);
	return arena;
}

TEST(a_packet_survives_the_way)
{
	unsigned char data[WIRE_REQUEST_MAX];
	size_t len;
	struct wire_arena *arena = make_arena(WIRE_REQUEST_ARENA);
	Sluice__Subscribe m = SLUICE__SUBSCRIBE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT, *got;
	m.request = 7;
	m.stream = (char *)"Schreibtisch";
	m.width = UINT32_MAX;
	m.delivery = SLUICE__DELIVERY__DELIVERY_FIFO;
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBE;
	packet.subscribe = &m;
	CHECK_EQ(wire_encode(&packet, data, sizeof(data), &len), 0);
	for (int i = 0; i < 3; i++) { /* the arena is used again */
		CHECK_EQ(wire_decode(data, len, arena, &got), 0);
		CHECK_EQ(got->body_case, SLUICE__PACKET__BODY_SUBSCRIBE);
		CHECK_EQ(got->subscribe->request, 7);
		CHECK_STR(got->subscribe->stream, "Schreibtisch");
		CHECK_EQ(got->subscribe->width, UINT32_MAX);
		CHECK_EQ(got->subscribe->delivery, SLUICE__DELIVERY__DELIVERY_FIFO);
	}
	free(arena);
}

TEST(a_packet_that_does_not_fit_is_not_written)
{
	unsigned char data[64];
	size_t len = 42;
	char name[60];
	Sluice__Hello m = SLUICE__HELLO__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = 0;
	m.name = name;
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &m;
	memset(data, 0xee, sizeof(data));
	CHECK_EQ(wire_encode(&packet, data, 62, &len), -EMSGSIZE);
	CHECK(len == 42 && data[0] == 0xee);
	CHECK_EQ(wire_encode(&packet, data, 63, &len), 0);
	CHECK_EQ(len, 63);
}

TEST(what_is_no_packet_is_refused)
{
	static const struct {
		const char *row;
		const char *data;
		size_t len;
	} rows[] = {
		{ "nothing", "", 0 },
		{ "a length past the end", "\x0a\x05\x08\x01", 4 },
		{ "a tag and no more", "\x0a", 1 },
		{ "tag 0", "\x02\x00", 2 },
		{ "a body of the wrong type", "\x08\x01", 2 },
		{ "a body that nobody knows", "\x42\x00", 2 },
		{ "only an unknown field", "\xf8\x06\x01", 3 },
		{ "a varint without an end", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
			12 },
		{ "wire type 6", "\x0e\x00", 2 },
		{ "noise", "\xde\xad\xbe\xef\xde\xad\xbe\xef", 8 },
	};
	struct wire_arena *arena = make_arena(WIRE_REQUEST_ARENA);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		Sluice__Packet *packet = NULL;
		CHECK_ROW(wire_decode(rows[i].data, rows[i].len, arena, &packet) == -EPROTO,
			rows[i].row);
		CHECK_ROW(packet == NULL, rows[i].row);
	}
	free(arena);
}

TEST(every_truncation_of_a_packet_is_refused_or_a_packet)
{
	unsigned char data[WIRE_REQUEST_MAX];
	size_t len;
	struct wire_arena *arena = make_arena(WIRE_REQUEST_ARENA);
	Sluice__Hello m = SLUICE__HELLO__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT, *got;
	m.version_min = m.version_max = 1;
	m.name = (char *)"truncated";
	packet.body_case = SLUICE__PACKET__BODY_HELLO;
	packet.hello = &m;
	CHECK_EQ(wire_encode(&packet, data, sizeof(data), &len), 0);
	for (size_t n = 0; n < len; n++) /* the body's own length no longer fits */
		CHECK_EQ(wire_decode(data, n, arena, &got), -EPROTO);
	CHECK_EQ(wire_decode(data, len, arena, &got), 0);
	free(arena);
}

TEST(unknown_fields_are_skipped)
{
	struct wire_arena *arena = make_arena(WIRE_REQUEST_ARENA);
	Sluice__Packet *packet;
	/* list_streams { watch: true, 100: 1 } */
	CHECK_EQ(wire_decode("\x12\x05\x08\x01\xa0\x06\x01", 7, arena, &packet), 0);
	CHECK_EQ(packet->body_case, SLUICE__PACKET__BODY_LIST_STREAMS);
	CHECK(packet->list_streams->watch);
	free(arena);
}

TEST(more_than_the_arena_holds_is_refused)
{
	unsigned char data[WIRE_REQUEST_MAX];
	Sluice__Packet *packet;
	struct wire_arena *arena = make_arena(WIRE_REQUEST_ARENA);
	/* list_streams, then as many unknown fields as a request may have */
	size_t len = 0;
	data[len++] = 0x12;
	data[len++] = 0x00;
	while (len + 3 <= sizeof(data)) {
		memcpy(data + len, "\xf8\x06\x01", 3);
		len += 3;
	}
	CHECK_EQ(wire_decode(data, len, arena, &packet), -EPROTO);
	CHECK(arena->used <= arena->size);
	CHECK_EQ(wire_decode(data, 2, arena, &packet), 0);
	free(arena);
	/* an arena of any size is refused or enough, and never overrun (AddressSanitizer looks) */
	for (size_t size = 0; size < 400; size++) {
		arena = make_arena(size);
		(void)wire_decode("\x0a\x05\x22\x03"
				  "abc",
			7, arena, &packet);
		CHECK(arena->used <= arena->size);
		free(arena);
	}
}

TEST(the_last_body_of_a_packet_counts)
{
	struct wire_arena *arena = make_arena(WIRE_REQUEST_ARENA);
	Sluice__Packet *packet;
	/* hello, then list_streams */
	CHECK_EQ(wire_decode("\x0a\x05\x22\x03"
			     "abc\x12\x02\x08\x01",
			 11, arena, &packet),
		0);
	CHECK_EQ(packet->body_case, SLUICE__PACKET__BODY_LIST_STREAMS);
	free(arena);
}

/* --- names ----------------------------------------------------------------------------------- */

TEST(messages_and_errors_have_names)
{
	CHECK_STR(wire_body_name(SLUICE__PACKET__BODY_HELLO), "hello");
	CHECK_STR(wire_body_name(SLUICE__PACKET__BODY_STATUS), "status");
	CHECK_STR(wire_body_name(0), "unknown");
	CHECK_STR(wire_body_name(-1), "unknown");
	CHECK_STR(wire_body_name(8), "unknown");
	CHECK_STR(wire_body_name(1000000), "unknown");
	CHECK_STR(wire_error_name(SLUICE__ERROR_CODE__ERROR_NONE), "none");
	CHECK_STR(wire_error_name(SLUICE__ERROR_CODE__ERROR_NO_STREAM), "no-stream");
	CHECK_STR(wire_error_name(SLUICE__ERROR_CODE__ERROR_INTERNAL), "internal");
	CHECK_STR(wire_error_name(SLUICE__ERROR_CODE__ERROR_INTERNAL + 1), "unknown");
	CHECK_STR(wire_error_name(-1), "unknown");
	for (unsigned i = 0; i < sluice__error_code__descriptor.n_values; i++)
		CHECK(strcmp(wire_error_name(sluice__error_code__descriptor.values[i].value),
			      "unknown") != 0);
}

TEST(a_name_is_1_to_64_bytes_of_printable_utf_8)
{
	static const struct {
		const char *name;
		int result;
	} rows[] = {
		{ "x", 0 },
		{ "a name, with: anything/printable", 0 },
		{ "B\xc3\xbchne \xe2\x82\xac \xf0\x9f\x8e\xa5", 0 },
		{ "1234567890123456789012345678901234567890123456789012345678901234", 0 },
		{ "12345678901234567890123456789012345678901234567890123456789012345", -EINVAL },
		{ "", -EINVAL },
		{ "a\nb", -EINVAL },
		{ "\x1b[31m", -EINVAL },
		{ "a\x7f", -EINVAL },
		{ "\xc2\x9b"
		  "31m",
			-EINVAL },               /* CSI, one of the C1 control characters */
		{ "\xff", -EINVAL },             /* no UTF-8 at all */
		{ "\x80", -EINVAL },             /* a continuation alone */
		{ "caf\xc3", -EINVAL },          /* cut in the middle of a character */
		{ "\xc3(", -EINVAL },            /* the continuation is none */
		{ "\xc0\xaf", -EINVAL },         /* overlong '/' */
		{ "\xe0\x80\xaf", -EINVAL },     /* overlong */
		{ "\xed\xa0\x80", -EINVAL },     /* a surrogate */
		{ "\xf4\x90\x80\x80", -EINVAL }, /* past U+10FFFF */
		{ "\xf8\x88\x80\x80\x80", -EINVAL },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_ROW(wire_name_check(rows[i].name) == rows[i].result, rows[i].name);
}

TEST(a_text_is_cleaned_of_what_is_not_printable)
{
	static const struct {
		const char *text, *clean;
	} rows[] = {
		{ "", "" },
		{ "B\xc3\xbchne \xe2\x82\xac", "B\xc3\xbchne \xe2\x82\xac" },
		{ "a\nb\x1b[31m", "a?b?[31m" },
		{ "cut \xe2\x82", "cut ??" },
		{ "\xff\xc3\xbc", "?\xc3\xbc" },
		{ "\xc2\x9b", "??" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[64];
		snprintf(text, sizeof(text), "%s", rows[i].text);
		text_clean(text);
		CHECK_STR(text, rows[i].clean);
	}
}
