#include "consumer/encoder/problem.h"

#include <stdarg.h>
#include <stdio.h>

int problem_set(struct problem *problem, int result, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(problem->text, sizeof(problem->text), fmt, args);
	va_end(args);
	return result;
}
