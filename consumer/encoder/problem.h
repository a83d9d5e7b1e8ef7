/* A sentence for the person at the terminal: what happened, to which object, what to do. */
#pragma once

enum { PROBLEM_MAX = 1024 /* bytes, with the NUL */ };

struct problem {
	char text[PROBLEM_MAX];
};

/**
 * Write the sentence.
 *
 * Returns result, so that `return problem_set(problem, -ENOENT, "…")` works.
 */
int problem_set(struct problem *problem, int result, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
