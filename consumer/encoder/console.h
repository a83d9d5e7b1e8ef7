/*
 * What several processes say on one stderr: each line begins with the name of who said it. On a
 * terminal, what they keep up to date (a text after a carriage return) stays below the lines, one row
 * for each of them.
 *
 * Never waits for who reads it: a line that finds no room is dropped, and the next one that fits is
 * followed by how many were.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
	CONSOLE_SPEAKERS_MAX = 16,
	CONSOLE_LINE_MAX = 1000, /* bytes; a longer line becomes several */
};

/* What one of them has said of a line so far. */
struct console_speaker {
	char text[CONSOLE_LINE_MAX + 1];
	size_t used;
	bool is_status;   /* a carriage return began or ended it */
	bool is_returned; /* the next byte overwrites it, unless it ends the line */
	char status[CONSOLE_LINE_MAX + 1];
};

struct console {
	int fd;
	bool is_terminal;
	unsigned n;
	const char *const *name;
	unsigned lost;  /* lines, since the last that fitted */
	unsigned drawn; /* rows below the cursor */
	bool is_stale;  /* the rows are not what they should be */
	struct console_speaker speaker[CONSOLE_SPEAKERS_MAX];
};

/* fd [borrow] for as long as the console is used; name[n] [borrow] as well. */
void console_init(struct console *console, int fd, unsigned n, const char *const *name);

/* Speaker i said this, whole lines or not. */
void console_feed(struct console *console, unsigned i, const char *data, size_t n);

/* Speaker i says nothing more for now: what it has not ended is printed, its status goes. */
void console_end(struct console *console, unsigned i);

/* A line of our own. */
void console_say(struct console *console, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Bring the rows up to date. Call it when nothing else is to do. */
void console_draw(struct console *console);
