/* The device, its memory, and what other processes see of it. */
#include "tests/gpu_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "broker/gpu/vk.h"
#include "common/clock.h"
#include "common/fd.h"
#include "tests/gpu_importer.h"
#include "tests/gpu_picture.h"

/* --- The device --------------------------------------------------------------------------------*/

TEST(a_device_says_what_it_is)
{
	struct gpu_fixture f = { 0 };
	uint64_t before = clock_ns();
	fixture_open(&f);
	const struct gpu_info *info = gpu_info(f.gpu);
	uint8_t zeros[GPU_UUID_BYTES] = { 0 };
	printf("  %s, opened in %llu ms: %s\n", info->name,
		(unsigned long long)(clock_ns() - before) / NS_PER_MS, info->copy_text);
	CHECK(info->name[0] && strstr(info->copy_text, "GB/s"));
	CHECK(memcmp(info->device_uuid, zeros, sizeof(zeros)) != 0);
	CHECK(memcmp(info->driver_uuid, zeros, sizeof(zeros)) != 0);
	CHECK(!info->can_import_host || info->host_align > 0);
	CHECK(!gpu_is_lost(f.gpu));
	uint64_t used = 0, budget = 0;
	if (gpu_memory_usage(f.gpu, &used, &budget))
		CHECK(budget > 0);
	fixture_close(&f);
}

static void check_same_device(const char *which, const uint8_t *uuid)
{
	struct gpu_fixture f = { .options.which = which };
	fixture_open(&f);
	CHECK_ROW(memcmp(gpu_info(f.gpu)->device_uuid, uuid, GPU_UUID_BYTES) == 0, which);
	fixture_close(&f);
}

TEST(a_device_is_found_by_its_uuid_in_either_spelling)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	uint8_t uuid[GPU_UUID_BYTES];
	memcpy(uuid, gpu_info(f.gpu)->device_uuid, sizeof(uuid));
	fixture_close(&f);
	char plain[40], dashes[40], *p = plain, *d = dashes;
	for (unsigned i = 0; i < GPU_UUID_BYTES; i++) {
		p += sprintf(p, "%02x", uuid[i]);
		d += sprintf(d, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02X" : "%02X", uuid[i]);
	}
	check_same_device(plain, uuid);
	check_same_device(dashes, uuid);
}

TEST(a_device_that_is_not_there_is_refused_with_those_that_are)
{
	static const char *const wrong[] = { "99", "", "fastest", "-1",
		"00000000-0000-0000-0000-000000000000", "6d657361", "0 " };
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	char name[GPU_NAME_MAX];
	snprintf(name, sizeof(name), "%s", gpu_info(f.gpu)->name);
	fixture_close(&f);
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char error[GPU_TEXT_MAX] = "";
		struct gpu *gpu = NULL;
		struct gpu_options options = { .which = wrong[i] };
		CHECK_ROW(gpu_create(&gpu, loop, &options, error, sizeof(error)) == -ENOENT,
			wrong[i]);
		CHECK_ROW(gpu == NULL && strstr(error, name) && strstr(error, "0: "), error);
	}
	loop_destroy(loop);
}

static void check_refusal(bool validation, const char *word)
{
	char error[GPU_TEXT_MAX] = "";
	struct gpu *gpu = NULL;
	struct loop *loop;
	struct gpu_options options = { .validation = validation };
	CHECK_EQ(loop_create(&loop), 0);
	CHECK_EQ(gpu_create(&gpu, loop, &options, error, sizeof(error)), -ENOENT);
	CHECK_ROW(gpu == NULL && strstr(error, word), error);
	loop_destroy(loop);
}

TEST(a_machine_without_a_driver_or_the_validation_layer_says_so)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f); /* or skip */
	fixture_close(&f);
	setenv("VK_LAYER_PATH", "/nonexistent", 1);
	check_refusal(true, "vulkan-validationlayers");
	setenv("VK_ICD_FILENAMES", "/nonexistent/icd.json", 1);
	setenv("VK_DRIVER_FILES", "/nonexistent/icd.json", 1);
	check_refusal(false, "VK_ERROR_INCOMPATIBLE_DRIVER");
}

TEST(destroy_takes_nothing)
{
	CHECK(gpu_destroy(NULL) == NULL);
	CHECK(gpu_buffer_destroy(NULL) == NULL);
	CHECK(gpu_timeline_destroy(NULL) == NULL);
}

