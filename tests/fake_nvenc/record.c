/*
 * What is written down for the test, and what is to go wrong for it.
 *
 *	FAKE_NVENC_LOG=PATH    a line for each misuse and session, and one with all counts at exit
 *	FAKE_NVENC_FAIL=RULES  function=result[@nth[+]], separated by commas; without @: always
 *
 * The log is opened for each line: no descriptor stays open that a test would count.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/fake_nvenc/fake_nvenc.h"

enum { RULES_MAX = 16, LINE_MAX_BYTES = 1024 };

struct rule {
	char name[64];
	int result;
	unsigned nth, calls;
	bool onward;
};

static struct {
	bool is_read;
	struct rule rules[RULES_MAX];
	unsigned n_rules;
	uint64_t counts[COUNTS];
	pid_t pid; /* a child of fork() writes no summary: nothing of this is its */
} record;

static const char *const count_names[COUNTS] = {
	[COUNT_SESSIONS] = "sessions",
	[COUNT_DESTROYED] = "destroyed",
	[COUNT_REGISTERED] = "registered",
	[COUNT_POINTERS] = "pointers",
	[COUNT_UNREGISTERED] = "unregistered",
	[COUNT_MAPPED] = "mapped",
	[COUNT_UNMAPPED] = "unmapped",
	[COUNT_ENCODED] = "encoded",
	[COUNT_LOCKED] = "locked",
	[COUNT_UNLOCKED] = "unlocked",
	[COUNT_RECONFIGURED] = "reconfigured",
	[COUNT_KEPT] = "kept",
	[COUNT_MISUSES] = "misuses",
};

static void write_line(const char *line, size_t size)
{
	const char *path = getenv("FAKE_NVENC_LOG");
	_cleanup_fd_ int fd =
		path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -EBADF;
	if (path && (fd < 0 || write(fd, line, size) != (ssize_t)size))
		fprintf(stderr, "fake_nvenc: %s cannot be written: %s", path, line);
}

/* A rule that cannot be read would make a test pass that tests nothing. */
static void add_rule(const char *text)
{
	struct rule *rule = &record.rules[record.n_rules];
	char plus = 0;
	int n = sscanf(text, "%63[^=]=%d@%u%c", rule->name, &rule->result, &rule->nth, &plus);
	bool always = n == 2 && !strchr(text, '@');
	if (!(always || n == 3 || (n == 4 && plus == '+')) || record.n_rules == RULES_MAX - 1) {
		fprintf(stderr, "fake_nvenc: FAKE_NVENC_FAIL: \"%s\" is not understood\n", text);
		abort();
	}
	rule->onward = n != 3;
	record.n_rules++;
}

static void read_environment(void)
{
	if (record.is_read)
		return;
	record.is_read = true;
	record.pid = getpid();
	const char *fail = getenv("FAKE_NVENC_FAIL");
	_cleanup_free_ char *text = strdup(fail ? fail : "");
	char *rest = text;
	for (char *one = text ? strtok_r(text, ",", &rest) : NULL; one;
		one = strtok_r(NULL, ",", &rest))
		add_rule(one);
}

NVENCSTATUS record_fault(const char *call)
{
	read_environment();
	for (unsigned i = 0; i < record.n_rules; i++) {
		struct rule *rule = &record.rules[i];
		if (strcmp(rule->name, call) != 0)
			continue;
		rule->calls++;
		if (rule->calls == rule->nth || (rule->onward && rule->calls > rule->nth))
			return (NVENCSTATUS)rule->result;
	}
	return NV_ENC_SUCCESS;
}

void record_count(enum count what)
{
	record.counts[what]++;
}

void record_most(enum count what, uint64_t n)
{
	if (record.counts[what] < n)
		record.counts[what] = n;
}

/* A line of what begins it and the rest. */
__attribute__((format(printf, 3, 0))) static void say(
	char *line, size_t n, const char *fmt, va_list args)
{
	int more = vsnprintf(line + n, LINE_MAX_BYTES - n - 1, fmt, args);
	n += (size_t)more < LINE_MAX_BYTES - n - 1 ? (size_t)more : LINE_MAX_BYTES - n - 2;
	line[n++] = '\n';
	write_line(line, n);
}

void record_line(const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;
	va_start(args, fmt);
	say(line, 0, fmt, args);
	va_end(args);
}

void record_misuse(const char *call, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	record.counts[COUNT_MISUSES]++;
	int n = snprintf(line, sizeof(line), "misuse pid=%d %s: ", (int)getpid(), call);
	va_list args;
	va_start(args, fmt);
	say(line, (size_t)n, fmt, args);
	va_end(args);
}

__attribute__((destructor)) static void record_summary(void)
{
	if (record.pid != getpid())
		return;
	if (record.counts[COUNT_SESSIONS] != record.counts[COUNT_DESTROYED])
		record_misuse("exit", "sessions were never destroyed");
	char line[LINE_MAX_BYTES];
	int n = snprintf(line, sizeof(line), "summary pid=%d", (int)getpid());
	for (unsigned i = 0; i < COUNTS; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %s=%llu", count_names[i],
			(unsigned long long)record.counts[i]);
	record_line("%s", line);
}
