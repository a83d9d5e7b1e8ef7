#include "tests/capture_probe.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/stamp.h"
#include "tests/test.h"

enum { TICK_MS = 10, CHILDREN_MAX = 8 };

/* --- programs beside us --- */

static pid_t children[CHILDREN_MAX];

static unsigned free_child(void)
{
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		if (children[i] == 0)
			return i;
	test_fail(__FILE__, __LINE__, "too many children");
}

pid_t start(const char *command)
{
	char line[600];
	snprintf(line, sizeof(line), "exec %s", command);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c", line, (char *)NULL);
		_exit(127);
	}
	CHECK(pid > 0);
	children[free_child()] = pid;
	return pid;
}

void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		if (children[i] == pid)
			children[i] = 0;
}

void stop_all(void)
{
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		if (children[i] > 0)
			stop(children[i]);
}

/* --- the listener --- */

static void give_back(struct probe *p, struct capture_buffer *buffer)
{
	p->capture->ops->give_back(p->capture, buffer);
}

/* What a GPU would read is what the worker has read. */
static void check_mapping(struct probe *p)
{
	const struct capture_mapping *m = p->reading->mapping;
	const struct video_format *f = &p->format;
	p->seen.is_mapped = m != NULL;
	p->seen.is_wrong = m && (uintptr_t)m->map % (uintptr_t)sysconf(_SC_PAGESIZE) != 0;
	if (!m)
		return;
	for (unsigned i = 0; i < f->n_planes; i++)
		for (uint32_t y = 0; y < format_rows(f, i); y++) {
			uint64_t at = m->offset[i] + (uint64_t)y * m->stride[i];
			size_t bytes = format_row_bytes(f, i);
			p->seen.is_wrong |=
				at + bytes > m->size_bytes ||
				memcmp((const uint8_t *)m->map + at,
					p->pixels + f->offset[i] + (size_t)y * f->stride[i],
					bytes) != 0;
		}
}

static int read_job(void *data)
{
	struct probe *p = data;
	int r = p->reading->read(p->reading, p->pixels, &p->format, 0);
	if (r == 0)
		check_mapping(p);
	usleep(p->slow_ms * 1000);
	return r;
}

/* The last byte of each plane is ground, not stamp. */
static bool ground_is_right(const struct probe *p, uint32_t number)
{
	const struct video_format *f = &p->format;
	for (unsigned i = 0; i < f->n_planes; i++) {
		const uint8_t *last = p->pixels + f->offset[i] +
				      (size_t)(format_rows(f, i) - 1) * f->stride[i] +
				      format_row_bytes(f, i) - 1;
		if (*last != (number * 37 & 0xff))
			return false;
	}
	return true;
}

static void check_frame(struct probe *p)
{
	uint32_t number = 0;
	CHECK_EQ(stamp_read(p->pixels, &p->format, &number), STAMP_OK);
	CHECK(ground_is_right(p, number));
	CHECK(!p->is_mapped_wrongly);
	CHECK(number > p->number && number < 1u << 31);
	CHECK(p->divisible == 0 || number % p->divisible != 0);
	CHECK(p->info.pts_ns > 0 && p->info.pts_ns <= p->info.captured_ns);
	CHECK(p->info.captured_ns - p->info.pts_ns < 2 * NS_PER_S);
	CHECK(p->info.captured_ns <= clock_ns());
	p->number = number;
	p->frames++;
}

static void begin(struct probe *p, struct capture_buffer *buffer)
{
	p->reading = buffer;
	p->cancelled = false;
	worker_post(p->worker, read_job, p);
}

static void on_read(void *data, int result)
{
	struct probe *p = data;
	if (!p->cancelled) {
		struct capture_buffer *buffer = p->reading;
		p->info = buffer->info;
		p->reading = NULL;
		p->mapped += result == 0 && p->seen.is_mapped;
		p->is_mapped_wrongly |= result == 0 && p->seen.is_wrong;
		give_back(p, buffer);
		if (result == 0)
			check_frame(p);
		else
			p->stale += result == -ESTALE;
	}
	struct capture_buffer *next = p->waiting;
	p->waiting = NULL;
	if (next)
		begin(p, next);
}

