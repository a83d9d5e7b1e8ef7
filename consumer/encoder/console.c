#include "consumer/encoder/console.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/text.h"

enum {
	NAME_ROOM = 128,    /* bytes of a prefix, and of what moves the cursor */
	COLUMNS_USUAL = 80, /* where the terminal does not say */
};

#define ESCAPE     '\033'
#define ERASE_ROWS "\r\033[J"

void console_init(struct console *console, int fd, unsigned n, const char *const *name)
{
	*console = (struct console){ .fd = fd, .is_terminal = isatty(fd), .n = n, .name = name };
}

/* A regular file and a terminal always take it; a pipe does if it has room for a line. */
static bool has_room(const struct console *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLOUT };
	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void put(const struct console *c, const char *text, size_t n)
{
	ssize_t ignored = write(c->fd, text, n);
	(void)ignored;
}

/* Where a line goes the rows have to make room: they are drawn again below it. */
static void print(struct console *c, const char *name, const char *text)
{
	char line[CONSOLE_LINE_MAX + NAME_ROOM];
	if (!has_room(c)) {
		c->lost++;
		return;
	}
	bool is_below = c->drawn || (c->is_terminal && !c->name); /* a child's own row */
	int n = snprintf(line, sizeof(line), "%s%.64s%s%s\n", is_below ? ERASE_ROWS : "", name,
		*name ? ": " : "", text);
	put(c, line, (size_t)n);
	c->is_stale = c->is_stale || c->drawn;
	c->drawn = 0;
	if (c->lost && has_room(c)) {
		n = snprintf(line, sizeof(line), "(%u lines were lost here)\n", c->lost);
		c->lost = 0;
		put(c, line, (size_t)n);
	}
}

/* Take what moves a cursor or colours a text out, in place. */
static void strip(char *text)
{
	char *to = text;
	for (const char *at = text; *at; at++) {
		if (at[0] != ESCAPE || at[1] != '[') {
			*to++ = *at;
			continue;
		}
		at++;
		while (at[1] && (at[1] < '@' || at[1] > '~'))
			at++;
		if (at[1])
			at++;
	}
	*to = 0;
	text_clean(text);
}

static void set_status(struct console *c, struct console_speaker *s, const char *text)
{
	snprintf(s->status, sizeof(s->status), "%s", text);
	strip(s->status);
	c->is_stale = true;
}

/* The line is whole. */
static void end_line(struct console *c, unsigned i)
{
	struct console_speaker *s = &c->speaker[i];
	s->text[s->used] = 0;
	s->used = 0;
	s->is_status = s->is_returned = false;
	if (s->status[0])
		set_status(c, s, "");
	strip(s->text);
	if (s->text[0])
		print(c, c->name[i], s->text);
}

static void add(struct console *c, unsigned i, char byte)
{
	struct console_speaker *s = &c->speaker[i];
	if (byte == '\n') {
		end_line(c, i);
		return;
	}
	if (byte == '\r') {
		s->is_returned = s->is_status = true;
		return;
	}
	if (s->is_returned) {
		s->used = 0;
		s->is_returned = false;
	}
	if (s->used == CONSOLE_LINE_MAX)
		end_line(c, i);
	s->text[s->used++] = byte;
}

void console_feed(struct console *console, unsigned i, const char *data, size_t n)
{
	struct console_speaker *s = &console->speaker[i];
	for (size_t k = 0; k < n; k++)
		add(console, i, data[k]);
	if (!s->is_status)
		return;
	s->text[s->used] = 0;
	set_status(console, s, s->text);
}

void console_end(struct console *console, unsigned i)
{
	struct console_speaker *s = &console->speaker[i];
	if (s->used > 0 && !s->is_status)
		end_line(console, i);
	s->used = 0;
	s->is_status = s->is_returned = false;
	if (s->status[0])
		set_status(console, s, "");
}

void console_say(struct console *console, const char *fmt, ...)
{
	char text[CONSOLE_LINE_MAX + 1];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	text_clean(text);
	print(console, "", text);
}

static int columns(const struct console *c)
{
	struct winsize size;
	return ioctl(c->fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col
								       : COLUMNS_USUAL;
}

/* Bytes of the characters that fit: a row that wraps could not be found again. */
static int fit(const char *text, int columns)
{
	const char *at = text;
	for (int used = 0; *at && used < columns; used++) {
		size_t n = text_printable_length(at);
		at += n ? n : 1;
	}
	return (int)(at - text);
}

void console_draw(struct console *console)
{
	char rows[CONSOLE_SPEAKERS_MAX * (CONSOLE_LINE_MAX + NAME_ROOM)];
	size_t used = 0;
	unsigned drawn = 0;
	if (!console->is_terminal || !console->is_stale || !has_room(console))
		return;
	int width = columns(console) - 1;
	used += (size_t)snprintf(rows, sizeof(rows), ERASE_ROWS);
	for (unsigned i = 0; i < console->n; i++) {
		char row[CONSOLE_LINE_MAX + NAME_ROOM];
		if (!console->speaker[i].status[0])
			continue;
		snprintf(row, sizeof(row), "%.64s: %s", console->name[i],
			console->speaker[i].status);
		used += (size_t)snprintf(
			rows + used, sizeof(rows) - used, "%.*s\n", fit(row, width), row);
		drawn++;
	}
	if (drawn > 0)
		used += (size_t)snprintf(rows + used, sizeof(rows) - used, "\033[%uA", drawn);
	put(console, rows, used);
	console->drawn = drawn;
	console->is_stale = false;
}
