/*
 * What is written down for the test, and what is to go wrong for it.
 *
 *	FAKE_CUDA_LOG=PATH        a line for each misuse, and one with all counts at exit
 *	FAKE_CUDA_FAIL=RULES      function=result[@nth[+]], separated by commas; without @: always
 *	FAKE_CUDA_COPY_US=N       asynchronous copies take at least so long
 *	FAKE_CUDA_LATE_US=N       signals and the return from callbacks do
 *	CUDA_DEVICE_MAX_CONNECTIONS=1  streams of equal priority share a queue
 *
 * The log is opened for each line: no descriptor stays open that a test would count.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/fake_cuda/fake_cuda.h"

enum { RULES_MAX = 16, LEFT_MAX = 64, LINE_MAX_BYTES = 512 };

struct rule {
	char name[64];
	int result;
	unsigned nth, calls;
	bool onward;
};

struct left_fd {
	int fd;
	dev_t dev;
	ino_t ino;
};

static struct {
	bool read;
	struct rule rules[RULES_MAX];
	unsigned n_rules;
	unsigned copy_us, late_us;
	bool one_queue;
	pid_t pid; /* a child of fork() writes no summary: nothing of this is its */
	uint64_t counts[COUNTS];
	struct left_fd left[LEFT_MAX];
	unsigned n_left;
} record;

static const char *const count_names[COUNTS] = {
	[COUNT_IMPORTS] = "imports",
	[COUNT_DESTROYS] = "destroys",
	[COUNT_MAPPED] = "mapped",
	[COUNT_UNMAPPED] = "unmapped",
	[COUNT_ALLOCS] = "allocs",
	[COUNT_FREES] = "frees",
	[COUNT_SEMAPHORES] = "semaphores",
	[COUNT_SEMAPHORES_DESTROYED] = "semaphores_destroyed",
	[COUNT_STREAMS] = "streams",
	[COUNT_STREAMS_DESTROYED] = "streams_destroyed",
	[COUNT_EVENTS] = "events",
	[COUNT_EVENTS_DESTROYED] = "events_destroyed",
	[COUNT_CONTEXTS] = "contexts",
	[COUNT_CONTEXTS_DESTROYED] = "contexts_destroyed",
	[COUNT_WITH_CONTEXT] = "with_context",
	[COUNT_UNDEDICATED] = "undedicated",
	[COUNT_REFUSED] = "refused",
	[COUNT_MISUSES] = "misuses",
};

static void write_line(const char *line, size_t size)
{
	const char *path = getenv("FAKE_CUDA_LOG");
	_cleanup_fd_ int fd =
		path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -EBADF;
	if (path && (fd < 0 || write(fd, line, size) != (ssize_t)size))
		fprintf(stderr, "fake_cuda: %s cannot be written: %s", path, line);
}

/* A rule that cannot be read would make a test pass that tests nothing. */
static void add_rule(const char *text)
{
	struct rule *rule = &record.rules[record.n_rules];
	char plus = 0;
	int n = sscanf(text, "%63[^=]=%d@%u%c", rule->name, &rule->result, &rule->nth, &plus);
	bool always = n == 2 && !strchr(text, '@');
	if (!(always || n == 3 || (n == 4 && plus == '+')) || record.n_rules == RULES_MAX - 1) {
		fprintf(stderr, "fake_cuda: FAKE_CUDA_FAIL: \"%s\" is not understood\n", text);
		abort();
	}
	rule->onward = n != 3;
	record.n_rules++;
}

static unsigned read_number(const char *name)
{
	const char *text = getenv(name);
	return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static void read_environment(void)
{
	if (record.read)
		return;
	record.read = true;
	record.pid = getpid();
	record.copy_us = read_number("FAKE_CUDA_COPY_US");
	record.late_us = read_number("FAKE_CUDA_LATE_US");
	record.one_queue = read_number("CUDA_DEVICE_MAX_CONNECTIONS") == 1;
	const char *fail = getenv("FAKE_CUDA_FAIL");
	_cleanup_free_ char *text = strdup(fail ? fail : "");
	char *rest = text;
	for (char *one = text ? strtok_r(text, ",", &rest) : NULL; one;
		one = strtok_r(NULL, ",", &rest))
		add_rule(one);
}

/* A rule names a function with or without the version of its symbol. */
static bool rule_is_for(const struct rule *rule, const char *call)
{
	size_t n = strlen(rule->name);
	return strncmp(rule->name, call, n) == 0 && (call[n] == 0 || strcmp(call + n, "_v2") == 0);
}

CUresult record_fault(const char *call)
{
	read_environment();
	for (unsigned i = 0; i < record.n_rules; i++) {
		struct rule *rule = &record.rules[i];
		if (!rule_is_for(rule, call))
			continue;
		rule->calls++;
		if (rule->calls == rule->nth || (rule->onward && rule->calls > rule->nth))
			return (CUresult)rule->result;
	}
	return CUDA_SUCCESS;
}

unsigned record_copy_us(void)
{
	return record.copy_us;
}

unsigned record_late_us(void)
{
	return record.late_us;
}

bool record_one_queue(void)
{
	return record.one_queue;
}

void record_count(enum count what)
{
	record.counts[what]++;
}

void record_misuse(const char *call, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	record.counts[COUNT_MISUSES]++;
	int n = snprintf(line, sizeof(line), "misuse pid=%d %s: ", (int)getpid(), call);
	va_list args;
	va_start(args, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
	va_end(args);
	size_t size = (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
	line[size] = '\n';
	write_line(line, size + 1);
}

void record_left_fd(int fd)
{
	struct stat st;
	record.counts[COUNT_REFUSED]++;
	if (fstat(fd, &st) < 0)
		return;
	record.left[record.n_left++ % LEFT_MAX] =
		(struct left_fd){ .fd = fd, .dev = st.st_dev, .ino = st.st_ino };
}

static void record_left_fds(void)
{
	unsigned n = record.n_left < LEFT_MAX ? record.n_left : LEFT_MAX;
	for (unsigned i = 0; i < n; i++) {
		const struct left_fd *left = &record.left[i];
		struct stat st;
		if (fstat(left->fd, &st) == 0 && st.st_dev == left->dev && st.st_ino == left->ino)
			record_misuse("exit", "descriptor %d of a refused import is still open",
				left->fd);
	}
}

static void record_memory(struct object *object)
{
	record_misuse("exit", "external memory %p was never destroyed", (void *)object);
}

static void record_semaphore(struct object *object)
{
	record_misuse("exit", "external semaphore %p was never destroyed", (void *)object);
}

__attribute__((destructor)) static void record_summary(void)
{
	if (record.pid != getpid())
		return;
	state_lock();
	stream_end_idle();
	object_each(KIND_MEMORY, NULL, record_memory);
	object_each(KIND_SEMAPHORE, NULL, record_semaphore);
	allocation_record_leaks();
	record_left_fds();
	char line[LINE_MAX_BYTES * 2];
	size_t n = (size_t)snprintf(line, sizeof(line), "summary pid=%d", (int)getpid());
	for (unsigned i = 0; i < COUNTS; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, " %s=%llu", count_names[i],
			(unsigned long long)record.counts[i]);
	line[n++] = '\n';
	write_line(line, n);
	state_unlock();
}
