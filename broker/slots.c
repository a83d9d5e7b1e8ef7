#include "broker/slots.h"

#include <errno.h>

static int make(void *data, uint64_t size_bytes, struct slot_memory *memory_out)
{
	(void)data;
	struct memory memory;
	int r = memory_init(&memory, "sluice-slot", size_bytes);
	if (r < 0)
		return r;
	*memory_out = (struct slot_memory){
		.fd = memory.fd,
		.map = memory.map,
		.allocation_bytes = memory.size_bytes,
	};
	return 0;
}

static void unmake(void *data, struct slot_memory *slot)
{
	(void)data;
	struct memory memory = {
		.fd = slot->fd,
		.map = slot->map,
		.size_bytes = slot->allocation_bytes,
	};
	memory_finish(&memory);
	*slot = (struct slot_memory){ .fd = -EBADF };
}

static const struct slot_ops host_ops = { .kind = MEMORY_HOST, .make = make, .unmake = unmake };

struct slot_source slots_host(struct memory_budget *budget)
{
	return (struct slot_source){ .ops = &host_ops, .budget = budget };
}
