#include "broker/broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/source.h"
#include "broker/subscription.h"
#include "common/clock.h"
#include "common/log.h"

struct broker {
	struct loop *loop;
	unsigned slots;
	struct catalog catalog;
	struct devices devices;
	struct watch *device_timer; /* something is to be done about a device that was lost */
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

static void on_end(void *data, struct view *view, struct subscriber *subscriber, const char *reason)
{
	(void)data;
	(void)view;
	subscription_end(container_of(subscriber, struct subscription, subscriber),
		SLUICE__ERROR_CODE__ERROR_NO_VIEW, reason);
}

static const struct stream_listener stream_listener = {
	.changed = on_stream_changed,
	.rebind = on_rebind,
	.end = on_end,
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

static struct source_place place_of(struct broker *broker)
{
	return (struct source_place){
		.loop = broker->loop,
		.budget = &broker->catalog.budget,
		.gpu_budget = &broker->catalog.gpu_budget,
		.retry = broker->device_timer,
	};
}

/* What was asked for by name and is not there is worth a line: frames in host memory go on. */
static void warn_without_gpu(const struct source *source, const char *which)
{
	if (strcmp(which, "none") == 0 || strcmp(which, "auto") == 0)
		return;
	if (!source->device)
		log_warning("stream=%s gets no GPU: one broker has at most %d", source->stream.name,
			DEVICES_MAX);
	else if (!source->device->gpu)
		log_warning("stream=%s gets no GPU: %s", source->stream.name, source->device->text);
}

/* A name that no stream has is most likely a slip. */
static void warn_of_unknown_streams(const struct settings *settings)
{
	for (unsigned i = 0; i < settings->n_gpus; i++) {
		unsigned k = 0;
		while (k < settings->n_sources &&
			strcmp(settings->source[k].name, settings->gpu_of[i].stream) != 0)
			k++;
		if (k == settings->n_sources)
			log_warning("a GPU is named for the stream \"%s\", which there is not",
				settings->gpu_of[i].stream);
	}
}

static int source_create(struct broker *broker, const struct settings *settings,
	const struct settings_source *wanted, char *error, size_t error_size)
{
	struct source *source = calloc(1, sizeof(*source));
	if (!source)
		return -ENOMEM;
	source->broker = broker;
	source->is_gpu = capture_is_gpu(wanted->spec);
	const char *which = settings_gpu_of(settings, wanted->name);
	source->device = devices_get(&broker->devices, which);
	stream_init(&source->stream, wanted->name, wanted->spec, broker->slots,
		&broker->catalog.budget);
	stream_set_listener(&source->stream, &stream_listener, source);
	list_insert(&broker->sources, &source->link);
	catalog_add(&broker->catalog, &source->stream); /* names and number are settings_load()'s */
	server_stream_changed(broker->server, &source->stream);
	warn_without_gpu(source, which);
	struct source_place place = place_of(broker);
	int r = source_start(source, &place, error, error_size);
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
	server_set_gpus(broker->server, devices_status, &broker->devices);
	return 0;
}

/* --- A GPU that is lost ----------------------------------------------------------------------- */

static void give_up_device(struct broker *broker, const struct device *device)
{
	struct source *source;
	list_for_each(source, &broker->sources, link)
		if (source->device == device)
			source_give_up_gpu(source, device->text);
}

static void lose_device(struct broker *broker, struct device *device)
{
	char reason[512];
	struct source *source;
	snprintf(reason, sizeof(reason), "the GPU %s is lost: %s", device->description.name,
		gpu_error(device->gpu));
	log_error("%s", reason);
	list_for_each(source, &broker->sources, link)
		if (source->device == device)
			source_lose_gpu(source, reason);
	device_close(device, reason);
	if (backoff_is_latched(&device->backoff))
		give_up_device(broker, device);
}

static void regain_device(struct broker *broker, struct device *device)
{
	struct source_place place = place_of(broker);
	struct source *source;
	if (device_reopen(&broker->devices, device) < 0) {
		log_error("the GPU %s cannot be opened again: %s", device->description.name,
			device->text);
		if (backoff_is_latched(&device->backoff))
			give_up_device(broker, device);
		return;
	}
	list_for_each(source, &broker->sources, link)
		if (source->device == device) {
			source_regain_gpu(source, &place);
			server_stream_changed(broker->server, &source->stream);
		}
}

/* When it is due next, UINT64_MAX: not at all. */
static uint64_t look_after_device(struct broker *broker, struct device *device)
{
	if (device->gpu && gpu_is_lost(device->gpu))
		lose_device(broker, device);
	else if (!device->gpu && device->lost_ns && backoff_allows(&device->backoff, clock_ns()))
		regain_device(broker, device);
	bool is_pending = !device->gpu && device->lost_ns && !backoff_is_latched(&device->backoff);
	return is_pending ? device->backoff.retry_ns : UINT64_MAX;
}

static void sooner(uint64_t *next_ns, uint64_t at_ns)
{
	*next_ns = at_ns < *next_ns ? at_ns : *next_ns;
}

/* A GPU was lost, or it is time to try something again. */
static void on_device_timer(void *data)
{
	struct broker *broker = data;
	struct source_place place = place_of(broker);
	struct source *source;
	uint64_t next_ns = UINT64_MAX;
	for (unsigned i = 0; i < broker->devices.n; i++)
		sooner(&next_ns, look_after_device(broker, &broker->devices.device[i]));
	list_for_each(source, &broker->sources, link)
		sooner(&next_ns, source_retry(source, &place));
	uint64_t now = clock_ns();
	if (next_ns != UINT64_MAX)
		watch_arm(broker->device_timer, next_ns > now ? next_ns - now : 0);
}

static void on_device_lost(void *data)
{
	struct broker *broker = data;
	watch_arm(broker->device_timer, 0);
}

/* One that was named must be there; of "auto" it is enough to say that there is none. */
static int open_default_device(
	struct broker *broker, const struct settings *settings, char *error, size_t error_size)
{
	const struct device *device = devices_get(&broker->devices, settings->gpu);
	if (!device || device->gpu)
		return 0;
	if (strcmp(settings->gpu, "auto") == 0) {
		log_info("no GPU, host memory only: %s", device->text);
		return 0;
	}
	snprintf(error, error_size, "--gpu %s: %s", settings->gpu, device->text);
	return -ENODEV;
}

static int create_sources(
	struct broker *broker, const struct settings *settings, char *error, size_t error_size)
{
	for (unsigned i = 0; i < settings->n_sources; i++) {
		const struct settings_source *wanted = &settings->source[i];
		char reason[512] = "no memory";
		int r = source_create(broker, settings, wanted, reason, sizeof(reason));
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
		.catalog.gpu_budget.limit_bytes = settings->gpu_memory_bytes,
		.devices = {
			.loop = loop,
			.spin_ns = settings->gpu_spin_ns,
			.validation = settings->gpu_validation,
			.lost = on_device_lost,
			.data = broker,
		},
		.socket = { .fd = -EBADF, .lock_fd = -EBADF },
	};
	list_init(&broker->sources);
	int r = create_server(broker, settings, error, error_size);
	if (r < 0)
		return r;
	r = loop_timer(loop, &broker->device_timer, on_device_timer, broker);
	if (r < 0)
		return r;
	r = open_default_device(broker, settings, error, error_size);
	if (r < 0)
		return r;
	warn_of_unknown_streams(settings);
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
	broker->catalog.gpu_budget.limit_bytes = settings->gpu_memory_bytes;
	remove_unwanted(broker, settings);
	for (unsigned i = 0; i < settings->n_sources; i++) {
		const struct settings_source *wanted = &settings->source[i];
		char reason[512] = "no memory";
		if (!catalog_find(&broker->catalog, wanted->name) &&
			source_create(broker, settings, wanted, reason, sizeof(reason)) < 0)
			log_error("source %s: %s", wanted->name, reason);
	}
}

void broker_drain(struct broker *broker, const char *reason)
{
	struct source *source;
	watch_disarm(broker->device_timer);
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
	devices_finish(&broker->devices);
	broker->device_timer = watch_destroy(broker->device_timer);
	listen_socket_finish(&broker->socket);
	free(broker);
	return NULL;
}
