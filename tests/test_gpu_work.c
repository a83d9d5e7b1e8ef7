/* Submissions: their order, how their end is heard, and what happens when the device is lost. */
#include "tests/gpu_fixture.h"

#include <errno.h>
#include <string.h>
#include <vulkan/vulkan_core.h>

#include "broker/gpu/device.h"
#include "common/clock.h"
#include "tests/gpu_scene.h"

enum { MANY = 60 };

static void check_many(uint64_t spin_ns)
{
	struct scene s;
	scene_open(&s, spin_ns);
	for (uint32_t i = 1; i <= MANY; i++) {
		CHECK_EQ(scene_submit(&s, i, NULL), 0);
		fixture_run_until(&s.f, i);
		CHECK_EQ(s.f.result, 0);
		scene_check_stamp(&s, i);
	}
	scene_close(&s);
}

TEST(what_has_ended_is_there_when_a_thread_waits)
{
	check_many(0);
}

TEST(what_has_ended_is_there_when_the_loop_spins)
{
	check_many(LONG_SPIN_NS);
}

/* Too short for any work: spins are given up, and a thread hears of it. */
TEST(what_has_ended_is_there_when_spins_are_given_up)
{
	check_many(1);
}

/* --- Order -------------------------------------------------------------------------------------*/

struct in_order {
	struct scene *scene;
	unsigned number;
	unsigned *next;
};

static void on_in_order(void *data, int result)
{
	struct in_order *o = data;
	CHECK_EQ(result, 0);
	CHECK_EQ(o->number, *o->next);
	++*o->next;
	fixture_done(&o->scene->f, result);
}

TEST(work_ends_in_the_order_of_its_submission_and_there_is_a_limit)
{
	struct scene s;
	struct in_order order[GPU_JOBS_MAX];
	unsigned next = 0;
	gpu_job last = 0;
	scene_open(&s, 0);
	for (unsigned i = 0; i < GPU_JOBS_MAX; i++) {
		gpu_job job = 0;
		order[i] = (struct in_order){ &s, i, &next };
		s.work.done = on_in_order;
		s.work.data = &order[i];
		CHECK_EQ(scene_submit(&s, i, &job), 0);
		CHECK(job > last);
		last = job;
	}
	CHECK_EQ(scene_submit(&s, 99, NULL), -EBUSY);
	CHECK_EQ(s.f.n_done, 0); /* never from within */
	fixture_run_until(&s.f, GPU_JOBS_MAX);
	scene_check_stamp(&s, GPU_JOBS_MAX - 1);
	CHECK_EQ(scene_submit(&s, 1, NULL), 0); /* room again */
	order[0] = (struct in_order){ &s, next, &next };
	s.work.data = &order[0];
	CHECK_EQ(scene_submit(&s, 2, NULL), 0);
	scene_close(&s);
}

static void on_done_submit(void *data, int result)
{
	struct scene *s = data;
	CHECK_EQ(result, 0);
	if (s->f.n_done + 1 < MANY)
		CHECK_EQ(scene_submit(s, s->f.n_done + 2, NULL), 0);
	fixture_done(&s->f, result);
}

static void check_chain(uint64_t spin_ns)
{
	struct scene s;
	scene_open(&s, spin_ns);
	s.work.done = on_done_submit;
	s.work.data = &s;
	CHECK_EQ(scene_submit(&s, 1, NULL), 0);
	fixture_run_until(&s.f, MANY);
	scene_check_stamp(&s, MANY);
	scene_close(&s);
}

TEST(new_work_may_be_submitted_when_some_has_ended)
{
	check_chain(0);
	check_chain(1);
	check_chain(LONG_SPIN_NS);
}

/* --- Spinning ----------------------------------------------------------------------------------*/

#ifdef SLUICE_FAULTS
/* How long work takes is not known at first: all of the time may be spun away. */
TEST(no_thread_is_needed_while_the_loop_spins)
{
	for (unsigned i = 0; i < 5; i++) {
		struct scene s;
		scene_open(&s, LONG_SPIN_NS);
		CHECK(gpu_fault("vkWaitSemaphores", VK_ERROR_DEVICE_LOST, 1, true));
		CHECK_EQ(scene_submit(&s, 1, NULL), 0);
		fixture_run_until(&s.f, 1);
		CHECK_EQ(s.f.result, 0);
		CHECK(gpu_fault("vkWaitSemaphores", 0, 0, false));
		scene_close(&s);
	}
}

static PFN_vkGetSemaphoreCounterValue real_read;
static unsigned n_polls;

static VkResult count_polls(VkDevice device, VkSemaphore semaphore, uint64_t *value)
{
	n_polls++;
	return real_read(device, semaphore, value);
}

