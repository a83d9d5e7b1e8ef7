/*
 * How long a conversion takes, beside a copy of as many bytes as its source has. Several of one kind are
 * in a submission, one after the other, so that its own cost does not count; and they take turns on
 * several buffers, so that memory is read and not the cache.
 */
#include <assert.h>
#include <errno.h>

#include "broker/gpu/measure.h"

enum {
	SETS = 8,
	TURNS = 2 * SETS,
	SETS_CPU = 2, /* a software renderer is slow */
	TURNS_CPU = 1,
};

struct sets {
	struct gpu *gpu;
	const struct video_format *from_format;
	const struct video_format *to_format;
	unsigned n;
	unsigned turns;
	struct gpu_buffer *from[SETS];
	struct gpu_buffer *to[SETS];
};

static int record_copy(const struct sets *s, VkCommandBuffer commands, unsigned i)
{
	struct gpu_copy copy = {
		.from = gpu_picture_of(s->from[i % s->n], s->from_format),
		.to = gpu_picture_of(s->from[(i + s->n / 2) % s->n], s->from_format),
	};
	copy_record(s->gpu, commands, s->from_format, &copy);
	return 0;
}

static int record_conversion(const struct sets *s, VkCommandBuffer commands, unsigned i)
{
	struct gpu_convert convert = {
		.from_format = s->from_format,
		.to_format = s->to_format,
		.from = gpu_picture_of(s->from[i % s->n], s->from_format),
		.to = gpu_picture_of(s->to[i % s->n], s->to_format),
	};
	int r = convert_prepare(s->gpu, &convert);
	if (r == 0)
		convert_record(s->gpu, commands, &convert);
	return r;
}

/* Not zeros: a picture. */
static int record_drawing(const struct sets *s, VkCommandBuffer commands, unsigned i)
{
	struct gpu_draw draw = { .to = gpu_picture_of(s->from[i], s->from_format), .number = i };
	int r = draw_prepare(s->gpu, s->from_format);
	if (r == 0)
		draw_record(s->gpu, commands, s->from_format, &draw);
	return r;
}

typedef int (*record_fn)(const struct sets *s, VkCommandBuffer commands, unsigned i);

/* ns_out is that of one of them. */
static int run(const struct sets *s, record_fn record, unsigned n, uint64_t *ns_out)
{
	struct gpu *gpu = s->gpu;
	VkCommandBuffer commands;
	int r = measure_begin(gpu, &commands);
	for (unsigned i = 0; i < n && r == 0; i++) {
		queue_barrier(gpu, commands, NULL);
		r = record(s, commands, i);
	}
	if (r == 0)
		r = VK(gpu, EndCommandBuffer, commands);
	if (r == 0)
		r = measure_commands(gpu, commands, ns_out);
	for (unsigned i = 0; i < s->n; i++)
		s->from[i]->used.last_use = s->to[i]->used.last_use = gpu->submitted;
	*ns_out /= n;
	return r;
}

static int fill(struct sets *s)
{
	int r = 0;
	uint64_t ns = 0;
	for (unsigned i = 0; i < s->n && r == 0; i++) {
		r = gpu_buffer_create(s->gpu, GPU_PRIVATE, s->from_format->size_bytes, &s->from[i]);
		if (r == 0)
			r = gpu_buffer_create(
				s->gpu, GPU_PRIVATE, s->to_format->size_bytes, &s->to[i]);
	}
	if (r == 0)
		r = run(s, record_drawing, s->n, &ns);
	/* shaders are compiled afterwards, and memory is there */
	if (r == 0)
		r = run(s, record_conversion, s->turns, &ns);
	return r < 0 ? r : run(s, record_copy, s->turns, &ns);
}

static void finish(struct sets *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		s->from[i] = gpu_buffer_destroy(s->from[i]);
		s->to[i] = gpu_buffer_destroy(s->to[i]);
	}
}

int gpu_measure_convert(struct gpu *gpu, const struct video_format *from,
	const struct video_format *to, unsigned rounds, struct gpu_convert_times *times_out)
{
	uint64_t convert_ns[GPU_ROUNDS_MAX], copy_ns[GPU_ROUNDS_MAX];
	const char *why;
	bool is_cpu = gpu->info.is_cpu;
	struct sets s = {
		.gpu = gpu,
		.from_format = from,
		.to_format = to,
		.n = is_cpu ? SETS_CPU : SETS,
		.turns = is_cpu ? TURNS_CPU : TURNS,
	};
	assert(gpu->n_jobs == 0 && rounds > 0 && rounds <= GPU_ROUNDS_MAX);
	if (!gpu_can_convert(from, to, &why))
		return gpu_fail(gpu, -EOPNOTSUPP, "%s", why);
	int r = fill(&s);
	for (unsigned i = 0; r == 0 && i < rounds; i++) {
		r = run(&s, record_conversion, s.turns, &convert_ns[i]);
		if (r == 0)
			r = run(&s, record_copy, s.turns, &copy_ns[i]);
	}
	finish(&s);
	if (r < 0)
		return r;
	*times_out = (struct gpu_convert_times){
		.convert_ns = measure_median(convert_ns, rounds),
		.copy_ns = measure_median(copy_ns, rounds),
	};
	return 0;
}
