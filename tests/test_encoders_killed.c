/*
 * Four encoders on one stream, one of which is killed each second: the three others have every frame.
 * SOAK_SECONDS in the environment is for how long; scripts/soak-encoders sets it.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "tests/encode_process.h"
#include "tests/test.h"
#include "tests/video.h"

enum { SECONDS = 7, SECONDS_MAX = 3600, RATE = 30 /* frames per second */ };

static const char *const options[] = { "--source", "test=pattern:320x180@30", "--slots", "40",
	NULL };

#define ENCODE "--socket %s --stream test --preset ultrafast --quiet --queue fifo:32 "

static unsigned seconds(void)
{
	const char *text = getenv("SOAK_SECONDS");
	int n = text ? atoi(text) : SECONDS;
	return n >= 2 && n <= SECONDS_MAX ? (unsigned)n : SECONDS;
}

static void kill_one_each_second(const struct broker_process *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct encode_process victim;
		encode_start(&victim, b, ENCODE "%t/victim.mkv");
		sleep_ms(1000);
		kill(victim.pid, SIGKILL);
		if (encode_await(&victim) != -SIGKILL)
			test_fail(
				__FILE__, __LINE__, "it ended by itself: %s", encode_said(&victim));
	}
}

TEST(three_encoders_have_every_frame_while_the_fourth_is_killed_each_second)
{
	static const char *const names[] = { "1", "2", "3" };
	struct encode_process others[3];
	struct broker_process b;
	static const char *const lines[] = { ENCODE "--stats %t/1.json %t/1.mkv",
		ENCODE "--stats %t/2.json %t/2.mkv", ENCODE "--stats %t/3.json %t/3.mkv" };
	char name[32];
	broker_start(&b, options);
	for (unsigned i = 0; i < 3; i++)
		encode_start(&others[i], &b, lines[i]);
	unsigned fds = broker_fds(&b);
	kill_one_each_second(&b, seconds());
	for (unsigned i = 0; i < 3; i++)
		kill(others[i].pid, SIGTERM);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(encode_await(&others[i]), 0);
		snprintf(name, sizeof(name), "%s.json", names[i]);
		CHECK_ROW(encode_stat(name, "n_gaps") == 0, names[i]);
		CHECK_ROW(encode_stat(name, "torn") == 0, names[i]);
		double frames = encode_stat(name, "frames") + encode_stat(name, "repeated");
		double last = encode_stat(name, "last_seq");
		snprintf(name, sizeof(name), "%s.mkv", names[i]);
		struct video_summary s = video_summarize(in_tmp(name));
		if (s.jumps || s.damaged || !s.is_monotonic || s.frames < seconds() * RATE / 2)
			test_fail(__FILE__, __LINE__, "%s: %u frames, %u jumps, %u damaged%s", name,
				s.frames, s.jumps, s.damaged,
				s.is_monotonic ? "" : ", times go back");
		/* a half that is lost leaves no gap in what is there */
		if (s.frames != frames || s.last != last)
			test_fail(__FILE__, __LINE__, "%s: %u frames of %.0f, up to %u of %.0f",
				name, s.frames, frames, s.last, last);
		printf("     %s: %u frames, numbers %u to %u\n", name, s.frames, s.first, s.last);
	}
	CHECK(broker_fds(&b) <= fds); /* and the dead have left nothing */
	CHECK_EQ(broker_stop(&b), 0);
}
