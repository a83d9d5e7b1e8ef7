/* Text that a peer chose: cut at our limits and made harmless for a terminal. */
#pragma once

#include <stddef.h>

/**
 * Copy, cut to `size` bytes with the NUL and never inside a UTF-8 character. Control characters,
 * which could steer a terminal, become '?'.
 */
void text_copy(char *out, size_t size, const char *text);
