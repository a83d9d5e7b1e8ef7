/*
 * What a submission signals to clients: timelines and sync_files. lavapipe exports neither, so a
 * driver that does is played.
 */
#include "tests/gpu_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "broker/gpu/vk.h"

#ifdef SLUICE_FAULTS

static struct vk real;
static unsigned n_exported_timelines;
static bool sync_ended; /* the next sync_file is said to have ended already */

static void find_semaphore_properties(VkPhysicalDevice physical,
	const VkPhysicalDeviceExternalSemaphoreInfo *info, VkExternalSemaphoreProperties *out)
{
	out->externalSemaphoreFeatures = VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT;
}

/* What chains an export gets a plain one. */
static VkResult create_semaphore(VkDevice device, const VkSemaphoreCreateInfo *info,
	const VkAllocationCallbacks *allocator, VkSemaphore *out)
{
	VkSemaphoreCreateInfo plain_info = *info;
	VkSemaphoreTypeCreateInfo plain_type;
	const VkSemaphoreTypeCreateInfo *type = info->pNext;
	if (type && type->sType == VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO)
		plain_info.pNext = NULL;
	else if (type && type->pNext) {
		plain_type = *type;
		plain_type.pNext = NULL;
		plain_info.pNext = &plain_type;
		n_exported_timelines++;
	}
	return real.CreateSemaphore(device, &plain_info, allocator, out);
}

static VkResult get_semaphore_fd(VkDevice device, const VkSemaphoreGetFdInfoKHR *info, int *out)
{
	bool is_sync = info->handleType == VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT;
	*out = is_sync && sync_ended ? -1 : eventfd(0, 0);
	return VK_SUCCESS;
}

/* Nobody waits for the binary semaphore, and its export does not reset it: it is left out. */
static VkResult queue_submit(VkQueue queue, uint32_t n, const VkSubmitInfo *info, VkFence fence)
{
	VkSubmitInfo first = *info;
	const VkTimelineSemaphoreSubmitInfo *values = info->pNext;
	VkTimelineSemaphoreSubmitInfo first_values = *values;
	if (values->pSignalSemaphoreValues[info->signalSemaphoreCount - 1] == 0)
		first_values.signalSemaphoreValueCount = --first.signalSemaphoreCount;
	first.pNext = &first_values;
	VkResult result = real.QueueSubmit(queue, 1, &first, VK_NULL_HANDLE);
	return result < 0 || n == 1 ? result : real.QueueSubmit(queue, n - 1, info + 1, fence);
}

static void play_semaphores(struct vk *vk)
{
	real = *vk;
	vk->GetPhysicalDeviceExternalSemaphoreProperties = find_semaphore_properties;
	vk->CreateSemaphore = create_semaphore;
	vk->GetSemaphoreFdKHR = get_semaphore_fd;
	vk->QueueSubmit = queue_submit;
}

TEST(a_submission_signals_the_timelines_of_its_clients)
{
	struct scene s;
	struct gpu_timeline *timeline[GPU_SIGNALS_MAX];
	struct gpu_signal signals[GPU_SIGNALS_MAX];
	gpu_test_hook = play_semaphores;
	scene_open(&s, 0);
	CHECK(gpu_info(s.f.gpu)->can_timeline);
	for (unsigned i = 0; i < GPU_SIGNALS_MAX; i++) {
		CHECK_EQ(gpu_timeline_create(s.f.gpu, &timeline[i]), 0);
		CHECK_EQ(gpu_timeline_value(timeline[i]), 0);
	}
	CHECK_EQ(n_exported_timelines, GPU_SIGNALS_MAX);
	s.work.n_signals = GPU_SIGNALS_MAX;
	s.work.signals = signals;
	for (uint32_t round = 1; round <= 3; round++) {
		for (unsigned i = 0; i < GPU_SIGNALS_MAX; i++)
			signals[i] = (struct gpu_signal){ timeline[i], 10 * round + i };
		CHECK_EQ(scene_submit(&s, round, NULL), 0);
		fixture_run_until(&s.f, round);
		for (unsigned i = 0; i < GPU_SIGNALS_MAX; i++)
			CHECK_EQ(gpu_timeline_value(timeline[i]), 10 * round + i);
	}
	/* destroyed while work signals them */
	for (unsigned i = 0; i < GPU_SIGNALS_MAX; i++)
		signals[i].value += 100;
	CHECK_EQ(scene_submit(&s, 9, NULL), 0);
	for (unsigned i = 0; i < GPU_SIGNALS_MAX; i++)
		CHECK(gpu_timeline_destroy(timeline[i]) == NULL);
	fixture_run_until(&s.f, 4);
	scene_close(&s);
}

