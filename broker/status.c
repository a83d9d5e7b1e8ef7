#include "broker/status.h"

#include <stdlib.h>
#include <unistd.h>

#include "broker/describe.h"
#include "broker/subscription.h"
#include "common/clock.h"

/*
 * Status.next says where to go on: first the streams by position, then the clients by number, then
 * the ended ones by position. What comes or goes between two pages is shown or not; a client that
 * ends between them may be shown twice, alive and ended.
 */
#define FROM_CLIENTS (1ull << 62)
#define FROM_ENDED   (1ull << 63)
#define FROM_NUMBER  (FROM_CLIENTS - 1)

enum { VIEWS_MAX = 2 + STREAM_CONVERTED_MAX };

/* Everything that one answer points to. */
struct page {
	Sluice__Status status;
	Sluice__StreamStatus stream[WIRE_STATUS_STREAMS], *stream_ptr[WIRE_STATUS_STREAMS];
	struct description description[WIRE_STATUS_STREAMS];
	Sluice__ViewStatus view[WIRE_STATUS_STREAMS][VIEWS_MAX];
	Sluice__ViewStatus *view_ptr[WIRE_STATUS_STREAMS][VIEWS_MAX];
	Sluice__GpuStatus gpu[SERVER_GPUS_MAX], *gpu_ptr[SERVER_GPUS_MAX];
	Sluice__Device device[SERVER_GPUS_MAX];
	Sluice__ClientStatus client[WIRE_STATUS_CLIENTS], *client_ptr[WIRE_STATUS_CLIENTS];
	Sluice__SubscriptionStatus subscription[WIRE_STATUS_CLIENTS][WIRE_SUBSCRIPTIONS_MAX];
	Sluice__SubscriptionStatus *subscription_ptr[WIRE_STATUS_CLIENTS][WIRE_SUBSCRIPTIONS_MAX];
	uint64_t now_ns;
};

static void fill_view(Sluice__ViewStatus *out, const struct view *view)
{
	const struct generation *g = view->generation;
	sluice__view_status__init(out);
	out->view = view->id;
	out->reason = (char *)view->reason;
	out->published = view->counts.published;
	out->no_slot = view->counts.no_slot;
	out->refused = view->counts.refused;
	out->superseded = view->counts.superseded;
	out->copy_p50_ns = histogram_percentile(&view->copy, 0.50);
	out->copy_p99_ns = histogram_percentile(&view->copy, 0.99);
	out->slots = view->n_slots;
	out->memory = view->source.ops->kind == MEMORY_HOST ? SLUICE__MEMORY__MEMORY_HOST
							    : SLUICE__MEMORY__MEMORY_OPAQUE_FD;
	out->subscribers = view->n_subscribers;
	out->running = view_is_running(view);
	if (!g)
		return;
	out->generation = g->id;
	out->fourcc = g->format.fourcc;
	out->width = g->format.width;
	out->height = g->format.height;
	out->bytes = g->bytes;
}

static void add_view(struct page *page, unsigned i, const struct view *view)
{
	unsigned v = (unsigned)page->stream[i].n_views++;
	fill_view(&page->view[i][v], view);
	page->view_ptr[i][v] = &page->view[i][v];
}

static void add_stream(struct page *page, const struct stream *stream)
{
	unsigned i = (unsigned)page->status.n_streams++;
	const struct view *view;
	sluice__stream_status__init(&page->stream[i]);
	describe_stream(stream, &page->description[i]);
	page->stream[i].info = &page->description[i].info;
	page->stream[i].views = page->view_ptr[i];
	add_view(page, i, &stream->native);
	if (stream->mirror.source.ops)
		add_view(page, i, &stream->mirror);
	list_for_each(view, &stream->converted, link)
		add_view(page, i, view);
	page->stream_ptr[i] = &page->stream[i];
}

static void fill_options(Sluice__SubscriptionStatus *out, const struct subscriber_options *options,
	const struct subscriber_counts *counts)
{
	out->delivery = options->delivery == FANOUT_FIFO ? SLUICE__DELIVERY__DELIVERY_FIFO
							 : SLUICE__DELIVERY__DELIVERY_MAILBOX;
	out->fifo_depth = options->fifo_depth;
	out->max_holds = options->max_holds;
	out->reserved_holds = options->reserved ? options->max_holds : 0;
	out->min_interval_ns = options->min_interval_ns;
	out->sent = counts->sent;
	out->paced = counts->paced;
	out->skipped = counts->skipped;
	out->dropped = counts->dropped;
	out->revoked = counts->revoked;
}

static void fill_subscription(
	Sluice__SubscriptionStatus *out, const struct subscription *s, uint64_t now_ns)
{
	uint64_t since_ns = subscriber_oldest_hold_ns(&s->subscriber);
	sluice__subscription_status__init(out);
	fill_options(out, &s->subscriber.options, &s->subscriber.counts);
	out->view = s->view->id;
	out->stream = s->view->stream->name;
	out->holds = s->subscriber.n_lent;
	out->oldest_hold_ns = since_ns ? now_ns - since_ns : 0;
	out->waiting = s->subscriber.n_waiting;
	out->latency_p50_ns = histogram_percentile(&s->latency, 0.50);
	out->latency_p99_ns = histogram_percentile(&s->latency, 0.99);
	out->bytes = s->bytes;
	out->bound = s->bound;
	out->memory = s->view->source.ops->kind == MEMORY_HOST ? SLUICE__MEMORY__MEMORY_HOST
							       : SLUICE__MEMORY__MEMORY_OPAQUE_FD;
	out->readiness = s->readiness;
	out->note = (char *)s->note;
}

