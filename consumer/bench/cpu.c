#include "consumer/bench/cpu.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

/* The first line of a small file. False if there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool ok = fgets(line, (int)size, f) != NULL;
	fclose(f);
	line[ok ? strcspn(line, "\n") : 0] = 0;
	return ok;
}

/* Time of one thread, 0 if it does not copy pixels. */
static uint64_t copy_time(pid_t pid, const char *tid)
{
	char path[320], line[128];
	uint64_t ns;
	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)pid, tid);
	if (!read_line(path, line, sizeof(line)) || strcmp(line, CPU_COPY_THREAD) != 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid, tid);
	if (!read_line(path, line, sizeof(line)) || sscanf(line, "%" SCNu64, &ns) != 1)
		return 0;
	return ns;
}

int cpu_read(pid_t pid, struct cpu_time *cpu_out)
{
	char path[64];
	clockid_t clock;
	struct timespec t;
	int r = clock_getcpuclockid(pid, &clock);
	if (r != 0)
		return -r;
	if (clock_gettime(clock, &t) < 0)
		return -errno;
	struct cpu_time cpu = { .all_ns = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec };
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	if (!dir)
		return -errno;
	struct dirent *entry;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			cpu.copy_ns += copy_time(pid, entry->d_name);
	closedir(dir);
	*cpu_out = cpu;
	return 0;
}

struct cpu_time cpu_between(const struct cpu_time *from, const struct cpu_time *to)
{
	return (struct cpu_time){ to->all_ns - from->all_ns, to->copy_ns - from->copy_ns };
}
