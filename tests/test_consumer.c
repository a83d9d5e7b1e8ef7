/* libsluice against a scripted broker: connecting, streams, subscribing, losing the broker. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "consumer/json.h"
#include "consumer/sluice_consumer.h"
#include "consumer/text.h"
#include "tests/fake_broker.h"
#include "tests/test.h"

enum { LONG_MS = 10000, SHORT_MS = 50 };

static struct sluice *connect_to(const struct fake *fake, unsigned flags, int timeout_ms)
{
	struct sluice *conn = NULL;
	struct sluice_options options = { .socket = fake->address.sun_path,
		.name = "tester",
		.flags = flags,
		.timeout_ms = timeout_ms };
	int r = sluice_connect(&conn, &options);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s", sluice_error(NULL));
	return conn;
}

/* sluice_wait() until it has nothing but a timeout or an error to tell. */
static int wait_for_end(struct sluice *conn)
{
	int r;
	do
		r = sluice_wait(conn, LONG_MS);
	while (r >= 0);
	return r;
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, 0) == 1;
}

/* --- Connecting -------------------------------------------------------------------------------*/

static void script_greet(struct fake *fake)
{
	fake_accept(fake);
	const Sluice__Packet *hello = fake_expect(fake, SLUICE__PACKET__BODY_HELLO);
	CHECK_STR(hello->hello->name, "tester");
	CHECK_EQ(hello->hello->version_min, WIRE_VERSION);
	CHECK_EQ(hello->hello->version_max, WIRE_VERSION);
	Sluice__Welcome welcome = SLUICE__WELCOME__INIT;
	welcome.version = WIRE_VERSION;
	welcome.session = 0x1234567890abcdef;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_WELCOME;
	packet.welcome = &welcome;
	fake_send(fake, &packet, NULL);
	fake_expect_end(fake);
}