static void install_count(struct vk *vk)
{
	real_read = vk->GetSemaphoreCounterValue;
	vk->GetSemaphoreCounterValue = count_polls;
}

struct effort {
	unsigned spins;
	unsigned polls;
};

static struct effort effort_of_many(uint64_t spin_ns)
{
	gpu_test_hook = install_count;
	struct scene s;
	scene_open(&s, spin_ns);
	n_polls = 0;
	for (uint32_t i = 1; i <= MANY; i++) {
		CHECK_EQ(scene_submit(&s, i, NULL), 0);
		fixture_run_until(&s.f, i);
	}
	struct effort effort = { s.f.gpu->ending.n_spins, n_polls };
	scene_close(&s);
	return effort;
}

/* One poll finds each end; only spins take more of them. */
TEST(a_spin_that_would_not_succeed_is_not_begun_or_given_up)
{
	struct effort without = effort_of_many(0), hopeless = effort_of_many(1),
		      hopeful = effort_of_many(LONG_SPIN_NS);
	printf("  polls for %d submissions: %u without a spin, %u of 1 ns, %u of 1 s\n", MANY,
		without.polls, hopeless.polls, hopeful.polls);
	CHECK(without.spins == 0 && without.polls <= 3 * MANY);
	CHECK(hopeless.spins > 0 && hopeless.spins <= MANY / 10);
	CHECK(hopeless.polls - without.polls < hopeful.polls / MANY);
	CHECK_EQ(hopeful.spins, MANY);
}

TEST(a_cpu_device_is_never_polled_for)
{
	struct gpu_fixture f = { .options.spin_ns = LONG_SPIN_NS };
	gpu_test_hook = install_count;
	fixture_open(&f);
	if (!gpu_info(f.gpu)->is_cpu)
		test_not_for_here("this is a real GPU");
	n_polls = 0;
	for (unsigned i = 0; i < 10; i++)
		CHECK_EQ(fixture_work(&f, (struct gpu_work){ 0 }), 0);
	CHECK(n_polls <= 30);
	fixture_close(&f);
}
#endif

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

TEST(the_loop_sleeps_when_nothing_is_in_flight)
{
	struct scene s;
	scene_open(&s, LONG_SPIN_NS);
	CHECK_EQ(scene_submit(&s, 1, NULL), 0);
	fixture_run_until(&s.f, 1);
	uint64_t before = cpu_ns();
	fixture_run_for_ms(&s.f, 200);
	CHECK(cpu_ns() - before < 50 * NS_PER_MS * test_slowness());
	scene_close(&s);
}

/* --- Cancel, wait, destroy ---------------------------------------------------------------------*/

TEST(cancelled_work_goes_on_unheard)
{
	struct scene s;
	gpu_job job;
	scene_open(&s, 0);
	CHECK_EQ(scene_submit(&s, 1, &job), 0);
	gpu_cancel(s.f.gpu, job);
	gpu_wait(s.f.gpu, job);
	scene_check_stamp(&s, 1);
	CHECK_EQ(scene_submit(&s, 2, NULL), 0);
	fixture_run_until(&s.f, 1); /* the second one's */
	fixture_run_for_ms(&s.f, 20);
	CHECK_EQ(s.f.n_done, 1);
	gpu_cancel(s.f.gpu, job); /* it has ended */
	gpu_wait(s.f.gpu, job);
	gpu_cancel(s.f.gpu, 0);
	gpu_wait(s.f.gpu, 0);
	scene_close(&s);
}

TEST(waiting_blocks_until_the_end_and_done_comes_from_the_loop_later)
{
	struct scene s;
	scene_open(&s, 0);
	for (uint32_t i = 1; i <= 20; i++) {
		gpu_job job;
		CHECK_EQ(scene_submit(&s, i, &job), 0);
		gpu_wait(s.f.gpu, job);
		scene_check_stamp(&s, i);
		CHECK_EQ(s.f.n_done, i - 1);
		fixture_run_until(&s.f, i);
	}
	scene_close(&s);
}

/* With the validation layer, freeing what is in use ends the process. */
TEST(buffers_may_be_destroyed_while_work_uses_them)
{
	struct scene s;
	scene_open(&s, 0);
	unsigned before = test_count_fds();
	for (uint32_t i = 1; i <= 8; i++) {
		struct gpu_buffer *buffer = fixture_buffer(&s.f, GPU_EXPORTED, s.format.size_bytes);
		s.draw.to = s.copy.from = gpu_picture_of(buffer, &s.format);
		CHECK_EQ(scene_submit(&s, i, NULL), 0);
		CHECK(gpu_buffer_destroy(buffer) == NULL);
	}
	fixture_run_until(&s.f, 8);
	scene_check_stamp(&s, 8);
	CHECK_EQ(test_count_fds(), before);
	/* nothing but the clearing uses it, and nobody submits anything afterwards */
	gpu_buffer_destroy(fixture_buffer(&s.f, GPU_EXPORTED, 32 << 20));
	for (unsigned i = 0; i < 100 && test_count_fds() > before; i++)
		fixture_run_for_ms(&s.f, 100);
	CHECK_EQ(test_count_fds(), before);
	scene_close(&s);
}

