/* UUIDs in words. */
#pragma once

#include <stdint.h>

enum { UUID_BYTES = 16, UUID_TEXT_SIZE = 2 * UUID_BYTES + 4 + 1 };

/* "01234567-89ab-…"; buf of UUID_TEXT_SIZE bytes. Returns buf. */
static inline char *uuid_text(const uint8_t uuid[UUID_BYTES], char *buf)
{
	static const char digits[] = "0123456789abcdef";
	char *out = buf;
	for (int i = 0; i < UUID_BYTES; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = digits[uuid[i] >> 4];
		*out++ = digits[uuid[i] & 0xf];
	}
	*out = 0;
	return buf;
}
