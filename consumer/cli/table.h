/* A table for people: columns as wide as their widest cell. */
#pragma once

#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 20 };

struct table;

/**
 * headers  [borrow] until destroyed; separated by spaces; one that begins with '>' is a column of
 *          numbers, aligned to the right
 *
 * Ends the program if there is no memory, as does table_add().
 */
struct table *table_create(const char *headers);

/* The next cell, row by row. Control characters are made harmless. */
void table_add(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* With an empty line before it. Nothing if it has no rows. */
void table_print(const struct table *table, FILE *out);

/* Takes NULL. Returns NULL. */
struct table *table_destroy(struct table *table);
