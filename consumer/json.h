/*
 * Writes one JSON document on one line: begin, members, end. Commas and escapes are its business.
 * A key of NULL is a member of an array.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *out;
	bool needs_comma;
};

/* bracket: '{' or '['. */
void json_open(struct json *json, const char *key, char bracket);

/* bracket: '}' or ']'. */
void json_close(struct json *json, char bracket);

/* Bytes that are not UTF-8 become U+FFFD: the document is always valid. */
void json_string(struct json *json, const char *key, const char *text);

void json_number(struct json *json, const char *key, uint64_t number);

/* Six significant digits; what is no number becomes null. In the C locale only. */
void json_real(struct json *json, const char *key, double number);

void json_bool(struct json *json, const char *key, bool value);
