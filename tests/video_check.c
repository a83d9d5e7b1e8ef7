/* video_check FILE: what its frames are like, by their stamps, in one line for scripts. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/test.h"
#include "tests/video.h"

/* What video.c says when it cannot go on. */
void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	const struct video_summary s = video_summarize(argv[1]);
	printf("frames=%u damaged=%u jumps=%u repeats=%u first=%u last=%u monotonic=%d size=%dx%d\n",
		s.frames, s.damaged, s.jumps, s.repeats, s.first, s.last, s.is_monotonic, s.width,
		s.height);
	return s.frames > 0 ? 0 : 1;
}
