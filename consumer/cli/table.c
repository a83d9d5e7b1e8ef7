#include "consumer/cli/table.h"

#include <err.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/text.h"

enum { CELL_MAX = 1024 }; /* bytes: more than any sentence of the protocol */

struct table {
	unsigned n_columns;
	bool is_number[TABLE_COLUMNS_MAX];
	unsigned width[TABLE_COLUMNS_MAX];
	char **cells; /* the headers first */
	size_t n_cells;
	size_t room;
};

/* Characters, not bytes. */
static unsigned width_of(const char *text)
{
	unsigned n = 0;
	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void push(struct table *t, const char *text)
{
	if (t->n_cells == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		t->cells = reallocarray(t->cells, t->room, sizeof(*t->cells));
		if (!t->cells)
			err(1, "sluice");
	}
	char *copy = strdup(text);
	if (!copy)
		err(1, "sluice");
	unsigned column = (unsigned)(t->n_cells % t->n_columns);
	if (width_of(text) > t->width[column])
		t->width[column] = width_of(text);
	t->cells[t->n_cells++] = copy;
}

struct table *table_create(const char *headers)
{
	char copy[CELL_MAX], *at = copy, *word;
	const char *names[TABLE_COLUMNS_MAX];
	struct table *t = calloc(1, sizeof(*t));
	if (!t)
		err(1, "sluice");
	text_copy(copy, sizeof(copy), headers);
	while ((word = strsep(&at, " ")) && t->n_columns < TABLE_COLUMNS_MAX) {
		t->is_number[t->n_columns] = word[0] == '>';
		names[t->n_columns++] = word + (word[0] == '>');
	}
	unsigned n = t->n_columns;
	for (unsigned i = 0; i < n; i++)
		push(t, names[i]);
	return t;
}

void table_add(struct table *t, const char *fmt, ...)
{
	char raw[CELL_MAX], clean[CELL_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	text_copy(clean, sizeof(clean), raw);
	push(t, clean[0] ? clean : "-");
}

static void print_cell(const struct table *t, size_t i, FILE *out)
{
	unsigned column = (unsigned)(i % t->n_columns);
	bool is_last = column + 1 == t->n_columns;
	int pad = (int)(t->width[column] - width_of(t->cells[i]));
	if (t->is_number[column])
		fprintf(out, "%*s%s", pad, "", t->cells[i]);
	else
		fprintf(out, "%s%*s", t->cells[i], is_last ? 0 : pad, "");
	fputs(is_last ? "\n" : "  ", out);
}

void table_print(const struct table *t, FILE *out)
{
	if (t->n_cells <= t->n_columns)
		return;
	fputc('\n', out);
	for (size_t i = 0; i < t->n_cells; i++)
		print_cell(t, i, out);
}

struct table *table_destroy(struct table *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
	return NULL;
}
