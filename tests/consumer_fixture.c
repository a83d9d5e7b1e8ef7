#include "tests/consumer_fixture.h"

const struct sluice_view_request fifo = { .delivery = SLUICE_FIFO, .fifo_depth = 32 };

void begin(struct session *s, fake_script script, const struct sluice_view_request *request,
	unsigned flags)
{
	fake_start(&s->fake, script, NULL);
	struct sluice_options options = { .socket = s->fake.address.sun_path, .flags = flags };
	CHECK_EQ(sluice_connect(&s->conn, &options), 0);
	CHECK_EQ(sluice_subscribe(s->conn, "desktop", request, &s->view), 0);
}

void end(struct session *s)
{
	sluice_close(s->conn);
	fake_stop(&s->fake);
}

struct sluice_frame *next(struct session *s)
{
	struct sluice_frame *frame;
	for (;;) {
		int r = sluice_view_next(s->view, &frame);
		CHECK(r >= 0);
		if (r == 1)
			return frame;
		CHECK(sluice_wait(s->conn, LONG_MS) >= 0);
	}
}

int wait_for_end(struct sluice *conn)
{
	int r;
	do
		r = sluice_wait(conn, LONG_MS);
	while (r >= 0);
	return r;
}

int sync_with(struct session *s)
{
	while (!fake_has_told(&s->fake))
		sluice_wait(s->conn, 1);
	int r = sluice_dispatch(s->conn);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s", sluice_error(s->conn));
	return r;
}

struct sluice_view_stats stats_of(const struct session *s)
{
	struct sluice_view_stats stats;
	sluice_view_get_stats(s->view, &stats);
	return stats;
}
