/* sluice ls against a scripted broker. */
#include <string.h>

#include "tests/fake_broker.h"
#include "tests/program.h"
#include "tests/test.h"

static struct program program;

/* Text that a hostile client might have as its name. */
static const char nasty[] = "a\"b\\c\n\033[2J\377\303\244";

static void send_status(struct fake *fake, Sluice__Status *status, uint64_t from)
{
	const Sluice__Packet *ask = fake_expect(fake, SLUICE__PACKET__BODY_STATUS_REQUEST);
	CHECK_EQ(ask->status_request->from, from);
	status->request = ask->status_request->request;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STATUS;
	packet.status = status;
	fake_send(fake, &packet, NULL);
}

static void send_first_page(struct fake *fake)
{
	Sluice__ViewStatus view = SLUICE__VIEW_STATUS__INIT;
	Sluice__ViewStatus *views[1] = { &view };
	view.view = 3;
	view.fourcc = format_info_by_name("NV12")->fourcc;
	view.width = 640;
	view.height = 480;
	view.generation = 2;
	view.slots = 8;
	view.bytes = 1536;
	view.published = 1000;
	view.no_slot = 1;
	view.refused = 2;
	view.superseded = 4;
	view.copy_p50_ns = 810000;
	view.copy_p99_ns = 12000000;
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	info.name = (char *)"desktop";
	info.state = SLUICE__STREAM_STATE__STREAM_LIVE;
	info.source = (char *)"pattern";
	Sluice__StreamStatus stream = SLUICE__STREAM_STATUS__INIT;
	Sluice__StreamStatus *streams[1] = { &stream };
	stream.info = &info;
	stream.n_views = 1;
	stream.views = views;
	Sluice__Status status = SLUICE__STATUS__INIT;
	status.n_streams = 1;
	status.streams = streams;
	status.session = 0xfedcba9876543210;
	status.broker = (char *)"fake 1";
	status.pid = 77;
	status.uptime_ns = 3400000000;
	status.memory_bytes = 512;
	status.memory_limit_bytes = 1ull << 32;
	status.next = 40;
	send_status(fake, &status, 0);
}

static void send_second_page(struct fake *fake)
{
	Sluice__SubscriptionStatus subscription = SLUICE__SUBSCRIPTION_STATUS__INIT;
	Sluice__SubscriptionStatus *subscriptions[1] = { &subscription };
	subscription.view = 3;
	subscription.stream = (char *)"desktop";
	subscription.delivery = SLUICE__DELIVERY__DELIVERY_FIFO;
	subscription.fifo_depth = 4;
	subscription.max_holds = subscription.reserved_holds = 2;
	subscription.holds = 1;
	subscription.oldest_hold_ns = 12000000;
	subscription.sent = UINT64_MAX;
	subscription.bound = true;
	Sluice__ClientStatus clients[2] = { SLUICE__CLIENT_STATUS__INIT,
		SLUICE__CLIENT_STATUS__INIT };
	Sluice__ClientStatus *list[2] = { &clients[0], &clients[1] };
	clients[0].client = 1;
	clients[0].name = (char *)nasty;
	clients[0].n_subscriptions = 1;
	clients[0].subscriptions = subscriptions;
	clients[1].client = 2;
	clients[1].name = (char *)"gone";
	clients[1].ended = true;
	clients[1].ended_ns = 5000000000;
	clients[1].reason = (char *)"kept a reserved frame for 2 s";
	Sluice__Status status = SLUICE__STATUS__INIT;
	status.n_clients = 2;
	status.clients = list;
	send_status(fake, &status, 40);
}

static void script_status(struct fake *fake)
{
	fake_welcome(fake, 1);
	send_first_page(fake);
	send_second_page(fake);
	fake_expect_end(fake);
}

static void ls_row(fake_script script, const char *option, const void *row)
{
	struct fake fake;
	fake_start(&fake, script, row);
	const char *argv[] = { SLUICE, "ls", "--socket", fake.address.sun_path, option, NULL };
	program_run(&program, argv, 0);
	fake_stop(&fake);
}

static void ls(fake_script script, const char *option)
{
	ls_row(script, option, NULL);
}

