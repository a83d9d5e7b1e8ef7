/* Which picture is seen when, at a constant frame rate. */
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/cfr.h"
#include "tests/test.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define NS_PER_S 1000000000ull

enum { SHOWN_MAX = 100000 };

/* What the file would be: for each frame the number of the picture that it shows. */
struct film {
	struct cfr cfr;
	unsigned shown[SHOWN_MAX];
	unsigned n, newest;
	uint64_t pts_ns[SHOWN_MAX]; /* of pictures */
};

static struct film film;

static void write_frames(struct cfr_frames due)
{
	CHECK_EQ(due.first, film.n);
	CHECK(film.n + due.n <= SHOWN_MAX);
	for (uint64_t i = 0; i < due.n; i++)
		film.shown[film.n++] = film.newest;
}

static void begin(uint64_t num, uint64_t den, uint64_t pts_ns)
{
	memset(&film, 0, sizeof(film));
	film.pts_ns[0] = pts_ns;
	write_frames(cfr_begin(&film.cfr, num, den, pts_ns));
	CHECK_EQ(film.n, 1);
}

static void add(uint64_t pts_ns)
{
	write_frames(cfr_add(&film.cfr, pts_ns));
	film.pts_ns[++film.newest] = pts_ns;
}

/* What the header promises, said in another way: for each frame, from the pictures' times. */
static void check_film(uint64_t num, uint64_t den)
{
	uint64_t repeated = 0;
	for (unsigned i = 1; i < film.n; i++) {
		/* everything in units of 1 / (2 num) ns */
		unsigned __int128 at = ((unsigned __int128)2 * i + 1) * den * NS_PER_S;
		unsigned want = film.shown[i - 1];
		while (want < film.newest &&
			(unsigned __int128)(film.pts_ns[want + 1] - film.pts_ns[0]) * 2 * num <= at)
			want++;
		if (film.shown[i] != want)
			test_fail(__FILE__, __LINE__, "frame %u shows %u, not %u", i, film.shown[i],
				want);
		repeated += film.shown[i] == film.shown[i - 1];
	}
	CHECK_EQ(film.cfr.repeated, repeated);
	CHECK_EQ(film.n - film.cfr.repeated + film.cfr.dropped + !film.cfr.is_shown,
		film.newest + 1);
}

/* n pictures of another rate, up to their end. */
static void play(uint64_t source_num, uint64_t source_den, uint64_t num, uint64_t den, unsigned n)
{
	const uint64_t start = 12345678901234;
	begin(num, den, start);
	for (unsigned i = 1; i < n; i++)
		add(start + i * source_den * NS_PER_S / source_num);
	write_frames(cfr_end(&film.cfr, start + n * source_den * NS_PER_S / source_num, false));
	check_film(num, den);
}

TEST(the_same_rate_is_each_picture_once)
{
	play(60, 1, 60, 1, 6000);
	CHECK(film.cfr.repeated == 0 && film.cfr.dropped == 0);
	CHECK_EQ(film.n, 6000);
	play(30000, 1001, 30000, 1001, 6000);
	CHECK(film.cfr.repeated == 0 && film.cfr.dropped == 0);
	CHECK_EQ(film.n, 6000);
}

TEST(half_the_rate_is_every_other_picture)
{
	play(60, 1, 30, 1, 600);
	CHECK_EQ(film.n, 300);
	CHECK(film.cfr.repeated == 0 && film.cfr.dropped == 300);
	for (unsigned i = 2; i < film.n; i++)
		CHECK_EQ(film.shown[i] - film.shown[i - 1], 2);
}

TEST(a_film_of_24_at_60_is_three_and_two_by_turns)
{
	play(24, 1, 60, 1, 240);
	CHECK_EQ(film.n, 600);
	CHECK(film.cfr.repeated == 360 && film.cfr.dropped == 0);
	unsigned count[2] = { 0 };
	for (unsigned i = 5; i < 595; i++)
		count[film.shown[i] % 2]++;
	CHECK(abs((int)count[0] - (int)(count[1] * 3 / 2)) <= 3 ||
		abs((int)count[1] - (int)(count[0] * 3 / 2)) <= 3);
}

TEST(jitter_of_less_than_half_a_frame_does_no_harm)
{
	unsigned seed = 1;
	begin(60, 1, NS_PER_S);
	for (uint64_t i = 1; i < 6000; i++) {
		int64_t jitter = (int64_t)((seed = seed * 1103515245 + 12345) >> 16) % 8000000;
		add(NS_PER_S + i * NS_PER_S / 60 + (uint64_t)jitter - (i % 2 ? 0 : 8000000));
	}
	check_film(60, 1);
	CHECK(film.cfr.repeated == 0 && film.cfr.dropped == 0);
	CHECK_EQ(film.n, 5999); /* the newest may be replaced yet */
}

