/*
 * The test runner. A test is a sentence:
 *
 *	TEST(a_second_release_is_refused)
 *	{
 *		CHECK(release(h) == 0);
 *		CHECK_EQ(release(h), -EPROTO);
 *	}
 *
 * Each test runs in a child process of its own, with a time limit; one that leaves a descriptor open
 * fails. `test_x NAME…` runs the tests whose name contains one of the words. Exit status: 0 all
 * passed, 1 one failed, 77 all were skipped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct test {
	const char *name;
	void (*fn)(void);
	struct test *next;
};

void test_register(struct test *test);

/*
 * The reason is printed; the test counts as skipped. With SLUICE_TEST_MUST in the environment, as
 * scripts/test --no-skip sets it, it has failed instead: something is missing that can be had. Does not
 * return.
 */
_Noreturn void test_skip(const char *reason);

/* As above, and no failure: this machine, driver or build rightly is not what the test is about. */
_Noreturn void test_not_for_here(const char *reason);

/* Does not return. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Descriptors that this process has open. */
unsigned test_count_fds(void);

/* Resident memory of a process in bytes; 0: of this one. */
uint64_t test_rss_bytes(int pid);

/* A fresh directory that is removed when the test ends. Lives until then. */
const char *test_tmpdir(void);

/* Tests under sanitizers or valgrind are slower: multiply time limits by this. */
unsigned test_slowness(void);

/* Valgrind emulates the limits of descriptors, and not as the kernel keeps them. */
bool test_under_valgrind(void);

#define TEST(id)                                                     \
	static void test_##id(void);                                 \
	__attribute__((constructor)) static void register_##id(void) \
	{                                                            \
		static struct test t = { #id, test_##id, NULL };     \
		test_register(&t);                                   \
	}                                                            \
	static void test_##id(void)

#define CHECK(cond)                                                 \
	do {                                                        \
		if (!(cond))                                        \
			test_fail(__FILE__, __LINE__, "%s", #cond); \
	} while (0)

#define CHECK_EQ(a, b)                                                                            \
	do {                                                                                      \
		long long a_ = (long long)(a), b_ = (long long)(b);                               \
		if (a_ != b_)                                                                     \
			test_fail(                                                                \
				__FILE__, __LINE__, "%s is %lld, not %s = %lld", #a, a_, #b, b_); \
	} while (0)

#define CHECK_STR(a, b)                                                                        \
	do {                                                                                   \
		const char *a_ = (a), *b_ = (b);                                               \
		if (__builtin_strcmp(a_, b_) != 0)                                             \
			test_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #a, a_, b_); \
	} while (0)

/* In a loop over table rows: say which row it was. */
#define CHECK_ROW(cond, row)                                                          \
	do {                                                                          \
		if (!(cond))                                                          \
			test_fail(__FILE__, __LINE__, "%s (row \"%s\")", #cond, row); \
	} while (0)
