#include "consumer/bench/gpu_floor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/gpu/gpu.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/loop.h"

enum {
	COPIES = 501,
	COPIES_CPU = 21, /* a software renderer is slow */
	CONVERSIONS = 101,
	CONVERSIONS_CPU = 3,
	SPIN_US = 200, /* the broker's default */
};

struct gpu_floor {
	pid_t pid; /* 0: none */
	int fd;
	bool is_cpu;
	char name[GPU_NAME_MAX];
};

struct question {
	bool is_conversion;
	uint64_t size_bytes; /* of a copy */
	struct video_format from, to;
};

/* Also sent once at the beginning, unasked. */
struct answer {
	int result;
	uint64_t ns; /* of a copy */
	struct gpu_convert_times times;
	bool is_cpu;
	char text[BENCH_TEXT_MAX /
		  2]; /* the GPU's name at the beginning; a sentence if it failed */
};

/* --- in the process ----------------------------------------------------------------------------- */

static struct answer open_gpu(struct gpu **gpu_out)
{
	struct answer a = { 0 };
	struct gpu_options options = { .which = "auto", .spin_ns = SPIN_US * NS_PER_US };
	struct loop *loop;
	a.result = loop_create(&loop);
	if (a.result == 0)
		a.result = gpu_create(gpu_out, loop, &options, a.text, sizeof(a.text));
	if (a.result < 0)
		return a;
	const struct gpu_info *info = gpu_info(*gpu_out);
	a.is_cpu = info->is_cpu;
	snprintf(a.text, sizeof(a.text), "%s", info->name);
	return a;
}

static struct answer measure(struct gpu *gpu, const struct question *q)
{
	struct answer a = { 0 };
	bool is_cpu = gpu_info(gpu)->is_cpu;
	if (q->is_conversion)
		a.result = gpu_measure_convert(
			gpu, &q->from, &q->to, is_cpu ? CONVERSIONS_CPU : CONVERSIONS, &a.times);
	else
		a.result =
			gpu_measure_copy(gpu, q->size_bytes, is_cpu ? COPIES_CPU : COPIES, &a.ns);
	if (a.result < 0)
		snprintf(a.text, sizeof(a.text), "%s", gpu_error(gpu));
	return a;
}

/* The GPU ends with the process, which is killed. */
_Noreturn static void serve(int fd)
{
	struct gpu *gpu = NULL;
	struct question question;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the measuring process gets it too, and ends us */
	struct answer a = open_gpu(&gpu);
	while (send(fd, &a, sizeof(a), MSG_NOSIGNAL) > 0 && a.result == 0 &&
		recv(fd, &question, sizeof(question), 0) == sizeof(question))
		a = measure(gpu, &question);
	_exit(0);
}

/* --- in the process that measures --------------------------------------------------------------- */

static int take_answer(struct gpu_floor *f, struct answer *answer_out, struct failure *failure)
{
	struct answer a = { 0 };
	ssize_t n = recv(f->fd, &a, sizeof(a), 0);
	if (n < 0 && errno == EINTR)
		return fail(failure, -EINTR, "interrupted");
	if (n != sizeof(a))
		return fail(failure, -ECHILD, "gpu: the floor's process has ended");
	if (a.result < 0)
		return fail(failure, a.result, "gpu: %s", a.text[0] ? a.text : strerror(-a.result));
	*answer_out = a;
	return 0;
}

static int start(struct gpu_floor *f, struct failure *failure)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(failure, -errno, "no sockets for the floor: %s", strerror(errno));
	f->fd = pair[0];
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		serve(pair[1]);
	}
	int r = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (r < 0)
		return fail(failure, r, "cannot start the floor's process: %s", strerror(-r));
	f->pid = pid;
	return 0;
}

int gpu_floor_create(struct gpu_floor **floor_out, struct failure *failure)
{
	_cleanup_(gpu_floor_destroyp) struct gpu_floor *f = calloc(1, sizeof(*f));
	struct answer hello = { 0 };
	if (!f)
		return fail(failure, -ENOMEM, "out of memory");
	f->fd = -EBADF;
	int r = start(f, failure);
	if (r == 0)
		r = take_answer(f, &hello, failure);
	if (r < 0)
		return r;
	f->is_cpu = hello.is_cpu;
	snprintf(f->name, sizeof(f->name), "%.*s", (int)sizeof(f->name) - 1, hello.text);
	*floor_out = TAKE_PTR(f);
	return 0;
}

const char *gpu_floor_name(const struct gpu_floor *f)
{
	return f->name;
}

bool gpu_floor_is_cpu(const struct gpu_floor *f)
{
	return f->is_cpu;
}

static int ask(struct gpu_floor *f, const struct question *question, struct answer *answer_out,
	struct failure *failure)
{
	if (send(f->fd, question, sizeof(*question), MSG_NOSIGNAL) < 0)
		return fail(failure, -errno, "gpu: the floor's process: %s", strerror(errno));
	return take_answer(f, answer_out, failure);
}

int gpu_floor_measure(
	struct gpu_floor *f, uint64_t size_bytes, double *us_out, struct failure *failure)
{
	struct question question = { .size_bytes = size_bytes };
	struct answer a = { 0 };
	int r = ask(f, &question, &a, failure);
	if (r == 0)
		*us_out = (double)a.ns / 1e3;
	return r;
}

int gpu_floor_convert(struct gpu_floor *f, const struct video_format *from,
	const struct video_format *to, double *convert_us_out, double *copy_us_out,
	struct failure *failure)
{
	struct question question = { .is_conversion = true, .from = *from, .to = *to };
	struct answer a = { 0 };
	int r = ask(f, &question, &a, failure);
	if (r < 0)
		return r;
	*convert_us_out = (double)a.times.convert_ns / 1e3;
	*copy_us_out = (double)a.times.copy_ns / 1e3;
	return 0;
}

struct gpu_floor *gpu_floor_destroy(struct gpu_floor *f)
{
	if (!f)
		return NULL;
	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	fd_closep(&f->fd);
	free(f);
	return NULL;
}
