/*
 * What the encoder says on standard error while it records. A reader that does not read (a full pipe, a
 * terminal that was stopped) must stop neither the capture nor the end: it loses lines.
 */
#pragma once

enum { SAY_MAX = 4096 /* bytes of a line; a pipe that is ready takes as much at once */ };

/* "sluice-encode: " and the sentence, on a line of its own. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The text as it is. */
void say_text(const char *text);
