/* Which way to copy is faster on this device: measured once, at start-up. And how long a copy takes. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/gpu/copy.h"
#include "broker/gpu/measure.h"
#include "common/clock.h"

enum {
	GPU_BYTES = 32 << 20, /* a 4K picture */
	CPU_BYTES = 4 << 20,
	GPU_COPIES = 8, /* in one submission: its own cost is not to count */
	CPU_COPIES = 1,
	ROUNDS = 5,              /* the best one counts */
	SPIN_NS = 1000 * 1000,   /* then it blocks */
	LIMIT_NS = 40 * 1000000, /* for one way: a slow device gets fewer rounds */
};

/* The buffers of the measurement, and how much it copies. */
struct trial {
	struct gpu *gpu;
	struct gpu_buffer *from;
	struct gpu_buffer *to;
	uint64_t bytes;
	unsigned copies;
};

int measure_begin(struct gpu *gpu, VkCommandBuffer *commands_out)
{
	VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};
	*commands_out = gpu->jobs[0].commands; /* nothing is in flight */
	return VK(gpu, BeginCommandBuffer, *commands_out, &begin);
}

static int record_copies(const struct trial *t, VkCommandBuffer commands, enum copy_way way)
{
	struct gpu *gpu = t->gpu;
	struct gpu_copy copy = { .from.buffer = t->from, .to.buffer = t->to };
	struct region region = { .row_bytes = t->bytes, .rows = 1 };
	for (unsigned i = 0; i < t->copies; i++) {
		queue_barrier(gpu, commands, NULL);
		copy_region(gpu, commands, &copy, &region, way);
	}
	return VK(gpu, EndCommandBuffer, commands);
}

/* As frames will be heard of: by the counter. */
static int wait_for(struct gpu *gpu, uint64_t point)
{
	uint64_t until = clock_ns() + SPIN_NS;
	while (clock_ns() < until)
		if (!queue_poll(gpu) || gpu->ended >= point)
			return gpu_check(gpu);
	int r = queue_wait(gpu, point);
	queue_poll(gpu);
	return r;
}

int measure_commands(struct gpu *gpu, VkCommandBuffer commands, uint64_t *ns_out)
{
	uint64_t point = 0, before = clock_ns();
	int r = queue_run(gpu, commands, &point);
	if (r == 0)
		r = wait_for(gpu, point);
	*ns_out = clock_ns() - before;
	return r;
}

static int run_once(const struct trial *t, enum copy_way way, uint64_t *ns_out)
{
	struct gpu *gpu = t->gpu;
	VkCommandBuffer commands;
	int r = measure_begin(gpu, &commands);
	if (r == 0)
		r = record_copies(t, commands, way);
	if (r == 0)
		r = measure_commands(gpu, commands, ns_out);
	t->from->used.last_use = t->to->used.last_use = gpu->submitted;
	*ns_out /= t->copies;
	return r;
}

/* Nanoseconds for one copy, of the best round. One more, before them, warms up. */
static int measure(const struct trial *t, enum copy_way way, uint64_t *ns_out)
{
	uint64_t best = UINT64_MAX, ns = 0;
	int r = run_once(t, way, &ns); /* memory and threads are there afterwards */
	uint64_t began = clock_ns();
	for (unsigned i = 0; r == 0 && i < ROUNDS && clock_ns() - began < LIMIT_NS; i++) {
		r = run_once(t, way, &ns);
		if (ns < best)
			best = ns;
	}
	*ns_out = best ? best : 1;
	return r;
}

/* Bytes read and written count, as for a memory's bandwidth. */
static double gb_per_s(uint64_t bytes, uint64_t ns)
{
	return 2.0 * (double)bytes / (double)ns;
}

static int trial_init(struct trial *t)
{
	int r = gpu_buffer_create(t->gpu, GPU_PRIVATE, t->bytes, &t->from);
	return r < 0 ? r : gpu_buffer_create(t->gpu, GPU_PRIVATE, t->bytes, &t->to);
}

static void trial_finish(struct trial *t)
{
	t->from = gpu_buffer_destroy(t->from);
	t->to = gpu_buffer_destroy(t->to);
}

static int compare(struct trial *t)
{
	struct gpu *gpu = t->gpu;
	uint64_t command_ns = 0, shader_ns = 0;
	int r = trial_init(t);
	if (r < 0)
		return r;
	r = measure(t, COPY_BY_COMMAND, &command_ns);
	if (r < 0)
		return r;
	r = measure(t, COPY_BY_SHADER, &shader_ns);
	if (r < 0)
		return r;
	gpu->info.copies_by_shader = shader_ns < command_ns;
	snprintf(gpu->info.copy_text, sizeof(gpu->info.copy_text),
		"copies by %s: compute shader %.1f GB/s, vkCmdCopyBuffer %.1f GB/s",
		gpu->info.copies_by_shader ? "compute shader" : "vkCmdCopyBuffer",
		gb_per_s(t->bytes, shader_ns), gb_per_s(t->bytes, command_ns));
	return 0;
}

int measure_copies(struct gpu *gpu)
{
	struct trial t = {
		.gpu = gpu,
		.bytes = gpu->info.is_cpu ? CPU_BYTES : GPU_BYTES,
		.copies = gpu->info.is_cpu ? CPU_COPIES : GPU_COPIES,
	};
	int r = compare(&t);
	trial_finish(&t);
	return r;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

uint64_t measure_median(uint64_t *ns, unsigned n)
{
	qsort(ns, n, sizeof(ns[0]), ascending);
	return ns[n / 2];
}

int gpu_measure_copy(struct gpu *gpu, uint64_t size_bytes, unsigned rounds, uint64_t *median_ns_out)
{
	uint64_t ns[GPU_ROUNDS_MAX];
	struct trial t = { .gpu = gpu, .bytes = size_bytes, .copies = 1 };
	enum copy_way way = gpu->info.copies_by_shader ? COPY_BY_SHADER : COPY_BY_COMMAND;
	assert(gpu->n_jobs == 0 && rounds > 0 && rounds <= GPU_ROUNDS_MAX);
	int r = trial_init(&t);
	for (unsigned i = 0; r == 0 && i < rounds; i++)
		r = run_once(&t, way, &ns[i]);
	trial_finish(&t);
	if (r < 0)
		return r;
	*median_ns_out = measure_median(ns, rounds);
	return 0;
}
