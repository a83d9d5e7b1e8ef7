#include "broker/lane.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/backlog.h"
#include "broker/cpu_job.h"
#include "broker/due.h"
#include "broker/imports.h"
#include "broker/scale.h"
#include "common/clock.h"
#include "common/worker.h"

enum { STEPS_MAX = 2 };

static const uint64_t slow_ns = 50 * NS_PER_MS;

enum step { STEP_CPU, STEP_GPU };

struct lane {
	struct view *view;
	struct gpu *gpu;
	const struct lane_listener *listener;
	void *listener_data;
	struct worker *worker;
	struct gpu_buffer *staging;
	struct imports slots;    /* of the host view's generation */
	struct imports mappings; /* of captured buffers */
	struct scaler *scaler;   /* while a step of the CPU is under way it is the worker's */
	const char *way;
	struct backlog backlog; /* frames of another view that are to come in */

	/* the picture that is under way; slot NULL: none */
	struct slot *slot;
	uint64_t seq;
	struct frame_info info;
	struct capture_buffer *buffer; /* where it comes from, or */
	struct view *from;             /* another view, of which */
	struct hold hold;              /* this slot is read */
	unsigned n_steps;
	unsigned at; /* the step that runs */
	enum step step[STEPS_MAX];
	struct cpu_job cpu;
	struct gpu_copy copy;
	struct gpu_convert convert;
	uint64_t took_ns;  /* the last picture of another view */
	bool is_converted; /* by the GPU: convert counts, not copy */
	gpu_job gpu_job;
};

static void on_cpu_done(void *data, int result);

int lane_create(struct lane **lane_out, struct loop *loop, struct view *view, struct gpu *gpu,
	const struct lane_listener *listener, void *listener_data)
{
	_cleanup_(lane_destroyp) struct lane *lane = calloc(1, sizeof(*lane));
	if (!lane)
		return -ENOMEM;
	*lane = (struct lane){
		.view = view,
		.gpu = gpu,
		.listener = listener,
		.listener_data = listener_data,
		.slots.gpu = gpu,
		.mappings.gpu = gpu,
		.way = "",
	};
	list_init(&lane->hold.in_slot);
	backlog_init(&lane->backlog);
	int r = worker_create(&lane->worker, loop, "sluice-copy", on_cpu_done, lane);
	if (r < 0)
		return r;
	*lane_out = TAKE_PTR(lane);
	return 0;
}

struct lane *lane_destroy(struct lane *lane)
{
	if (!lane)
		return NULL;
	(void)lane_cancel(lane);
	lane->worker = worker_destroy(lane->worker);
	lane_forget_memory(lane);
	imports_clear(&lane->mappings);
	scaler_destroy(lane->scaler);
	free(lane);
	return NULL;
}

bool lane_is_busy(const struct lane *lane)
{
	/* after lane_cancel() the worker may still have to say that it has ended */
	return lane->slot || worker_busy(lane->worker);
}

const struct capture_buffer *lane_buffer(const struct lane *lane)
{
	return lane->slot ? lane->buffer : NULL;
}

bool lane_was_on_gpu(const struct lane *lane)
{
	return lane->step[lane->at] == STEP_GPU;
}

bool lane_is_slow(const struct lane *lane)
{
	return lane->took_ns > slow_ns;
}

const char *lane_way(const struct lane *lane)
{
	return lane->way;
}

const struct slot *lane_reads(const struct lane *lane)
{
	return lane->slot ? lane->hold.slot : NULL;
}

const struct view *lane_source(const struct lane *lane)
{
	return lane->slot ? lane->from : NULL;
}

static void forget_memory(struct lane *lane)
{
	imports_clear(&lane->slots);
	lane->staging = gpu_buffer_destroy(lane->staging);
}

void lane_forget_memory(struct lane *lane)
{
	assert(!lane->slot);
	backlog_clear(&lane->backlog);
	forget_memory(lane);
}

void lane_forget_mapping(struct lane *lane, const struct capture_mapping *mapping)
{
	imports_forget(&lane->mappings, mapping->map);
}

/* --- The end of a picture --------------------------------------------------------------------- */

/* The picture is not under way any more. Returns the buffer that it came from. */
static struct capture_buffer *clear(struct lane *lane)
{
	struct capture_buffer *buffer = lane->buffer;
	pool_drop(&lane->hold);
	lane->slot = NULL;
	lane->buffer = NULL;
	lane->from = NULL;
	return buffer;
}

static struct capture_buffer *abandon(struct lane *lane)
{
	bool was_announced = lane->slot->state != SLOT_WRITING;
	view_abandon(lane->view, lane->slot);
	if (lane->buffer && !was_announced)
		stream_return_seq(lane->view->stream, lane->seq);
	return clear(lane);
}