static Sluice__ClientStatus *add_client(struct page *page, unsigned n_subscriptions)
{
	unsigned i = (unsigned)page->status.n_clients++;
	Sluice__ClientStatus *out = &page->client[i];
	sluice__client_status__init(out);
	for (unsigned k = 0; k < n_subscriptions; k++)
		page->subscription_ptr[i][k] = &page->subscription[i][k];
	out->n_subscriptions = n_subscriptions;
	out->subscriptions = page->subscription_ptr[i];
	page->client_ptr[i] = out;
	return out;
}

static void add_live_client(struct page *page, const struct client *client)
{
	Sluice__ClientStatus *out = add_client(page, client->n_subscriptions);
	out->client = client->id;
	out->name = (char *)client->name;
	out->pid = (uint32_t)client->peer.pid;
	out->uid = client->peer.uid;
	out->connected_ns = page->now_ns - client->connected_ns;
	out->reason = (char *)client->end_text;
	out->fds = 1 + client->fds_in_flight;
	for (unsigned k = 0; k < client->n_subscriptions; k++)
		fill_subscription(out->subscriptions[k], client->subscription[k], page->now_ns);
}

static void add_ended_client(struct page *page, const struct ended_client *e)
{
	Sluice__ClientStatus *out = add_client(page, e->n_subscriptions);
	out->client = e->id;
	out->name = (char *)e->name;
	out->pid = (uint32_t)e->pid;
	out->uid = e->uid;
	out->ended = true;
	out->ended_ns = page->now_ns - e->ended_ns;
	out->connected_ns = e->lived_ns;
	out->reason = (char *)e->reason;
	for (unsigned k = 0; k < e->n_subscriptions; k++) {
		const struct ended_subscription *es = &e->subscription[k];
		Sluice__SubscriptionStatus *os = out->subscriptions[k];
		sluice__subscription_status__init(os);
		fill_options(os, &es->options, &es->counts);
		os->view = es->view;
		os->stream = (char *)es->stream;
		os->latency_p50_ns = es->latency_p50_ns;
		os->latency_p99_ns = es->latency_p99_ns;
	}
}

static uint64_t add_streams(struct page *page, const struct catalog *catalog, uint64_t from)
{
	for (uint64_t i = from; i < catalog->n_streams; i++) {
		if (page->status.n_streams == WIRE_STATUS_STREAMS)
			return i;
		add_stream(page, catalog->stream[i]);
	}
	return FROM_CLIENTS;
}

static uint64_t add_clients(struct page *page, const struct server *server, uint64_t from)
{
	struct client *client;
	list_for_each(client, &server->clients, link) {
		if (client->id < (from & FROM_NUMBER))
			continue;
		if (page->status.n_clients == WIRE_STATUS_CLIENTS)
			return FROM_CLIENTS | client->id;
		add_live_client(page, client);
	}
	return FROM_ENDED;
}

static uint64_t add_ended(struct page *page, const struct server *server, uint64_t from)
{
	/* the ring is in the order of ending: position from its end is stable enough for people */
	for (uint64_t i = from & FROM_NUMBER; i < server->n_ended; i++) {
		if (page->status.n_clients == WIRE_STATUS_CLIENTS)
			return FROM_ENDED | i;
		add_ended_client(page, &server->ended[i]);
	}
	return 0;
}

static void add_gpus(struct page *page, const struct server *server)
{
	const struct server_gpus *gpus = server->gpus ? server->gpus(server->gpus_data) : NULL;
	for (unsigned i = 0; gpus && i < gpus->n; i++) {
		Sluice__GpuStatus *out = &page->gpu[i];
		sluice__gpu_status__init(out);
		out->text = (char *)gpus->gpu[i].text;
		out->used_bytes = gpus->gpu[i].used_bytes;
		if (gpus->gpu[i].device) {
			describe_device(gpus->gpu[i].device, &page->device[i]);
			out->device = &page->device[i];
		}
		page->gpu_ptr[i] = out;
	}
	page->status.n_gpus = gpus ? gpus->n : 0;
	page->status.gpus = page->gpu_ptr;
}

static void fill_page(struct page *page, const struct server *server, uint64_t from)
{
	Sluice__Status *status = &page->status;
	if (from < FROM_CLIENTS)
		from = add_streams(page, server->catalog, from);
	if (from >= FROM_CLIENTS && from < FROM_ENDED)
		from = add_clients(page, server, from);
	if (from >= FROM_ENDED)
		from = add_ended(page, server, from);
	status->next = from;
	status->streams = page->stream_ptr;
	status->clients = page->client_ptr;
	status->session = server->session;
	status->broker = (char *)"sluice-broker " SLUICE_VERSION;
	status->pid = (uint32_t)getpid();
	status->uptime_ns = page->now_ns - server->started_ns;
	status->memory_bytes = server->catalog->budget.used_bytes;
	status->memory_limit_bytes = server->catalog->budget.limit_bytes;
	status->refused_connections = server->refused;
	status->gpu_memory_bytes = server->catalog->gpu_budget.used_bytes;
	status->gpu_memory_limit_bytes = server->catalog->gpu_budget.limit_bytes;
	add_gpus(page, server);
}

void status_answer(struct client *client, const Sluice__StatusRequest *request)
{
	_cleanup_free_ struct page *page = calloc(1, sizeof(*page));
	if (!page) {
		client_send_error(client, request->request, SLUICE__ERROR_CODE__ERROR_INTERNAL,
			"the broker has no memory left");
		return;
	}
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	sluice__status__init(&page->status);
	page->now_ns = clock_ns();
	page->status.request = request->request;
	fill_page(page, client->server, request->from);
	packet.body_case = SLUICE__PACKET__BODY_STATUS;
	packet.status = &page->status;
	client_send(client, &packet, NULL);
}
