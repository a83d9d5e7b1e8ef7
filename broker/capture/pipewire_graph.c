/* The connection to the PipeWire daemon, and which video sources it has. */
#include "broker/capture/pipewire.h"

#include <ctype.h>
#include <errno.h>
#include <pipewire/pipewire.h>
#include <spa/utils/result.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/log.h"

enum { LINKS_MAX = 4096, DESCRIBED_NAMES_MAX = 8 };

struct graph_link {
	struct list link;
	uint32_t id, source, sink;
};

struct pipewire_graph {
	struct pw_core *core;
	struct spa_hook core_hook;
	struct pw_registry *registry;
	struct spa_hook registry_hook;
	int sync;
	bool listed;
	bool lost;
	unsigned n_nodes, n_links;
	struct list nodes;
	struct list links;
};

static void on_done(void *data, uint32_t id, int seq)
{
	struct pipewire_graph *g = data;
	if (id == PW_ID_CORE && seq == g->sync)
		g->listed = true;
}

static void on_error(void *data, uint32_t id, int seq, int res, const char *message)
{
	struct pipewire_graph *g = data;
	(void)seq;
	log_debug("pipewire object=%u %s (%s)", id, message, spa_strerror(res));
	if (id == PW_ID_CORE && res == -EPIPE)
		g->lost = true;
}

static const struct pw_core_events core_events = {
	PW_VERSION_CORE_EVENTS,
	.done = on_done,
	.error = on_error,
};

/* "Video/Source", "Stream/Output/Video"; some producers do not say. */
static bool is_video_source(const struct spa_dict *props)
{
	const char *class = spa_dict_lookup(props, PW_KEY_MEDIA_CLASS);
	if (!class)
		return true;
	return strstr(class, "Video") && (strstr(class, "Source") || strstr(class, "Output"));
}

static uint64_t number_of(const struct spa_dict *props, const char *key)
{
	const char *value = spa_dict_lookup(props, key);
	return value ? strtoull(value, NULL, 10) : 0;
}