/* --- Which way to copy is measured --------------------------------------------------------------*/

#ifdef SLUICE_FAULTS
enum { SLOW_MS = 100 }; /* lavapipe takes 7 for one copy by its shader */

/* The driver, but for one way to copy, which takes its time. */
static struct {
	struct vk real;
	bool by_shader; /* which one */
	bool recorded;  /* in what is submitted next */
	unsigned n_slow;
} slow;

static void dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z)
{
	slow.recorded |= slow.by_shader;
	slow.real.CmdDispatch(commands, x, y, z);
}

static void copy_buffer(VkCommandBuffer commands, VkBuffer from, VkBuffer to, uint32_t n,
	const VkBufferCopy *regions)
{
	slow.recorded |= !slow.by_shader;
	slow.real.CmdCopyBuffer(commands, from, to, n, regions);
}

static VkResult submit(VkQueue queue, uint32_t n, const VkSubmitInfo *info, VkFence fence)
{
	if (slow.recorded) {
		struct timespec time = { .tv_nsec = SLOW_MS * NS_PER_MS };
		nanosleep(&time, NULL);
		slow.n_slow++;
	}
	slow.recorded = false;
	return slow.real.QueueSubmit(queue, n, info, fence);
}

static void slow_down(struct vk *vk)
{
	slow.real = *vk;
	vk->CmdDispatch = dispatch;
	vk->CmdCopyBuffer = copy_buffer;
	vk->QueueSubmit = submit;
}

static void check_way(bool slow_is_shader)
{
	struct gpu_fixture f = { 0 };
	slow.by_shader = slow_is_shader;
	slow.n_slow = 0;
	gpu_test_hook = slow_down;
	fixture_open(&f);
	const struct gpu_info *info = gpu_info(f.gpu);
	CHECK(slow.n_slow > 0);
	CHECK_ROW(info->copies_by_shader == !slow_is_shader, info->copy_text);
	CHECK_ROW(strstr(info->copy_text, slow_is_shader ? "copies by vkCmdCopyBuffer"
							 : "copies by compute shader"),
		info->copy_text);
	fixture_close(&f);
}

TEST(the_way_to_copy_that_was_measured_to_be_faster_is_taken)
{
	check_way(true);
	check_way(false);
}
#endif

/* --- Memory of other processes -----------------------------------------------------------------*/

TEST(another_process_sees_the_pixels_of_exported_memory)
{
	struct importer *importer = importer_start();
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < PICTURE_FORMATS; i++) {
		struct video_format format = fixture_format(picture_formats[i], 641, 361);
		struct gpu_buffer *drawn = fixture_buffer(&f, GPU_PRIVATE, format.size_bytes);
		struct gpu_buffer *slot = fixture_buffer(&f, GPU_EXPORTED, format.size_bytes);
		int fd = -EBADF;
		CHECK_EQ(gpu_buffer_export(slot, &fd), 0);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		CHECK_EQ(fixture_draw(&f, &format, gpu_picture_of(drawn, &format), 1000 + i), 0);
		CHECK_EQ(fixture_copy(&f, &format, gpu_picture_of(drawn, &format),
				 gpu_picture_of(slot, &format)),
			0);
		const uint8_t *seen = importer_read(importer, slot, fd);
		CHECK_ROW(seen != NULL, picture_formats[i]);
		CHECK_EQ(importer_leaked_fds(importer), 0);
		picture_check_pattern(&format, seen, 1000 + i);
		/* and what comes later, through a descriptor of its own */
		close(fd);
		CHECK_EQ(fixture_draw(&f, &format, gpu_picture_of(slot, &format), 2000 + i), 0);
		CHECK_EQ(gpu_buffer_export(slot, &fd), 0);
		picture_check_pattern(&format, importer_read(importer, slot, fd), 2000 + i);
		close(fd);
		gpu_buffer_destroy(slot);
		gpu_buffer_destroy(drawn);
	}
	fixture_close(&f);
	importer_stop(importer);
}

#ifdef SLUICE_FAULTS
static struct vk real;

/* Memory that a driver gives out again: something is in it. */
static VkResult allocate_used(VkDevice device, const VkMemoryAllocateInfo *info,
	const VkAllocationCallbacks *allocator, VkDeviceMemory *out)
{
	const VkBaseInStructure *chain = info->pNext; /* flags, then the export */
	void *map;
	VkResult result = real.AllocateMemory(device, info, allocator, out);
	bool exported = chain->pNext &&
			chain->pNext->sType == VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO;
	if (result == VK_SUCCESS && exported &&
		real.MapMemory(device, *out, 0, VK_WHOLE_SIZE, 0, &map) == VK_SUCCESS)
		memset(map, 0xaa, info->allocationSize);
	return result;
}

