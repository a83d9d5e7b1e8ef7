#include "consumer/check/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

/* A copy takes milliseconds at most, on a software renderer too. */
static const uint64_t sync_fd_patience_ns = 5 * NS_PER_S;

int reader_rows_of(const struct sluice_frame *frame, struct reader_rows *rows_out)
{
	if (!format_info(frame->fourcc) || frame->width < STAMP_SIDE_MIN ||
		frame->height < STAMP_SIDE_MIN)
		return -EOPNOTSUPP;
	struct stamp_grid grid = stamp_grid(frame->width, frame->height);
	*rows_out = (struct reader_rows){
		.first = (size_t)grid.block / 2 * frame->stride[0],
		.pitch = (size_t)grid.pitch * frame->stride[0],
		.bytes = (size_t)STAMP_BITS * grid.block * stamp_step(frame->fourcc),
		.block = grid.block,
	};
	return 0;
}

int reader_wait_sync_fd(struct reader *reader, const struct sluice_frame *frame)
{
	struct pollfd p = { .fd = frame->sync_fd, .events = POLLIN };
	uint64_t now = clock_ns(), deadline = now + sync_fd_patience_ns;
	int r = p.fd < 0;
	for (; r == 0 && now < deadline; now = clock_ns()) {
		r = poll(&p, 1, (int)((deadline - now) / NS_PER_MS) + 1);
		if (r < 0 && errno == EINTR)
			r = 0;
	}
	if (r > 0 && !(p.fd >= 0 && p.revents & (POLLERR | POLLNVAL)))
		return 0;
	snprintf(reader->error, sizeof(reader->error),
		"the sync_file of frame %" PRIu64 " is not signalled: %s", frame->seq,
		r == 0 ? "the broker's copy does not end" : "it cannot be polled");
	return -ETIME;
}
