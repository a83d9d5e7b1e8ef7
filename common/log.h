/*
 * One line per event on stderr, in the form systemd's journal understands (<level> prefix) when
 * stderr is the journal, plain with a time otherwise. errno is kept, so "log; return -errno" works.
 *
 * Never waits for who reads it: a line that finds stderr full is dropped, and the next one that fits
 * says how many were.
 *
 * Whoever handles an error logs it, once, with ids (client=7 stream=desktop); everything below that
 * is silent above debug. Not for libraries. Thread-safe.
 */
#pragma once

#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,   /* somebody must act */
	LOG_LEVEL_WARNING, /* something was lost or refused */
	LOG_LEVEL_INFO,    /* what the program does: the default */
	LOG_LEVEL_DEBUG,   /* for those who build it */
	LOG_LEVEL_MAX,
	LOG_LEVEL_INVALID = -22,
};

void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* "error", "warning", "info", "debug"; LOG_LEVEL_INVALID for anything else. */
enum log_level log_level_from_string(const char *name);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * For lines that a peer can cause at will: `burst` at once, then one each interval. The first one
 * after others were left out says how many. Not thread-safe.
 */
struct log_limit {
	unsigned burst; /* set these two, the others are zero at first */
	uint64_t interval_ns;
	uint64_t refilled_ns;
	unsigned used;
	unsigned left_out;
};

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