static void on_format(void *data, const struct video_format *format)
{
	struct probe *p = data;
	CHECK(!p->reading && !p->waiting);
	CHECK_EQ(format_check(format), 0);
	p->format = *format;
	p->formats++;
	free(p->pixels);
	p->pixels = calloc(1, format->size_bytes);
	CHECK(p->pixels);
}

static void on_buffer(void *data, struct capture_buffer *buffer)
{
	struct probe *p = data;
	CHECK(p->pixels); /* a format came first */
	if (!worker_busy(p->worker)) {
		begin(p, buffer);
		return;
	}
	if (p->waiting) {
		give_back(p, p->waiting);
		p->superseded++;
	}
	p->waiting = buffer;
}

static void on_revoke(void *data, struct capture_buffer *buffer)
{
	struct probe *p = data;
	struct capture_buffer *reading = p->reading, *waiting = p->waiting;
	p->forgotten += buffer && buffer->mapping;
	if (reading && (!buffer || buffer == reading)) {
		worker_wait(p->worker);
		p->cancelled = true;
		p->reading = NULL;
		give_back(p, reading);
	}
	if (waiting && (!buffer || buffer == waiting)) {
		p->waiting = NULL;
		give_back(p, waiting);
	}
}

static void on_gone(void *data, const char *reason)
{
	struct probe *p = data;
	CHECK(!p->reading && !p->waiting);
	p->gone++;
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
	printf("    gone: %s\n", reason);
}

static void on_refused(void *data, const char *reason)
{
	struct probe *p = data;
	p->refused++;
	snprintf(p->refusal, sizeof(p->refusal), "%s", reason);
}

static void on_superseded(void *data, unsigned count)
{
	struct probe *p = data;
	p->superseded += count;
}

static const struct capture_listener listener = {
	.format = on_format,
	.buffer = on_buffer,
	.revoke = on_revoke,
	.gone = on_gone,
	.refused = on_refused,
	.superseded = on_superseded,
};

static void on_tick(void *data)
{
	struct probe *p = data;
	p->reached = p->until && p->until(p);
	if (p->reached || clock_ns() >= p->deadline)
		loop_stop(p->loop);
	else
		watch_arm(p->tick, TICK_MS * NS_PER_MS);
}

bool probe_run(
	struct probe *p, unsigned seconds, bool (*until)(const struct probe *), unsigned want)
{
	p->until = until;
	p->want = want;
	p->reached = false;
	p->deadline = clock_ns() + (uint64_t)seconds * test_slowness() * NS_PER_S;
	CHECK_EQ(watch_arm(p->tick, 0), 0);
	CHECK_EQ(loop_run(p->loop), 0);
	return p->reached;
}

bool has_frames(const struct probe *p)
{
	return p->frames >= p->want;
}

bool has_refused(const struct probe *p)
{
	return p->refused >= p->want;
}

bool has_stale(const struct probe *p)
{
	return p->stale >= p->want;
}

bool has_gone(const struct probe *p)
{
	return p->gone >= p->want;
}

bool has_formats(const struct probe *p)
{
	return p->formats >= p->want;
}

void probe_open(struct probe *p, const char *target)
{
	char spec[300], error[256] = "";
	*p = (struct probe){ 0 };
	CHECK_EQ(loop_create(&p->loop), 0);
	CHECK_EQ(loop_timer(p->loop, &p->tick, on_tick, p), 0);
	CHECK_EQ(worker_create(&p->worker, p->loop, "copy", on_read, p), 0);
	snprintf(spec, sizeof(spec), "pipewire:%s", target);
	struct capture_place place = { .loop = p->loop, .name = "test" };
	CHECK_EQ(capture_create(&p->capture, &place, spec, error, sizeof(error)), 0);
	p->capture->listener = &listener;
	p->capture->listener_data = p;
	CHECK_EQ(p->capture->ops->start(p->capture), 0);
}

void probe_close(struct probe *p)
{
	p->capture = p->capture->ops->destroy(p->capture);
	CHECK(!p->reading && !p->waiting);
	p->worker = worker_destroy(p->worker);
	p->tick = watch_destroy(p->tick);
	p->loop = loop_destroy(p->loop);
	free(p->pixels);
	stop_all();
}

void probe_forget(struct probe *p)
{
	p->number = 0;
	p->frames = p->stale = p->refused = p->gone = p->formats = 0;
}