TEST(connecting_shakes_hands)
{
	struct fake fake;
	fake_start(&fake, script_greet, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	CHECK(sluice_session(conn) == 0x1234567890abcdef);
	CHECK_STR(sluice_error(conn), "no error");
	CHECK_EQ(sluice_wait(conn, 0), 0);
	CHECK(!sluice_close(conn));
	fake_stop(&fake);
}

static void expect_failure(const struct sluice_options *options, int r, const char *part)
{
	struct sluice *conn = NULL;
	CHECK_EQ(sluice_connect(&conn, options), r);
	CHECK(!conn);
	if (!strstr(sluice_error(conn), part))
		test_fail(
			__FILE__, __LINE__, "\"%s\" does not say \"%s\"", sluice_error(conn), part);
}

TEST(a_path_that_leads_nowhere_is_explained)
{
	char path[256], longest[300];
	snprintf(path, sizeof(path), "%s/none", test_tmpdir());
	memset(longest, 'x', sizeof(longest));
	longest[108] = 0; /* one past what fits */
	expect_failure(&(struct sluice_options){ .socket = path }, -ENOENT, "start sluice-broker");
	expect_failure(&(struct sluice_options){ .socket = longest }, -ENAMETOOLONG, "108 bytes");
	longest[107] = 0;
	expect_failure(&(struct sluice_options){ .socket = longest }, -ENOENT, longest);
	setenv("SLUICE_SOCKET", path, 1);
	expect_failure(NULL, -ENOENT, path);
	setenv("SLUICE_SOCKET", "", 1);
	setenv("XDG_RUNTIME_DIR", test_tmpdir(), 1);
	snprintf(path, sizeof(path), "%s/sluice-0", test_tmpdir());
	expect_failure(NULL, -ENOENT, path);
	unsetenv("SLUICE_SOCKET");
	unsetenv("XDG_RUNTIME_DIR");
	expect_failure(NULL, -ENOENT, "neither SLUICE_SOCKET nor");
}

TEST(options_out_of_range_are_refused)
{
	char name[WIRE_NAME_MAX + 2];
	memset(name, 'n', sizeof(name));
	name[WIRE_NAME_MAX + 1] = 0;
	const char *path = "/nonexistent/s";
	struct sluice_options o = { .socket = path, .flags = 2 };
	expect_failure(&o, -EINVAL, "flags");
	o = (struct sluice_options){ .socket = path, .timeout_ms = -1 };
	expect_failure(&o, -EINVAL, "timeout_ms");
	o = (struct sluice_options){ .socket = path, .name = name };
	expect_failure(&o, -EINVAL, "64 bytes");
	o.name = "";
	expect_failure(&o, -EINVAL, "64 bytes");
	name[WIRE_NAME_MAX] = 0;
	o.name = name;
	expect_failure(&o, -ENOENT, "no broker");
}

static void script_mute(struct fake *fake)
{
	fake_accept(fake);
	fake_pause(fake);
}

TEST(a_broker_that_does_not_answer_is_waited_for_only_so_long)
{
	struct fake fake;
	fake_start(&fake, script_mute, NULL);
	expect_failure(
		&(struct sluice_options){ .socket = fake.address.sun_path, .timeout_ms = SHORT_MS },
		-ETIMEDOUT, "did not answer within 50 ms");
	fake_go(&fake);
	fake_stop(&fake);
}

struct bye_row {
	Sluice__ErrorCode code;
	int result;
};

static void script_turn_away(struct fake *fake)
{
	const struct bye_row *row = fake->row;
	fake_accept(fake);
	fake_expect(fake, SLUICE__PACKET__BODY_HELLO);
	fake_bye(fake, row->code, "not you\033[2J");
}

TEST(a_broker_that_turns_the_client_away_says_why)
{
	static const struct bye_row rows[] = {
		{ SLUICE__ERROR_CODE__ERROR_PERMISSION, -EACCES },
		{ SLUICE__ERROR_CODE__ERROR_VERSION, -EPROTO },
		{ SLUICE__ERROR_CODE__ERROR_LIMIT, -EDQUOT },
		{ SLUICE__ERROR_CODE__ERROR_SHUTDOWN, -ECONNRESET },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake fake;
		struct sluice *conn = NULL;
		fake_start(&fake, script_turn_away, &rows[i]);
		struct sluice_options options = { .socket = fake.address.sun_path,
			.flags = SLUICE_RECONNECT };
		CHECK_EQ(sluice_connect(&conn, &options), rows[i].result);
		CHECK_EQ(sluice_error_code(NULL), rows[i].code);
		CHECK_STR(sluice_error(NULL), "not you?[2J");
		fake_stop(&fake);
	}
}

/* --- Streams ----------------------------------------------------------------------------------*/

static void send_streams(struct fake *fake, const char *first, const char *second)
{
	Sluice__StreamInfo infos[2] = { SLUICE__STREAM_INFO__INIT, SLUICE__STREAM_INFO__INIT };
	Sluice__StreamInfo *list[2] = { &infos[0], &infos[1] };
	infos[0].name = (char *)first;
	infos[0].state = SLUICE__STREAM_STATE__STREAM_LIVE;
	infos[0].width = 640;
	infos[1].name = (char *)second;
	infos[1].text = (char *)"no such camera";
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	streams.n_streams = (first != NULL) + (second != NULL);
	streams.streams = list;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STREAMS;
	packet.streams = &streams;
	fake_send(fake, &packet, NULL);
}

static void script_list(struct fake *fake)
{
	fake_welcome(fake, 1);
	CHECK(!fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS)->list_streams->watch);
	send_streams(fake, "desktop", "camera");
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	send_streams(fake, NULL, NULL);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
}

TEST(streams_are_listed)
{
	struct fake fake;
	struct sluice_stream_info *infos;
	fake_start(&fake, script_list, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	CHECK_EQ(sluice_streams(conn, &infos), 2);
	CHECK_STR(infos[0].name, "desktop");
	CHECK_EQ(infos[0].state, SLUICE_STREAM_LIVE);
	CHECK_EQ(infos[0].width, 640);
	CHECK_STR(infos[1].text, "no such camera");
	free(infos);
	CHECK_EQ(sluice_streams(conn, &infos), 0);
	free(infos);
	CHECK_EQ(sluice_streams(conn, &infos), -ECONNRESET);
	sluice_close(conn);
	fake_stop(&fake);
}

struct seen {
	char text[256]; /* "+desktop " for each change */
};

static void on_stream(void *data, const struct sluice_stream_info *info)
{
	struct seen *seen = data;
	size_t n = strlen(seen->text);
	snprintf(seen->text + n, sizeof(seen->text) - n, "%c%s ",
		info->state == SLUICE_STREAM_REMOVED ? '-' : '+', info->name);
}

static void script_watch(struct fake *fake)
{
	fake_welcome(fake, 1);
	CHECK(fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS)->list_streams->watch);
	send_streams(fake, "desktop", "camera");
	fake_pause(fake);
	fake_stream(fake, "game", SLUICE__STREAM_STATE__STREAM_LIVE);
	fake_stream(fake, "camera", SLUICE__STREAM_STATE__STREAM_REMOVED);
	fake_pause(fake);
	fake_hang_up(fake);
	fake_welcome(fake, 2);
	CHECK(fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS)->list_streams->watch);
	send_streams(fake, "desktop", NULL);
	fake_expect_end(fake);
}

