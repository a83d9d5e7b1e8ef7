/*
 * The capture over PipeWire against tests/pw_source, which plays each quirk of real producers on
 * purpose. Run by tests/session.sh.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/capture_probe.h"
#include "tests/test.h"

static pid_t source(const char *options)
{
	char line[512];
	snprintf(line, sizeof(line), "%s --fps 60 %s", PW_SOURCE, options);
	return start(line);
}

/* --- quirks that cost nothing --- */

static const struct {
	const char *name;
	const char *options;
	const char *format;
	uint32_t width, height;
	uint32_t divisible; /* numbers that must never come */
} good[] = {
	{ "sealed memfd", "--memory memfd", "BGRx", 320, 240, 0 },
	{ "memfd without seals", "--memory memfd-unsealed", "BGRx", 320, 240, 0 },
	{ "pointer", "--memory memptr", "BGRx", 320, 240, 0 },
	{ "stride 0", "--memory memptr --stride 0", "BGRx", 320, 240, 0 },
	{ "stride 0, I420", "--memory memptr --stride 0 --format I420", "I420", 320, 240, 0 },
	{ "padded rows", "--stride 52", "BGRx", 320, 240, 0 },
	{ "padded rows, no seals", "--stride 52 --memory memfd-unsealed", "BGRx", 320, 240, 0 },
	{ "rows shorter than ours", "--size 330x250", "BGRx", 330, 250, 0 },
	{ "the same stride", "--size 320x250 --memory memfd-unsealed", "BGRx", 320, 250, 0 },
	{ "BGRA", "--format BGRA", "BGRA", 320, 240, 0 },
	{ "RGBx", "--format RGBx", "RGBx", 320, 240, 0 },
	{ "RGBA", "--format RGBA", "RGBA", 320, 240, 0 },
	{ "YUY2", "--format YUY2 --size 322x242", "YUY2", 322, 242, 0 },
	{ "NV12", "--format NV12 --size 322x242", "NV12", 322, 242, 0 },
	{ "NV12, odd", "--format NV12 --size 323x243", "NV12", 323, 243, 0 },
	{ "I420", "--format I420 --size 322x242", "I420", 322, 242, 0 },
	{ "I420, odd, no seals", "--format I420 --size 328x243 --memory memfd-unsealed", "I420",
		328, 243, 0 },
	{ "P010, odd", "--format P010 --size 323x243", "P010", 323, 243, 0 },
	{ "xRGB_210LE", "--format xRGB_210LE", "xRGB_210LE", 320, 240, 0 },
	{ "ARGB_210LE", "--format ARGB_210LE", "ARGB_210LE", 320, 240, 0 },
	{ "xBGR_210LE", "--format xBGR_210LE", "xBGR_210LE", 320, 240, 0 },
	{ "ABGR_210LE", "--format ABGR_210LE", "ABGR_210LE", 320, 240, 0 },
	{ "RGBA_F16", "--format RGBA_F16 --memory memptr", "RGBA_F16", 320, 240, 0 },
	{ "no header", "--no-header", "BGRx", 320, 240, 0 },
	{ "pts -1", "--pts -1", "BGRx", 320, 240, 0 },
	{ "pts in the future", "--pts future", "BGRx", 320, 240, 0 },
	{ "sequence always 0", "--seq-zero", "BGRx", 320, 240, 0 },
	{ "cursor messages", "--cursor-only 3", "BGRx", 320, 240, 3 },
	{ "crop", "--crop 16,8,200,100", "BGRx", 200, 100, 0 },
	{ "crop, NV12, no seals", "--crop 17,9,201,101 --format NV12 --memory memfd-unsealed",
		"NV12", 201, 101, 0 },
	{ "crop to the edge", "--crop 64,64,256,176", "BGRx", 256, 176, 0 },
};