static void use_memory(struct vk *vk)
{
	real = *vk;
	vk->AllocateMemory = allocate_used;
}
#endif

/* What was in it before must not be seen. */
TEST(exported_memory_is_zero_at_first)
{
	enum { BYTES = 3 * 4096 + 12 };
	struct importer *importer = importer_start();
	struct gpu_fixture f = { 0 };
#ifdef SLUICE_FAULTS
	gpu_test_hook = use_memory;
#endif
	fixture_open(&f);
#ifdef SLUICE_FAULTS
	if (!gpu_info(f.gpu)->is_cpu)
		test_not_for_here("the memory of this GPU is not mapped");
#endif
	struct video_format row = fixture_format("BGRx", BYTES / 4, 1);
	for (unsigned round = 0; round < 3; round++) {
		struct gpu_buffer *slot = fixture_buffer(&f, GPU_EXPORTED, row.size_bytes);
		int fd = -EBADF;
		CHECK_EQ(gpu_buffer_export(slot, &fd), 0);
		const uint8_t *seen = importer_read(importer, slot, fd);
		CHECK(seen != NULL);
		for (unsigned i = 0; i < row.size_bytes; i++)
			CHECK_EQ(seen[i], 0);
		CHECK_EQ(fixture_draw(&f, &row, gpu_picture_of(slot, &row), 1), 0);
		close(fd);
		gpu_buffer_destroy(slot);
	}
	fixture_close(&f);
	importer_stop(importer);
}

TEST(what_was_lent_is_read_back)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	struct video_format format = fixture_format("NV12", 641, 361);
	struct gpu_buffer *slot = fixture_buffer(&f, GPU_EXPORTED, format.size_bytes);
	struct gpu_buffer *host = fixture_buffer(&f, GPU_STAGING, format.size_bytes);
	struct gpu_picture in_slot = gpu_picture_of(slot, &format);
	for (uint32_t number = 1; number < 4; number++) {
		/* drawn and read in one submission, then read once more */
		struct gpu_draw draw = { .to = in_slot, .number = number, .shift = 4 * number };
		struct gpu_copy copy = { in_slot, gpu_picture_of(host, &format) };
		memset(gpu_buffer_map(host), 0, format.size_bytes);
		CHECK_EQ(fixture_work(&f,
				 (struct gpu_work){
					 .format = &format, .draw = &draw, .copy = &copy }),
			0);
		picture_check_pattern(&format, gpu_buffer_map(host), number);
		memset(gpu_buffer_map(host), 0, format.size_bytes);
		CHECK_EQ(fixture_copy(&f, &format, copy.from, copy.to), 0);
		picture_check_pattern(&format, gpu_buffer_map(host), number);
	}
	gpu_buffer_destroy(slot);
	gpu_buffer_destroy(host);
	fixture_close(&f);
}

TEST(each_export_is_a_descriptor_of_its_own_and_memory_ends_with_its_buffer)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	unsigned before = test_count_fds();
	for (unsigned round = 0; round < 20; round++) {
		struct gpu_buffer *slot = fixture_buffer(&f, GPU_EXPORTED, 1 << 20);
		int fd[3];
		unsigned with_buffer = test_count_fds(); /* lavapipe's memory is a descriptor */
		for (unsigned i = 0; i < 3; i++)
			CHECK_EQ(gpu_buffer_export(slot, &fd[i]), 0);
		CHECK(fd[0] != fd[1] && fd[1] != fd[2]);
		CHECK_EQ(test_count_fds(), with_buffer + 3);
		for (unsigned i = 0; i < 3; i++)
			close(fd[i]);
		gpu_buffer_destroy(slot);
		CHECK_EQ(test_count_fds(), before);
	}
	fixture_close(&f);
}

/* --- Memory of the CPU --------------------------------------------------------------------------*/

/* A memfd as the broker makes them for host views: mapped, then sealed. */
static uint8_t *map_sealed(uint64_t size)
{
	int fd = memfd_create("view", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0);
	close(fd);
	return map;
}

