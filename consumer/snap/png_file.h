/* A picture as a PNG file: whole, or not at all. */
#pragma once

#include <limits.h>

#include "consumer/snap/picture.h"

enum { PNG_FILE_TEXT_SIZE = PATH_MAX + 256 }; /* bytes: a path, and what is wrong with it */

/**
 * Write. A file appears under its name only when it is complete, and takes the place of an older
 * one then; what is no regular file (a device, a pipe) is written into.
 *
 * path   "-" is standard output
 * error  [borrow] PNG_FILE_TEXT_SIZE bytes: the sentence, if not 0
 *
 * 0 or negative errno.
 */
int png_file_write(const char *path, const struct rgb *rgb, char *error);