TEST(quirks_of_producers_cost_no_frame)
{
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct probe p;
		source(good[i].options);
		probe_open(&p, "pw_source");
		p.divisible = good[i].divisible;
		printf("    %s\n", good[i].name);
		fflush(stdout);
		CHECK_ROW(probe_run(&p, 10, has_frames, 8), good[i].name);
		CHECK_ROW(p.refused == 0 && p.stale == 0 && p.formats == 1, good[i].name);
		CHECK_ROW(p.format.fourcc == format_info_by_name(good[i].format)->fourcc,
			good[i].name);
		CHECK_EQ(p.format.width, good[i].width);
		CHECK_EQ(p.format.height, good[i].height);
		CHECK_ROW(p.format.colour.matrix == 1, good[i].name);
		/* memory that can shrink is never read but with pread() */
		bool is_sealed =
			!strstr(good[i].options, "unsealed") && !strstr(good[i].options, "memptr");
		CHECK_ROW((p.mapped >= p.frames) == is_sealed, good[i].name);
		CHECK_ROW(is_sealed || p.mapped == 0, good[i].name);
		probe_close(&p);
	}
}

/* --- quirks that cost the frame, and nothing else --- */

static const struct {
	const char *options;
	const char *reason;
} refused[] = {
	{ "--memory dmabuf", "DMA-BUF" },
	{ "--memory badfd", "without memory" },
	{ "--memory pipe", "no shared memory" },
	{ "--stride -1280", "negative" },
	{ "--lie offset", "does not fit" },
	{ "--lie size", "larger than" },
	{ "--lie stride", "shorter than a row" },
	{ "--crop 320,0,64,64", "crop" },
};

static bool has_refused_or_gone(const struct probe *p)
{
	return has_refused(p) || strstr(p->reason, "no connection");
}

TEST(pictures_that_cannot_be_read_are_refused)
{
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct probe p;
		source(refused[i].options);
		probe_open(&p, "pw_source");
		CHECK_ROW(probe_run(&p, 10, has_refused_or_gone, 4), refused[i].options);
		/* newer daemons refuse some of it themselves */
		if (p.refused > 0)
			CHECK_ROW(strstr(p.refusal, refused[i].reason), p.refusal);
		CHECK_EQ(p.frames, 0);
		probe_close(&p);
	}
}

TEST(corrupted_pictures_are_counted_and_never_used)
{
	struct probe p;
	source("--corrupt 3");
	probe_open(&p, "pw_source");
	p.divisible = 3;
	CHECK(probe_run(&p, 10, has_frames, 20));
	CHECK(p.refused >= 6);
	CHECK(strstr(p.refusal, "corrupted"));
	probe_close(&p);
}

/* --- damage --- */

TEST(damage_is_passed_on)
{
	struct probe p;
	source("--damage 3");
	probe_open(&p, "pw_source");
	CHECK(probe_run(&p, 10, has_frames, 10));
	CHECK(p.info.n_damage >= 3 && p.info.n_damage % 3 == 0);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(p.info.damage[i].x, i);
		CHECK_EQ(p.info.damage[i].y, p.number % 8);
		CHECK_EQ(p.info.damage[i].width, 10);
		CHECK_EQ(p.info.damage[i].height, 1 + i);
	}
	probe_close(&p);
}

TEST(more_damage_than_fits_is_everything)
{
	struct probe p;
	source("--damage 20");
	probe_open(&p, "pw_source");
	CHECK(probe_run(&p, 10, has_frames, 10));
	CHECK_EQ(p.info.n_damage, 0);
	probe_close(&p);
}

/* A slow reader skips pictures, some or many: the next one's damage tells of theirs too. */
static void skip_pictures(unsigned slow_ms)
{
	struct probe p;
	source("--damage 1");
	probe_open(&p, "pw_source");
	p.slow_ms = slow_ms;
	CHECK(probe_run(&p, 10, has_frames, 6));
	uint32_t before = p.number;
	p.frames = 0;
	CHECK(probe_run(&p, 10, has_frames, 1));
	CHECK(p.number > before + 1);
	for (uint32_t n = before + 1; n <= p.number; n++) {
		bool told = p.info.n_damage == 0;
		for (unsigned i = 0; i < p.info.n_damage; i++)
			told |= p.info.damage[i].y == n % 8;
		CHECK(told);
	}
	CHECK(p.superseded > 0);
	probe_close(&p);
}

TEST(damage_of_skipped_pictures_is_not_lost)
{
	skip_pictures(50);
	skip_pictures(150);
}

/* --- a producer's life --- */