TEST(a_mapping_of_ours_is_read_and_written_where_it_is)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	uint64_t align = gpu_info(f.gpu)->host_align;
	if (!gpu_info(f.gpu)->can_import_host)
		test_skip("no VK_EXT_external_memory_host");
	for (unsigned i = 0; i < PICTURE_FORMATS; i++) {
		struct video_format format = fixture_format(picture_formats[i], 641, 361);
		uint64_t mapped = (format.size_bytes + align - 1) / align * align;
		uint8_t *captured = map_sealed(mapped), *view = map_sealed(mapped);
		struct gpu_buffer *from, *slot, *to;
		slot = fixture_buffer(&f, GPU_EXPORTED, format.size_bytes);
		CHECK_EQ(gpu_buffer_import_host(f.gpu, captured, format.size_bytes, &from), 0);
		CHECK_EQ(gpu_buffer_import_host(f.gpu, view, format.size_bytes, &to), 0);
		CHECK(gpu_buffer_map(from) == NULL);
		CHECK_EQ(gpu_buffer_size(from), format.size_bytes);
		for (uint32_t number = 1; number < 3; number++) {
			uint8_t *expected = picture_of_pattern(&format, number);
			memcpy(captured, expected, format.size_bytes);
			free(expected);
			CHECK_EQ(fixture_copy(&f, &format, gpu_picture_of(from, &format),
					 gpu_picture_of(slot, &format)),
				0);
			CHECK_EQ(fixture_copy(&f, &format, gpu_picture_of(slot, &format),
					 gpu_picture_of(to, &format)),
				0);
			picture_check_pattern(&format, view, number);
		}
		gpu_buffer_destroy(from);
		gpu_buffer_destroy(to);
		gpu_buffer_destroy(slot);
		munmap(captured, mapped);
		munmap(view, mapped);
	}
	fixture_close(&f);
}

/* --- Failures of the driver --------------------------------------------------------------------*/

#ifdef SLUICE_FAULTS
TEST(a_failed_allocation_names_the_call_and_leaves_nothing_behind)
{
	static const struct {
		const char *function;
		int vk_result;
		int error;
		const char *sentence;
	} rows[] = {
		{ "vkAllocateMemory", VK_ERROR_OUT_OF_DEVICE_MEMORY, -ENOMEM,
			"vkAllocateMemory: VK_ERROR_OUT_OF_DEVICE_MEMORY" },
		{ "vkCreateBuffer", VK_ERROR_OUT_OF_HOST_MEMORY, -ENOMEM,
			"vkCreateBuffer: VK_ERROR_OUT_OF_HOST_MEMORY" },
		{ "vkBindBufferMemory", VK_ERROR_UNKNOWN, -EIO,
			"vkBindBufferMemory: VK_ERROR_UNKNOWN" },
		{ "vkAllocateCommandBuffers", VK_ERROR_OUT_OF_HOST_MEMORY, -ENOMEM,
			"vkAllocateCommandBuffers: VK_ERROR_OUT_OF_HOST_MEMORY" },
		{ "vkBeginCommandBuffer", VK_ERROR_OUT_OF_HOST_MEMORY, -ENOMEM,
			"vkBeginCommandBuffer: VK_ERROR_OUT_OF_HOST_MEMORY" },
		{ "vkQueueSubmit", VK_ERROR_OUT_OF_HOST_MEMORY, -ENOMEM,
			"vkQueueSubmit: VK_ERROR_OUT_OF_HOST_MEMORY" },
		{ "vkAllocateMemory", -12345, -EIO, "vkAllocateMemory: VkResult -12345" },
	};
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	unsigned before = test_count_fds();
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gpu_buffer *buffer = NULL;
		CHECK(gpu_fault(rows[i].function, rows[i].vk_result, 1, false));
		CHECK_ROW(gpu_buffer_create(f.gpu, GPU_EXPORTED, 4096, &buffer) == rows[i].error,
			rows[i].function);
		CHECK_STR(gpu_error(f.gpu), rows[i].sentence);
		CHECK(buffer == NULL && !gpu_is_lost(f.gpu));
		CHECK_EQ(test_count_fds(), before);
		/* once: the next one works */
		int fd = -EBADF;
		buffer = fixture_buffer(&f, GPU_EXPORTED, 4096);
		CHECK_EQ(gpu_buffer_export(buffer, &fd), 0); /* it is cleared, and ends at once */
		close(fd);
		gpu_buffer_destroy(buffer);
	}
	CHECK(!gpu_fault("vkNoSuchFunction", VK_ERROR_UNKNOWN, 1, false));
	fixture_close(&f);
}

