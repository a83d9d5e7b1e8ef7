/* Plain memory: so that the same check runs where there is no GPU. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/check/reader.h"

struct host_reader {
	struct reader base;
	uint8_t copy[READER_BYTES_MAX];
};

static int host_begin(
	struct reader *reader, struct sluice_frame *frame, const struct reader_rows *rows)
{
	struct host_reader *r = (struct host_reader *)reader;
	for (unsigned band = 0; band < STAMP_BANDS; band++)
		memcpy(r->copy + band * rows->bytes,
			frame->data[0] + rows->first + band * rows->pitch, rows->bytes);
	return 0;
}

static int host_wait(struct reader *reader, struct sluice *conn, struct sluice_view *view)
{
	return 0;
}

static struct reader *host_destroy(struct reader *reader)
{
	free(reader);
	return NULL;
}

static const struct reader_ops host_ops = { host_begin, host_wait, host_destroy };

int reader_create_host(struct reader **reader_out)
{
	struct host_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->base = (struct reader){ .ops = &host_ops, .pixels = r->copy };
	*reader_out = &r->base;
	return 0;
}