static const char document[] =
	"{\"broker\":\"fake 1\",\"session\":\"fedcba9876543210\",\"pid\":77,"
	"\"uptime_ns\":3400000000,\"memory_bytes\":512,\"memory_limit_bytes\":4294967296,"
	"\"refused_connections\":0,\"gpu_memory_bytes\":0,"
	"\"gpu_memory_limit_bytes\":0,\"gpus\":[],"
	"\"streams\":[{\"name\":\"desktop\",\"state\":\"live\",\"text\":\"\","
	"\"source\":\"pattern\",\"format\":\"\",\"width\":0,\"height\":0,"
	"\"views\":[{\"view\":3,\"memory\":\"host\",\"format\":\"NV12\",\"width\":640,"
	"\"height\":480,\"generation\":2,\"slots\":8,\"bytes\":1536,\"published\":1000,"
	"\"no_slot\":1,\"refused\":2,\"superseded\":4,\"copy_p50_ns\":810000,"
	"\"copy_p99_ns\":12000000,\"running\":false,\"subscribers\":0,\"reason\":\"\"}]}],"
	"\"clients\":[{\"client\":1,\"name\":\"a\\\"b\\\\c\\u000a\\u001b[2J\\ufffd\303\244\","
	"\"pid\":0,\"uid\":0,\"connected_ns\":0,\"ended\":false,\"ended_ns\":0,\"reason\":\"\","
	"\"fds\":0,\"subscriptions\":[{\"view\":3,\"stream\":\"desktop\",\"delivery\":\"fifo\","
	"\"fifo_depth\":4,\"min_interval_ns\":0,\"max_holds\":2,\"reserved_holds\":2,\"holds\":1,"
	"\"oldest_hold_ns\":12000000,\"waiting\":0,\"sent\":18446744073709551615,"
	"\"skipped\":0,\"dropped\":0,\"revoked\":0,\"paced\":0,\"latency_p50_ns\":0,\"latency_p99_ns\":0,"
	"\"bytes\":0,\"bound\":true,\"memory\":\"host\","
	"\"readiness\":\"complete\",\"note\":\"\"}]},"
	"{\"client\":2,\"name\":\"gone\",\"pid\":0,\"uid\":0,\"connected_ns\":0,\"ended\":true,"
	"\"ended_ns\":5000000000,\"reason\":\"kept a reserved frame for 2 s\",\"fds\":0,"
	"\"subscriptions\":[]}]}\n";

TEST(json_is_one_line_and_valid_whatever_a_client_is_called)
{
	ls(script_status, "--json");
	CHECK_EQ(program.status, 0);
	CHECK_STR(program.out, document);
	CHECK_STR(program.err, "");
}

static const char tables[] =
	"fake 1, pid 77, up 3.4 s, memory 512 B of 4.0 GiB, 0 connections refused\n"
	"\n"
	"STREAM   STATE  PICTURE  SOURCE   WHY\n"
	"desktop  live   -        pattern  -\n"
	"\n"
	"STREAM   VIEW  MEMORY  MADE  PICTURE       GENERATION  SLOTS    BYTES  PUBLISHED  NO-SLOT  "
	"REFUSED  SUPERSEDED  COPY-P50  COPY-P99  REASON\n"
	"desktop     3  host    no    NV12 640x480           2      8  1.5 KiB       1000        1  "
	"      2           4   0.81 ms     12 ms  -\n"
	"\n"
	"CLIENT  NAME          PID  STREAM   DELIVERY  MEMORY  HOLDS         OLDEST  WAITING          "
	"        SENT  SKIPPED  DROPPED  REVOKED  PACED  P50  P99  MAPPED  LAST-ERROR\n"
	"1       a\"b\\c??[2J\377\303\244    0  desktop  fifo:4    host    1/2 reserved   12 ms        0"
	"  18446744073709551615        0        0        0      0    -    -     0 B  -\n"
	"\n"
	"ENDED  NAME  PID  UID       WHEN  REASON\n"
	"2      gone    0    0  5.0 s ago  kept a reserved frame for 2 s\n";

TEST(the_tables_line_up_and_steer_no_terminal)
{
	ls(script_status, NULL);
	CHECK_EQ(program.status, 0);
	CHECK_STR(program.out, tables);
}

static void script_twice(struct fake *fake)
{
	fake_welcome(fake, 1);
	for (unsigned i = 0; i < 2; i++) {
		Sluice__Status status = SLUICE__STATUS__INIT;
		status.broker = (char *)"fake 1";
		send_status(fake, &status, 0);
	}
}

TEST(watching_shows_it_again_until_the_broker_ends)
{
	ls(script_twice, "--watch=0.1");
	CHECK_EQ(program.status, 1);
	const char *first = strstr(program.out, "fake 1"),
		   *teaches = strstr(program.out, "--source");
	CHECK(first && strstr(first + 1, "fake 1") && teaches);
	CHECK(strstr(program.err, "stopped or killed"));
}

