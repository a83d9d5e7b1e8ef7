#include "consumer/encoder/avlog.h"

#include <errno.h>
#include <libavutil/error.h>
#include <libavutil/log.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

enum { LINE_MAX_BYTES = 400, ERRNO_MAX = 4095 };

/* Encoders log from threads of their own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The first of each kind. */
struct said {
	char error[LINE_MAX_BYTES];
	char complaint[LINE_MAX_BYTES];
};

static struct said shared;
static _Thread_local struct said own;
static _Thread_local bool is_apart;

static struct said *said(void)
{
	return is_apart ? &own : &shared;
}

/* How warnings begin of which the user would want to hear. */
static bool is_complaint(int level, const char *fmt)
{
	static const char *const beginnings[] = { "Error parsing option", "Unknown option",
		"Invalid value for" };
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
		if (level == AV_LOG_WARNING &&
			strncmp(fmt, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return false;
}

void avlog_keep_apart(void)
{
	is_apart = true;
}

__attribute__((format(printf, 3, 0))) static void keep_first(
	void *object, int level, const char *fmt, va_list args)
{
	bool complains = is_complaint(level, fmt);
	if (level > AV_LOG_ERROR && !complains)
		return;
	pthread_mutex_lock(&lock);
	char *first = complains ? said()->complaint : said()->error;
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
	keep_first(object, level, fmt, again);
	va_end(again);
	av_log_default_callback(object, level, fmt, args);
}

void avlog_install(bool verbose)
{
	av_log_set_level(verbose ? AV_LOG_VERBOSE : AV_LOG_ERROR);
	/* SVT-AV1 prints by itself, and hears of nothing else: errors only */
	if (!verbose)
		setenv("SVT_LOG", "1", 0);
	av_log_set_callback(verbose ? keep_and_print : keep_first);
}

void avlog_forget(void)
{
	pthread_mutex_lock(&lock);
	said()->error[0] = said()->complaint[0] = 0;
	pthread_mutex_unlock(&lock);
}

bool avlog_has_complaint(struct problem *problem, const char *codec)
{
	char text[LINE_MAX_BYTES];
	pthread_mutex_lock(&lock);
	snprintf(text, sizeof(text), "%s", said()->complaint);
	pthread_mutex_unlock(&lock);
	text_clean(text);
	if (text[0])
		problem_set(problem, 0, "%s: %s", codec, text);
	return text[0];
}

int avlog_problem(struct problem *problem, int averror, const char *fmt, ...)
{
	char what[LINE_MAX_BYTES], reason[LINE_MAX_BYTES];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	snprintf(reason, sizeof(reason), "%s", said()->error);
	pthread_mutex_unlock(&lock);
	text_clean(reason); /* a server's words may be in it */
	if (!reason[0])
		av_strerror(averror, reason, sizeof(reason));
	int result = averror < 0 && averror >= -ERRNO_MAX ? averror : -EIO;
	return problem_set(problem, result, "%s: %s", what, reason);
}