/* The name goes into our log and to our clients: no control characters. */
static void copy_name(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
	for (char *c = to; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
}

static void add_node(struct pipewire_graph *g, uint32_t id, const struct spa_dict *props)
{
	if (!is_video_source(props) || g->n_nodes >= PIPEWIRE_NODES_MAX)
		return;
	struct pipewire_node *node = calloc(1, sizeof(*node));
	if (!node)
		return;
	node->id = id;
	node->says_video = spa_dict_lookup(props, PW_KEY_MEDIA_CLASS) != NULL;
	node->serial = number_of(props, PW_KEY_OBJECT_SERIAL);
	copy_name(node->name, sizeof(node->name), spa_dict_lookup(props, PW_KEY_NODE_NAME));
	list_insert(&g->nodes, &node->link);
	g->n_nodes++;
}

static void add_link(struct pipewire_graph *g, uint32_t id, const struct spa_dict *props)
{
	if (g->n_links >= LINKS_MAX)
		return;
	struct graph_link *link = calloc(1, sizeof(*link));
	if (!link)
		return;
	link->id = id;
	link->source = (uint32_t)number_of(props, PW_KEY_LINK_OUTPUT_NODE);
	link->sink = (uint32_t)number_of(props, PW_KEY_LINK_INPUT_NODE);
	list_insert(&g->links, &link->link);
	g->n_links++;
}

static void on_global(void *data, uint32_t id, uint32_t permissions, const char *type,
	uint32_t version, const struct spa_dict *props)
{
	(void)permissions;
	(void)version;
	if (!props)
		return;
	if (strcmp(type, PW_TYPE_INTERFACE_Node) == 0)
		add_node(data, id, props);
	else if (strcmp(type, PW_TYPE_INTERFACE_Link) == 0)
		add_link(data, id, props);
}

static void remove_node(struct pipewire_graph *g, struct pipewire_node *node)
{
	list_remove(&node->link);
	free(node);
	g->n_nodes--;
}

static void remove_link(struct pipewire_graph *g, struct graph_link *link)
{
	list_remove(&link->link);
	free(link);
	g->n_links--;
}

static void on_global_remove(void *data, uint32_t id)
{
	struct pipewire_graph *g = data;
	struct pipewire_node *node, *next_node;
	struct graph_link *link, *next_link;
	list_for_each_safe(node, next_node, &g->nodes, link)
		if (node->id == id)
			remove_node(g, node);
	list_for_each_safe(link, next_link, &g->links, link)
		if (link->id == id)
			remove_link(g, link);
}

static const struct pw_registry_events registry_events = {
	PW_VERSION_REGISTRY_EVENTS,
	.global = on_global,
	.global_remove = on_global_remove,
};

int pipewire_graph_connect(
	struct pipewire_graph **graph_out, struct pw_context *context, int *remote_fd)
{
	_cleanup_fd_ int fd = remote_fd ? fd_take(remote_fd) : -EBADF;
	_cleanup_(pipewire_graph_destroyp) struct pipewire_graph *g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	list_init(&g->nodes);
	list_init(&g->links);
	/* PipeWire closes the descriptor in every outcome */
	g->core = remote_fd ? pw_context_connect_fd(context, fd_take(&fd), NULL, 0)
			    : pw_context_connect(context, NULL, 0);
	if (!g->core)
		return errno > 0 ? -errno : -ECONNREFUSED;
	pw_core_add_listener(g->core, &g->core_hook, &core_events, g);
	g->registry = pw_core_get_registry(g->core, PW_VERSION_REGISTRY, 0);
	if (!g->registry)
		return -ENOMEM;
	pw_registry_add_listener(g->registry, &g->registry_hook, &registry_events, g);
	g->sync = pw_core_sync(g->core, PW_ID_CORE, 0);
	*graph_out = TAKE_PTR(g);
	return 0;
}

struct pipewire_graph *pipewire_graph_destroy(struct pipewire_graph *g)
{
	if (!g)
		return NULL;
	struct pipewire_node *node, *next_node;
	struct graph_link *link, *next_link;
	if (g->registry) {
		spa_hook_remove(&g->registry_hook);
		pw_proxy_destroy((struct pw_proxy *)g->registry);
	}
	if (g->core) {
		spa_hook_remove(&g->core_hook);
		pw_core_disconnect(g->core);
	}
	list_for_each_safe(node, next_node, &g->nodes, link)
		remove_node(g, node);
	list_for_each_safe(link, next_link, &g->links, link)
		remove_link(g, link);
	free(g);
	return NULL;
}

struct pw_core *pipewire_graph_core(const struct pipewire_graph *g)
{
	return g->core;
}

bool pipewire_graph_lost(const struct pipewire_graph *g)
{
	return g->lost;
}

bool pipewire_graph_listed(const struct pipewire_graph *g)
{
	return g->listed;
}

static bool matches(const struct pipewire_node *node, const struct pipewire_target *target)
{
	switch (target->kind) {
	case PIPEWIRE_BY_SERIAL:
		return node->serial == target->number;
	case PIPEWIRE_BY_ID:
		return node->id == target->number;
	default:
		return strcmp(node->name, target->name) == 0;
	}
}

const struct pipewire_node *pipewire_graph_find(
	const struct pipewire_graph *g, const struct pipewire_target *target)
{
	const struct pipewire_node *node;
	list_for_each(node, &g->nodes, link)
		if (matches(node, target))
			return node;
	return NULL;
}

bool pipewire_graph_has(const struct pipewire_graph *g, const struct pipewire_node *wanted)
{
	const struct pipewire_node *node;
	list_for_each(node, &g->nodes, link)
		if (node->id == wanted->id && node->serial == wanted->serial)
			return true;
	return false;
}

bool pipewire_graph_strayed(const struct pipewire_graph *g, uint32_t source, uint32_t sink)
{
	const struct graph_link *link;
	list_for_each(link, &g->links, link)
		if (link->sink == sink && link->source != source)
			return true;
	return false;
}

const char *pipewire_graph_describe(const struct pipewire_graph *g, char *buf, size_t size)
{
	const struct pipewire_node *node;
	unsigned n = 0;
	size_t used = 0;
	snprintf(buf, size, "there is no video source");
	list_for_each(node, &g->nodes, link) {
		if (!node->says_video)
			continue;
		if (used >= size || n == DESCRIBED_NAMES_MAX)
			break;
		used += (size_t)snprintf(buf + used, size - used, "%s%.40s",
			n == 0 ? "there are: " : ", ", *node->name ? node->name : "(no name)");
		n++;
	}
	return buf;
}
