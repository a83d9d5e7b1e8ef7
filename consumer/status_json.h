/* The pages of a status as one JSON document. docs/sluice.1.scd describes it. */
#pragma once

#include "proto/wire.h"

struct status_json;

/* [give] to status_json_end(). NULL if there is no memory. */
struct status_json *status_json_begin(void);

/* A status_fn. data: struct status_json. */
int status_json_page(void *data, const Sluice__Status *page);

/* Frees it. Returns the document, [give] to free(), or NULL if there was no memory. */
char *status_json_end(struct status_json *s);
