#include "consumer/encoder/say.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void say_text(const char *text)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	size_t n = strnlen(text, SAY_MAX);
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return;
	ssize_t ignored = write(STDERR_FILENO, text, n);
	(void)ignored;
}

void say(const char *fmt, ...)
{
	char text[SAY_MAX];
	va_list args;
	int n = snprintf(text, sizeof(text), "sluice-encode: ");
	va_start(args, fmt);
	vsnprintf(text + n, sizeof(text) - 1 - (size_t)n, fmt, args);
	va_end(args);
	size_t end = strlen(text);
	text[end] = '\n';
	text[end + 1] = 0;
	say_text(text);
}