TEST(a_resize_is_a_new_format)
{
	struct probe p;
	source("--resize-after 10 --resize 640x360");
	probe_open(&p, "pw_source");
	p.slow_ms = 5;
	CHECK(probe_run(&p, 10, has_formats, 1));
	p.gone = 0;
	CHECK(probe_run(&p, 10, has_formats, 2));
	p.frames = 0;
	CHECK(probe_run(&p, 10, has_frames, 10));
	CHECK_EQ(p.format.width, 640);
	CHECK_EQ(p.format.height, 360);
	CHECK_EQ(p.gone, 0);
	CHECK(p.forgotten >=
		2); /* a GPU must not go on reading where the old buffers were mapped */
	probe_close(&p);
}

TEST(a_dead_producer_is_not_replaced_by_another)
{
	struct probe p;
	source("--die-after 15");
	source("--node other --size 640x480");
	probe_open(&p, "pw_source");
	CHECK(probe_run(&p, 10, has_frames, 5));
	p.gone = 0;
	CHECK(probe_run(&p, 10, has_gone, 1));
	CHECK(strstr(p.reason, "pw_source has ended"));
	probe_forget(&p);
	probe_run(&p, 3, NULL, 0);
	CHECK_EQ(p.frames, 0);
	CHECK_EQ(p.formats, 0);
	CHECK(strstr(p.reason, "other")); /* of what there is */
	probe_forget(&p);
	source("--size 400x300"); /* it comes back */
	CHECK(probe_run(&p, 10, has_frames, 5));
	CHECK_EQ(p.format.width, 400);
	probe_close(&p);
}

TEST(a_missing_target_is_waited_for)
{
	struct probe p;
	source("--node other --size 640x480");
	probe_open(&p, "pw_source");
	CHECK(probe_run(&p, 10, has_gone, 1));
	CHECK(strstr(p.reason, "pw_source does not exist"));
	probe_run(&p, 1, NULL, 0);
	CHECK_EQ(p.frames, 0);
	CHECK_EQ(p.gone, 1);
	source("");
	CHECK(probe_run(&p, 10, has_frames, 5));
	CHECK_EQ(p.format.width, 320);
	probe_close(&p);
}

TEST(memory_that_is_truncated_is_survived)
{
	struct probe p;
	pid_t pid = source("--memory memfd-unsealed --size 1280x720 --truncate-after 12");
	probe_open(&p, "pw_source");
	CHECK(probe_run(&p, 10, has_stale, 5));
	CHECK(p.frames > 0);
	p.gone = 0;
	stop(pid);
	CHECK(probe_run(&p, 10, has_gone, 1));
	probe_forget(&p);
	source("--size 1280x720");
	CHECK(probe_run(&p, 10, has_frames, 5));
	probe_close(&p);
}

static const struct {
	const char *options;
	const char *reason;
} unfit[] = {
	{ "--memory dmabuf-only", "must offer" },
	{ "--format RGB", "must offer" },
};

TEST(a_producer_that_offers_nothing_we_take_is_named)
{
	for (unsigned i = 0; i < sizeof(unfit) / sizeof(unfit[0]); i++) {
		struct probe p;
		source(unfit[i].options);
		probe_open(&p, "pw_source");
		while (!strstr(p.reason, unfit[i].reason))
			CHECK_ROW(probe_run(&p, 10, has_gone, p.gone + 1), p.reason);
		CHECK_EQ(p.frames, 0);
		probe_close(&p);
	}
}

/* --- targets by number --- */

/* "id" or "object.serial" of a node that "pw-cli ls Node" shows with this. Waits for the node. */
static unsigned node_with(const char *property, const char *value, bool serial)
{
	char line[256], wanted[128];
	snprintf(wanted, sizeof(wanted), "%s = \"%s\"", property, value);
	for (unsigned tries = 0; tries < 100; tries++) {
		unsigned id = 0, object_serial = 0, found = 0;
		FILE *f = popen("pw-cli ls Node", "r");
		CHECK(f);
		while (fgets(line, sizeof(line), f)) {
			sscanf(line, " id %u,", &id);
			sscanf(line, " object.serial = \"%u\"", &object_serial);
			if (strstr(line, wanted))
				found = serial ? object_serial : id;
		}
		pclose(f);
		if (found)
			return found;
		usleep(50000);
	}
	test_fail(__FILE__, __LINE__, "no node with %s came", wanted);
}

