/* An assert must fire: for what only a mistake of our own can do. */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

/*
 * Does fn() abort? Runs in a process of its own, its message is not shown. Where asserts are compiled
 * out of what is tested, the test is skipped.
 */
static inline bool dies(void (*fn)(void))
{
#ifdef SLUICE_WITHOUT_ASSERTS
	test_not_for_here("the asserts are compiled out");
#endif
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (null >= 0)
			dup2(null, STDERR_FILENO);
		fn();
		_exit(0);
	}
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
