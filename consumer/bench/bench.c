#include "consumer/bench/bench.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

volatile sig_atomic_t bench_interrupted;

int fail(struct failure *failure, int r, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(failure->text, sizeof(failure->text), fmt, args);
	va_end(args);
	return r;
}

void progress(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fputs("sluice-bench: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

int pause_until(uint64_t at_ns, struct failure *failure)
{
	struct timespec at = clock_timespec(at_ns);
	while (!bench_interrupted)
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == 0)
			return 0;
	return fail(failure, -EINTR, "interrupted");
}

int place_init(struct place *place, struct failure *failure)
{
	const char *parent = getenv("TMPDIR");
	/* short: a socket's path below it must fit its address */
	if (!parent || strlen(parent) > sizeof(place->dir) - sizeof("/sluice-bench-XXXXXX"))
		parent = "/tmp";
	snprintf(place->dir, sizeof(place->dir), "%s/sluice-bench-XXXXXX", parent);
	if (mkdtemp(place->dir))
		return 0;
	return fail(failure, -errno, "cannot make a directory in %s for the sockets: %s", parent,
		strerror(errno));
}

void place_finish(struct place *place)
{
	DIR *dir = opendir(place->dir);
	if (!dir)
		return;
	struct dirent *entry;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(place->dir);
}

void program_exec(const char *path, const char *name, const char *folder, char *const *argv)
{
	char own[512], beside[600];
	if (path) {
		execv(path, argv);
		return;
	}
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	own[n > 0 ? n : 0] = 0;
	char *slash = strrchr(own, '/');
	if (slash) {
		int len = (int)(slash - own);
		snprintf(beside, sizeof(beside), "%.*s/%s", len, own, name);
		execv(beside, argv);
		snprintf(beside, sizeof(beside), "%.*s/../../%s/%s", len, own, folder, name);
		execv(beside, argv);
	}
	execvp(name, argv);
}
