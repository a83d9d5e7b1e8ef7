/*
 * The one queue: submissions in order, each the next point of one timeline semaphore, so that "has it
 * ended" is one number to compare with another.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "broker/gpu/device.h"
#include "common/clock.h"

enum { TOUCHED_MAX = 5 }; /* buffers of one submission */

static int create_semaphore(struct gpu *gpu, const void *chain, VkSemaphore *out)
{
	VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = chain,
	};
	return VK(gpu, CreateSemaphore, gpu->vk.device, &info, NULL, out);
}

static int create_sync(struct gpu *gpu, struct job *job)
{
	VkExportSemaphoreCreateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	return create_semaphore(gpu, &export, &job->sync);
}

static int create_jobs(struct gpu *gpu)
{
	VkCommandBuffer commands[GPU_JOBS_MAX] = { 0 };
	VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = gpu->pool,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = GPU_JOBS_MAX,
	};
	int r = VK(gpu, AllocateCommandBuffers, gpu->vk.device, &info, commands);
	for (unsigned i = 0; i < GPU_JOBS_MAX && r == 0; i++) {
		gpu->jobs[i].commands = commands[i];
		if (gpu->info.can_sync_fd)
			r = create_sync(gpu, &gpu->jobs[i]);
	}
	return r;
}

int queue_create(struct gpu *gpu)
{
	VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
	};
	VkCommandPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
		.queueFamilyIndex = gpu->family,
	};
	int r = create_semaphore(gpu, &type, &gpu->timeline);
	if (r < 0)
		return r;
	r = VK(gpu, CreateCommandPool, gpu->vk.device, &pool, NULL, &gpu->pool);
	if (r < 0)
		return r;
	return create_jobs(gpu);
}

void queue_destroy(struct gpu *gpu)
{
	struct vk *vk = &gpu->vk;
	struct used *used, *tmp;
	list_for_each_safe(used, tmp, &gpu->dying, link) {
		list_remove(&used->link);
		used->free(gpu, used);
	}
	for (unsigned i = 0; i < GPU_JOBS_MAX; i++)
		if (gpu->jobs[i].sync)
			vk->DestroySemaphore(vk->device, gpu->jobs[i].sync, NULL);
	if (gpu->pool)
		vk->DestroyCommandPool(vk->device, gpu->pool, NULL);
	if (gpu->timeline)
		vk->DestroySemaphore(vk->device, gpu->timeline, NULL);
}

/* --- What has ended ----------------------------------------------------------------------------*/

static void reap(struct gpu *gpu)
{
	struct used *used, *tmp;
	list_for_each_safe(used, tmp, &gpu->dying, link) {
		if (used->last_use > gpu->ended)
			continue;
		list_remove(&used->link);
		used->free(gpu, used);
	}
}

bool queue_poll(struct gpu *gpu)
{
	uint64_t value = 0;
	if (gpu->lost)
		return false;
	int r = VK(gpu, GetSemaphoreCounterValue, gpu->vk.device, gpu->timeline, &value);
	/* a lost device may count to the end of numbers */
	if (r == 0 && value > gpu->submitted)
		r = gpu_result(gpu, "vkGetSemaphoreCounterValue", VK_ERROR_DEVICE_LOST);
	if (r < 0) {
		gpu_lose(gpu);
		return false;
	}
	if (value != gpu->ended) {
		gpu->ended = value;
		reap(gpu);
	}
	return true;
}

static struct job *first_job(struct gpu *gpu)
{
	return gpu->n_jobs ? &gpu->jobs[gpu->first_job] : NULL;
}

/* The job leaves the ring before its owner hears of it: there is room for another. */
static void end_first(struct gpu *gpu, int result)
{
	struct job *job = first_job(gpu);
	gpu_done_fn done = job->done;
	void *data = job->data;
	job->done = NULL;
	gpu->first_job = (gpu->first_job + 1) % GPU_JOBS_MAX;
	gpu->n_jobs--;
	if (done)
		done(data, result);
}

void queue_complete(struct gpu *gpu)
{
	for (struct job *job; (job = first_job(gpu)) && job->point <= gpu->ended;)
		end_first(gpu, 0);
}

void queue_fail_all(struct gpu *gpu)
{
	while (gpu->n_jobs)
		end_first(gpu, -ENODEV);
}

