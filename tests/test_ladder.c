/* Rungs of a ladder: what they are, and what they are called. */
#include "consumer/encoder/ladder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/parent.h"
#include "consumer/encoder/rung.h"
#include "tests/test.h"

TEST(a_ladder_is_read)
{
	struct ladder l;
	CHECK(ladder_parse("1080p:6M,720p:3M:libx265,640x360:800k", &l));
	CHECK_EQ(l.n, 3);
	CHECK_STR(l.rung[0].name, "1080p");
	CHECK(l.rung[0].width == 0 && l.rung[0].height == 1080);
	CHECK(l.rung[0].bit_rate == 6000000 && !l.rung[0].codec[0]);
	CHECK_STR(l.rung[1].name, "720p-libx265");
	CHECK_STR(l.rung[1].codec, "libx265");
	CHECK_STR(l.rung[2].name, "640x360");
	CHECK(l.rung[2].width == 640 && l.rung[2].height == 360);
	CHECK(ladder_find(&l, "640x360") == &l.rung[2]);
	CHECK(!ladder_find(&l, "720p"));
}

TEST(what_is_no_ladder_is_refused)
{
	static const char *const bad[] = { "", ",", "720p", "720p:", "720p:3M,", ",720p:3M",
		"720:3M", "p:3M", "720p:fast", "720p:3M:", "720p:3M:a:b", "720p:3M:../x",
		"720p:3M,720p:2M", "720p:3M:a,720p:2M:a", "0p:3M", "99999p:3M", "-720p:3M",
		"720p:999", "720p:3M:0123456789012345678901234567890123456789" };
	struct ladder l;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_ROW(!ladder_parse(bad[i], &l), bad[i]);
}

TEST(one_rung_too_many_is_refused)
{
	char text[512];
	size_t n = 0;
	struct ladder l;
	for (unsigned i = 0; i < LADDER_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%up:1M", i ? "," : "", i + 16);
	CHECK(ladder_parse(text, &l));
	CHECK_EQ(l.n, LADDER_MAX);
	snprintf(text + n, sizeof(text) - n, ",999p:1M");
	CHECK(!ladder_parse(text, &l));
}

static const struct {
	const char *path, *becomes;
} paths[] = {
	{ "talk.mp4", "talk-720p.mp4" },
	{ "/a.b/talk", "/a.b/talk-720p" },
	{ "/a/.hidden", "/a/.hidden-720p" },
	{ "a/talk-%05d.mp4", "a/talk-%05d-720p.mp4" },
	{ "%r/talk-%r.mp4", "720p/talk-720p.mp4" },
	{ "rtmp://host/live/key", "rtmp://host/live/key_720p" },
	{ "rtmp://host/live/key?token=a/b", "rtmp://host/live/key_720p?token=a/b" },
	{ "srt://host:9000?streamid=publish:%r", "srt://host:9000?streamid=publish:720p" },
	{ "srt://host:9000?streamid=publish/a", NULL },
	{ "udp://host:9000", NULL },
	{ "rtmp://host/", NULL },
};

TEST(each_rung_has_an_output_of_its_own)
{
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char *path = NULL;
		struct problem p;
		int r = ladder_path(paths[i].path, "720p", &path, &p);
		if (!paths[i].becomes) {
			CHECK_ROW(r == -EINVAL && strstr(p.text, "%r"), paths[i].path);
			continue;
		}
		CHECK_ROW(r == 0, paths[i].path);
		CHECK_STR(path, paths[i].becomes);
		free(path);
	}
}

TEST(a_rung_changes_what_it_is_about_and_nothing_else)
{
	struct options o = { .rung = "90p-mjpeg",
		.output = "talk.mkv",
		.stats_path = "s.json",
		.control_path = "/run/c.sock",
		.encoder = { .codec = "libx264", .preset = "fast" } };
	struct rung_paths own;
	struct problem p;
	CHECK(ladder_parse("90p:100k:mjpeg,180p:300k", &o.ladder));
	CHECK_EQ(rung_apply(&o, &own, &p), 0);
	CHECK_STR(o.encoder.codec, "mjpeg");
	CHECK_STR(o.encoder.preset, "fast");
	CHECK_EQ(o.encoder.bit_rate, 100000);
	CHECK(o.view.width == 0 && o.view.height == 90);
	CHECK_EQ(o.view.fourcc, 0); /* it wants full range */
	CHECK_STR(o.output, "talk-90p-mjpeg.mkv");
	CHECK_STR(o.stats_path, "s-90p-mjpeg.json");
	CHECK_STR(o.control_path, "/run/c-90p-mjpeg.sock");
	rung_paths_free(&own);
}

TEST(the_broker_makes_what_the_codec_takes)
{
	static const struct {
		const char *codec, *pix_fmt, *fourcc;
	} rows[] = { { "libx264", NULL, "NV12" }, { "libx265", NULL, "YU12" },
		{ "libx264", "yuv444p", "" } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct options o = { .rung = "180p",
			.output = "talk.mkv",
			.encoder = { .codec = rows[i].codec, .pix_fmt = rows[i].pix_fmt } };
		struct rung_paths own;
		struct problem p;
		char name[5] = "";
		CHECK(ladder_parse("180p:300k", &o.ladder));
		CHECK_EQ(rung_apply(&o, &own, &p), 0);
		memcpy(name, &o.view.fourcc, 4);
		CHECK_STR(name, rows[i].fourcc);
		rung_paths_free(&own);
	}
}

TEST(without_a_rung_nothing_is_changed)
{
	struct options o = { .output = "talk.mkv" };
	struct rung_paths own;
	struct problem p;
	CHECK_EQ(rung_apply(&o, &own, &p), 0);
	CHECK_STR(o.output, "talk.mkv");
	CHECK(!own.output && o.view.height == 0);
}

TEST(a_supervisor_is_wanted_above_a_ladder_and_a_restart_and_only_there)
{
	struct options o = { 0 };
	CHECK(!parent_is_wanted(&o));
	o.restart = true;
	CHECK(parent_is_wanted(&o));
	o.is_supervised = true;
	CHECK(!parent_is_wanted(&o));
	o = (struct options){ .ladder.n = 2 };
	CHECK(parent_is_wanted(&o));
	o.rung = "720p";
	CHECK(!parent_is_wanted(&o));
	o.restart = true;
	CHECK(parent_is_wanted(&o));
}

TEST(what_cannot_be_opened_again_is_refused)
{
	struct options o = { .restart = true, .output = "pipe:1" };
	struct problem p;
	char program[] = "sluice-encode", *argv[] = { program, NULL };
	CHECK_EQ(parent_run(&o, 1, argv, &p), -EINVAL);
	CHECK(strstr(p.text, "pipe:1"));
	o = (struct options){ .output = "udp://host:9000" };
	CHECK(ladder_parse("180p:300k", &o.ladder));
	CHECK_EQ(parent_run(&o, 1, argv, &p), -EINVAL);
	CHECK(strstr(p.text, "%r"));
}
