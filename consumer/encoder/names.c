#include "consumer/encoder/names.h"

#include <errno.h>
#include <libavformat/avformat.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the ending begins, or the end of the path. */
static const char *ending_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	return dot && dot != name ? dot : path + strlen(path);
}

/* n in front of the ending, with so many digits at least. */
static int insert_number(const char *path, unsigned n, int digits, char **path_out)
{
	const char *dot = ending_of(path);
	char *numbered;
	if (asprintf(&numbered, "%.*s-%0*u%s", (int)(dot - path), path, digits, n, dot) < 0)
		return -ENOMEM;
	*path_out = numbered;
	return 0;
}

int names_part(const char *path, unsigned n, char **path_out)
{
	if (n > 0)
		return insert_number(path, n, 1, path_out);
	*path_out = strdup(path);
	return *path_out ? 0 : -ENOMEM;
}

static int fill_in_time(const char *pattern, time_t begin, char *name, size_t size)
{
	struct tm local;
	if (!localtime_r(&begin, &local) || strftime(name, size, pattern, &local) == 0)
		return -ENAMETOOLONG;
	return 0;
}

int names_segment(const char *path, unsigned n, time_t begin, char **path_out)
{
	enum { DIGITS = 5 };
	char name[PATH_MAX];
	int r = 0;
	if (!strchr(path, '%'))
		return insert_number(path, n, DIGITS, path_out);
	if (!av_filename_number_test(path))
		r = fill_in_time(path, begin, name, sizeof(name));
	else if (av_get_frame_filename(name, sizeof(name), path, (int)n) < 0)
		r = -ENAMETOOLONG;
	if (r < 0)
		return r;
	*path_out = strdup(name);
	return *path_out ? 0 : -ENOMEM;
}