#ifdef SLUICE_FAULTS
void queue_end_early(struct gpu *gpu)
{
	for (unsigned i = 0; i < gpu->n_jobs; i++) {
		struct job *job = &gpu->jobs[(gpu->first_job + i) % GPU_JOBS_MAX];
		gpu_done_fn done = job->done;
		job->done = NULL;
		if (done)
			done(job->data, 0);
	}
}
#endif

uint64_t queue_next_point(const struct gpu *gpu)
{
	uint64_t next = 0;
	struct used *used;
	if (gpu->n_jobs)
		return gpu->jobs[gpu->first_job].point;
	list_for_each(used, &gpu->dying, link)
		if (next == 0 || used->last_use < next)
			next = used->last_use;
	return next;
}

/* On a lost device nothing is known of its work: all is kept until that is gone. */
void queue_retire(struct gpu *gpu, struct used *used)
{
	if (used->last_use == 0 || used->last_use <= gpu->ended ||
		(queue_poll(gpu) && used->last_use <= gpu->ended)) {
		used->free(gpu, used);
		return;
	}
	list_insert(&gpu->dying, &used->link);
	if (!gpu->lost)
		ending_expect(gpu);
}

int queue_wait(struct gpu *gpu, uint64_t point)
{
	VkSemaphoreWaitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
		.semaphoreCount = 1,
		.pSemaphores = &gpu->timeline,
		.pValues = &point,
	};
	if (point <= gpu->ended)
		return 0;
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	return VK(gpu, WaitSemaphores, gpu->vk.device, &info, UINT64_MAX);
}

void gpu_wait(struct gpu *gpu, gpu_job job)
{
	queue_wait(gpu, job); /* lost: it has ended too */
}

static struct job *find_job(struct gpu *gpu, gpu_job name)
{
	for (unsigned i = 0; i < gpu->n_jobs; i++) {
		struct job *job = &gpu->jobs[(gpu->first_job + i) % GPU_JOBS_MAX];
		if (job->point == name)
			return job;
	}
	return NULL;
}

void gpu_cancel(struct gpu *gpu, gpu_job job)
{
	struct job *found = find_job(gpu, job);
	if (found)
		found->done = NULL;
}

/* --- Submission --------------------------------------------------------------------------------*/

/* What one submission signals: the clients' timelines and perhaps a sync_file, then our timeline. */
struct signals {
	uint32_t n;
	VkSemaphore semaphore[GPU_SIGNALS_MAX + 2];
	uint64_t value[GPU_SIGNALS_MAX + 2]; /* not looked at for a sync_file */
};

static void add_signal(struct signals *s, VkSemaphore semaphore, uint64_t value)
{
	s->semaphore[s->n] = semaphore;
	s->value[s->n++] = value;
}

static VkTimelineSemaphoreSubmitInfo values_from(const struct signals *s, uint32_t first)
{
	return (VkTimelineSemaphoreSubmitInfo){
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.signalSemaphoreValueCount = s->n - first,
		.pSignalSemaphoreValues = s->value + first,
	};
}

/*
 * Signals of one batch come in any order, those of a later batch after those of an earlier one. When
 * our timeline has its point, nothing of the submission may be left to be done: the semaphores of
 * clients may be destroyed then. So it has a batch of its own where there are others.
 */
static int submit(struct gpu *gpu, VkCommandBuffer commands, struct signals *s)
{
	uint32_t last = s->n;
	add_signal(s, gpu->timeline, gpu->submitted + 1);
	VkTimelineSemaphoreSubmitInfo values = values_from(s, 0), own_value = values_from(s, last);
	VkSubmitInfo batches[] = {
		{
			.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
			.pNext = &values,
			.commandBufferCount = commands ? 1 : 0,
			.pCommandBuffers = &commands,
			.signalSemaphoreCount = s->n,
			.pSignalSemaphores = s->semaphore,
		},
		{
			.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
			.pNext = &own_value,
			.signalSemaphoreCount = 1,
			.pSignalSemaphores = s->semaphore + last,
		},
	};
	if (last > 0)
		values.signalSemaphoreValueCount = batches[0].signalSemaphoreCount = last;
	int r = VK(gpu, QueueSubmit, gpu->queue, last > 0 ? 2 : 1, batches, VK_NULL_HANDLE);
	if (r == 0)
		gpu->submitted++;
	return r;
}

