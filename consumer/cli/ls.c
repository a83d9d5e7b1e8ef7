#include "consumer/cli/ls.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "consumer/cli/table.h"
#include "consumer/status.h"
#include "consumer/status_words.h"
#include "consumer/text.h"

enum { EXIT_USAGE = 2 };

static const double watch_min_s = 0.1, watch_max_s = 3600, watch_default_s = 2;

static const char help[] =
	"usage: sluice ls [--socket PATH] [--json] [--watch[=SECONDS]]\n"
	"\n"
	"Show the streams of the broker, the views in which their frames are lent, and the\n"
	"clients that read them: who holds frames, for how long, and who lost some, and why.\n"
	"\n"
	"  --json             one JSON document on one line; sluice(1) lists its fields\n"
	"  --watch[=SECONDS]  again and again, every 2 seconds or as often as said (0.1 to 3600)\n"
	"  --socket PATH      the broker's socket; else $SLUICE_SOCKET, else\n"
	"                     $XDG_RUNTIME_DIR/sluice-0\n"
	"  --help             this text\n"
	"\n"
	"MADE says whether frames of a view are made now: of one that nobody wants they are not, and\n"
	"its BYTES are freed after a while. REASON says how they are made, or why not.\n"
	"\n"
	"How to read the columns of a client:\n"
	"  MEMORY   host, or opaque-fd (of a GPU) and when its frames are handed over\n"
	"  HOLDS    frames that it has now, and may have; 'reserved' are never taken back\n"
	"  OLDEST   for how long it has had the oldest of them: a large number is a client\n"
	"           that is slow, stopped, or forgets to release\n"
	"  SKIPPED  frames that a newer one replaced before it was ready (mailbox)\n"
	"  DROPPED  frames that its queue or its socket had no room for\n"
	"  REVOKED  frames that were taken back while it had them\n"
	"  PACED    frames left out because it asked for a lower frame rate\n"
	"  P50 P99  from the publishing of a frame until the client read of it\n"
	"\n"
	"examples:\n"
	"  sluice ls\n"
	"  sluice ls --watch=1\n"
	"  sluice ls --json | jq '.clients[] | {name, subscriptions}'\n"
	"\n"
	"exit status: 0 done, 1 failed (no broker, no permission), 2 wrong usage\n";

struct ls_options {
	const char *socket;
	bool json;
	double watch_s; /* 0: once */
};

/* The whole picture is put together, then printed: its pages come one by one. */
struct picture {
	char title[WIRE_TEXT_MAX + 256];
	size_t n_streams;
	struct table *gpus;
	struct table *streams;
	struct table *views;
	struct table *clients;
	struct table *ended;
};

/* --- Words ------------------------------------------------------------------------------------*/

struct word {
	char text[48];
};

/* Six digits are more than anybody reads: "0.81 ms", "12 ms", "3.4 s", "5 min". */
static struct word duration(uint64_t ns)
{
	struct word w;
	double ms = (double)ns / (double)NS_PER_MS;
	if (ns == 0)
		snprintf(w.text, sizeof(w.text), "-");
	else if (ms < 10)
		snprintf(w.text, sizeof(w.text), "%.2f ms", ms);
	else if (ms < 1000)
		snprintf(w.text, sizeof(w.text), "%.0f ms", ms);
	else if (ms < 100e3)
		snprintf(w.text, sizeof(w.text), "%.1f s", ms / 1e3);
	else if (ms < 2 * 3600e3)
		snprintf(w.text, sizeof(w.text), "%.0f min", ms / 60e3);
	else
		snprintf(w.text, sizeof(w.text), "%.1f h", ms / 3600e3);
	return w;
}

static struct word bytes(uint64_t n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	struct word w;
	unsigned u = 0;
	double scaled = (double)n;
	for (; scaled >= 1024 && u < 4; u++)
		scaled /= 1024;
	snprintf(w.text, sizeof(w.text), u ? "%.1f %s" : "%.0f %s", scaled, units[u]);
	return w;
}

static struct word picture_word(uint32_t fourcc, uint32_t width, uint32_t height)
{
	struct word w = { "-" };
	char name[8];
	if (fourcc)
		snprintf(w.text, sizeof(w.text), "%s %ux%u", sluice_fourcc_name(fourcc, name),
			width, height);
	return w;
}

static struct word delivery(const Sluice__SubscriptionStatus *s)
{
	struct word w;
	const char *word = status_delivery_word(s->delivery);
	if (s->delivery == SLUICE__DELIVERY__DELIVERY_FIFO)
		snprintf(w.text, sizeof(w.text), "%s:%u", word, s->fifo_depth);
	else
		snprintf(w.text, sizeof(w.text), "%s", word);
	return w;
}

/* --- Rows -------------------------------------------------------------------------------------*/

