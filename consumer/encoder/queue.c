#include "consumer/encoder/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "consumer/encoder/now.h"

struct queue_entry {
	struct queue_entry *next;
	struct queue_item item;
	uint64_t since_ns;
};

void queue_init(struct queue *queue)
{
	*queue = (struct queue){ .end = &queue->first };
}

static void destroy_item(struct queue_item *item)
{
	av_packet_free(&item->packet);
	item->track = track_destroy(item->track);
}

unsigned queue_clear(struct queue *queue)
{
	unsigned n = queue->n_packets;
	struct queue_item item;
	while (queue_take(queue, &item))
		destroy_item(&item);
	return n;
}

/* item [take] in every outcome */
static int add(struct queue *queue, struct queue_item item, uint64_t now_ns)
{
	struct queue_entry *entry = calloc(1, sizeof(*entry));
	if (!entry) {
		destroy_item(&item);
		return -ENOMEM;
	}
	entry->item = item;
	entry->since_ns = now_ns;
	*queue->end = entry;
	queue->end = &entry->next;
	return 0;
}

int queue_add_packet(struct queue *queue, AVPacket *packet, uint64_t now_ns)
{
	struct queue_item item = { .packet = av_packet_alloc() };
	if (!item.packet)
		return -ENOMEM;
	av_packet_move_ref(item.packet, packet);
	size_t bytes = (size_t)item.packet->size;
	int r = add(queue, item, now_ns);
	if (r < 0)
		return r;
	queue->bytes += bytes;
	queue->n_packets++;
	return 0;
}

int queue_add_track(struct queue *queue, struct track *track, uint64_t now_ns)
{
	return add(queue, (struct queue_item){ .track = track }, now_ns);
}

bool queue_take(struct queue *queue, struct queue_item *item_out)
{
	struct queue_entry *entry = queue->first;
	if (!entry)
		return false;
	*item_out = entry->item;
	queue->first = entry->next;
	if (!queue->first)
		queue->end = &queue->first;
	if (entry->item.packet) {
		queue->bytes -= (size_t)entry->item.packet->size;
		queue->n_packets--;
	}
	free(entry);
	return true;
}

unsigned queue_drop_packets(struct queue *queue)
{
	struct queue kept;
	unsigned n = queue->n_packets;
	queue_init(&kept);
	for (struct queue_entry *next, *entry = queue->first; entry; entry = next) {
		next = entry->next;
		entry->next = NULL;
		if (entry->item.packet) {
			destroy_item(&entry->item);
			free(entry);
			continue;
		}
		*kept.end = entry;
		kept.end = &entry->next;
	}
	*queue = kept;
	if (!queue->first)
		queue->end = &queue->first;
	return n;
}

bool queue_is_older(const struct queue *queue, uint64_t age_ns, uint64_t now_ns)
{
	const struct queue_entry *entry = queue->first;
	while (entry && !entry->item.packet)
		entry = entry->next;
	return entry && now_ns - entry->since_ns > age_ns;
}

bool queue_is_full(const struct queue *queue, uint64_t now_ns)
{
	return queue_is_older(queue, QUEUE_AGE_MS * NS_PER_MS, now_ns) ||
	       queue->bytes > QUEUE_BYTES_MAX;
}
