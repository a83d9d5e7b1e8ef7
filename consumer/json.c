#include "consumer/json.h"

#include <inttypes.h>
#include <math.h>

/* Length of the UTF-8 character at `text`, 0 if the bytes are not one (RFC 3629). */
static unsigned utf8_bytes(const unsigned char *text)
{
	static const struct {
		unsigned char first, last, second_min, second_max;
		unsigned len;
	} forms[] = {
		{ 0x00, 0x7f, 0x00, 0x00, 1 },
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	unsigned f = 0;
	while (f < sizeof(forms) / sizeof(forms[0]) && text[0] > forms[f].last)
		f++;
	if (f == sizeof(forms) / sizeof(forms[0]) || text[0] < forms[f].first)
		return 0;
	if (forms[f].len > 1 && (text[1] < forms[f].second_min || text[1] > forms[f].second_max))
		return 0;
	for (unsigned i = 2; i < forms[f].len; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return forms[f].len;
}

static void write_string(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	fputc('"', out);
	while (*p) {
		unsigned len = utf8_bytes(p);
		if (len == 0)
			fputs("\\ufffd", out);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(out, "\\u%04x", *p);
		else if (*p == '"' || *p == '\\')
			fprintf(out, "\\%c", *p);
		else
			fwrite(p, 1, len, out);
		p += len ? len : 1;
	}
	fputc('"', out);
}

static void begin_member(struct json *json, const char *key)
{
	if (json->needs_comma)
		fputc(',', json->out);
	json->needs_comma = true;
	if (!key)
		return;
	write_string(json->out, key);
	fputc(':', json->out);
}

void json_open(struct json *json, const char *key, char bracket)
{
	begin_member(json, key);
	fputc(bracket, json->out);
	json->needs_comma = false;
}

void json_close(struct json *json, char bracket)
{
	fputc(bracket, json->out);
	json->needs_comma = true;
}

void json_string(struct json *json, const char *key, const char *text)
{
	begin_member(json, key);
	write_string(json->out, text);
}

void json_number(struct json *json, const char *key, uint64_t number)
{
	begin_member(json, key);
	fprintf(json->out, "%" PRIu64, number);
}

void json_real(struct json *json, const char *key, double number)
{
	begin_member(json, key);
	if (isfinite(number))
		fprintf(json->out, "%.6g", number);
	else
		fputs("null", json->out);
}

void json_bool(struct json *json, const char *key, bool value)
{
	begin_member(json, key);
	fputs(value ? "true" : "false", json->out);
}