TEST(an_allocation_may_fail_until_it_works_again)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	struct gpu_buffer *buffer = NULL;
	CHECK(gpu_fault("vkAllocateMemory", VK_ERROR_OUT_OF_DEVICE_MEMORY, 2, true));
	buffer = fixture_buffer(&f, GPU_PRIVATE, 4096);
	gpu_buffer_destroy(buffer);
	for (unsigned i = 0; i < 5; i++)
		CHECK_EQ(gpu_buffer_create(f.gpu, GPU_PRIVATE, 4096, &buffer), -ENOMEM);
	CHECK(gpu_fault("vkAllocateMemory", 0, 0, false));
	gpu_buffer_destroy(fixture_buffer(&f, GPU_PRIVATE, 4096));
	fixture_close(&f);
}

TEST(a_failed_export_gives_no_descriptor)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	struct gpu_buffer *slot = fixture_buffer(&f, GPU_EXPORTED, 4096);
	unsigned before = test_count_fds();
	int fd = -1234;
	CHECK(gpu_fault("vkGetMemoryFdKHR", VK_ERROR_TOO_MANY_OBJECTS, 1, false));
	CHECK_EQ(gpu_buffer_export(slot, &fd), -ENOMEM);
	CHECK_EQ(fd, -1234);
	CHECK_STR(gpu_error(f.gpu), "vkGetMemoryFdKHR: VK_ERROR_TOO_MANY_OBJECTS");
	CHECK_EQ(test_count_fds(), before);
	CHECK_EQ(gpu_buffer_export(slot, &fd), 0);
	CHECK_EQ(test_count_fds(), before + 1);
	close(fd);
	gpu_buffer_destroy(slot);
	fixture_close(&f);
}

TEST(a_mapping_that_the_driver_dislikes_is_not_supported)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	uint64_t align = gpu_info(f.gpu)->host_align;
	if (!gpu_info(f.gpu)->can_import_host)
		test_skip("no VK_EXT_external_memory_host");
	uint8_t *map = map_sealed(align);
	struct gpu_buffer *buffer = NULL;
	static const char *const functions[] = { "vkGetMemoryHostPointerPropertiesEXT",
		"vkAllocateMemory", "vkBindBufferMemory" };
	for (unsigned i = 0; i < 3; i++) {
		CHECK(gpu_fault(functions[i], VK_ERROR_INVALID_EXTERNAL_HANDLE, 1, false));
		CHECK_EQ(gpu_buffer_import_host(f.gpu, map, align, &buffer), -EOPNOTSUPP);
		CHECK(buffer == NULL && !gpu_is_lost(f.gpu));
		CHECK(strstr(gpu_error(f.gpu), "VK_ERROR_INVALID_EXTERNAL_HANDLE"));
	}
	CHECK_EQ(gpu_buffer_import_host(f.gpu, map, align, &buffer), 0);
	gpu_buffer_destroy(buffer);
	munmap(map, align);
	fixture_close(&f);
}

/* Whatever fails at the beginning: a sentence, and nothing is left. */
TEST(a_gpu_that_cannot_be_opened_says_why)
{
	static const char *const functions[] = { "vkCreateInstance", "vkEnumeratePhysicalDevices",
		"vkCreateDevice", "vkCreateSemaphore", "vkCreateCommandPool",
		"vkAllocateCommandBuffers", "vkCreateShaderModule", "vkCreatePipelineLayout",
		"vkCreateComputePipelines", "vkAllocateMemory", "vkQueueSubmit",
		"vkGetSemaphoreCounterValue" };
	struct gpu_fixture f = { 0 };
	fixture_open(&f); /* or skip */
	fixture_close(&f);
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	for (unsigned i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		char error[GPU_TEXT_MAX] = "";
		struct gpu *gpu = NULL;
		CHECK(gpu_fault(functions[i], VK_ERROR_INITIALIZATION_FAILED, 1, true));
		CHECK_ROW(
			gpu_create(&gpu, loop, &f.options, error, sizeof(error)) < 0, functions[i]);
		CHECK_ROW(gpu == NULL && strstr(error, functions[i]), error);
		CHECK(gpu_fault(functions[i], 0, 0, false));
	}
	loop_destroy(loop);
}
#endif