static void add_stream(struct picture *p, const Sluice__StreamInfo *info)
{
	p->n_streams++;
	table_add(p->streams, "%s", info->name);
	table_add(p->streams, "%s", status_state_word(info->state));
	table_add(p->streams, "%s", picture_word(info->fourcc, info->width, info->height).text);
	table_add(p->streams, "%s", info->source);
	table_add(p->streams, "%s", info->text);
}

static void add_view(struct picture *p, const char *stream, const Sluice__ViewStatus *view)
{
	struct table *t = p->views;
	table_add(t, "%s", stream);
	table_add(t, "%u", view->view);
	table_add(t, "%s", status_memory_word(view->memory));
	table_add(t, "%s", view->running ? "yes" : "no");
	table_add(t, "%s", picture_word(view->fourcc, view->width, view->height).text);
	table_add(t, "%u", view->generation);
	table_add(t, "%u", view->slots);
	table_add(t, "%s", bytes(view->bytes).text);
	table_add(t, "%" PRIu64, view->published);
	table_add(t, "%" PRIu64, view->no_slot);
	table_add(t, "%" PRIu64, view->refused);
	table_add(t, "%" PRIu64, view->superseded);
	table_add(t, "%s", duration(view->copy_p50_ns).text);
	table_add(t, "%s", duration(view->copy_p99_ns).text);
	table_add(t, "%s", view->reason);
}

static void add_client_name(struct table *t, const Sluice__ClientStatus *client)
{
	table_add(t, "%" PRIu64, client->client);
	table_add(t, "%s", client->name);
	table_add(t, "%u", client->pid);
}

/* "host", or "opaque-fd timeline": what it gets, and when. */
static struct word readiness(const Sluice__SubscriptionStatus *s)
{
	struct word w;
	bool is_host = s->memory == SLUICE__MEMORY__MEMORY_HOST;
	snprintf(w.text, sizeof(w.text), "%s%s%s", status_memory_word(s->memory),
		is_host ? "" : " ", is_host ? "" : status_readiness_word(s->readiness));
	return w;
}

static void add_subscription(
	struct table *t, const Sluice__ClientStatus *client, const Sluice__SubscriptionStatus *s)
{
	add_client_name(t, client);
	table_add(t, "%s", s->stream);
	table_add(t, "%s", delivery(s).text);
	table_add(t, "%s", readiness(s).text);
	table_add(t, "%u/%u%s", s->holds, s->max_holds, s->reserved_holds ? " reserved" : "");
	table_add(t, "%s", duration(s->oldest_hold_ns).text);
	table_add(t, "%u", s->waiting);
	table_add(t, "%" PRIu64, s->sent);
	table_add(t, "%" PRIu64, s->skipped);
	table_add(t, "%" PRIu64, s->dropped);
	table_add(t, "%" PRIu64, s->revoked);
	table_add(t, "%" PRIu64, s->paced);
	table_add(t, "%s", duration(s->latency_p50_ns).text);
	table_add(t, "%s", duration(s->latency_p99_ns).text);
	table_add(t, "%s", s->bound ? bytes(s->bytes).text : "not bound");
	table_add(t, "%s", client->reason[0] ? client->reason : s->note);
}

/* A client that reads nothing: one that lists, or is about to subscribe. */
static void add_idle(struct table *t, const Sluice__ClientStatus *client)
{
	enum { COLUMNS_OF_SUBSCRIPTION = 14 };
	add_client_name(t, client);
	for (int i = 0; i < COLUMNS_OF_SUBSCRIPTION; i++)
		table_add(t, "-");
	table_add(t, "%s", client->reason);
}

static void add_client(struct picture *p, const Sluice__ClientStatus *client)
{
	if (client->ended) {
		add_client_name(p->ended, client);
		table_add(p->ended, "%u", client->uid);
		table_add(p->ended, "%s ago", duration(client->ended_ns).text);
		table_add(p->ended, "%s", client->reason);
		return;
	}
	for (size_t i = 0; i < client->n_subscriptions; i++)
		add_subscription(p->clients, client, client->subscriptions[i]);
	if (client->n_subscriptions == 0)
		add_idle(p->clients, client);
}

static void set_title(struct picture *p, const Sluice__Status *page)
{
	char broker[WIRE_TEXT_MAX + 1];
	text_copy(broker, sizeof(broker), page->broker);
	snprintf(p->title, sizeof(p->title),
		"%s, pid %u, up %s, memory %s of %s, %" PRIu64 " connections refused", broker,
		page->pid, duration(page->uptime_ns).text, bytes(page->memory_bytes).text,
		bytes(page->memory_limit_bytes).text, page->refused_connections);
}

static void add_gpu(struct picture *p, const Sluice__Status *page, const Sluice__GpuStatus *gpu)
{
	table_add(p->gpus, "%s", gpu->device ? gpu->device->name : "-");
	table_add(p->gpus, "%s of %s", bytes(page->gpu_memory_bytes).text,
		bytes(page->gpu_memory_limit_bytes).text);
	table_add(p->gpus, "%s", gpu->used_bytes ? bytes(gpu->used_bytes).text : "-");
	table_add(p->gpus, "%s", gpu->text);
}