static struct capture_buffer *publish(struct lane *lane)
{
	lane->info.copied_ns = clock_ns();
	if (lane->from)
		lane->took_ns = lane->info.copied_ns - lane->info.begun_ns;
	view_publish(lane->view, lane->slot, lane->seq, &lane->info);
	if (lane->buffer)
		lane->buffer->published = true;
	return clear(lane);
}

static void finish(struct lane *lane, int result)
{
	struct capture_buffer *buffer = result < 0 ? abandon(lane) : publish(lane);
	lane->listener->done(lane->listener_data, lane, buffer, result);
}

/* --- Steps ------------------------------------------------------------------------------------ */

static int run_step(struct lane *lane);

static void next_step(struct lane *lane, int result)
{
	bool goes_on = result == 0 && ++lane->at < lane->n_steps;
	if (goes_on)
		result = run_step(lane);
	if (!goes_on || result < 0)
		finish(lane, result);
}

static void on_cpu_done(void *data, int result)
{
	struct lane *lane = data;
	if (lane->slot)
		next_step(lane, result);
	else
		lane->listener->done(lane->listener_data, lane, NULL, -ECANCELED);
}

static int run_cpu_step(struct lane *lane)
{
	worker_post(lane->worker, cpu_job_run, &lane->cpu);
	return 0;
}

static void on_gpu_done(void *data, int result)
{
	struct lane *lane = data;
	lane->gpu_job = 0;
	next_step(lane, result);
}

/*
 * The timelines of those who wait on the GPU. One that its client has signalled itself cannot be
 * signalled to less: that client loses its view, and nobody else notices.
 */
static unsigned collect_timelines(struct lane *lane, struct gpu_signal *signals)
{
	struct view *view = lane->view;
	struct stream *stream = view->stream;
	struct subscriber *s, *next;
	unsigned n = 0;
	list_for_each_safe(s, next, &view->subscribers, link) {
		if (!s->pool || !s->timeline)
			continue;
		uint64_t value = gpu_timeline_value(s->timeline);
		if (gpu_is_lost(lane->gpu))
			return 0; /* no value can be read, and nobody is to blame for it */
		if (value >= lane->seq)
			stream->listener->end(stream->listener_data, view, s,
				"the client has signalled the timeline that the broker signals");
		else if (n < GPU_SIGNALS_MAX)
			signals[n++] = (struct gpu_signal){ s->timeline, lane->seq };
	}
	return n;
}

/* Who gets frames before their pixels are there? */
static void find_early(const struct view *view, bool *any_out, bool *sync_fd_out)
{
	const struct subscriber *s;
	*any_out = *sync_fd_out = false;
	list_for_each(s, &view->subscribers, link) {
		*any_out |= s->pool && s->early;
		*sync_fd_out |= s->pool && s->early && !s->timeline;
	}
}

static int submit(struct lane *lane, struct gpu_work *work)
{
	struct gpu_signal signals[GPU_SIGNALS_MAX];
	bool is_last = lane->at + 1 == lane->n_steps;
	bool is_early = false;
	int sync_fd = -EBADF;
	if (is_last && lane->view->source.ops->kind == MEMORY_OPAQUE_FD) {
		work->n_signals = collect_timelines(lane, signals);
		work->signals = signals;
		find_early(lane->view, &is_early, &work->want_sync_fd);
	}
	int r = gpu_submit(lane->gpu, work, &lane->gpu_job, &sync_fd);
	if (r == -EBUSY)
		return r;
	if (r == 0 && is_early)
		view_submit(lane->view, lane->slot, lane->seq, &lane->info, &sync_fd);
	return r;
}

static int run_gpu_step(struct lane *lane)
{
	const struct generation *g = lane->view->generation;
	struct gpu_work work = { .format = &g->format, .done = on_gpu_done, .data = lane };
	if (lane->buffer && lane->buffer->record) {
		struct gpu_picture to =
			gpu_picture_of(generation_slot(g, lane->slot)->buffer, &g->format);
		lane->buffer->record(lane->buffer, &to, lane->seq, &work);
	} else if (lane->is_converted) {
		work.convert = &lane->convert;
	} else {
		work.copy = &lane->copy;
	}
	return submit(lane, &work);
}

static int run_step(struct lane *lane)
{
	return lane->step[lane->at] == STEP_CPU ? run_cpu_step(lane) : run_gpu_step(lane);
}

/* --- The plan --------------------------------------------------------------------------------- */

static void add_step(struct lane *lane, enum step step)
{
	lane->step[lane->n_steps++] = step;
}

static int need_staging(struct lane *lane)
{
	const struct video_format *format = &lane->view->generation->format;
	if (lane->staging)
		return 0;
	return gpu_buffer_create(lane->gpu, GPU_STAGING, format->size_bytes, &lane->staging);
}