int queue_run(struct gpu *gpu, VkCommandBuffer commands, uint64_t *point_out)
{
	struct signals signals = { 0 };
	int r = submit(gpu, commands, &signals);
	if (r == 0)
		*point_out = gpu->submitted;
	return r;
}

void queue_barrier(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_buffer *take)
{
	VkMemoryBarrier all = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = WORK_WRITES,
		.dstAccessMask = WORK_READS | WORK_WRITES,
	};
	VkBufferMemoryBarrier acquire;
	if (take)
		acquire = buffer_acquire(gpu, take);
	gpu->vk.CmdPipelineBarrier(commands, WORK_STAGES, WORK_STAGES, 0, 1, &all, take ? 1 : 0,
		take ? &acquire : NULL, 0, NULL);
}

/* For those who read it next: other processes, or the CPU. */
static void barrier_after(struct gpu *gpu, VkCommandBuffer commands, struct gpu_buffer *written)
{
	VkMemoryBarrier host = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = WORK_WRITES,
		.dstAccessMask = VK_ACCESS_HOST_READ_BIT,
	};
	if (written->is_host)
		gpu->vk.CmdPipelineBarrier(commands, WORK_STAGES, VK_PIPELINE_STAGE_HOST_BIT, 0, 1,
			&host, 0, NULL, 0, NULL);
	if (written->kind != GPU_EXPORTED)
		return;
	VkBufferMemoryBarrier release = buffer_release(gpu, written);
	gpu->vk.CmdPipelineBarrier(commands, WORK_STAGES, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, 0,
		0, NULL, 1, &release, 0, NULL);
	written->is_lent = true;
}

/* Buffers of a submission, each once. */
struct touched {
	unsigned n;
	struct gpu_buffer *buffer[TOUCHED_MAX];
};

static bool has_touched(const struct touched *t, const struct gpu_buffer *buffer)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->buffer[i] == buffer)
			return true;
	return false;
}

static void touch(struct touched *t, struct gpu_buffer *buffer)
{
	if (has_touched(t, buffer))
		return;
	assert(t->n < TOUCHED_MAX);
	t->buffer[t->n++] = buffer;
}

/*
 * Before something reads a buffer. What was lent, and neither written anew nor read in this submission,
 * comes back to our queue family first, and is lent again at the end.
 */
static void before_reading(
	struct gpu *gpu, VkCommandBuffer commands, struct touched *t, struct gpu_buffer *buffer)
{
	bool take = buffer->is_lent && !has_touched(t, buffer);
	queue_barrier(gpu, commands, take ? buffer : NULL);
	if (take)
		touch(t, buffer);
}

static void record_parts(
	struct gpu *gpu, VkCommandBuffer commands, const struct gpu_work *work, struct touched *t)
{
	if (work->draw) {
		queue_barrier(gpu, commands, NULL);
		draw_record(gpu, commands, work->format, work->draw);
		touch(t, work->draw->to.buffer);
	}
	if (work->copy) {
		before_reading(gpu, commands, t, work->copy->from.buffer);
		copy_record(gpu, commands, work->format, work->copy);
		touch(t, work->copy->to.buffer);
	}
	if (work->convert) {
		before_reading(gpu, commands, t, work->convert->from.buffer);
		convert_record(gpu, commands, work->convert);
		touch(t, work->convert->to.buffer);
	}
}

static int record(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_work *work)
{
	struct touched touched = { 0 };
	VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};
	int r = VK(gpu, BeginCommandBuffer, commands, &begin);
	if (r < 0)
		return r;
	record_parts(gpu, commands, work, &touched);
	for (unsigned i = 0; i < touched.n; i++)
		barrier_after(gpu, commands, touched.buffer[i]);
	return VK(gpu, EndCommandBuffer, commands);
}

static bool fits(const struct video_format *format, const struct gpu_picture *picture)
{
	for (unsigned p = 0; p < format->n_planes; p++) {
		uint64_t rows = format_rows(format, p);
		uint64_t end = picture->offset[p] + (rows - 1) * picture->stride[p] +
			       format_row_bytes(format, p);
		if (picture->stride[p] < format_row_bytes(format, p) ||
			end > picture->buffer->size_bytes)
			return false;
	}
	return true;
}

