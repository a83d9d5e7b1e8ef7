/* The figures that sluice-encode leaves behind. */
#include <errno.h>
#include <string.h>

#include "consumer/encoder/stats.h"
#include "tests/test.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* Twelve frames: 1 to 3, 8 to 10, and after a restart of the broker 2 to 7. */
static struct stats example(void)
{
	static const uint64_t numbers[] = { 1, 2, 3, 8, 9, 10, 2, 3, 4, 5, 6, 7 };
	struct stats stats = { .dropped = 4, .begin_ns = 1000, .end_ns = 1500001000 };
	for (size_t i = 0; i < N(numbers); i++) {
		bool is_new_counting = i > 0 && numbers[i] < numbers[i - 1];
		stats_add_frame(&stats, numbers[i], is_new_counting);
	}
	return stats;
}

TEST(the_statistics_are_json)
{
	static const char *const parts[] = {
		"\"output\": \"odd \\\"name\\\\\\u000a\"",
		"\"frames\": 12,",
		"\"gaps\": [[4, 7]],",
		"\"n_gaps\": 1,",
		"\"missed\": 4,",
		"\"skipped\": 0,",
		"\"dropped\": 4,",
		"\"first_seq\": 1,",
		"\"last_seq\": 7,",
		"\"capture_to_packet\": { \"p50\": 0.000,",
		"\"seconds\": 1.500",
	};
	const struct stats stats = example();
	char path[256], text[4096];
	snprintf(path, sizeof(path), "%s/s.json", test_tmpdir());
	FILE *file = fopen(path, "w+e");
	CHECK(file);
	CHECK_EQ(stats_write_json(&stats, file, "libx264", "odd \"name\\\n"), 0);
	rewind(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	for (size_t i = 0; i < N(parts); i++)
		CHECK_ROW(strstr(text, parts[i]), parts[i]);
}

TEST(the_live_line_names_what_is_not_0)
{
	char text[STATS_TEXT_MAX];
	struct stats stats = example();
	stats.skipped = 5;
	stats.revoked = 1;
	stats_format_line(&stats, (struct stats_speed){ 59.94, 4012.4 }, text);
	CHECK_STR(text, "frame 12  59.9 fps  4012 kbit/s  latency p50 0.0 ms p99 0.0 ms  "
			"skipped 5  dropped 4  revoked 1");
	stats.torn = 2;
	stats.reconnects = 3;
	stats.repeated = 8;
	stats_format_line(&stats, (struct stats_speed){ 0 }, text);
	CHECK(strncmp(text, "frame 20  ", 10) == 0);
	CHECK(strstr(text, "  revoked 1  torn 2  repeated 8  reconnects 3"));
	CHECK(!strstr(text, "  late "));
	stats.late = 4;
	stats.republished = 5;
	stats_format_line(&stats, (struct stats_speed){ 0 }, text);
	CHECK(strstr(text, "  reconnects 3  late 4  republished 5"));
	memset(&stats, 0xff, sizeof(stats)); /* the longest there can be */
	stats.encoding = stats.recent[0] = stats.recent[1] = (struct histogram){ 0 };
	stats_format_line(&stats, (struct stats_speed){ 1e9, 1e12 }, text);
	CHECK(strlen(text) < STATS_TEXT_MAX - 1);
}

/* What was slow a while ago is not slow now. */
TEST(the_live_latency_is_that_of_the_last_seconds)
{
	enum { SECOND = 1000000000 };
	char text[STATS_TEXT_MAX];
	struct stats stats = example();
	stats_add_latency(&stats, 500000000);
	stats_print_live(&stats, stats.begin_ns + 6ull * SECOND);
	stats_format_line(&stats, (struct stats_speed){ 0 }, text);
	CHECK(strstr(text, "p50 500.0 ms p99 500.0 ms"));
	stats_print_live(&stats, stats.begin_ns + 12ull * SECOND);
	stats_add_latency(&stats, 1000000);
	stats_format_line(&stats, (struct stats_speed){ 0 }, text);
	CHECK(strstr(text, "p50 1.0 ms p99 1.0 ms"));
	stats_format_json(&stats, text, sizeof(text));
	if (!strstr(text, "\"p50\": 0.983, \"p99\": 0.983"))
		test_fail(__FILE__, __LINE__, "%s", text);
	CHECK_EQ(stats.encoding.count, 2);
}

TEST(the_json_line_is_one_line)
{
	char text[STATS_TEXT_MAX];
	struct stats stats = example();
	stats.late = 4;
	stats.republished = 5;
	stats_format_json(&stats, text, sizeof(text));
	CHECK(strstr(text, "\"late\": 4, \"republished\": 5, "));
	CHECK(strstr(text, "{ \"frames\": 12, ") == text && !strchr(text, '\n'));
	CHECK(strstr(text, "\"dropped\": 4, ") && text[strlen(text) - 1] == '}');
}

TEST(statistics_that_cannot_be_written_are_an_error)
{
	const struct stats stats = example();
	FILE *full = fopen("/dev/full", "we");
	CHECK(full);
	CHECK_EQ(stats_write_json(&stats, full, "libx264", "x"), -EIO);
	fclose(full);
}
