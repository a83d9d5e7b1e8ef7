/*
 * video_expect FILE FRAMES [WIDTHxHEIGHT [restamped]]
 *
 * A file of the test picture, decoded: it begins with a key frame, has at least so many frames, their
 * numbers each one more than the last, their times ever later. The last two may be cut off: what is
 * recorded from a network ends anywhere. "restamped": FFmpeg's RTSP server moves its clock when the
 * first report of the sender comes, so the times say nothing. Says what it saw; 1 if it is something
 * else.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "tests/video.h"

/* What video.c says when nothing can be allocated; here there is no runner that would. */
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
	enum { CUT = 2 };
	char size[32];
	if (argc < 3)
		return 2;
	struct video_summary s = video_summarize(argv[1]);
	snprintf(size, sizeof(size), "%dx%d", s.width, s.height);
	printf("%s: %u frames of %s, %u to %u, %u damaged, %u jumps, %u repeats%s%s\n", argv[1],
		s.frames, size, s.first, s.last, s.damaged, s.jumps, s.repeats,
		s.is_monotonic ? "" : ", times go back",
		s.begins_with_key ? "" : ", no key frame at the beginning");
	if (argc > 3 && strcmp(argv[3], size) != 0)
		return 1;
	bool is_cut = s.damaged > 0 && s.frames - s.first_damaged <= CUT;
	bool is_whole = s.begins_with_key && (s.damaged == 0 || is_cut) && s.jumps == 0 &&
			(s.is_monotonic || argc > 4);
	return is_whole && s.frames >= (unsigned)atoi(argv[2]) ? 0 : 1;
}