TEST(a_gpu_is_destroyed_while_work_is_in_flight)
{
	for (unsigned spin = 0; spin < 2; spin++) {
		struct scene s;
		scene_open(&s, spin ? LONG_SPIN_NS : 0);
		for (uint32_t i = 1; i <= 8; i++)
			CHECK_EQ(scene_submit(&s, i, NULL), 0);
		scene_close(&s);
		CHECK_EQ(s.f.n_done, 0);
	}
}

TEST(work_may_be_empty)
{
	struct scene s;
	scene_open(&s, 0);
	CHECK_EQ(fixture_work(&s.f, (struct gpu_work){ 0 }), 0);
	struct gpu_work silent = { 0 };
	int sync_fd = 1234;
	CHECK_EQ(gpu_submit(s.f.gpu, &silent, NULL, &sync_fd), 0);
	CHECK_EQ(sync_fd, -EBADF);
	fixture_run_for_ms(&s.f, 20);
	scene_close(&s);
}

#ifdef SLUICE_FAULTS

/* --- An end that is announced too early --------------------------------------------------------*/

TEST(a_reader_that_is_told_too_early_sees_the_wrong_picture)
{
	struct scene s;
	unsigned wrong = 0;
	scene_open(&s, 0);
	s.format = fixture_format("BGRx", 1920, 1080);
	struct gpu_buffer *large = fixture_buffer(&s.f, GPU_PRIVATE, s.format.size_bytes);
	struct gpu_buffer *host = fixture_buffer(&s.f, GPU_STAGING, s.format.size_bytes);
	s.draw.to = s.copy.from = gpu_picture_of(large, &s.format);
	s.copy.to = gpu_picture_of(host, &s.format);
	gpu_buffer_destroy(s.host);
	s.host = host;
	gpu_fault_early = true;
	for (uint32_t i = 1; i <= 20; i++) {
		gpu_job job;
		uint32_t number = 0;
		CHECK_EQ(scene_submit(&s, i, &job), 0);
		CHECK_EQ(s.f.n_done, i - 1); /* from the loop even so */
		fixture_run_until(&s.f, i);
		wrong += scene_read_stamp(&s, &number) != STAMP_OK || number != i;
		gpu_wait(s.f.gpu, job);
		scene_check_stamp(&s, i);
	}
	CHECK(wrong > 0);
	fixture_run_for_ms(&s.f, 50);
	CHECK_EQ(s.f.n_done, 20); /* each is announced once */
	gpu_buffer_destroy(large);
	scene_close(&s);
}

/* --- Device loss -------------------------------------------------------------------------------*/

static void check_lost(struct scene *s, const char *call)
{
	struct gpu_buffer *buffer = NULL;
	struct gpu_timeline *timeline = NULL;
	int fd = -1234;
	CHECK(gpu_is_lost(s->f.gpu));
	CHECK_ROW(strstr(gpu_error(s->f.gpu), call) &&
			  strstr(gpu_error(s->f.gpu), "VK_ERROR_DEVICE_LOST"),
		gpu_error(s->f.gpu));
	CHECK_EQ(scene_submit(s, 1, NULL), -ENODEV);
	CHECK_EQ(gpu_buffer_create(s->f.gpu, GPU_PRIVATE, 4096, &buffer), -ENODEV);
	CHECK_EQ(gpu_timeline_create(s->f.gpu, &timeline), -ENODEV);
	CHECK_EQ(gpu_buffer_export(s->drawn, &fd), -ENODEV);
	CHECK_EQ(fd, -1234);
}

TEST(a_submission_that_finds_the_device_lost_fails_those_in_flight)
{
	struct scene s;
	gpu_job job;
	scene_open(&s, 0);
	CHECK(gpu_fault("vkQueueSubmit", VK_ERROR_DEVICE_LOST, 3, true));
	CHECK_EQ(scene_submit(&s, 1, &job), 0);
	CHECK_EQ(scene_submit(&s, 2, NULL), 0);
	CHECK_EQ(scene_submit(&s, 3, NULL), -ENODEV);
	CHECK_EQ(s.f.n_done, 0); /* not from within */
	check_lost(&s, "vkQueueSubmit");
	gpu_wait(s.f.gpu, job); /* does not hang */
	fixture_run_until(&s.f, 2);
	CHECK_EQ(s.f.result, -ENODEV);
	fixture_run_for_ms(&s.f, 20);
	CHECK_EQ(s.f.n_done, 2);
	scene_close(&s);
}

