#include "consumer/text.h"

#include <stdbool.h>
#include <string.h>

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* The bytes of a control character at `text`: C0, DEL, or C1 in UTF-8. 0: it is none. */
static size_t control_bytes(const char *text)
{
	unsigned char c = (unsigned char)text[0], next = (unsigned char)text[1];
	if (c < 0x20 || c == 0x7f)
		return 1;
	return c == 0xc2 && next >= 0x80 && next < 0xa0 ? 2 : 0;
}

void text_copy(char *out, size_t size, const char *text)
{
	size_t n = 0;
	while (*text && n + 1 < size) {
		size_t control = control_bytes(text);
		out[n++] = control ? '?' : *text;
		text += control ? control : 1;
	}
	if (is_continuation(*text))
		while (n > 0 && is_continuation(out[n - 1]))
			n--;
	/* the byte that began the character which was cut */
	if (is_continuation(*text) && n > 0 && (unsigned char)out[n - 1] >= 0xc0)
		n--;
	out[n] = 0;
}
