#include "tests/gpu_importer.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/gpu/device.h"
#include "common/fd.h"
#include "tests/gpu_fixture.h"

enum { PIXELS_MAX = 64 << 20 };

/* What is sent with the descriptor. */
struct request {
	uint64_t size_bytes;
	uint64_t allocation_bytes;
	uint32_t memory_type;
};

struct reply {
	int result;
	int leaked;
};

struct importer {
	pid_t pid;
	int socket;
	uint8_t *pixels; /* shared with the process */
	struct reply last;
};

/* --- The other process -------------------------------------------------------------------------*/

static bool receive(int socket, struct request *request, int *fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { request, sizeof(*request) };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof(*request))
		return false;
	memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(*fd));
	return true;
}

/* A buffer over the memory behind the descriptor, by the rule: it is consumed on success only. */
static VkResult import(struct gpu_buffer *b, const struct request *request, int *fd)
{
	struct vk *vk = &b->gpu->vk;
	VkExternalMemoryBufferCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
	};
	VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.pNext = &external,
		.size = request->size_bytes,
		.usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT,
	};
	VkResult result = vk->CreateBuffer(vk->device, &info, NULL, &b->buffer);
	if (result < 0)
		return result;
	VkMemoryRequirements needs; /* validation wants to see that it was asked */
	vk->GetBufferMemoryRequirements(vk->device, b->buffer, &needs);
	VkMemoryDedicatedAllocateInfo dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
		.buffer = b->buffer,
	};
	VkImportMemoryFdInfoKHR from = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
		.pNext = &dedicated,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
		.fd = *fd,
	};
	VkMemoryAllocateInfo allocate = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &from,
		.allocationSize = request->allocation_bytes,
		.memoryTypeIndex = request->memory_type,
	};
	result = vk->AllocateMemory(vk->device, &allocate, NULL, &b->memory);
	if (result < 0)
		return result;
	fd_take(fd);
	return vk->BindBufferMemory(vk->device, b->buffer, b->memory, 0);
}

static int read_buffer(struct gpu_fixture *f, struct gpu_buffer *imported, uint8_t *pixels)
{
	uint64_t size = imported->size_bytes;
	struct video_format rows = { .fourcc = format_info_by_name("BGRx")->fourcc,
		.width = (uint32_t)(size / 4),
		.height = 1,
		.n_planes = 1 };
	struct gpu_buffer *staging = fixture_buffer(f, GPU_STAGING, size);
	struct gpu_picture from = { .buffer = imported, .stride = { (uint32_t)size } };
	struct gpu_picture to = { .buffer = staging, .stride = { (uint32_t)size } };
	int r = fixture_copy(f, &rows, from, to);
	if (r == 0)
		memcpy(pixels, gpu_buffer_map(staging), size);
	gpu_buffer_destroy(staging);
	return r;
}

static int serve(struct gpu_fixture *f, const struct request *request, int *fd, uint8_t *pixels)
{
	struct vk *vk = &f->gpu->vk;
	struct gpu_buffer imported = {
		.gpu = f->gpu,
		.is_host = true, /* so that it is copied by vkCmdCopyBuffer: it has no address */
		.size_bytes = request->size_bytes,
	};
	int r = import(&imported, request, fd) < 0 ? -1 : read_buffer(f, &imported, pixels);
	fd_closep(fd);
	if (imported.buffer)
		vk->DestroyBuffer(vk->device, imported.buffer, NULL);
	if (imported.memory)
		vk->FreeMemory(vk->device, imported.memory, NULL);
	return r;
}

static void run(int socket, uint8_t *pixels)
{
	struct gpu_fixture f = { 0 };
	struct request request;
	int fd;
	while (receive(socket, &request, &fd)) {
		if (!f.gpu)
			fixture_open(&f);
		unsigned before = test_count_fds();
		struct reply reply = { .result = serve(&f, &request, &fd, pixels) };
		reply.leaked = (int)test_count_fds() - (int)before + 1; /* fd was there before */
		if (send(socket, &reply, sizeof(reply), 0) != sizeof(reply))
			break;
	}
	if (f.gpu)
		fixture_close(&f);
}

/* --- This process ------------------------------------------------------------------------------*/

struct importer *importer_start(void)
{
	struct importer *importer = calloc(1, sizeof(*importer));
	int pair[2];
	CHECK(importer != NULL);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	importer->pixels =
		mmap(NULL, PIXELS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(importer->pixels != MAP_FAILED);
	importer->pid = fork();
	CHECK(importer->pid >= 0);
	if (importer->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		run(pair[1], importer->pixels);
		_exit(0);
	}
	close(pair[1]);
	importer->socket = pair[0];
	return importer;
}

struct importer *importer_stop(struct importer *importer)
{
	int status;
	close(importer->socket);
	CHECK(waitpid(importer->pid, &status, 0) == importer->pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	munmap(importer->pixels, PIXELS_MAX);
	free(importer);
	return NULL;
}

const uint8_t *importer_read(struct importer *importer, const struct gpu_buffer *buffer, int fd)
{
	struct request request = {
		.size_bytes = gpu_buffer_size(buffer),
		.allocation_bytes = gpu_buffer_allocation_bytes(buffer),
		.memory_type = gpu_buffer_memory_type(buffer),
	};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS } };
	struct iovec part = { &request, sizeof(request) };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	CHECK(request.size_bytes <= PIXELS_MAX);
	CHECK(sendmsg(importer->socket, &message, 0) == sizeof(request));
	CHECK(recv(importer->socket, &importer->last, sizeof(importer->last), 0) ==
		sizeof(importer->last));
	return importer->last.result < 0 ? NULL : importer->pixels;
}

int importer_leaked_fds(const struct importer *importer)
{
	return importer->last.leaked;
}
