#include "consumer/status_json.h"

#include <errno.h>
#include <inttypes.h>

#include "common/uuid.h"
#include "consumer/json.h"
#include "consumer/sluice_consumer.h"
#include "consumer/status_words.h"

struct status_json {
	struct json json;
	char *text;
	size_t text_bytes;
	bool has_begun;   /* the first page came */
	bool has_clients; /* the streams are complete: status.c makes sure */
};

struct status_json *status_json_begin(void)
{
	struct status_json *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->json.out = open_memstream(&s->text, &s->text_bytes);
	if (s->json.out)
		return s;
	free(s);
	return NULL;
}

static void write_format(struct json *json, uint32_t fourcc, uint32_t width, uint32_t height)
{
	char name[8];
	json_string(json, "format", fourcc ? sluice_fourcc_name(fourcc, name) : "");
	json_number(json, "width", width);
	json_number(json, "height", height);
}

static void write_view(struct json *json, const Sluice__ViewStatus *view)
{
	json_open(json, NULL, '{');
	json_number(json, "view", view->view);
	json_string(json, "memory", status_memory_word(view->memory));
	write_format(json, view->fourcc, view->width, view->height);
	json_number(json, "generation", view->generation);
	json_number(json, "slots", view->slots);
	json_number(json, "bytes", view->bytes);
	json_number(json, "published", view->published);
	json_number(json, "no_slot", view->no_slot);
	json_number(json, "refused", view->refused);
	json_number(json, "superseded", view->superseded);
	json_number(json, "copy_p50_ns", view->copy_p50_ns);
	json_number(json, "copy_p99_ns", view->copy_p99_ns);
	json_bool(json, "running", view->running);
	json_number(json, "subscribers", view->subscribers);
	json_string(json, "reason", view->reason);
	json_close(json, '}');
}

static void write_stream(struct json *json, const Sluice__StreamStatus *stream)
{
	const Sluice__StreamInfo *info = stream->info;
	json_open(json, NULL, '{');
	if (info) {
		json_string(json, "name", info->name);
		json_string(json, "state", status_state_word(info->state));
		json_string(json, "text", info->text);
		json_string(json, "source", info->source);
		write_format(json, info->fourcc, info->width, info->height);
	}
	json_open(json, "views", '[');
	for (size_t i = 0; i < stream->n_views; i++)
		write_view(json, stream->views[i]);
	json_close(json, ']');
	json_close(json, '}');
}

static void write_subscription(struct json *json, const Sluice__SubscriptionStatus *s)
{
	json_open(json, NULL, '{');
	json_number(json, "view", s->view);
	json_string(json, "stream", s->stream);
	json_string(json, "delivery", status_delivery_word(s->delivery));
	json_number(json, "fifo_depth", s->fifo_depth);
	json_number(json, "min_interval_ns", s->min_interval_ns);
	json_number(json, "max_holds", s->max_holds);
	json_number(json, "reserved_holds", s->reserved_holds);
	json_number(json, "holds", s->holds);
	json_number(json, "oldest_hold_ns", s->oldest_hold_ns);
	json_number(json, "waiting", s->waiting);
	json_number(json, "sent", s->sent);
	json_number(json, "skipped", s->skipped);
	json_number(json, "dropped", s->dropped);
	json_number(json, "revoked", s->revoked);
	json_number(json, "paced", s->paced);
	json_number(json, "latency_p50_ns", s->latency_p50_ns);
	json_number(json, "latency_p99_ns", s->latency_p99_ns);
	json_number(json, "bytes", s->bytes);
	json_bool(json, "bound", s->bound);
	json_string(json, "memory", status_memory_word(s->memory));
	json_string(json, "readiness", status_readiness_word(s->readiness));
	json_string(json, "note", s->note);
	json_close(json, '}');
}

static void write_client(struct json *json, const Sluice__ClientStatus *client)
{
	json_open(json, NULL, '{');
	json_number(json, "client", client->client);
	json_string(json, "name", client->name);
	json_number(json, "pid", client->pid);
	json_number(json, "uid", client->uid);
	json_number(json, "connected_ns", client->connected_ns);
	json_bool(json, "ended", client->ended);
	json_number(json, "ended_ns", client->ended_ns);
	json_string(json, "reason", client->reason);
	json_number(json, "fds", client->fds);
	json_open(json, "subscriptions", '[');
	for (size_t i = 0; i < client->n_subscriptions; i++)
		write_subscription(json, client->subscriptions[i]);
	json_close(json, ']');
	json_close(json, '}');
}

/* "6d657361-3232-2e33-2e36-000000000000"; "" if it is none. */
static void write_uuid(struct json *json, const char *key, const ProtobufCBinaryData *uuid)
{
	char text[UUID_TEXT_SIZE] = "";
	if (uuid->len == UUID_BYTES)
		uuid_text(uuid->data, text);
	json_string(json, key, text);
}

static void write_gpu(struct json *json, const Sluice__GpuStatus *gpu)
{
	json_open(json, NULL, '{');
	if (gpu->device) {
		json_string(json, "name", gpu->device->name);
		write_uuid(json, "uuid", &gpu->device->uuid);
		write_uuid(json, "driver_uuid", &gpu->device->driver_uuid);
	}
	json_string(json, "text", gpu->text);
	json_number(json, "used_bytes", gpu->used_bytes);
	json_close(json, '}');
}

/* A session is 64 random bits: more than a JSON number holds. */
static void write_broker(struct json *json, const Sluice__Status *page)
{
	char session[17];
	snprintf(session, sizeof(session), "%016" PRIx64, page->session);
	json_string(json, "broker", page->broker);
	json_string(json, "session", session);
	json_number(json, "pid", page->pid);
	json_number(json, "uptime_ns", page->uptime_ns);
	json_number(json, "memory_bytes", page->memory_bytes);
	json_number(json, "memory_limit_bytes", page->memory_limit_bytes);
	json_number(json, "refused_connections", page->refused_connections);
	json_number(json, "gpu_memory_bytes", page->gpu_memory_bytes);
	json_number(json, "gpu_memory_limit_bytes", page->gpu_memory_limit_bytes);
	json_open(json, "gpus", '[');
	for (size_t i = 0; i < page->n_gpus; i++)
		write_gpu(json, page->gpus[i]);
	json_close(json, ']');
}

static void begin_clients(struct status_json *s)
{
	if (s->has_clients)
		return;
	json_close(&s->json, ']');
	json_open(&s->json, "clients", '[');
	s->has_clients = true;
}

int status_json_page(void *data, const Sluice__Status *page)
{
	struct status_json *s = data;
	if (!s->has_begun) {
		json_open(&s->json, NULL, '{');
		write_broker(&s->json, page);
		json_open(&s->json, "streams", '[');
	}
	s->has_begun = true;
	for (size_t i = 0; i < page->n_streams; i++)
		write_stream(&s->json, page->streams[i]);
	if (page->n_clients > 0)
		begin_clients(s);
	for (size_t i = 0; i < page->n_clients; i++)
		write_client(&s->json, page->clients[i]);
	return ferror(s->json.out) ? -ENOMEM : 0;
}

char *status_json_end(struct status_json *s)
{
	begin_clients(s);
	json_close(&s->json, ']');
	json_close(&s->json, '}');
	bool failed = fclose(s->json.out) != 0;
	char *text = s->text;
	free(s);
	if (!failed)
		return text;
	free(text);
	return NULL;
}