static void check_loss_in_flight(const char *function, uint64_t spin_ns)
{
	struct scene s;
	scene_open(&s, spin_ns);
	CHECK_EQ(scene_submit(&s, 1, NULL), 0);
	fixture_run_until(&s.f, 1);
	CHECK_EQ(s.f.result, 0);
	CHECK(gpu_fault(function, VK_ERROR_DEVICE_LOST, 1, true));
	for (uint32_t i = 2; i <= 4; i++)
		CHECK_EQ(scene_submit(&s, i, NULL), 0);
	fixture_run_until(&s.f, 4);
	CHECK_EQ(s.f.result, -ENODEV);
	check_lost(&s, function);
	scene_close(&s);
	CHECK(gpu_fault(function, 0, 0, false));
}

TEST(a_device_that_is_lost_while_the_loop_spins_or_a_thread_waits_fails_its_work)
{
	check_loss_in_flight("vkGetSemaphoreCounterValue", LONG_SPIN_NS);
	check_loss_in_flight("vkGetSemaphoreCounterValue", 0);
	check_loss_in_flight("vkWaitSemaphores", 0);
	check_loss_in_flight("vkWaitSemaphores", 1);
}

TEST(any_call_may_be_the_one_that_finds_the_device_lost)
{
	struct scene s;
	struct gpu_buffer *buffer = NULL;
	int fd = -1234;
	scene_open(&s, 0);
	CHECK_EQ(scene_submit(&s, 1, NULL), 0);
	CHECK(gpu_fault("vkAllocateMemory", VK_ERROR_DEVICE_LOST, 1, false));
	CHECK_EQ(gpu_buffer_create(s.f.gpu, GPU_PRIVATE, 4096, &buffer), -ENODEV);
	check_lost(&s, "vkAllocateMemory");
	fixture_run_until(&s.f, 1);
	CHECK_EQ(s.f.result, -ENODEV);
	scene_close(&s);
	scene_open(&s, 0);
	CHECK(gpu_fault("vkGetMemoryFdKHR", VK_ERROR_DEVICE_LOST, 1, false));
	CHECK_EQ(gpu_buffer_export(s.drawn, &fd), -ENODEV);
	check_lost(&s, "vkGetMemoryFdKHR");
	scene_close(&s);
}

static VkResult wait_in_vain(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout_ns)
{
	struct timespec t = { .tv_sec = 1, .tv_nsec = NS_PER_S / 2 };
	nanosleep(&t, NULL);
	return VK_TIMEOUT;
}

static void install_wait_in_vain(struct vk *vk)
{
	vk->WaitSemaphores = wait_in_vain;
}

/* The thread may hang in the driver then: the loop hears without it. */
TEST(a_loss_is_heard_while_the_thread_still_waits)
{
	struct scene s;
	gpu_test_hook = install_wait_in_vain;
	scene_open(&s, 0);
	CHECK(gpu_fault("vkQueueSubmit", VK_ERROR_DEVICE_LOST, 2, true));
	CHECK_EQ(scene_submit(&s, 1, NULL), 0);
	uint64_t before = clock_ns();
	CHECK_EQ(scene_submit(&s, 2, NULL), -ENODEV);
	fixture_run_until(&s.f, 1);
	CHECK_EQ(s.f.result, -ENODEV);
	CHECK(clock_ns() - before < NS_PER_S);
	scene_close(&s);
}

/* Both the thread and the kick of the loss come to the loop: nothing is called twice. */
static void on_lost_submit(void *data, int result)
{
	struct scene *s = data;
	CHECK_EQ(result, -ENODEV);
	CHECK_EQ(scene_submit(s, 1, NULL), -ENODEV);
	s->drawn = gpu_buffer_destroy(s->drawn);
	fixture_done(&s->f, result);
}

TEST(what_hears_of_the_loss_may_destroy_its_buffers)
{
	struct scene s;
	scene_open(&s, LONG_SPIN_NS);
	s.work.done = on_lost_submit;
	s.work.data = &s;
	CHECK_EQ(scene_submit(&s, 1, NULL), 0);
	CHECK(gpu_fault("vkGetSemaphoreCounterValue", VK_ERROR_DEVICE_LOST, 1, true));
	fixture_run_until(&s.f, 1);
	scene_close(&s);
}

#endif