static void add_stream_status(struct picture *p, const Sluice__StreamStatus *stream)
{
	const char *name = stream->info ? stream->info->name : "";
	if (stream->info)
		add_stream(p, stream->info);
	for (size_t i = 0; i < stream->n_views; i++)
		add_view(p, name, stream->views[i]);
}

static int add_page(void *data, const Sluice__Status *page)
{
	struct picture *p = data;
	if (!p->title[0]) {
		set_title(p, page);
		for (size_t i = 0; i < page->n_gpus; i++)
			add_gpu(p, page, page->gpus[i]);
	}
	for (size_t i = 0; i < page->n_streams; i++)
		add_stream_status(p, page->streams[i]);
	for (size_t i = 0; i < page->n_clients; i++)
		add_client(p, page->clients[i]);
	return 0;
}

/* --- Printing ---------------------------------------------------------------------------------*/

static int print_tables(struct sluice *conn)
{
	struct picture p = {
		.gpus = table_create("GPU POOLS >IN-USE HOW"),
		.streams = table_create("STREAM STATE PICTURE SOURCE WHY"),
		.views = table_create("STREAM >VIEW MEMORY MADE PICTURE >GENERATION >SLOTS >BYTES "
				      ">PUBLISHED >NO-SLOT >REFUSED >SUPERSEDED >COPY-P50 "
				      ">COPY-P99 REASON"),
		.clients = table_create(
			"CLIENT NAME >PID STREAM DELIVERY MEMORY HOLDS >OLDEST >WAITING "
			">SENT >SKIPPED >DROPPED >REVOKED >PACED >P50 >P99 >MAPPED "
			"LAST-ERROR"),
		.ended = table_create("ENDED NAME >PID >UID >WHEN REASON"),
	};
	int r = status_read(conn, add_page, &p);
	if (r == 0) {
		puts(p.title);
		if (p.n_streams == 0)
			puts("\nNo stream: start sluice-broker with --source NAME=...");
		table_print(p.gpus, stdout);
		table_print(p.streams, stdout);
		table_print(p.views, stdout);
		table_print(p.clients, stdout);
		table_print(p.ended, stdout);
	}
	table_destroy(p.gpus);
	table_destroy(p.streams);
	table_destroy(p.views);
	table_destroy(p.clients);
	table_destroy(p.ended);
	return r;
}

static int print_json(struct sluice *conn)
{
	char *json;
	int r = sluice_status_json(conn, &json);
	if (r < 0)
		return r;
	puts(json);
	free(json);
	return 0;
}

static void print_once(struct sluice *conn, const struct ls_options *options)
{
	bool clears = options->watch_s > 0 && !options->json && isatty(STDOUT_FILENO);
	if (clears)
		fputs("\033[H\033[J", stdout);
	if ((options->json ? print_json(conn) : print_tables(conn)) < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(conn));
	if (fflush(stdout) != 0)
		err(EXIT_FAILURE, "cannot write the list");
}

static void parse_watch(const char *text, struct ls_options *options)
{
	char *end = NULL;
	options->watch_s = text ? strtod(text, &end) : watch_default_s;
	if (text && (end == text || *end || !(options->watch_s >= watch_min_s) ||
			    options->watch_s > watch_max_s))
		errx(EXIT_USAGE, "--watch=%s: give seconds from %g to %g", text, watch_min_s,
			watch_max_s);
}

/* False: --help was printed, nothing else is to do. */
static bool parse(int argc, char **argv, struct ls_options *options)
{
	static const struct option longs[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "watch", optional_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1)
		switch (c) {
		case 's':
			options->socket = optarg;
			break;
		case 'j':
			options->json = true;
			break;
		case 'w':
			parse_watch(optarg, options);
			break;
		case 'h':
			fputs(help, stdout);
			return false;
		default:
			errx(EXIT_USAGE, "try sluice ls --help");
		}
	if (optind < argc)
		errx(EXIT_USAGE, "%s is too much: try sluice ls --help", argv[optind]);
	return true;
}

int ls_main(int argc, char **argv)
{
	struct ls_options options = { 0 };
	struct sluice *conn = NULL;
	if (!parse(argc, argv, &options))
		return EXIT_SUCCESS;
	struct sluice_options how = { .socket = options.socket, .name = "sluice ls" };
	if (sluice_connect(&conn, &how) < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(NULL));
	print_once(conn, &options);
	while (options.watch_s > 0) {
		struct timespec pause = clock_timespec((uint64_t)(options.watch_s * 1e9));
		nanosleep(&pause, NULL);
		print_once(conn, &options);
	}
	sluice_close(conn);
	return EXIT_SUCCESS;
}