TEST(a_timeline_is_exported_and_a_failure_gives_no_descriptor)
{
	struct scene s;
	struct gpu_timeline *timeline;
	gpu_test_hook = play_semaphores;
	scene_open(&s, 0);
	unsigned before = test_count_fds();
	int fd = -1234;
	CHECK_EQ(gpu_timeline_create(s.f.gpu, &timeline), 0);
	CHECK_EQ(gpu_timeline_export(timeline, &fd), 0);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	CHECK(gpu_fault("vkGetSemaphoreFdKHR", VK_ERROR_TOO_MANY_OBJECTS, 1, false));
	fd = -1234;
	CHECK_EQ(gpu_timeline_export(timeline, &fd), -ENOMEM);
	CHECK_EQ(fd, -1234);
	CHECK_EQ(test_count_fds(), before);
	gpu_timeline_destroy(timeline);
	CHECK(gpu_fault("vkCreateSemaphore", VK_ERROR_OUT_OF_HOST_MEMORY, 1, false));
	CHECK_EQ(gpu_timeline_create(s.f.gpu, &timeline), -ENOMEM);
	scene_close(&s);
}

TEST(a_sync_file_is_given_for_each_submission_that_wants_one)
{
	struct scene s;
	gpu_test_hook = play_semaphores;
	scene_open(&s, 0);
	CHECK(gpu_info(s.f.gpu)->can_sync_fd);
	CHECK_EQ(scene_submit(&s, 1, NULL),
		0); /* the first one compiles a shader: Mesa opens a cache */
	fixture_run_until(&s.f, 1);
	unsigned before = test_count_fds();
	s.work.want_sync_fd = true;
	for (unsigned i = 0; i < 2 * GPU_JOBS_MAX; i++) {
		int fd = -1234;
		s.draw.number = i;
		sync_ended = i % 4 == 1;
		bool fails = i % 4 == 2, ignored = i % 4 == 3;
		CHECK(gpu_fault("vkGetSemaphoreFdKHR", VK_ERROR_TOO_MANY_OBJECTS, fails, false));
		CHECK_EQ(gpu_submit(s.f.gpu, &s.work, NULL, ignored ? NULL : &fd), 0);
		if (i % 4 == 0) {
			CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
			close(fd);
		} else if (!ignored)
			CHECK_EQ(fd, -EBADF);
		if (fails)
			scene_check_stamp(&s, i); /* it said that it has ended */
		CHECK_EQ(test_count_fds(), before);
		fixture_run_until(&s.f, i + 2);
	}
	scene_close(&s);
}

#endif

TEST(what_the_driver_cannot_do_is_refused)
{
	struct scene s;
	struct gpu_timeline *timeline;
	scene_open(&s, 0);
	if (!gpu_info(s.f.gpu)->can_timeline)
		CHECK_EQ(gpu_timeline_create(s.f.gpu, &timeline), -EOPNOTSUPP);
	s.work.want_sync_fd = true;
	if (!gpu_info(s.f.gpu)->can_sync_fd)
		CHECK_EQ(scene_submit(&s, 1, NULL), -EIO);
	scene_close(&s);
}
