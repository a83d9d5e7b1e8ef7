#include "proto/conn.h"

#include <stdlib.h>

struct conn {
	int fd;
	struct watch *watch;
	struct wire_arena *arena;
	conn_fn fn;
	void *data;
};

/* One packet a call: the loop calls again while there is more, so no peer starves the others. */
static void on_readable(void *data)
{
	struct conn *conn = data;
	unsigned char request[WIRE_REQUEST_MAX];
	_cleanup_fdset_ struct fdset fds;
	size_t len;
	int r = wire_recv(conn->fd, request, sizeof(request), &len, &fds);
	if (r == WIRE_AGAIN)
		return;
	Sluice__Packet *packet = NULL;
	if (r == WIRE_OK)
		r = wire_decode(request, len, conn->arena, &packet);
	conn->fn(conn->data, packet, &fds, r);
}

int conn_create(struct conn **conn_out, struct loop *loop, int *fd, struct wire_arena *arena,
	conn_fn fn, void *data)
{
	_cleanup_fd_ int taken = fd_take(fd);
	_cleanup_(conn_destroyp) struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn)
		return -ENOMEM;
	*conn = (struct conn){ .fd = fd_take(&taken), .arena = arena, .fn = fn, .data = data };
	int r = loop_watch(loop, &conn->watch, conn->fd, LOOP_READ, on_readable, conn);
	if (r < 0)
		return r;
	*conn_out = TAKE_PTR(conn);
	return 0;
}

int conn_send(struct conn *conn, const void *data, size_t len, struct fdset *fds)
{
	return wire_send(conn->fd, data, len, fds);
}

int conn_send_packet(struct conn *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	unsigned char data[WIRE_PACKET_MAX];
	size_t len;
	int r = wire_encode(packet, data, sizeof(data), &len);
	if (r < 0) {
		if (fds)
			fdset_close(fds);
		return r;
	}
	return wire_send(conn->fd, data, len, fds);
}

struct conn *conn_destroy(struct conn *conn)
{
	if (!conn)
		return NULL;
	conn->watch = watch_destroy(conn->watch);
	fd_closep(&conn->fd);
	free(conn);
	return NULL;
}