static void wait_until_seen(struct sluice *conn, struct seen *seen, const char *text)
{
	while (strcmp(seen->text, text) != 0)
		CHECK(sluice_wait(conn, LONG_MS) == 0 &&
			strncmp(seen->text, text, strlen(seen->text)) == 0);
	seen->text[0] = 0;
}

TEST(a_watcher_is_told_what_comes_and_goes_and_what_a_new_broker_lacks)
{
	struct fake fake;
	struct seen seen = { "" };
	fake_start(&fake, script_watch, NULL);
	struct sluice *conn = connect_to(&fake, SLUICE_RECONNECT, 0);
	CHECK_EQ(sluice_watch(conn, on_stream, &seen), 0);
	wait_until_seen(conn, &seen, "+desktop +camera ");
	fake_go(&fake);
	wait_until_seen(conn, &seen, "+game -camera ");
	fake_go(&fake);
	wait_until_seen(conn, &seen, "-game +desktop ");
	sluice_close(conn);
	fake_stop(&fake);
}

/* --- Subscribing ------------------------------------------------------------------------------*/

static void script_refuse(struct fake *fake)
{
	const struct bye_row *row = fake->row;
	fake_welcome(fake, 1);
	fake_refuse(fake, row->code, "because");
	fake_expect_end(fake);
}

TEST(a_refused_subscription_says_why)
{
	static const struct bye_row rows[] = {
		{ SLUICE__ERROR_CODE__ERROR_NO_STREAM, -ENOENT },
		{ SLUICE__ERROR_CODE__ERROR_NO_VIEW, -EOPNOTSUPP },
		{ SLUICE__ERROR_CODE__ERROR_ADMISSION, -EBUSY },
		{ SLUICE__ERROR_CODE__ERROR_EXISTS, -EEXIST },
		{ SLUICE__ERROR_CODE__ERROR_PERMISSION, -EACCES },
		{ SLUICE__ERROR_CODE__ERROR_LIMIT, -EDQUOT },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake fake;
		struct sluice_view *view = NULL;
		fake_start(&fake, script_refuse, &rows[i]);
		struct sluice *conn = connect_to(&fake, 0, 0);
		CHECK_EQ(sluice_subscribe(conn, "desktop", NULL, &view), rows[i].result);
		CHECK(!view);
		CHECK_EQ(sluice_error_code(conn), rows[i].code);
		CHECK_STR(sluice_error(conn), "because");
		sluice_close(conn);
		fake_stop(&fake);
	}
}

static void script_greet_only(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_expect_end(fake);
}

static void script_requests(struct fake *fake)
{
	static const struct {
		Sluice__Delivery delivery;
		unsigned fifo_depth, max_holds, reserved_holds;
	} rows[] = {
		{ SLUICE__DELIVERY__DELIVERY_MAILBOX, 0, 2, 0 },
		{ SLUICE__DELIVERY__DELIVERY_FIFO, 4, 2, 0 },
		{ SLUICE__DELIVERY__DELIVERY_FIFO, 32, 5, 5 },
	};
	fake_welcome(fake, 1);
	for (unsigned i = 0; i < 3; i++) {
		const Sluice__Subscribe *s =
			fake_expect(fake, SLUICE__PACKET__BODY_SUBSCRIBE)->subscribe;
		CHECK_STR(s->stream, "desktop");
		CHECK_EQ(s->delivery, rows[i].delivery);
		CHECK_EQ(s->fifo_depth, rows[i].fifo_depth);
		CHECK_EQ(s->max_holds, rows[i].max_holds);
		CHECK_EQ(s->reserved_holds, rows[i].reserved_holds);
	}
}