/* The slot of a host view as the GPU sees it, or NULL. */
static struct gpu_buffer *import_slot(struct lane *lane, const struct slot_memory *memory)
{
	return imports_get(&lane->slots, memory->map, memory->allocation_bytes);
}

static int plan_buffer(struct lane *lane)
{
	const struct generation *g = lane->view->generation;
	const struct slot_memory *slot = generation_slot(g, lane->slot);
	const struct capture_mapping *mapping = lane->buffer->mapping;
	lane->cpu = (struct cpu_job){
		.buffer = lane->buffer, .to = slot->map, .format = g->format, .seq = lane->seq
	};
	if (slot->map) {
		add_step(lane, STEP_CPU);
		lane->way = "copied from the captured memory by the CPU";
		return 0;
	}
	if (lane->buffer->record) {
		add_step(lane, STEP_GPU);
		lane->way = "copied on the GPU";
		return 0;
	}
	lane->copy.to = gpu_picture_of(slot->buffer, &g->format);
	struct gpu_buffer *direct =
		mapping ? imports_get(&lane->mappings, mapping->map, mapping->size_bytes) : NULL;
	if (direct) {
		lane->copy.from.buffer = direct;
		memcpy(lane->copy.from.offset, mapping->offset, sizeof(mapping->offset));
		memcpy(lane->copy.from.stride, mapping->stride, sizeof(mapping->stride));
		add_step(lane, STEP_GPU);
		lane->way = "uploaded from the captured memory, without a copy by the CPU";
		return 0;
	}
	int r = need_staging(lane);
	if (r < 0)
		return r;
	lane->cpu.to = gpu_buffer_map(lane->staging);
	lane->copy.from = gpu_picture_of(lane->staging, &g->format);
	add_step(lane, STEP_CPU);
	add_step(lane, STEP_GPU);
	lane->way = mapping ? "uploaded through staging memory: the driver cannot import the "
			      "captured memory"
			    : "uploaded through staging memory: the source's memory is not mapped";
	return 0;
}

static int plan_upload(struct lane *lane, const struct slot_memory *from)
{
	const struct generation *g = lane->view->generation;
	lane->copy.to = gpu_picture_of(generation_slot(g, lane->slot)->buffer, &g->format);
	struct gpu_buffer *direct = import_slot(lane, from);
	lane->way = "uploaded from the host view, without a copy by the CPU";
	if (!direct) {
		int r = need_staging(lane);
		if (r < 0)
			return r;
		direct = lane->staging;
		lane->cpu = (struct cpu_job){
			.from = from->map, .to = gpu_buffer_map(direct), .format = g->format
		};
		add_step(lane, STEP_CPU);
		lane->way = "uploaded from the host view through staging memory: the driver cannot "
			    "import a memfd";
	}
	lane->copy.from = gpu_picture_of(direct, &g->format);
	add_step(lane, STEP_GPU);
	return 0;
}

static int plan_read_back(struct lane *lane, const struct slot_memory *from)
{
	const struct generation *g = lane->view->generation;
	const struct slot_memory *slot = generation_slot(g, lane->slot);
	lane->copy.from = gpu_picture_of(from->buffer, &g->format);
	struct gpu_buffer *direct = import_slot(lane, slot);
	add_step(lane, STEP_GPU);
	lane->way = "read back from the GPU straight into the sealed memory";
	if (!direct) {
		int r = need_staging(lane);
		if (r < 0)
			return r;
		direct = lane->staging;
		lane->cpu = (struct cpu_job){
			.from = gpu_buffer_map(direct), .to = slot->map, .format = g->format
		};
		add_step(lane, STEP_CPU);
		lane->way =
			"read back from the GPU through staging memory: the driver cannot import a "
			"memfd";
	}
	lane->copy.to = gpu_picture_of(direct, &g->format);
	return 0;
}

/* Both are in GPU memory. */
static int plan_convert(
	struct lane *lane, const struct slot_memory *from, const struct video_format *from_format)
{
	const struct generation *g = lane->view->generation;
	lane->is_converted = true;
	lane->convert = (struct gpu_convert){
		.from_format = from_format,
		.to_format = &g->format,
		.from = gpu_picture_of(from->buffer, from_format),
		.to = gpu_picture_of(generation_slot(g, lane->slot)->buffer, &g->format),
	};
	add_step(lane, STEP_GPU);
	lane->way = "converted on the GPU";
	return 0;
}

/* Both are in host memory. */
static int plan_scale(
	struct lane *lane, const struct slot_memory *from, const struct video_format *from_format)
{
	const struct generation *g = lane->view->generation;
	bool is_same = format_equal(from_format, &g->format);
	lane->cpu = (struct cpu_job){
		.from = from->map,
		.to = generation_slot(g, lane->slot)->map,
		.format = g->format,
		.scaler = is_same ? NULL : &lane->scaler,
		.from_format = *from_format,
	};
	add_step(lane, STEP_CPU);
	lane->way = is_same ? "copied by the CPU: it is in this form already"
			    : "converted by the CPU (libswscale)";
	return 0;
}

