/*
 * What is written down for the test, and what is to go wrong for it: FAKE_NVJPEG_LOG and
 * FAKE_NVJPEG_FAIL. The log is opened for each line: no descriptor stays open that a test would count.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fd.h"
#include "tests/fake_nvjpeg/fake_nvjpeg.h"

enum { RULES_MAX = 8, POINTERS_MAX = 256, LINE_MAX_BYTES = 512 };

struct rule {
	char name[64];
	int status;
	unsigned nth, calls;
	bool onward;
};

static struct {
	bool read;
	struct rule rules[RULES_MAX];
	unsigned n_rules;
	pid_t pid; /* a child of fork() writes no summary: nothing of this is its */
	uint64_t counts[COUNTS];
	const void *pointers[POINTERS_MAX];
} record;

static const char *const count_names[COUNTS] = {
	[COUNT_HANDLES] = "handles",
	[COUNT_HANDLES_DESTROYED] = "handles_destroyed",
	[COUNT_STATES] = "states",
	[COUNT_STATES_DESTROYED] = "states_destroyed",
	[COUNT_PARAMS] = "params",
	[COUNT_PARAMS_DESTROYED] = "params_destroyed",
	[COUNT_ENCODES] = "encodes",
	[COUNT_PICTURES] = "pictures",
	[COUNT_POINTERS] = "pointers",
	[COUNT_MISUSES] = "misuses",
};

static void write_line(const char *line, size_t size)
{
	const char *path = getenv("FAKE_NVJPEG_LOG");
	_cleanup_fd_ int fd =
		path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -EBADF;
	if (path && (fd < 0 || write(fd, line, size) != (ssize_t)size))
		fprintf(stderr, "fake_nvjpeg: %s cannot be written: %s", path, line);
}

/* A rule that cannot be read would make a test pass that tests nothing. */
static void add_rule(const char *text)
{
	struct rule *rule = &record.rules[record.n_rules];
	char plus = 0;
	int n = sscanf(text, "%63[^=]=%d@%u%c", rule->name, &rule->status, &rule->nth, &plus);
	bool always = n == 2 && !strchr(text, '@');
	if (!(always || n == 3 || (n == 4 && plus == '+')) || record.n_rules == RULES_MAX - 1) {
		fprintf(stderr, "fake_nvjpeg: FAKE_NVJPEG_FAIL: \"%s\" is not understood\n", text);
		abort();
	}
	rule->onward = n != 3;
	record.n_rules++;
}

static void read_environment(void)
{
	if (record.read)
		return;
	record.read = true;
	record.pid = getpid();
	const char *fail = getenv("FAKE_NVJPEG_FAIL");
	_cleanup_free_ char *text = strdup(fail ? fail : "");
	char *rest = text;
	for (char *one = text ? strtok_r(text, ",", &rest) : NULL; one;
		one = strtok_r(NULL, ",", &rest))
		add_rule(one);
}

enum nvjpeg_status record_fault(const char *call)
{
	read_environment();
	for (unsigned i = 0; i < record.n_rules; i++) {
		struct rule *rule = &record.rules[i];
		if (strcmp(rule->name, call) != 0)
			continue;
		rule->calls++;
		if (rule->calls == rule->nth || (rule->onward && rule->calls > rule->nth))
			return (enum nvjpeg_status)rule->status;
	}
	return NVJPEG_SUCCESS;
}

void record_count(enum count what)
{
	record.counts[what]++;
}

void record_pointer(const void *pointer)
{
	unsigned n = (unsigned)record.counts[COUNT_POINTERS];
	for (unsigned i = 0; i < n && i < POINTERS_MAX; i++)
		if (record.pointers[i] == pointer)
			return;
	if (n < POINTERS_MAX)
		record.pointers[n] = pointer;
	record_count(COUNT_POINTERS);
	char line[64];
	int size = snprintf(line, sizeof(line), "picture pid=%d %p\n", (int)getpid(), pointer);
	write_line(line, (size_t)size);
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

__attribute__((destructor)) static void record_summary(void)
{
	if (record.pid != getpid())
		return;
	object_record_leaks();
	char line[LINE_MAX_BYTES];
	size_t n = (size_t)snprintf(line, sizeof(line), "summary pid=%d", (int)getpid());
	for (unsigned i = 0; i < COUNTS; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, " %s=%llu", count_names[i],
			(unsigned long long)record.counts[i]);
	line[n++] = '\n';
	write_line(line, n);
}