/* Each is given up after a moment: the broker answers none. */
TEST(a_request_reaches_the_broker_with_its_defaults)
{
	static const struct sluice_view_request rows[] = {
		{ 0 },
		{ .delivery = SLUICE_FIFO },
		{ .delivery = SLUICE_FIFO, .fifo_depth = 32, .max_holds = 1, .reserved_holds = 5 },
	};
	struct fake fake;
	struct sluice_view *view = NULL;
	fake_start(&fake, script_requests, NULL);
	struct sluice *conn = connect_to(&fake, 0, SHORT_MS * (int)test_slowness());
	for (unsigned i = 0; i < 3; i++)
		CHECK(sluice_subscribe(conn, "desktop", &rows[i], &view) < 0);
	sluice_close(conn);
	fake_stop(&fake);
}

static void script_late(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_pause(fake);
	fake_subscribed(fake, 2);
	CHECK_EQ(fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE)->unsubscribe->view, FAKE_VIEW);
	fake_expect_end(fake);
}

TEST(an_answer_that_comes_too_late_is_undone)
{
	struct fake fake;
	struct sluice_view *view = NULL;
	fake_start(&fake, script_late, NULL);
	struct sluice *conn = connect_to(&fake, 0, SHORT_MS * (int)test_slowness());
	CHECK_EQ(sluice_subscribe(conn, "desktop", NULL, &view), -ETIMEDOUT);
	CHECK(!view);
	fake_go(&fake);
	CHECK_EQ(sluice_wait(conn, SHORT_MS), 0);
	sluice_close(conn);
	fake_stop(&fake);
}

static void script_many_views(struct fake *fake)
{
	fake_welcome(fake, 1);
	for (unsigned i = 0; i < WIRE_SUBSCRIPTIONS_MAX; i++) {
		const Sluice__Packet *ask = fake_expect(fake, SLUICE__PACKET__BODY_SUBSCRIBE);
		Sluice__Subscribed subscribed = SLUICE__SUBSCRIBED__INIT;
		subscribed.request = ask->subscribe->request;
		subscribed.view = i + 1;
		subscribed.max_holds = 1;
		Sluice__Packet packet = SLUICE__PACKET__INIT;
		packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBED;
		packet.subscribed = &subscribed;
		fake_send(fake, &packet, NULL);
	}
	fake_expect_end(fake);
}

