#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

/* What a peer or a file gave must not move the cursor or fake a second line. */
static void replace_control_characters(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if ((int)level > atomic_load(&current_level))
		return;
	int saved = errno;
	char line[LINE_MAX_BYTES];
	int used = write_prefix(line, sizeof(line), level);
	va_list args;
	va_start(args, fmt);
	vsnprintf(line + used, sizeof(line) - (size_t)used - 1, fmt, args);
	va_end(args);
	replace_control_characters(line + used);
	strcat(line, "\n");
	ssize_t ignored = write(STDERR_FILENO, line, strlen(line));
	(void)ignored;
	errno = saved;
}
