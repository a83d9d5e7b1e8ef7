/*
 * How the stamp gets out of a frame's memory. A stamp is STAMP_BANDS bands of blocks; one row through
 * the middle of each is all that is fetched, some 20 kilobytes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/stamp.h"
#include "consumer/sluice_consumer.h"

enum {
	READER_ROW_MAX = STAMP_BITS * 16 * 8, /* bytes: the largest block, the widest pixel */
	READER_BYTES_MAX = STAMP_BANDS * READER_ROW_MAX,
	READER_TEXT_MAX = 512,
	READER_TURN_MS = 100,
};

struct reader;

/* Where the rows are in a frame. */
struct reader_rows {
	size_t first;   /* bytes from the beginning of plane 0 to the first row */
	size_t pitch;   /* bytes from row to row */
	size_t bytes;   /* of each row: READER_ROW_MAX at most */
	uint32_t block; /* samples */
};

/* 0, or -EOPNOTSUPP: the picture is too small for a stamp, or its format is not known. */
int reader_rows_of(const struct sluice_frame *frame, struct reader_rows *rows_out);

/* One kind of memory. All return 0 or negative errno with reader->error. */
struct reader_ops {
	/* Begin to fetch. Blocks only for pixels that are not there yet, and not if the GPU can. */
	int (*begin)(
		struct reader *reader, struct sluice_frame *frame, const struct reader_rows *rows);
	/* Until they are there. -ECONNRESET: the broker or the view is gone, and the pixels may be
	 * no whole frame; -ETIMEDOUT: not within READER_TURN_MS, call it again. */
	int (*wait)(struct reader *reader, struct sluice *conn, struct sluice_view *view);
	struct reader *(*destroy)(struct reader *reader);
};

struct reader {
	const struct reader_ops *ops;
	const uint8_t *pixels; /* the rows, one after the other; [lend] until the next begin() */
	void *stream;          /* CUstream that it works in; NULL: none */
	char error[READER_TEXT_MAX];
};

/* Make ready what takes long: the driver's start. reader_out [give] to reader_destroy(). 0, or
 * negative with a sentence in error, which has READER_TEXT_MAX bytes. */
int reader_create_host(struct reader **reader_out);
int reader_create_cuda(
	struct reader **reader_out, const struct sluice_stream_info *stream, char *error);
/* vulkan_out is filled, for the subscription. [lend] with the reader */
int reader_create_vulkan(struct reader **reader_out, const struct sluice_stream_info *stream,
	struct sluice_vulkan *vulkan_out, char *error);

/* Wait on the CPU until a frame's sync_file is signalled; at once if it has none. As begin(). */
int reader_wait_sync_fd(struct reader *reader, const struct sluice_frame *frame);

/* Takes NULL. Returns NULL. */
static inline struct reader *reader_destroy(struct reader *reader)
{
	return reader ? reader->ops->destroy(reader) : NULL;
}

DEFINE_CLEANUP(struct reader *, reader_destroy);