TEST(pictures_of_any_time_are_shown_as_promised)
{
	static const uint64_t rates[][2] = { { 60, 1 }, { 30000, 1001 }, { 1, 1 }, { 1000, 1 },
		{ 7, 3 } };
	unsigned seed = 7;
	for (size_t r = 0; r < N(rates); r++) {
		uint64_t at = 5;
		begin(rates[r][0], rates[r][1], at);
		for (unsigned i = 0; i < 500; i++) {
			seed = seed * 1103515245 + 12345;
			at += 1 + (uint64_t)(seed >> 8) * (seed % 11 == 0 ? 6 : 1);
			add(at);
		}
		check_film(rates[r][0], rates[r][1]);
	}
}

TEST(a_picture_that_stands_still_goes_on_by_the_clock)
{
	begin(25, 1, 0);
	add(40000000);
	for (uint64_t ns = 0; ns <= 10 * NS_PER_S; ns += 7000000)
		write_frames(cfr_pass(&film.cfr, ns));
	check_film(25, 1);
	CHECK_EQ(film.n, 250);
	CHECK_EQ(film.cfr.repeated, 248);
	add(10 * NS_PER_S + 1000000);
	add(10 * NS_PER_S + 41000000);
	check_film(25, 1);
	CHECK_EQ(film.cfr.dropped, 0);
}

TEST(the_next_time_is_the_first_at_which_something_is_due)
{
	static const uint64_t rates[][2] = { { 60, 1 }, { 30000, 1001 }, { 7, 3 }, { 2, 1 } };
	for (size_t r = 0; r < N(rates); r++) {
		begin(rates[r][0], rates[r][1], 1000);
		for (unsigned i = 0; i < 1000; i++) {
			uint64_t at = cfr_next_ns(&film.cfr);
			CHECK_EQ(cfr_pass(&film.cfr, at - 1).n, 0);
			CHECK_EQ(cfr_pass(&film.cfr, at).n, 1);
		}
	}
}

TEST(the_file_is_as_long_as_the_recording_and_ends_with_the_newest_picture)
{
	begin(60, 1, 77);
	write_frames(cfr_end(&film.cfr, 77 + 10 * NS_PER_S, true));
	CHECK_EQ(film.n, 600);
	begin(60, 1, 77);
	add(78);
	CHECK_EQ(film.n, 1);
	write_frames(cfr_end(&film.cfr, 78, false));
	CHECK(film.n == 2 && film.shown[1] == 1);
	write_frames(cfr_end(&film.cfr, 78, false));
	CHECK_EQ(film.n, 2);
	CHECK_EQ(film.cfr.dropped, 0);
	begin(60, 1, 77);
	add(78);
	write_frames(cfr_end(&film.cfr, 78, true));
	CHECK(film.n == 1 && film.cfr.dropped == 1);
}

TEST(times_that_go_back_count_as_now)
{
	begin(60, 1, NS_PER_S);
	add(2 * NS_PER_S);
	CHECK_EQ(film.n, 60);
	add(NS_PER_S / 2);
	CHECK_EQ(film.n, 60);
	CHECK_EQ(film.cfr.dropped, 1);
	write_frames(cfr_pass(&film.cfr, 0));
	CHECK_EQ(film.n, 60);
}

TEST(a_picture_that_was_lost_is_neither_shown_nor_dropped)
{
	begin(60, 1, 0);
	struct cfr_frames due = cfr_add(&film.cfr, 500 * 1000000);
	CHECK(due.first == 1 && due.n == 29);
	cfr_lose(&film.cfr);
	due = cfr_add(&film.cfr, NS_PER_S);
	CHECK(due.first == 30 && due.n == 30);
	CHECK(film.cfr.dropped == 0 && film.cfr.repeated == 59);
}

TEST(after_a_thousand_hours_not_a_single_frame_is_missing)
{
	const uint64_t hours = 1000, seconds = hours * 3600;
	begin(30000, 1001, 0);
	struct cfr_frames due = cfr_end(&film.cfr, seconds * NS_PER_S, true);
	/* rounded up: the last one is cut by the end */
	CHECK_EQ(due.first + due.n, (seconds * 30000 + 1000) / 1001);
	due = cfr_pass(&film.cfr, cfr_next_ns(&film.cfr));
	CHECK_EQ(due.n, 1);
}
