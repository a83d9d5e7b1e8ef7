/* What the files of a recording are called. */
#pragma once

#include <time.h>

/**
 * The name of part n: "talk.mp4", "talk-1.mp4", "talk-2.mp4"…
 *
 * path_out  [give] to free()
 *
 * 0 or -ENOMEM.
 */
int names_part(const char *path, unsigned n, char **path_out);

/**
 * The name of segment n, as FFmpeg's users write it: "talk-%05d.mp4" has a number in it,
 * "%Y%m%d-%H%M%S.mp4" the local time when the segment began (strftime(3); %d alone is the number,
 * beside other letters the day), and "talk.mp4" becomes "talk-00000.mp4".
 *
 * path_out  [give] to free()
 *
 * 0; -ENOMEM; or -ENAMETOOLONG.
 */
int names_segment(const char *path, unsigned n, time_t begin, char **path_out);
