#include "proto/wire.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/text.h"

union control {
	struct cmsghdr align;
	char data[CMSG_SPACE(sizeof(int) * FDSET_MAX)];
};

static void attach_fds(struct msghdr *msg, union control *control, const struct fdset *fds)
{
	size_t len = sizeof(int) * fds->n;
	msg->msg_control = control->data;
	msg->msg_controllen = CMSG_SPACE(len);
	memset(control->data, 0, CMSG_SPACE(len));
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), fds->fd, len);
}

static int send_message(int sock, const struct msghdr *msg)
{
	ssize_t n;
	do
		n = sendmsg(sock, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return WIRE_OK;
	return errno == EAGAIN || errno == ENOBUFS ? WIRE_AGAIN : -errno;
}

int wire_send(int sock, const void *data, size_t len, struct fdset *fds)
{
	union control control;
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (fds && fds->n > 0)
		attach_fds(&msg, &control, fds);
	int r = send_message(sock, &msg);
	if (fds)
		fdset_close(fds);
	return r;
}

/* Own every descriptor before anything can fail. */
static void collect_fds(struct msghdr *msg, struct fdset *fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds->n < FDSET_MAX)
				fds->fd[fds->n++] = fd;
			else
				close(fd); /* cannot be: the control buffer has no room for more */
		}
	}
}

/*
 * A peer that closed with messages of ours unread leaves ECONNRESET, once, in front of what it sent
 * before: its Bye is to be heard.
 */
static ssize_t receive_message(int sock, struct msghdr *msg)
{
	bool was_reset = false;
	for (;;) {
		ssize_t n = recvmsg(sock, msg, MSG_CMSG_CLOEXEC);
		if (n >= 0 || (errno != EINTR && (errno != ECONNRESET || was_reset)))
			return n;
		was_reset |= errno == ECONNRESET;
	}
}

/* To be asked before those that did come are closed. */
static bool has_no_descriptor_left(int sock)
{
	_cleanup_fd_ int copy = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	return copy < 0 && errno == EMFILE;
}

/* What did not fit: the message in our memory, or its descriptors in this process? */
static int truncated(int sock, int flags)
{
	if (flags & MSG_TRUNC)
		return -EPROTO;
	return has_no_descriptor_left(sock) ? -EMFILE : -EPROTO;
}

int wire_recv(int sock, void *data, size_t size, size_t *len_out, struct fdset *fds_out)
{
	union control control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.data,
		.msg_controllen = sizeof(control.data),
	};
	fds_out->n = 0;
	ssize_t n = receive_message(sock, &msg);
	if (n < 0)
		return errno == EAGAIN ? WIRE_AGAIN : -errno;
	collect_fds(&msg, fds_out);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		int r = truncated(sock, msg.msg_flags);
		fdset_close(fds_out);
		return r;
	}
	if (n == 0) {
		fdset_close(fds_out);
		return WIRE_CLOSED;
	}
	*len_out = (size_t)n;
	return WIRE_OK;
}

int wire_encode(const Sluice__Packet *packet, void *data, size_t size, size_t *len_out)
{
	size_t len = sluice__packet__get_packed_size(packet);
	if (len > size)
		return -EMSGSIZE;
	sluice__packet__pack(packet, data);
	*len_out = len;
	return 0;
}

struct wire_arena *wire_arena_create(size_t size)
{
	struct wire_arena *arena = malloc(sizeof(*arena) + size);
	if (!arena)
		return NULL;
	arena->size = size;
	arena->used = 0;
	return arena;
}

static void *arena_alloc(void *data, size_t size)
{
	struct wire_arena *arena = data;
	if (size > arena->size - arena->used)
		return NULL;
	void *p = arena->data + arena->used;
	size_t rounded = (size + 15) & ~(size_t)15;
	arena->used = rounded > arena->size - arena->used ? arena->size : arena->used + rounded;
	return p;
}

static void arena_free(void *data, void *pointer)
{
	(void)data;
	(void)pointer;
}

int wire_decode(const void *data, size_t len, struct wire_arena *arena, Sluice__Packet **packet_out)
{
	arena->used = 0;
	ProtobufCAllocator allocator = { arena_alloc, arena_free, arena };
	Sluice__Packet *packet = sluice__packet__unpack(&allocator, len, data);
	if (!packet || packet->body_case == SLUICE__PACKET__BODY__NOT_SET)
		return -EPROTO;
	*packet_out = packet;
	return 0;
}

const char *wire_body_name(int body_case)
{
	const ProtobufCFieldDescriptor *field =
		body_case > 0 ? protobuf_c_message_descriptor_get_field(
					&sluice__packet__descriptor, (unsigned)body_case)
			      : NULL;
	return field ? field->name : "unknown";
}

const char *wire_error_name(int code)
{
	static const char *const names[] = {
		[SLUICE__ERROR_CODE__ERROR_NONE] = "none",
		[SLUICE__ERROR_CODE__ERROR_PROTOCOL] = "protocol",
		[SLUICE__ERROR_CODE__ERROR_VERSION] = "version",
		[SLUICE__ERROR_CODE__ERROR_PERMISSION] = "permission",
		[SLUICE__ERROR_CODE__ERROR_LIMIT] = "limit",
		[SLUICE__ERROR_CODE__ERROR_NO_STREAM] = "no-stream",
		[SLUICE__ERROR_CODE__ERROR_NO_VIEW] = "no-view",
		[SLUICE__ERROR_CODE__ERROR_ADMISSION] = "admission",
		[SLUICE__ERROR_CODE__ERROR_EXISTS] = "exists",
		[SLUICE__ERROR_CODE__ERROR_TIMEOUT] = "timeout",
		[SLUICE__ERROR_CODE__ERROR_SLOW] = "slow",
		[SLUICE__ERROR_CODE__ERROR_SHUTDOWN] = "shutdown",
		[SLUICE__ERROR_CODE__ERROR_STREAM_GONE] = "stream-gone",
		[SLUICE__ERROR_CODE__ERROR_INTERNAL] = "internal",
	};
	if (code < 0 || code >= (int)(sizeof(names) / sizeof(names[0])) || !names[code])
		return "unknown";
	return names[code];
}

int wire_name_check(const char *name)
{
	size_t len = strnlen(name, WIRE_NAME_MAX + 1);
	if (len == 0 || len > WIRE_NAME_MAX)
		return -EINVAL;
	while (*name) {
		size_t n = text_printable_length(name);
		if (n == 0)
			return -EINVAL;
		name += n;
	}
	return 0;
}