static int check_convert(struct gpu *gpu, const struct gpu_convert *convert)
{
	const char *why;
	if (!gpu_can_convert(convert->from_format, convert->to_format, &why))
		return gpu_fail(gpu, -EINVAL, "%s", why);
	if (!fits(convert->from_format, &convert->from) ||
		!fits(convert->to_format, &convert->to) || !convert_fits(convert))
		return gpu_fail(gpu, -EINVAL, "the picture to convert does not fit a buffer");
	return 0;
}

static int check_work(struct gpu *gpu, const struct gpu_work *work)
{
	int r = gpu_check(gpu);
	if (r < 0)
		return r;
	assert(work->n_signals <= GPU_SIGNALS_MAX);
	if (gpu->n_jobs == GPU_JOBS_MAX)
		return gpu_fail(gpu, -EBUSY, "%d submissions are in flight", GPU_JOBS_MAX);
	if (work->draw &&
		(!fits(work->format, &work->draw->to) || !draw_fits(work->format, &work->draw->to)))
		return gpu_fail(gpu, -EINVAL, "the picture to draw does not fit its buffer");
	if (work->copy &&
		(!fits(work->format, &work->copy->from) || !fits(work->format, &work->copy->to)))
		return gpu_fail(gpu, -EINVAL, "the picture to copy does not fit a buffer");
	return work->convert ? check_convert(gpu, work->convert) : 0;
}

/* All that the work uses lives until its point. */
static void keep_alive(const struct gpu_work *work, uint64_t point)
{
	if (work->draw)
		work->draw->to.buffer->used.last_use = point;
	if (work->copy) {
		work->copy->from.buffer->used.last_use = point;
		work->copy->to.buffer->used.last_use = point;
	}
	if (work->convert) {
		work->convert->from.buffer->used.last_use = point;
		work->convert->to.buffer->used.last_use = point;
	}
	for (unsigned i = 0; i < work->n_signals; i++)
		work->signals[i].timeline->used.last_use = point;
}

/*
 * The export resets the semaphore for its next use. If it fails, the semaphore cannot be used again;
 * its work is ours and short, so we wait for it: -EBADF then says the truth.
 */
static int export_sync(struct gpu *gpu, struct job *job)
{
	int fd = -EBADF;
	VkSemaphoreGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
		.semaphore = job->sync,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	int r = VK(gpu, GetSemaphoreFdKHR, gpu->vk.device, &info, &fd);
	if (r == 0 && fd >= 0) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		return fd;
	}
	if (r < 0 && queue_wait(gpu, job->point) == 0) {
		gpu->vk.DestroySemaphore(gpu->vk.device, job->sync, NULL);
		job->sync = VK_NULL_HANDLE;
		create_sync(gpu, job); /* if that fails too, want_sync_fd fails for this place */
	}
	return -EBADF;
}

int gpu_submit(struct gpu *gpu, const struct gpu_work *work, gpu_job *job_out, int *sync_fd_out)
{
	int r = check_work(gpu, work);
	if (r < 0)
		return r;
	struct job *job = &gpu->jobs[(gpu->first_job + gpu->n_jobs) % GPU_JOBS_MAX];
	if (work->want_sync_fd && !job->sync)
		return gpu_fail(gpu, -EIO, "%s cannot export a sync_file", gpu->info.name);
	bool commands = work->draw || work->copy || work->convert;
	if (work->draw)
		r = draw_prepare(gpu, work->format);
	if (r == 0 && work->convert)
		r = convert_prepare(gpu, work->convert);
	if (r == 0 && commands)
		r = record(gpu, job->commands, work);
	if (r < 0)
		return r;
	struct signals signals = { 0 };
	for (unsigned i = 0; i < work->n_signals; i++)
		add_signal(&signals, work->signals[i].timeline->semaphore, work->signals[i].value);
	if (work->want_sync_fd)
		add_signal(&signals, job->sync, 0);
	r = submit(gpu, commands ? job->commands : VK_NULL_HANDLE, &signals);
	if (r < 0)
		return r;
	uint64_t point = gpu->submitted;
	keep_alive(work, point);
	job->point = point;
	job->submitted_ns = clock_ns();
	job->done = work->done;
	job->data = work->data;
	gpu->n_jobs++;
	if (job_out)
		*job_out = point;
	int sync_fd = work->want_sync_fd ? export_sync(gpu, job) : -EBADF;
	if (sync_fd_out)
		*sync_fd_out = sync_fd;
	else if (sync_fd >= 0)
		close(sync_fd);
	ending_expect(gpu);
	return 0;
}
