/* libsluice: every number and text that the broker or the user controls, one past its limit. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/consumer_fixture.h"

static void send_body(struct fake *fake, Sluice__Packet__BodyCase body, void *message)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = body;
	packet.frame = message; /* a union of pointers */
	fake_send(fake, &packet, NULL);
}

/* --- Lies about lists -------------------------------------------------------------------------*/

static void send_list(struct fake *fake, size_t n, const char *name, int state)
{
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	Sluice__StreamInfo *list[WIRE_STREAMS_MAX + 1];
	info.name = (char *)name;
	info.state = (Sluice__StreamState)state;
	for (size_t i = 0; i < n; i++)
		list[i] = &info;
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	streams.n_streams = n;
	streams.streams = list;
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	send_body(fake, SLUICE__PACKET__BODY_STREAMS, &streams);
}

struct list_lie {
	const char *what;
	size_t n;
	const char *name;
	int state;
};

static void script_list_lie(struct fake *fake)
{
	const struct list_lie *lie = fake->row;
	fake_welcome(fake, 1);
	send_list(fake, lie->n, lie->name, lie->state);
	fake_expect_end(fake);
}

TEST(a_list_of_streams_past_the_limits_ends_the_connection)
{
	char name[WIRE_NAME_MAX + 2];
	memset(name, 'x', sizeof(name));
	name[WIRE_NAME_MAX + 1] = 0;
	const struct list_lie rows[] = {
		{ "one stream too many", WIRE_STREAMS_MAX + 1, "s", 0 },
		{ "a name one byte too long", 1, name, 0 },
		{ "no name", 1, "", 0 },
		{ "a name that steers terminals", 1, "a\033b", 0 },
		{ "an unknown state", 1, "s", 3 },
		{ "a negative state", 1, "s", -1 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake fake;
		struct sluice *conn;
		struct sluice_stream_info *infos = NULL;
		fake_start(&fake, script_list_lie, &rows[i]);
		struct sluice_options options = { .socket = fake.address.sun_path };
		CHECK_EQ(sluice_connect(&conn, &options), 0);
		CHECK_ROW(sluice_streams(conn, &infos) == -EPROTO && !infos, rows[i].what);
		sluice_close(conn);
		fake_stop(&fake);
	}
}

static void script_long_text(struct fake *fake)
{
	static char text[3000];
	memset(text, 't', sizeof(text) - 1);
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	Sluice__StreamInfo *list[1] = { &info };
	info.name = (char *)"s";
	info.text = info.source = text;
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	streams.n_streams = 1;
	streams.streams = list;
	fake_welcome(fake, 1);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	send_body(fake, SLUICE__PACKET__BODY_STREAMS, &streams);
	fake_bye(fake, SLUICE__ERROR_CODE__ERROR_SHUTDOWN, text);
}

TEST(long_text_is_cut)
{
	struct fake fake;
	struct sluice *conn;
	struct sluice_stream_info *infos;
	fake_start(&fake, script_long_text, NULL);
	struct sluice_options options = { .socket = fake.address.sun_path };
	CHECK_EQ(sluice_connect(&conn, &options), 0);
	CHECK_EQ(sluice_streams(conn, &infos), 1);
	CHECK_EQ(strlen(infos[0].text), WIRE_TEXT_MAX);
	CHECK_EQ(strlen(infos[0].source), WIRE_SOURCE_MAX);
	free(infos);
	CHECK_EQ(wait_for_end(conn), -ECONNRESET);
	CHECK_EQ(strlen(sluice_error(conn)), WIRE_TEXT_MAX);
	sluice_close(conn);
	fake_stop(&fake);
}

/* --- Lies about the answer to a call ----------------------------------------------------------*/

struct grant {
	const char *what;
	uint32_t view, max_holds, reserved_holds;
};

static void script_grant(struct fake *fake)
{
	const struct grant *grant = fake->row;
	fake_welcome(fake, 1);
	const Sluice__Packet *ask = fake_expect(fake, SLUICE__PACKET__BODY_SUBSCRIBE);
	Sluice__Subscribed subscribed = SLUICE__SUBSCRIBED__INIT;
	subscribed.request = ask->subscribe->request;
	subscribed.view = grant->view;
	subscribed.max_holds = grant->max_holds;
	subscribed.reserved_holds = grant->reserved_holds;
	send_body(fake, SLUICE__PACKET__BODY_SUBSCRIBED, &subscribed);
	fake_expect_end(fake);
}

TEST(a_grant_past_the_limits_ends_the_connection)
{
	static const struct grant rows[] = {
		{ "view 0", 0, 1, 0 },
		{ "no holds", 1, 0, 0 },
		{ "one hold too many", 1, WIRE_HOLDS_MAX + 1, 0 },
		{ "more reserved than held", 1, 1, 2 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake fake;
		struct sluice *conn;
		struct sluice_view *view = NULL;
		fake_start(&fake, script_grant, &rows[i]);
		struct sluice_options options = { .socket = fake.address.sun_path };
		CHECK_EQ(sluice_connect(&conn, &options), 0);
		CHECK_ROW(
			sluice_subscribe(conn, "s", NULL, &view) == -EPROTO && !view, rows[i].what);
		sluice_close(conn);
		fake_stop(&fake);
	}
}

/* --- Requests of the user ---------------------------------------------------------------------*/

static void script_greet_only(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect_end(fake);
}

TEST(a_request_past_a_limit_is_refused_here)
{
	static const struct {
		struct sluice_view_request request;
		int result;
	} rows[] = {
		{ { .delivery = SLUICE_FIFO, .fifo_depth = WIRE_FIFO_MAX + 1 }, -EINVAL },
		{ { .max_holds = WIRE_HOLDS_MAX + 1 }, -EINVAL },
		{ { .reserved_holds = WIRE_HOLDS_MAX + 1 }, -EINVAL },
		{ { .width = FORMAT_SIDE_MAX + 1 }, -EINVAL },
		{ { .delivery = (enum sluice_delivery)2 }, -EINVAL },
		{ { .memory = (enum sluice_memory)3 }, -EINVAL },
	};
	struct fake fake;
	struct sluice_view *view = NULL;
	fake_start(&fake, script_greet_only, NULL);
	struct sluice *conn = NULL;
	struct sluice_options options = { .socket = fake.address.sun_path };
	CHECK_EQ(sluice_connect(&conn, &options), 0);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_EQ(
			sluice_subscribe(conn, "desktop", &rows[i].request, &view), rows[i].result);
	CHECK_EQ(sluice_subscribe(conn, "", NULL, &view), -EINVAL);
	CHECK_EQ(sluice_subscribe(conn, "a\nb", NULL, &view), -EINVAL);
	CHECK_EQ(sluice_subscribe(conn, NULL, NULL, &view), -EINVAL);
	CHECK(!view);
	sluice_close(conn);
	fake_stop(&fake);
}

/* --- Descriptors ------------------------------------------------------------------------------*/

static void script_generation(struct fake *fake)
{
	static struct fake_memory memory;
	uint32_t offset[4], stride[4];
	Sluice__Generation generation;
	fake_welcome(fake, 1);
	fake_subscribed(fake, 1);
	fake_memory_init(&memory, 1, 0);
	fake_describe(&memory, &generation, offset, stride);
	struct fdset fds = fake_memory_fds(&memory);
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &generation;
	fake_send(fake, &packet, &fds);
	fake_tell(fake);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

static void leave_descriptors(unsigned n, struct rlimit *old_out)
{
	int lowest = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	CHECK(lowest >= 0 && getrlimit(RLIMIT_NOFILE, old_out) == 0);
	close(lowest);
	struct rlimit limit = { (rlim_t)lowest + n, old_out->rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

TEST(a_process_without_free_descriptors_is_told_to_raise_its_limit)
{
	static const unsigned flags[] = { 0, SLUICE_RECONNECT };
	if (test_under_valgrind())
		test_not_for_here("valgrind takes the descriptors all the same");
	for (unsigned i = 0; i < 2; i++) {
		struct session s;
		struct rlimit old;
		begin(&s, script_generation, NULL, flags[i]);
		fake_await(&s.fake);
		leave_descriptors(FAKE_SLOTS / 2, &old);
		CHECK_EQ(wait_for_end(s.conn), -EMFILE);
		CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
		CHECK(strstr(sluice_error(s.conn), "ulimit -n"));
		CHECK(!strstr(sluice_error(s.conn), "bug"));
		CHECK_EQ(sluice_error_code(s.conn), SLUICE_ERROR_NONE);
		end(&s);
	}
}

/* --- Drivers that are not there ---------------------------------------------------------------*/

static void script_nothing(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect_end(fake);
}

TEST(without_a_driver_the_sentence_says_so)
{
	struct fake fake;
	struct sluice *conn;
	struct sluice_view *view;
	const struct sluice_view_request request = { .memory = SLUICE_MEMORY_CUDA };
	void *library = dlopen("libcuda.so.1", RTLD_LAZY);
	if (library)
		dlclose(library);
	if (library)
		test_not_for_here("libcuda.so.1 is here");
	fake_start(&fake, script_nothing, NULL);
	struct sluice_options options = { .socket = fake.address.sun_path };
	CHECK_EQ(sluice_connect(&conn, &options), 0);
	CHECK_EQ(sluice_subscribe(conn, "desktop", &request, &view), -EOPNOTSUPP);
	CHECK(strstr(sluice_error(conn), "libcuda.so.1 cannot be opened: ") ||
		strstr(sluice_error(conn), "built without CUDA"));
	sluice_close(conn);
	fake_stop(&fake);
}

TEST(requests_that_make_no_sense_are_the_callers_fault)
{
	static const struct sluice_view_request requests[] = {
		{ .memory = (enum sluice_memory)3 },
		{ .memory = (enum sluice_memory) - 1 },
		{ .readiness = (enum sluice_readiness)3 },
		{ .flags = 2 },
	};
	struct fake fake;
	struct sluice *conn;
	struct sluice_view *view;
	fake_start(&fake, script_nothing, NULL);
	struct sluice_options options = { .socket = fake.address.sun_path };
	CHECK_EQ(sluice_connect(&conn, &options), 0);
	for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		CHECK_EQ(sluice_subscribe(conn, "desktop", &requests[i], &view), -EINVAL);
	sluice_close(conn);
	fake_stop(&fake);
}