static void script_refuse(struct fake *fake)
{
	fake_welcome(fake, 1);
	const Sluice__Packet *ask = fake_expect(fake, SLUICE__PACKET__BODY_STATUS_REQUEST);
	Sluice__Error error = SLUICE__ERROR__INIT;
	error.request = ask->status_request->request;
	error.code = SLUICE__ERROR_CODE__ERROR_PERMISSION;
	error.text = (char *)"uid 7 may not observe";
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_ERROR;
	packet.error = &error;
	fake_send(fake, &packet, NULL);
	fake_expect_end(fake);
}

TEST(a_broker_that_does_not_tell_says_why)
{
	ls(script_refuse, "--json");
	CHECK_EQ(program.status, 1);
	CHECK_STR(program.out, "");
	CHECK_STR(program.err, "sluice: uid 7 may not observe\n");
	ls(script_refuse, NULL);
	CHECK_EQ(program.status, 1);
	CHECK_STR(program.out, "");
}

static void script_circle(struct fake *fake)
{
	fake_welcome(fake, 1);
	send_first_page(fake);
	Sluice__Status status = SLUICE__STATUS__INIT;
	status.next = 40;
	send_status(fake, &status, 40);
	fake_expect_end(fake);
}

TEST(a_status_that_goes_in_a_circle_ends)
{
	ls(script_circle, "--json");
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "goes on where it was before"));
	CHECK_STR(program.out, "");
}

/* --- Many pages -------------------------------------------------------------------------------*/

/* As many streams, then clients, as a page may have; `from` and `next` are their numbers. */
static void send_page(
	struct fake *fake, size_t n_streams, size_t n_clients, uint64_t from, uint64_t next)
{
	Sluice__StreamInfo info[WIRE_STATUS_STREAMS];
	Sluice__StreamStatus stream[WIRE_STATUS_STREAMS], *streams[WIRE_STATUS_STREAMS];
	Sluice__ClientStatus client[WIRE_STATUS_CLIENTS], *clients[WIRE_STATUS_CLIENTS];
	char name[WIRE_STATUS_STREAMS][16];
	Sluice__Status status = SLUICE__STATUS__INIT;
	for (size_t i = 0; i < n_streams; i++) {
		sluice__stream_info__init(&info[i]);
		sluice__stream_status__init(&stream[i]);
		snprintf(name[i], sizeof(name[i]), "s%zu.", (size_t)from + i);
		info[i].name = name[i];
		stream[i].info = &info[i];
		streams[i] = &stream[i];
	}
	for (size_t i = 0; i < n_clients; i++) {
		sluice__client_status__init(&client[i]);
		client[i].client = from + i;
		clients[i] = &client[i];
	}
	status.n_streams = n_streams;
	status.streams = streams;
	status.n_clients = n_clients;
	status.clients = clients;
	status.next = next;
	send_status(fake, &status, from);
}

struct pages {
	const char *what;
	struct {
		size_t n_streams, n_clients;
	} page[4];
	unsigned n;
	const char *streams; /* what the document says, from here to its end */
};

#define STREAM(name)                                                                  \
	"{\"name\":\"" name "\",\"state\":\"waiting\",\"text\":\"\",\"source\":\"\"," \
	"\"format\":\"\",\"width\":0,\"height\":0,\"views\":[]}"
#define CLIENT(n)                                                                                 \
	"{\"client\":" n ",\"name\":\"\",\"pid\":0,\"uid\":0,\"connected_ns\":0,\"ended\":false," \
	"\"ended_ns\":0,\"reason\":\"\",\"fds\":0,\"subscriptions\":[]}"

static const struct pages pages[] = {
	{ "nothing", { { 0, 0 } }, 1, "\"streams\":[],\"clients\":[]}\n" },
	{ "clients alone", { { 0, 0 }, { 0, 1 } }, 2,
		"\"streams\":[],\"clients\":[" CLIENT("1") "]}\n" },
	{ "streams alone", { { 1, 0 }, { 1, 0 } }, 2,
		"\"streams\":[" STREAM("s0.") "," STREAM("s1.") "],\"clients\":[]}\n" },
	{ "both", { { 1, 0 }, { 1, 1 }, { 0, 1 } }, 3,
		"\"streams\":[" STREAM("s0.") "," STREAM("s1.") "],\"clients\":[" CLIENT(
			"1") "," CLIENT("2") "]}\n" },
};

static void script_pages(struct fake *fake)
{
	const struct pages *row = fake->row;
	fake_welcome(fake, 1);
	for (unsigned i = 0; i < row->n; i++)
		send_page(fake, row->page[i].n_streams, row->page[i].n_clients, i,
			i + 1 < row->n ? i + 1 : 0);
	fake_expect_end(fake);
}

