#include "tests/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/conn.h"

/* A conn and what it was told. */
struct end {
	struct loop *loop;
	struct wire_arena *arena;
	struct conn *conn;
	int peer; /* our end */
	unsigned packets;
	unsigned endings;
	int body;
	unsigned n_fds;
	int result;
	bool destroy; /* the conn in the callback */
	bool keep_fd; /* the first */
	int kept_fd;
};

static void on_packet(void *data, const Sluice__Packet *packet, struct fdset *fds, int result)
{
	struct end *e = data;
	e->packets += packet != NULL;
	e->endings += packet == NULL;
	e->body = packet ? (int)packet->body_case : 0;
	e->n_fds = fds->n;
	e->result = result;
	if (e->keep_fd)
		e->kept_fd = fdset_steal(fds, 0);
	if (e->destroy)
		e->conn = conn_destroy(e->conn);
	loop_stop(e->loop);
}

static void begin(struct end *e)
{
	int pair[2];
	*e = (struct end){ .kept_fd = -EBADF };
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	CHECK_EQ(loop_create(&e->loop), 0);
	e->arena = wire_arena_create(WIRE_REQUEST_ARENA);
	CHECK(e->arena != NULL);
	e->peer = pair[1];
	CHECK_EQ(conn_create(&e->conn, e->loop, &pair[0], e->arena, on_packet, e), 0);
	CHECK_EQ(pair[0], -EBADF);
}

static void finish(struct end *e)
{
	e->conn = conn_destroy(e->conn);
	e->loop = loop_destroy(e->loop);
	free(e->arena);
	fd_closep(&e->peer);
}

static const char list_streams[] = { 0x12, 0x02, 0x08, 0x01 };

static void peer_send(struct end *e, const void *data, size_t len, unsigned n_fds)
{
	struct fdset fds = { .n = n_fds };
	for (unsigned i = 0; i < n_fds; i++)
		fds.fd[i] = eventfd(0, EFD_CLOEXEC);
	CHECK_EQ(wire_send(e->peer, data, len, &fds), WIRE_OK);
}

TEST(one_packet_a_turn)
{
	struct end e;
	begin(&e);
	for (int i = 0; i < 3; i++)
		peer_send(&e, list_streams, sizeof(list_streams), 0);
	for (unsigned i = 1; i <= 3; i++) {
		CHECK_EQ(loop_run(e.loop), 0);
		CHECK_EQ(e.packets, i);
		CHECK_EQ(e.body, SLUICE__PACKET__BODY_LIST_STREAMS);
	}
	finish(&e);
}

TEST(descriptors_that_nobody_takes_are_closed)
{
	struct end e;
	begin(&e);
	e.keep_fd = true;
	unsigned before = test_count_fds();
	peer_send(&e, list_streams, sizeof(list_streams), 3);
	CHECK_EQ(loop_run(e.loop), 0);
	CHECK_EQ(e.n_fds, 3);
	CHECK_EQ(test_count_fds(), before + 1);
	CHECK(fcntl(e.kept_fd, F_GETFD) >= 0);
	close(e.kept_fd);
	finish(&e);
}

TEST(what_is_no_packet_comes_as_a_protocol_error)
{
	static char big[WIRE_REQUEST_MAX + 1];
	struct end e;
	begin(&e);
	peer_send(&e, "\xff\xff", 2, 1);
	CHECK_EQ(loop_run(e.loop), 0);
	CHECK(e.packets == 0 && e.endings == 1 && e.result == -EPROTO);
	peer_send(&e, big, sizeof(big), 1);
	CHECK_EQ(loop_run(e.loop), 0);
	CHECK(e.packets == 0 && e.endings == 2 && e.result == -EPROTO);
	finish(&e);
}

TEST(a_close_is_told_after_the_last_packet)
{
	struct end e;
	begin(&e);
	peer_send(&e, list_streams, sizeof(list_streams), 0);
	fd_closep(&e.peer);
	CHECK_EQ(loop_run(e.loop), 0);
	CHECK_EQ(e.packets, 1);
	CHECK_EQ(loop_run(e.loop), 0);
	CHECK(e.endings == 1 && e.result == WIRE_CLOSED);
	finish(&e);
}

TEST(the_callback_may_destroy_the_conn)
{
	struct end e;
	begin(&e);
	e.destroy = true;
	peer_send(&e, list_streams, sizeof(list_streams), 2);
	peer_send(&e, list_streams, sizeof(list_streams), 2);
	CHECK_EQ(loop_run(e.loop), 0);
	CHECK(e.conn == NULL && e.packets == 1);
	finish(&e);
}

TEST(a_packet_is_sent_whole_or_not)
{
	struct end e;
	static char text[WIRE_PACKET_MAX];
	unsigned char data[WIRE_PACKET_MAX];
	struct fdset fds = { .n = 0 }, got;
	size_t len;
	begin(&e);
	Sluice__Bye bye = SLUICE__BYE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	bye.text = (char *)"why";
	packet.body_case = SLUICE__PACKET__BODY_BYE;
	packet.bye = &bye;
	fds.fd[fds.n++] = eventfd(0, EFD_CLOEXEC);
	CHECK_EQ(conn_send_packet(e.conn, &packet, &fds), WIRE_OK);
	CHECK_EQ(fds.n, 0);
	CHECK_EQ(wire_recv(e.peer, data, sizeof(data), &len, &got), WIRE_OK);
	CHECK_EQ(got.n, 1);
	fdset_close(&got);

	memset(text, 'x', sizeof(text) - 1);
	bye.text = text;
	fds.fd[fds.n++] = eventfd(0, EFD_CLOEXEC);
	CHECK_EQ(conn_send_packet(e.conn, &packet, &fds), -EMSGSIZE);
	CHECK_EQ(fds.n, 0);
	text[WIRE_PACKET_MAX - 9] = 0; /* two tags and two lengths: 9 bytes */
	CHECK_EQ(conn_send_packet(e.conn, &packet, NULL), WIRE_OK);
	CHECK_EQ(wire_recv(e.peer, data, sizeof(data), &len, &got), WIRE_OK);
	CHECK_EQ(len, WIRE_PACKET_MAX);
	finish(&e);
}

TEST(a_full_socket_says_so_and_a_closed_one_is_an_error)
{
	struct end e;
	int r = WIRE_OK;
	begin(&e);
	while (r == WIRE_OK)
		r = conn_send(e.conn, "x", 1, NULL);
	CHECK_EQ(r, WIRE_AGAIN);
	fd_closep(&e.peer);
	r = conn_send(e.conn, "x", 1, NULL);
	CHECK(r == -EPIPE || r == -ECONNRESET);
	finish(&e);
}

TEST(destroy_takes_nothing)
{
	CHECK(conn_destroy(NULL) == NULL);
}
