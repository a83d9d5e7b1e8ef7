#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/text.h"

#define LINE_MAX_BYTES 1024

static _Atomic int current_level = LOG_LEVEL_INFO;

static const char *const names[LOG_LEVEL_MAX] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static const int syslog_priority[LOG_LEVEL_MAX] = {
	[LOG_LEVEL_ERROR] = 3,
	[LOG_LEVEL_WARNING] = 4,
	[LOG_LEVEL_INFO] = 6,
	[LOG_LEVEL_DEBUG] = 7,
};

void log_set_level(enum log_level level)
{
	atomic_store(&current_level, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load(&current_level);
}

enum log_level log_level_from_string(const char *name)
{
	for (int i = 0; i < LOG_LEVEL_MAX; i++)
		if (strcmp(name, names[i]) == 0)
			return (enum log_level)i;
	return LOG_LEVEL_INVALID;
}

static int write_prefix(char *line, size_t size, enum log_level level)
{
	if (getenv("JOURNAL_STREAM"))
		return snprintf(line, size, "<%d>", syslog_priority[level]);
	struct timespec now;
	struct tm local;
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	char hms[16];
	strftime(hms, sizeof(hms), "%H:%M:%S", &local);
	return snprintf(line, size, "%s.%03ld %-7s ", hms, now.tv_nsec / 1000000, names[level]);
}

/* A regular file and a terminal always take it; a pipe does if it has room for a line. */
static bool stderr_has_room(void)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void write_line(char *line, size_t len)
{
	static _Atomic unsigned lost;
	if (!stderr_has_room()) {
		atomic_fetch_add(&lost, 1);
		return;
	}
	char note[64];
	unsigned n = atomic_exchange(&lost, 0);
	int note_len = n ? snprintf(note, sizeof(note), "(%u lines were lost here)\n", n) : 0;
	struct iovec iov[2] = { { note, (size_t)note_len }, { line, len } };
	ssize_t ignored = writev(STDERR_FILENO, iov, 2);
	(void)ignored;
}

static void log_write_args(enum log_level level, const char *fmt, va_list args)
{
	int saved = errno;
	char line[LINE_MAX_BYTES];
	int used = write_prefix(line, sizeof(line), level);
	vsnprintf(line + used, sizeof(line) - (size_t)used - 1, fmt, args);
	text_clean(line + used); /* what a peer or a file gave must not move the cursor */
	size_t len = strlen(line);
	line[len] = '\n';
	write_line(line, len + 1);
	errno = saved;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if ((int)level > atomic_load(&current_level))
		return;
	va_list args;
	va_start(args, fmt);
	log_write_args(level, fmt, args);
	va_end(args);
}

/* One of the burst comes back each interval. */
static bool take_token(struct log_limit *limit)
{
	uint64_t now = clock_ns();
	uint64_t back = (now - limit->refilled_ns) / limit->interval_ns;
	if (back > 0) {
		limit->used -= back < limit->used ? (unsigned)back : limit->used;
		limit->refilled_ns = now;
	}
	if (limit->used == limit->burst) {
		limit->left_out++;
		return false;
	}
	limit->used++;
	return true;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	if ((int)level > atomic_load(&current_level) || !take_token(limit))
		return;
	if (limit->left_out)
		log_write(level, "(%u lines like the next were left out)", limit->left_out);
	limit->left_out = 0;
	va_list args;
	va_start(args, fmt);
	log_write_args(level, fmt, args);
	va_end(args);
}
