/* Text from elsewhere, made fit for people's terminals. */
#pragma once

#include <stddef.h>

/* Bytes of the printable UTF-8 character at `s`; 0: a control character, or no UTF-8. */
size_t text_printable_length(const char *s);

/* Replace what is not printable UTF-8, in place: terminal escapes, cut characters. */
void text_clean(char *text);
