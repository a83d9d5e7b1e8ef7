/*
 * How the end of the work is heard. At first the loop spins on the counter, which costs nanoseconds
 * to read, and calls back with no thread in between: an H200 is done with a 4K frame in 30 µs, and a
 * thread that blocks hears of it 150 µs later. When the time for that is used up, a thread blocks.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "broker/gpu/device.h"
#include "common/clock.h"
#include "common/fd.h"

enum {
	SLICE_NS = 2000,             /* polled for this long in each turn of the loop */
	MARGIN_NS = 10 * 1000,       /* what a spin may take beyond twice the usual time */
	WAIT_NS = 100 * 1000 * 1000, /* the thread looks this often whether it is to end */
	TRY_AGAIN = 32, /* spins that are not begun before one is: the usual time is measured by
	                 * the thread then, which hears late */
	WEIGHT = 8,     /* of the past in the moving average */
};

#ifdef SLUICE_FAULTS
bool ending_test_spin;
#endif

/* What the thread is told, and what it says. */
struct waiting {
	const struct vk *vk;
	VkSemaphore semaphore;
	uint64_t point;
	VkResult result;
	atomic_bool stop;
};

/* On the thread. Blocks. */
static int wait_for_point(void *data)
{
	struct waiting *w = data;
	VkSemaphoreWaitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
		.semaphoreCount = 1,
		.pSemaphores = &w->semaphore,
		.pValues = &w->point,
	};
	do
		w->result = VK_RAW(w->vk, WaitSemaphores, w->vk->device, &info, WAIT_NS);
	while (w->result == VK_TIMEOUT && !w->stop);
	return 0;
}

/* The usual time from submission, or from the end before, to the moment that the loop heard. */
static void learn(struct gpu *gpu, uint64_t now)
{
	struct ending *e = &gpu->ending;
	const struct job *job = &gpu->jobs[gpu->first_job];
	if (gpu->n_jobs == 0 || job->point > gpu->ended)
		return;
	uint64_t began = job->submitted_ns > e->last_end_ns ? job->submitted_ns : e->last_end_ns;
	uint64_t took = now > began ? now - began : 1;
	e->usual_ns = e->usual_ns ? (e->usual_ns * (WEIGHT - 1) + took) / WEIGHT : took;
	e->last_end_ns = now;
}

/* Call those that have ended. False: nothing is left to be waited for. */
static bool hear(struct gpu *gpu, uint64_t now)
{
	if (queue_poll(gpu)) {
		learn(gpu, now);
		queue_complete(gpu);
	}
	if (gpu->lost)
		queue_fail_all(gpu);
	return !gpu->lost && queue_next_point(gpu);
}

static uint64_t spin_budget(const struct ending *e)
{
	uint64_t budget = 2 * e->usual_ns + MARGIN_NS;
	return e->usual_ns && budget < e->spin_ns ? budget : e->spin_ns;
}

/* Is it likely that a spin would hear the end? */
static bool should_spin(struct gpu *gpu)
{
	struct ending *e = &gpu->ending;
	if (e->spin_ns == 0 || gpu->n_jobs == 0)
		return false;
	if (e->usual_ns > e->spin_ns && ++e->n_declined < TRY_AGAIN)
		return false;
	e->n_declined = 0;
	e->n_spins++;
	return true;
}

static void block(struct gpu *gpu)
{
	struct waiting *w = gpu->ending.waiting;
	*w = (struct waiting){
		.vk = &gpu->vk, .semaphore = gpu->timeline, .point = queue_next_point(gpu)
	};
	worker_post(gpu->ending.waiter, wait_for_point, w);
}

static bool on_spin(void *data)
{
	struct gpu *gpu = data;
	struct ending *e = &gpu->ending;
	uint64_t now = clock_ns();
	for (uint64_t until = now + SLICE_NS; now < until; now = clock_ns()) {
		if (queue_poll(gpu) && queue_next_point(gpu) > gpu->ended)
			continue;
		e->busy = hear(gpu, now);
		if (!e->busy)
			return false;
		e->give_up_ns = clock_ns() + spin_budget(e);
	}
	if (now < e->give_up_ns)
		return true;
	block(gpu);
	return false;
}

static void on_waited(void *data, int result)
{
	struct gpu *gpu = data;
	struct ending *e = &gpu->ending;
	(void)result;
	if (gpu_result(gpu, "vkWaitSemaphores", e->waiting->result) < 0)
		gpu_lose(gpu);
	bool more = hear(gpu, clock_ns());
	e->busy = false;
	if (more)
		ending_expect(gpu);
}

void ending_expect(struct gpu *gpu)
{
	struct ending *e = &gpu->ending;
#ifdef SLUICE_FAULTS
	if (gpu_fault_early)
		eventfd_write(e->kick_fd, 1);
#endif
	if (e->busy || gpu->lost || queue_next_point(gpu) == 0)
		return;
	e->busy = true;
	if (!should_spin(gpu)) {
		block(gpu);
		return;
	}
	e->give_up_ns = clock_ns() + spin_budget(e);
	loop_spin(gpu->loop, &e->spin, on_spin, gpu);
}

void ending_kick(struct gpu *gpu)
{
	if (gpu->ending.kick_fd >= 0)
		eventfd_write(gpu->ending.kick_fd, 1);
	if (gpu->ending.waiting)
		gpu->ending.waiting->stop = true;
}

static void tell_lost(struct gpu *gpu)
{
	void (*fn)(void *data) = gpu->on_lost;
	gpu->on_lost = NULL;
	queue_fail_all(gpu);
	if (fn)
		fn(gpu->on_lost_data);
}

static void on_kick(void *data)
{
	struct gpu *gpu = data;
	eventfd_t count;
	if (eventfd_read(gpu->ending.kick_fd, &count) < 0)
		return;
	if (gpu->lost)
		tell_lost(gpu);
#ifdef SLUICE_FAULTS
	else if (gpu_fault_early)
		queue_end_early(gpu);
#endif
}

static bool may_spin(const struct gpu *gpu)
{
#ifdef SLUICE_FAULTS
	if (ending_test_spin)
		return true;
#endif
	return !gpu->info.is_cpu;
}

int ending_create(struct gpu *gpu, uint64_t spin_ns)
{
	struct ending *e = &gpu->ending;
	e->spin_ns = may_spin(gpu) ? spin_ns : 0;
	e->waiting = calloc(1, sizeof(*e->waiting));
	if (!e->waiting)
		return -ENOMEM;
	e->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->kick_fd < 0)
		return -errno;
	int r = loop_watch(gpu->loop, &e->kick, e->kick_fd, LOOP_READ, on_kick, gpu);
	if (r < 0)
		return r;
	return worker_create(&e->waiter, gpu->loop, "gpu-wait", on_waited, gpu);
}

void ending_destroy(struct gpu *gpu)
{
	struct ending *e = &gpu->ending;
	loop_unspin(&e->spin);
	if (e->waiting)
		e->waiting->stop = true;
	e->waiter = worker_destroy(e->waiter);
	e->kick = watch_destroy(e->kick);
	fd_closep(&e->kick_fd);
	free(e->waiting);
	e->waiting = NULL;
}
