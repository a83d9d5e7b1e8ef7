#include "broker/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/bridge.h"
#include "broker/subscription.h"
#include "common/log.h"

/* A stream and what feeds it. */
struct source {
	struct list link; /* broker::sources */
	struct broker *broker;
	struct stream stream;
	struct bridge *bridge; /* NULL while it is being taken down */
};

struct broker {
	struct loop *loop;
	unsigned slots;
	struct catalog catalog;
	struct list sources;
	struct listen_socket socket;
	struct server *server;
};

static void on_stream_changed(void *data, struct stream *stream)
{
	struct source *source = data;
	server_stream_changed(source->broker->server, stream);
}

static void on_rebind(void *data, struct view *view, struct subscriber *subscriber)
{
	(void)data;
	(void)view;
	subscription_rebind(container_of(subscriber, struct subscription, subscriber));
}

static const struct stream_listener stream_listener = {
	.changed = on_stream_changed,
	.rebind = on_rebind,
};

/* Frames stop, subscribers are told, then it goes. */
static void source_destroy(struct source *source, const char *reason)
{
	struct broker *broker = source->broker;
	source->bridge = bridge_destroy(source->bridge);
	server_stream_removed(broker->server, &source->stream, reason);
	catalog_remove(&broker->catalog, &source->stream);
	stream_finish(&source->stream);
	list_remove(&source->link);
	free(source);
}

static int source_start(
	struct source *source, const struct settings_source *wanted, char *error, size_t error_size)
{
	struct broker *broker = source->broker;
	struct capture *capture;
	int r = capture_create(
		&capture, broker->loop, source->stream.name, wanted->spec, error, error_size);
	if (r < 0)
		return r;
	r = bridge_create(&source->bridge, broker->loop, capture, &source->stream);
	if (r < 0)
		snprintf(error, error_size, "cannot start: %s", strerror(-r));
	return r;
}

static int source_create(
	struct broker *broker, const struct settings_source *wanted, char *error, size_t error_size)
{
	struct source *source = calloc(1, sizeof(*source));
	if (!source)
		return -ENOMEM;
	source->broker = broker;
	stream_init(&source->stream, wanted->name, wanted->spec, broker->slots,
		&broker->catalog.budget);
	stream_set_listener(&source->stream, &stream_listener, source);
	list_insert(&broker->sources, &source->link);
	catalog_add(&broker->catalog, &source->stream); /* names and number are settings_load()'s */
	server_stream_changed(broker->server, &source->stream);
	int r = source_start(source, wanted, error, error_size);
	if (r < 0)
		source_destroy(source, error);
	return r;
}

static int create_server(
	struct broker *broker, const struct settings *settings, char *error, size_t error_size)
{
	int r = listen_socket_init(
		&broker->socket, settings->socket, settings->socket_mode, error, error_size);
	if (r < 0)
		return r;
	r = server_create(&broker->server, broker->loop, &broker->socket.fd, &broker->catalog);
	if (r < 0) {
		snprintf(error, error_size, "cannot listen: %s", strerror(-r));
		return r;
	}
	server_configure(broker->server, &settings->limits, &settings->access);
	return 0;
}

static int create_sources(
	struct broker *broker, const struct settings *settings, char *error, size_t error_size)
{
	for (unsigned i = 0; i < settings->n_sources; i++) {
		const struct settings_source *wanted = &settings->source[i];
		char reason[512] = "no memory";
		int r = source_create(broker, wanted, reason, sizeof(reason));
		if (r < 0) {
			snprintf(error, error_size, "source %s: %s", wanted->name, reason);
			return r;
		}
	}
	return 0;
}

int broker_create(struct broker **broker_out, struct loop *loop, const struct settings *settings,
	char *error, size_t error_size)
{
	_cleanup_(broker_destroyp) struct broker *broker = calloc(1, sizeof(*broker));
	if (!broker)
		return -ENOMEM;
	*broker = (struct broker){
		.loop = loop,
		.slots = settings->slots,
		.catalog.budget.limit_bytes = settings->memory_bytes,
		.socket = { .fd = -EBADF, .lock_fd = -EBADF },
	};
	list_init(&broker->sources);
	int r = create_server(broker, settings, error, error_size);
	if (r < 0)
		return r;
	r = create_sources(broker, settings, error, error_size);
	if (r < 0)
		return r;
	*broker_out = TAKE_PTR(broker);
	return 0;
}

static const struct settings_source *find_wanted(
	const struct settings *settings, const struct stream *stream)
{
	for (unsigned i = 0; i < settings->n_sources; i++)
		if (strcmp(settings->source[i].name, stream->name) == 0 &&
			strcmp(settings->source[i].spec, stream->source) == 0)
			return &settings->source[i];
	return NULL;
}

static void remove_unwanted(struct broker *broker, const struct settings *settings)
{
	struct source *source, *next;
	list_for_each_safe(source, next, &broker->sources, link)
		if (!find_wanted(settings, &source->stream)) {
			log_info("stream=%s removed by the configuration", source->stream.name);
			source_destroy(
				source, "the stream was removed by the broker's configuration");
		}
}

void broker_configure(struct broker *broker, const struct settings *settings)
{
	server_configure(broker->server, &settings->limits, &settings->access);
	broker->slots = settings->slots;
	broker->catalog.budget.limit_bytes = settings->memory_bytes;
	remove_unwanted(broker, settings);
	for (unsigned i = 0; i < settings->n_sources; i++) {
		const struct settings_source *wanted = &settings->source[i];
		char reason[512] = "no memory";
		if (!catalog_find(&broker->catalog, wanted->name) &&
			source_create(broker, wanted, reason, sizeof(reason)) < 0)
			log_error("source %s: %s", wanted->name, reason);
	}
}

void broker_drain(struct broker *broker, const char *reason)
{
	struct source *source;
	list_for_each(source, &broker->sources, link)
		source->bridge = bridge_destroy(source->bridge);
	server_drain(broker->server, reason);
}

bool broker_idle(const struct broker *broker)
{
	return server_idle(broker->server);
}

const char *broker_socket_path(const struct broker *broker)
{
	return broker->socket.path[0] ? broker->socket.path : "the socket that systemd passed";
}

/* Clients first: they hold slots of the streams. */
struct broker *broker_destroy(struct broker *broker)
{
	if (!broker)
		return NULL;
	struct source *source, *next;
	list_for_each(source, &broker->sources, link)
		source->bridge = bridge_destroy(source->bridge);
	broker->server = server_destroy(broker->server);
	list_for_each_safe(source, next, &broker->sources, link) {
		stream_finish(&source->stream);
		free(source);
	}
	listen_socket_finish(&broker->socket);
	free(broker);
	return NULL;
}
