#include "broker/generation.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/fanout.h"
#include "common/fd.h"
#include "proto/control.h"

static uint32_t last_id;

uint64_t generation_bytes(const struct video_format *format, unsigned n_slots)
{
	return format->size_bytes * n_slots + control_page_bytes(n_slots);
}

static int init_control(struct generation *g)
{
	int r = memory_init(&g->control, "sluice-control", control_page_bytes(g->pool.n_slots));
	if (r < 0)
		return r;
	struct control_page *page = g->control.map;
	page->magic = CONTROL_MAGIC;
	page->version = CONTROL_VERSION;
	page->n_slots = g->pool.n_slots;
	page->generation = g->id;
	return 0;
}

int generation_create(struct generation **generation_out, const struct video_format *format,
	unsigned n_slots, const struct slot_source *source, const char **why_out)
{
	struct memory_budget *budget = source->budget;
	uint64_t bytes = generation_bytes(format, n_slots);
	*why_out = NULL;
	/* the limit may have been lowered below what is used */
	if (budget->used_bytes > budget->limit_bytes ||
		bytes > budget->limit_bytes - budget->used_bytes)
		return -EDQUOT;
	_cleanup_(generation_destroyp) struct generation *g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->id = ++last_id;
	g->format = *format;
	g->source = *source;
	g->bytes = bytes;
	budget->used_bytes += bytes;
	pool_init(&g->pool, n_slots, subscriber_on_revoke);
	int r = init_control(g);
	while (r == 0 && g->n_made < n_slots) {
		r = source->ops->make(source->data, format->size_bytes, &g->slot[g->n_made]);
		g->n_made += r == 0;
	}
	if (r < 0) {
		bool in_make = g->control.map && source->ops->why;
		*why_out = in_make ? source->ops->why(source->data) : NULL;
		return r;
	}
	*generation_out = TAKE_PTR(g);
	return 0;
}

struct generation *generation_destroy(struct generation *g)
{
	if (!g)
		return NULL;
	pool_finish(&g->pool);
	for (unsigned i = 0; i < g->pool.n_slots; i++)
		fd_closep(&g->pool.slots[i].sync_fd);
	for (unsigned i = 0; i < g->n_made; i++)
		g->source.ops->unmake(g->source.data, &g->slot[i]);
	memory_finish(&g->control);
	g->source.budget->used_bytes -= g->bytes;
	free(g);
	return NULL;
}

const struct slot_memory *generation_slot(const struct generation *g, const struct slot *slot)
{
	return &g->slot[slot->index];
}

uint8_t *generation_pixels(const struct generation *g, const struct slot *slot)
{
	return g->slot[slot->index].map;
}

struct control_page *generation_control(const struct generation *g)
{
	return g->control.map;
}
