#include "consumer/encoder/avlog.h"

#include <errno.h>
#include <libavutil/error.h>
#include <libavutil/log.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 400, ERRNO_MAX = 4095 };

/* Encoders log from threads of their own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char shared_error[LINE_MAX_BYTES];

static _Thread_local char own_error[LINE_MAX_BYTES];
static _Thread_local bool is_apart;

static char *first_error(void)
{
	return is_apart ? own_error : shared_error;
}

void avlog_keep_apart(void)
{
	is_apart = true;
}

__attribute__((format(printf, 3, 0))) static void keep_first_error(
	void *object, int level, const char *fmt, va_list args)
{
	if (level > AV_LOG_ERROR)
		return;
	pthread_mutex_lock(&lock);
	char *first = first_error();
	if (!first[0]) {
		vsnprintf(first, LINE_MAX_BYTES, fmt, args);
		size_t n = strcspn(first, "\r\n");
		while (n > 0 && (first[n - 1] == '.' || first[n - 1] == ' '))
			n--;
		first[n] = 0;
	}
	pthread_mutex_unlock(&lock);
}

__attribute__((format(printf, 3, 0))) static void keep_and_print(
	void *object, int level, const char *fmt, va_list args)
{
	va_list again;
	va_copy(again, args);
	keep_first_error(object, level, fmt, again);
	va_end(again);
	av_log_default_callback(object, level, fmt, args);
}

void avlog_install(bool verbose)
{
	av_log_set_level(verbose ? AV_LOG_VERBOSE : AV_LOG_ERROR);
	/* SVT-AV1 prints by itself, and hears of nothing else: errors only */
	if (!verbose)
		setenv("SVT_LOG", "1", 0);
	av_log_set_callback(verbose ? keep_and_print : keep_first_error);
}

void avlog_forget(void)
{
	pthread_mutex_lock(&lock);
	first_error()[0] = 0;
	pthread_mutex_unlock(&lock);
}

int avlog_problem(struct problem *problem, int averror, const char *fmt, ...)
{
	char what[LINE_MAX_BYTES], reason[LINE_MAX_BYTES];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	snprintf(reason, sizeof(reason), "%s", first_error());
	pthread_mutex_unlock(&lock);
	if (!reason[0])
		av_strerror(averror, reason, sizeof(reason));
	int result = averror < 0 && averror >= -ERRNO_MAX ? averror : -EIO;
	return problem_set(problem, result, "%s: %s", what, reason);
}