static int plan_from(
	struct lane *lane, const struct slot_memory *from, const struct video_format *from_format)
{
	bool to_host = lane->view->source.ops->kind == MEMORY_HOST;
	if (from->map)
		return to_host ? plan_scale(lane, from, from_format) : plan_upload(lane, from);
	return to_host ? plan_read_back(lane, from) : plan_convert(lane, from, from_format);
}

/* A slot is there and the plan is made, or not: begin. */
static int begin(struct lane *lane, int planned)
{
	int r = planned < 0 ? planned : run_step(lane);
	if (r == 0)
		return 0;
	(void)abandon(lane);
	return r;
}

static void clear_plan(struct lane *lane)
{
	lane->n_steps = lane->at = 0;
	lane->is_converted = false;
}

int lane_take_buffer(struct lane *lane, struct capture_buffer *buffer)
{
	assert(!lane_is_busy(lane));
	if (view_begin(lane->view, &lane->slot) != POOL_OK)
		return POOL_FULL;
	lane->buffer = buffer;
	lane->info = buffer->info;
	lane->seq = stream_take_seq(lane->view->stream);
	clear_plan(lane);
	return begin(lane, plan_buffer(lane));
}

/* What is known of the frame, in the terms of the view that it comes into. */
static void take_info(struct lane *lane, const struct slot *slot, const struct video_format *from)
{
	lane->info = slot->info;
	lane->info.begun_ns = clock_ns();
	lane->info.copied_ns = 0;
	const struct video_format *to = &lane->view->generation->format;
	if (!format_equal(from, to))
		frame_scale_damage(&lane->info, from->width, from->height, to->width, to->height);
}

/* With the one that is under way, and those that nobody would have. */
static uint64_t newest_brought_in(const struct lane *lane)
{
	uint64_t newest = view_dealt_with_seq(lane->view);
	return lane->slot && lane->seq > newest ? lane->seq : newest;
}

static struct slot *newest_of(const struct lane *lane, const struct view *from)
{
	const struct generation *g = from->generation;
	struct slot *newest = g ? g->pool.newest : NULL;
	bool is_new = newest && newest->complete && newest->seq > newest_brought_in(lane);
	return is_new ? newest : NULL;
}

void lane_expect(struct lane *lane, const struct view *from)
{
	struct slot *newest = newest_of(lane, from);
	if (!view_wants_every(lane->view))
		backlog_clear(&lane->backlog);
	else if (newest)
		backlog_add(&lane->backlog, from, newest);
}

struct slot *lane_next(struct lane *lane, const struct view *from)
{
	if (lane->backlog.from != from)
		backlog_clear(&lane->backlog);
	struct slot *expected = backlog_first(&lane->backlog, newest_brought_in(lane));
	lane->view->counts.superseded += lane->backlog.lost;
	lane->backlog.lost = 0;
	return expected ? expected : newest_of(lane, from);
}

int lane_take_from(struct lane *lane, struct view *from)
{
	assert(!lane_is_busy(lane));
	const struct generation *g = from->generation;
	struct slot *slot = lane_next(lane, from);
	if (!slot)
		return 0;
	if (view_begin(lane->view, &lane->slot) != POOL_OK)
		return POOL_FULL;
	lane->from = from;
	pool_hold(&lane->hold, slot);
	pool_reserve(&lane->hold);
	take_info(lane, slot, &g->format);
	lane->seq = slot->seq;
	clear_plan(lane);
	return begin(lane, plan_from(lane, generation_slot(g, slot), &g->format));
}

struct capture_buffer *lane_cancel(struct lane *lane)
{
	backlog_clear(&lane->backlog);
	if (!lane->slot)
		return NULL;
	if (lane->step[lane->at] == STEP_CPU) {
		worker_wait(lane->worker);
		return abandon(lane);
	}
	gpu_wait(lane->gpu, lane->gpu_job);
	gpu_cancel(lane->gpu, lane->gpu_job);
	/* what was announced is there now, unless the GPU is lost */
	bool was_announced = lane->slot->state != SLOT_WRITING;
	return was_announced && !gpu_is_lost(lane->gpu) ? publish(lane) : abandon(lane);
}

struct capture_buffer *lane_set_gpu(struct lane *lane, struct gpu *gpu)
{
	bool uses_gpu = lane->slot && (lane->n_steps > 1 || lane->step[0] == STEP_GPU);
	struct capture_buffer *buffer = uses_gpu ? lane_cancel(lane) : NULL;
	forget_memory(lane);
	imports_clear(&lane->mappings);
	lane->gpu = lane->slots.gpu = lane->mappings.gpu = gpu;
	return buffer;
}