static unsigned node_number(const char *name, bool serial)
{
	return node_with("node.name", name, serial);
}

TEST(a_number_is_good_for_one_node_only)
{
	for (unsigned serial = 0; serial < 2; serial++) {
		struct probe p;
		char target[64];
		pid_t pid = source("--size 640x480");
		snprintf(target, sizeof(target), serial ? "%u" : "id=%u",
			node_number("pw_source", serial));
		probe_open(&p, target);
		CHECK(probe_run(&p, 10, has_frames, 5));
		CHECK_EQ(p.format.width, 640);
		stop(pid);
		CHECK(probe_run(&p, 10, has_gone, 1));
		CHECK(strstr(p.reason, "not tried again"));
		probe_forget(&p);
		source(""); /* gets the same id, as a rule */
		probe_run(&p, 2, NULL, 0);
		CHECK_EQ(p.frames, 0);
		probe_close(&p);
	}
}

TEST(a_number_that_nobody_has_is_not_waited_for)
{
	struct probe p;
	probe_open(&p, "id=4000000");
	CHECK(probe_run(&p, 10, has_gone, 2));
	CHECK(strstr(p.reason, "there is no such node"));
	probe_close(&p);
}

/* --- what a portal gives --- */

static int connect_to_pipewire(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/pipewire-0",
		getenv("XDG_RUNTIME_DIR"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(fd >= 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

TEST(an_inherited_connection_is_used_once)
{
	struct probe p;
	char target[64];
	pid_t pid = source("");
	int fd = connect_to_pipewire();
	snprintf(target, sizeof(target), "id=%u,remote-fd=%d", node_number("pw_source", false), fd);
	probe_open(&p, target);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(probe_run(&p, 10, has_frames, 5));
	stop(pid);
	CHECK(probe_run(&p, 10, has_gone, 1));
	CHECK(strstr(p.reason, "not tried again"));
	CHECK(fcntl(fd, F_GETFD) < 0);
	probe_close(&p);
}

/* --- other programs in the graph --- */

TEST(another_node_that_is_linked_to_us_is_cut_off)
{
	struct probe p;
	source("");
	source("--node other");
	probe_open(&p, "pw_source");
	CHECK(probe_run(&p, 10, has_frames, 5));
	p.gone = 0;
	node_number("other", false);
	start("pw-link \"$(pw-link -o | grep ^other:)\" \"$(pw-link -i | grep ^sluice-test:)\"");
	CHECK(probe_run(&p, 10, has_gone, 1));
	CHECK(strstr(p.reason, "another node"));
	probe_close(&p);
}

TEST(a_foreign_producer_whose_format_we_lack_is_named)
{
	static const char program[] =
		"/usr/libexec/installed-tests/pipewire-0.3/examples/video-src-alloc";
	struct probe p;
	char target[64];
	if (access(program, X_OK) < 0)
		test_skip("pipewire-tests is not installed");
	start(program);
	snprintf(target, sizeof(target), "%u", node_with("media.class", "Video/Source", true));
	probe_open(&p, target);
	while (!strstr(p.reason, "must offer"))
		CHECK(probe_run(&p, 10, has_gone, p.gone + 1));
	probe_close(&p);
}

/* --- the daemon --- */

TEST(a_daemon_that_ends_and_comes_back_is_followed)
{
	struct probe p;
	CHECK_EQ(setenv("XDG_RUNTIME_DIR", test_tmpdir(), 1), 0);
	probe_open(&p, "pw_source");
	CHECK_EQ(p.gone, 1); /* at once */
	CHECK(strstr(p.reason, "PipeWire is not running"));
	for (unsigned round = 0; round < 2; round++) {
		probe_forget(&p);
		start("pipewire");
		usleep(300000);
		start("wireplumber");
		source("");
		CHECK(probe_run(&p, 15, has_frames, 5));
		p.gone = 0;
		stop_all(); /* the daemon first */
		CHECK(probe_run(&p, 10, has_gone, 1));
		CHECK(strstr(p.reason, "PipeWire has ended"));
	}
	CHECK(probe_run(&p, 10, has_gone, 2));
	CHECK(strstr(p.reason, "PipeWire is not running"));
	probe_close(&p);
}