TEST(one_view_more_than_a_connection_may_have_is_refused)
{
	struct fake fake;
	struct sluice_view *view;
	char name[16];
	fake_start(&fake, script_many_views, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	for (unsigned i = 0; i < WIRE_SUBSCRIPTIONS_MAX; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		CHECK_EQ(sluice_subscribe(conn, name, NULL, &view), 0);
		CHECK_STR(sluice_view_stream(view), name);
	}
	CHECK_EQ(sluice_subscribe(conn, "more", NULL, &view), -EDQUOT);
	sluice_close(conn);
	fake_stop(&fake);
}

/* --- Losing the broker ------------------------------------------------------------------------*/

static void script_vanish(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_pause(fake);
}

static void script_bye(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_subscribed(fake, 2);
	fake_pause(fake);
	fake_bye(fake, SLUICE__ERROR_CODE__ERROR_SHUTDOWN, "the broker ends: SIGTERM");
	fake_expect_end(fake); /* the client does not wait for the broker to close */
}

TEST(the_last_word_of_the_broker_reaches_the_user)
{
	struct fake fake;
	struct sluice_view *view;
	struct sluice_frame *frame;
	fake_start(&fake, script_bye, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	CHECK_EQ(sluice_subscribe(conn, "desktop", NULL, &view), 0);
	CHECK_EQ(sluice_view_next(view, &frame), 0);
	fake_go(&fake);
	CHECK_EQ(wait_for_end(conn), -ECONNRESET);
	CHECK_STR(sluice_error(conn), "the broker ends: SIGTERM");
	CHECK_EQ(sluice_error_code(conn), SLUICE_ERROR_SHUTDOWN);
	CHECK_EQ(sluice_view_next(view, &frame), -ECONNRESET);
	CHECK_STR(sluice_error(conn), "the broker ends: SIGTERM");
	sluice_close(conn);
	fake_stop(&fake);
}

TEST(a_dead_connection_can_only_be_closed)
{
	struct fake fake;
	struct sluice_view *view;
	struct sluice_stream_info *infos;
	char *json;
	fake_start(&fake, script_vanish, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	fake_go(&fake);
	CHECK_EQ(wait_for_end(conn), -ECONNRESET);
	CHECK_EQ(sluice_session(conn), 0);
	CHECK_EQ(sluice_dispatch(conn), -ECONNRESET);
	CHECK_EQ(sluice_subscribe(conn, "other", NULL, &view), -ECONNRESET);
	CHECK_EQ(sluice_streams(conn, &infos), -ECONNRESET);
	CHECK_EQ(sluice_watch(conn, on_stream, NULL), -ECONNRESET);
	CHECK_EQ(sluice_status_json(conn, &json), -ECONNRESET);
	CHECK(is_readable(sluice_fd(conn)));
	sluice_close(conn);
	fake_stop(&fake);
}

TEST(a_broker_that_vanishes_is_noticed)
{
	struct fake fake;
	fake_start(&fake, script_vanish, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	fake_go(&fake);
	CHECK_EQ(wait_for_end(conn), -ECONNRESET);
	CHECK_EQ(sluice_error_code(conn), SLUICE_ERROR_NONE);
	CHECK(strstr(sluice_error(conn), "stopped or killed"));
	sluice_close(conn);
	fake_stop(&fake);
}

static void on_alarm(int signo)
{
	(void)signo;
}

TEST(waiting_ends_with_a_signal_or_its_time)
{
	struct fake fake;
	fake_start(&fake, script_greet_only, NULL);
	struct sluice *conn = connect_to(&fake, 0, 0);
	CHECK_EQ(sluice_wait(conn, SHORT_MS), 0);
	struct sigaction action = { .sa_handler = on_alarm };
	sigaction(SIGUSR1, &action, NULL);
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec often = { { 0, 20000000 }, { 0, 20000000 } };
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &often, NULL) == 0);
	CHECK_EQ(sluice_wait(conn, LONG_MS), -EINTR);
	timer_delete(timer);
	sluice_close(conn);
	fake_stop(&fake);
}

/* --- Text and JSON ----------------------------------------------------------------------------*/

TEST(text_of_a_peer_is_cut_between_characters_and_cleaned)
{
	static const struct {
		const char *in;
		size_t size;
		const char *out;
	} rows[] = {
		{ "plain", 16, "plain" },
		{ "plain", 6, "plain" },
		{ "plain", 5, "plai" },
		{ "\303\244\303\244", 5, "\303\244\303\244" },
		{ "\303\244\303\244", 4, "\303\244" },
		{ "a\342\202\254", 4, "a" },
		{ "a\342\202\254", 3, "a" },
		{ "\033[31m\177\n", 16, "?[31m??" },
		{ "x\302\233y", 16, "x?y" },
		{ "\302\240", 16, "\302\240" },
		{ "abc", 1, "" },
	};
	char out[32];
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		text_copy(out, rows[i].size, rows[i].in);
		CHECK_ROW(strcmp(out, rows[i].out) == 0, rows[i].in);
	}
}

TEST(json_strings_are_escaped)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "plain", "\"plain\"" }, { "a\"b\\c", "\"a\\\"b\\\\c\"" },
		{ "\n\177", "\"\\u000a\\u007f\"" },
		{ "\303\244\342\202\254\360\237\230\200",
			"\"\303\244\342\202\254\360\237\230\200\"" },
		{ "\377x", "\"\\ufffdx\"" }, { "\303", "\"\\ufffd\"" },
		{ "\300\257", "\"\\ufffd\\ufffd\"" },                       /* overlong */
		{ "\355\240\200", "\"\\ufffd\\ufffd\\ufffd\"" },            /* a surrogate */
		{ "\364\220\200\200", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" }, /* past U+10FFFF */
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *text = NULL;
		size_t size;
		struct json json = { .out = open_memstream(&text, &size) };
		json_string(&json, NULL, rows[i].in);
		fclose(json.out);
		CHECK_ROW(strcmp(text, rows[i].out) == 0, rows[i].out);
		free(text);
	}
}
