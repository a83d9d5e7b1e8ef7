#include "tests/test.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef NDEBUG
#error "tests need their asserts"
#endif

enum { EXIT_SKIP = 77, LIMIT_S = 60 };

static struct test *first, **last = &first;
static char tmpdir[64];

void test_register(struct test *test)
{
	*last = test;
	last = &test->next;
}

static _Noreturn void end_skipped(const char *what, const char *reason, int status)
{
	printf("  %s: %s\n", what, reason);
	fflush(stdout);
	_exit(status);
}

_Noreturn void test_skip(const char *reason)
{
	if (getenv("SLUICE_TEST_MUST"))
		end_skipped("would be skipped, and must not (SLUICE_TEST_MUST)", reason, 1);
	end_skipped("skipped", reason, EXIT_SKIP);
}

_Noreturn void test_not_for_here(const char *reason)
{
	end_skipped("skipped", reason, EXIT_SKIP);
}

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fprintf(stderr, "  %s:%d: ", file, line);
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	abort();
}

unsigned test_count_fds(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 3; /* ".", "..", and the directory itself */
}

uint64_t test_rss_bytes(int pid)
{
	char path[64];
	unsigned long long size, resident = 0;
	snprintf(path, sizeof(path), pid ? "/proc/%d/statm" : "/proc/self/statm", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	remove(path);
	return 0;
}

static void remove_tmpdir(void)
{
	if (tmpdir[0])
		nftw(tmpdir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *test_tmpdir(void)
{
	return tmpdir;
}

unsigned test_slowness(void)
{
	const char *s = getenv("TEST_SLOWNESS");
	unsigned n = s ? (unsigned)atoi(s) : 1;
	return n > 0 ? n : 1;
}

bool test_under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");
	return preload && strstr(preload, "vgpreload");
}

static int run_child(const struct test *test)
{
	alarm(LIMIT_S * test_slowness());
	unsigned before = test_count_fds();
	test->fn();
	unsigned after = test_count_fds();
	if (after != before && !getenv("TEST_DRIVER_KEEPS_FDS"))
		test_fail(test->name, 0, "%u descriptors open before, %u after", before, after);
	return 0;
}

/* The process exits, not _exit()s: leak checkers look then. */
static int run(const struct test *test)
{
	snprintf(tmpdir, sizeof(tmpdir), "/tmp/sluice-test-XXXXXX");
	if (!mkdtemp(tmpdir))
		tmpdir[0] = 0;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		exit(run_child(test));
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	remove_tmpdir();
	if (WIFSIGNALED(status))
		printf("  ended by %s\n", strsignal(WTERMSIG(status)));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static bool chosen(const struct test *test, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(test->name, argv[i]))
			return true;
	return argc == 1;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;
	for (struct test *t = first; t; t = t->next) {
		if (!chosen(t, argc, argv))
			continue;
		int r = run(t);
		printf("%s %s\n", r == 0 ? "ok  " : r == EXIT_SKIP ? "skip" : "FAIL", t->name);
		fflush(stdout);
		passed += r == 0;
		skipped += r == EXIT_SKIP;
		failed += r != 0 && r != EXIT_SKIP;
	}
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	if (failed || passed + skipped == 0)
		return 1;
	return passed == 0 ? EXIT_SKIP : 0;
}
