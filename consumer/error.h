/* The last failure, as sluice_error() and sluice_error_code() give it. */
#pragma once

#include <stdarg.h>

#include "consumer/sluice_consumer.h"
#include "proto/wire.h"

enum { ERROR_TEXT_SIZE = WIRE_TEXT_MAX + 256 }; /* bytes: a broker's sentence inside one of ours */

struct error {
	enum sluice_error_code code;
	char text[ERROR_TEXT_SIZE];
};

void error_set(struct error *error, enum sluice_error_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

void error_vset(struct error *error, enum sluice_error_code code, const char *fmt, va_list args);

/* A code as it came from the broker. One that we do not know counts as the broker's own failure. */
enum sluice_error_code error_code_from_wire(int code);

/* The negative errno that a call returns for the broker's reason. */
int error_number(enum sluice_error_code code);

/* What the last failed sluice_connect() of this thread said. */
extern _Thread_local struct error error_of_connect;
