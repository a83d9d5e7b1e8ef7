#include "common/text.h"

#include <stdbool.h>
#include <stdint.h>

static size_t sequence_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc0 && first < 0xe0)
		return 2;
	if (first >= 0xe0 && first < 0xf0)
		return 3;
	return first >= 0xf0 && first < 0xf8 ? 4 : 0;
}

size_t text_printable_length(const char *s)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = sequence_length((unsigned char)s[0]);
	uint32_t code = (unsigned char)s[0] & (len > 1 ? 0x7fu >> len : 0x7fu);
	for (size_t i = 1; i < len; i++) {
		if (((unsigned char)s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | ((unsigned char)s[i] & 0x3fu);
	}
	bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
	bool is_surrogate = code >= 0xd800 && code < 0xe000;
	if (is_control || is_surrogate || code < least[len] || code > 0x10ffff)
		return 0;
	return len;
}

void text_clean(char *text)
{
	while (*text) {
		size_t n = text_printable_length(text);
		if (n == 0)
			*text = '?';
		text += n ? n : 1;
	}
}