TEST(json_goes_on_from_page_to_page)
{
	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		ls_row(script_pages, "--json", &pages[i]);
		CHECK_ROW(program.status == 0, pages[i].what);
		const char *streams = strstr(program.out, "\"streams\":");
		CHECK_ROW(streams && strcmp(streams, pages[i].streams) == 0, pages[i].what);
	}
}

enum { MANY_PAGES = 2000 };
_Static_assert(WIRE_STATUS_STREAMS == 2, "the names that are looked for");

/* Streams on 3 pages, then more clients than a thousand pages have. */
static void script_many(struct fake *fake)
{
	fake_welcome(fake, 1);
	send_page(fake, WIRE_STATUS_STREAMS, 0, 0, WIRE_STATUS_STREAMS);
	send_page(fake, WIRE_STATUS_STREAMS, 0, WIRE_STATUS_STREAMS, 2 * WIRE_STATUS_STREAMS);
	send_page(fake, 1, 0, 2 * WIRE_STATUS_STREAMS, 5 * WIRE_STATUS_CLIENTS);
	for (uint64_t i = 5; i < MANY_PAGES; i++)
		send_page(fake, 0, 1, i * WIRE_STATUS_CLIENTS, (i + 1) * WIRE_STATUS_CLIENTS);
	send_page(fake, 0, 1, MANY_PAGES * WIRE_STATUS_CLIENTS, 0);
	fake_expect_end(fake);
}

TEST(as_many_streams_and_clients_as_a_broker_has_are_shown)
{
	static const char *const ways[] = { "--json", NULL };
	for (unsigned i = 0; i < 2; i++) {
		ls_row(script_many, ways[i], NULL);
		CHECK_STR(program.err, "");
		CHECK_EQ(program.status, 0);
		CHECK(strstr(program.out, "s0.") && strstr(program.out, "s2.") &&
			strstr(program.out, "s4."));
	}
}

static const struct pages late_stream = { "late", { { 0, 1 }, { 1, 0 } }, 2, NULL };

TEST(a_stream_behind_the_clients_is_the_brokers_mistake)
{
	ls_row(script_pages, "--json", &late_stream);
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "a stream behind the clients"));
	CHECK_STR(program.out, "");
}

static void script_half(struct fake *fake)
{
	fake_welcome(fake, 1);
	send_first_page(fake);
	fake_expect(fake, SLUICE__PACKET__BODY_STATUS_REQUEST);
}

TEST(a_broker_that_dies_between_two_pages_is_told)
{
	ls(script_half, NULL);
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "stopped or killed"));
	CHECK_STR(program.out, "");
}

TEST(help_that_could_not_be_written_is_a_failure)
{
	enum { ROOM = 100 }; /* bytes: for the sentence, but not for the help */
	static const char *const rows[][4] = { { SLUICE, "--help" }, { SLUICE, "ls", "--help" } };
	for (unsigned i = 0; i < 2; i++) {
		program_run(&program, rows[i], ROOM);
		CHECK_EQ(program.status, 1);
		CHECK(strstr(program.err, "cannot write to the standard output"));
	}
}

TEST(wrong_usage_is_status_2_and_teaches)
{
	static const char *const rows[][5] = {
		{ SLUICE },
		{ SLUICE, "top" },
		{ SLUICE, "ls", "more" },
		{ SLUICE, "ls", "--nonsense" },
		{ SLUICE, "ls", "--watch=0" },
		{ SLUICE, "ls", "--watch=3601" },
		{ SLUICE, "ls", "--watch=soon" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		program_run(&program, rows[i], 0);
		CHECK_EQ(program.status, 2);
		CHECK(program.err[0] && !program.out[0]);
	}
	program_run(&program, (const char *const[]){ SLUICE, "--help", NULL }, 0);
	CHECK_EQ(program.status, 0);
	CHECK(strstr(program.out, "exit status:"));
	program_run(&program, (const char *const[]){ SLUICE, "ls", "--help", NULL }, 0);
	CHECK_EQ(program.status, 0);
	CHECK(strstr(program.out, "examples:") && strstr(program.out, "exit status:"));
	program_run(&program, (const char *const[]){ SLUICE, "--version", NULL }, 0);
	CHECK_STR(program.out, "sluice " SLUICE_VERSION "\n");
	program_run(&program,
		(const char *const[]){ SLUICE, "ls", "--socket=/nonexistent/s", NULL }, 0);
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "start sluice-broker"));
}
