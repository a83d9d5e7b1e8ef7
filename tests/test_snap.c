/* sluice-snap against a scripted broker. */
#include <drm_fourcc.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <string.h>
#include <sys/stat.h>

#include "consumer/snap/picture.h"
#include "tests/consumer_fixture.h"
#include "tests/program.h"

static struct fake_memory memory;
static struct program program;

/* --- A picture --------------------------------------------------------------------------------*/

/* Four bytes of a pixel in memory, and what the PNG must show. */
struct colour_row {
	uint32_t fourcc;
	uint8_t in[4];
	uint8_t red, green, blue, alpha;
};

static void paint(const struct colour_row *row)
{
	for (size_t i = 0; i < memory.format.size_bytes; i++)
		memory.slot[0][i] = row->in[i % 4];
}

static void bind_as(struct fake *fake, uint32_t fourcc)
{
	fake_welcome(fake, 1);
	fake_subscribed(fake, 1);
	memory.format.fourcc = fourcc;
	fake_bind(fake, &memory);
}

static void script_colour(struct fake *fake)
{
	const struct colour_row *row = fake->row;
	fake_memory_init(&memory, 1, 0);
	paint(row);
	bind_as(fake, row->fourcc);
	fake_frame(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

static int snap(const struct fake *fake, const char *path, rlim_t file_limit)
{
	const char *argv[] = { SLUICE_SNAP, "--socket", fake->address.sun_path, "--stream",
		"desktop", "--timeout", "10", path, NULL };
	program_run(&program, argv, file_limit);
	return program.status;
}

static void path_of(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", test_tmpdir(), name);
}

static bool exists(const char *name)
{
	char path[128];
	struct stat st;
	path_of(path, sizeof(path), name);
	return lstat(path, &st) == 0;
}

static unsigned count_files(void)
{
	unsigned n = 0;
	DIR *dir = opendir(test_tmpdir());
	CHECK(dir);
	for (struct dirent *entry; (entry = readdir(dir));)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static bool is_near(int a, int b)
{
	return a - b <= 2 && b - a <= 2;
}

/* Every pixel of the file has this colour. */
static void check_png(const char *path, const struct colour_row *row)
{
	static uint8_t pixels[FAKE_HEIGHT][FAKE_WIDTH][4];
	png_image image = { .version = PNG_IMAGE_VERSION };
	CHECK(png_image_begin_read_from_file(&image, path));
	CHECK(image.width == FAKE_WIDTH && image.height == FAKE_HEIGHT);
	bool has_alpha = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
	CHECK(has_alpha == (row->alpha != 255));
	image.format = PNG_FORMAT_RGBA;
	CHECK(png_image_finish_read(&image, NULL, pixels, 0, NULL));
	for (unsigned i = 0; i < FAKE_HEIGHT * FAKE_WIDTH; i++) {
		const uint8_t *p = pixels[i / FAKE_WIDTH][i % FAKE_WIDTH];
		CHECK(is_near(p[0], row->red) && is_near(p[1], row->green));
		CHECK(is_near(p[2], row->blue) && p[3] == row->alpha);
	}
}

TEST(each_format_becomes_the_same_colour)
{
	static const struct colour_row rows[] = {
		{ DRM_FORMAT_XRGB8888, { 10, 20, 30, 99 }, 30, 20, 10, 255 },
		{ DRM_FORMAT_ARGB8888, { 10, 20, 30, 99 }, 30, 20, 10, 99 },
		{ DRM_FORMAT_XBGR8888, { 10, 20, 30, 99 }, 10, 20, 30, 255 },
		{ DRM_FORMAT_ABGR8888, { 10, 20, 30, 99 }, 10, 20, 30, 99 },
		/* 10 bits: 120, 80, 40, and 2 bits of alpha */
		{ DRM_FORMAT_XRGB2101010, { 0x28, 0x40, 0x81, 0x87 }, 30, 20, 10, 255 },
		{ DRM_FORMAT_ARGB2101010, { 0x28, 0x40, 0x81, 0x87 }, 30, 20, 10, 170 },
		{ DRM_FORMAT_XBGR2101010, { 0x28, 0x40, 0x81, 0x87 }, 10, 20, 30, 255 },
		{ DRM_FORMAT_ABGR2101010, { 0x28, 0x40, 0x81, 0x87 }, 10, 20, 30, 170 },
#ifdef SNAP_CONVERTS_YUV
		{ DRM_FORMAT_YUYV, { 81, 90, 81, 240 }, 254, 0, 0, 255 }, /* BT.601 red */
#endif
	};
	char path[128];
	path_of(path, sizeof(path), "out.png");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake fake;
		fake_start(&fake, script_colour, &rows[i]);
		CHECK_EQ(snap(&fake, path, 0), 0);
		CHECK_STR(program.err, "");
		check_png(path, &rows[i]);
		fake_stop(&fake);
		CHECK_EQ(count_files(), 2); /* the socket and the picture */
	}
}

/* What a screen would show: 0.0 to 1.0, and nothing for what is no number. */
TEST(half_precision_floats_become_bytes)
{
	static const struct {
		uint16_t half;
		uint8_t byte;
	} rows[] = {
		{ 0x0000, 0 },
		{ 0x0001, 0 },
		{ 0x03ff, 0 },
		{ 0x17ff, 0 },
		{ 0x1808, 1 },
		{ 0x3400, 64 },
		{ 0x3800, 128 },
		{ 0x3b5f, 235 },
		{ 0x3bff, 255 },
		{ 0x3c00, 255 },
		{ 0x4000, 255 },
		{ 0x7c00, 255 },
		{ 0x7e00, 0 },
		{ 0x8000, 0 },
		{ 0xbc00, 0 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint16_t pixel[4] = { rows[i].half, 0x3c00, 0, rows[i].half };
		struct picture picture = { .frame = { .fourcc = DRM_FORMAT_ABGR16161616F,
						   .width = 1,
						   .height = 1,
						   .n_planes = 1,
						   .stride = { sizeof(pixel) },
						   .data = { (uint8_t *)pixel } } };
		struct rgb rgb;
		CHECK_EQ(picture_to_rgb(&picture, &rgb), 0);
		CHECK(rgb.has_alpha && rgb.bytes[1] == 255 && rgb.bytes[2] == 0);
		CHECK_EQ(rgb.bytes[0], rows[i].byte);
		CHECK_EQ(rgb.bytes[3], rows[i].byte);
		rgb_finish(&rgb);
	}
}

static void script_torn(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 1, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_tell(fake);
	fake_pause(fake);
	control_begin_write(memory.control, 0);
	fake_tell(fake);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_frame_that_is_overwritten_while_it_is_copied_is_not_taken)
{
	struct session s;
	struct picture picture;
	begin(&s, script_torn, NULL, 0);
	CHECK_EQ(sync_with(&s), 1);
	struct sluice_frame *frame = next(&s);
	CHECK_EQ(picture_copy(&picture, frame), 0);
	CHECK(memcmp(picture.frame.data[0], frame->data[0], frame->size_bytes) == 0);
	picture_finish(&picture);
	fake_go(&s.fake);
	fake_await(&s.fake);
	CHECK_EQ(picture_copy(&picture, frame), -EAGAIN);
	end(&s);
}

static void script_gone_then_whole(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_begin(fake, 1, &memory);
	fake_announce(fake, &memory, 0, 1);
	fake_revoke(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
	fake_frame(fake, &memory, 1, 2);
	fake_released(fake, &memory, 1, 2);
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(the_next_frame_is_taken_when_the_first_is_lost)
{
	static const struct colour_row row = { .red = 1, .green = 1, .blue = 1, .alpha = 255 };
	struct fake fake;
	char path[128];
	path_of(path, sizeof(path), "out.png");
	fake_start(&fake, script_gone_then_whole, NULL);
	CHECK_EQ(snap(&fake, path, 0), 0);
	check_png(path, &row);
	fake_stop(&fake);
}

/* --- Files ------------------------------------------------------------------------------------*/

static const struct colour_row plain = { DRM_FORMAT_XRGB8888, { 1, 2, 3, 4 }, 3, 2, 1, 255 };

/* Bytes: less than the picture, more than the sentence about it. */
enum { LITTLE = 100 };

static int snap_plain(const char *path, rlim_t file_limit)
{
	struct fake fake;
	fake_start(&fake, script_colour, &plain);
	int status = snap(&fake, path, file_limit);
	fake_stop(&fake);
	return status;
}

TEST(a_full_disk_leaves_no_half_file_and_the_old_one_as_it_was)
{
	char path[128], text[8] = "";
	path_of(path, sizeof(path), "new.png");
	CHECK_EQ(snap_plain(path, LITTLE), 1);
	CHECK(strstr(program.err, "new.png: File too large"));
	CHECK_EQ(count_files(), 1);
	path_of(path, sizeof(path), "old.png");
	FILE *file = fopen(path, "we");
	CHECK(file && fputs("old", file) >= 0 && fclose(file) == 0);
	CHECK_EQ(snap_plain(path, LITTLE), 1);
	file = fopen(path, "re");
	CHECK(file && fgets(text, sizeof(text), file) && fclose(file) == 0);
	CHECK_STR(text, "old");
	CHECK_EQ(count_files(), 2);
}

TEST(a_device_is_written_into_and_its_failure_told)
{
	struct stat before, after;
	CHECK(stat("/dev/full", &before) == 0);
	CHECK_EQ(snap_plain("/dev/full", 0), 1);
	CHECK_STR(program.err, "sluice-snap: cannot write /dev/full: No space left on device\n");
	CHECK(stat("/dev/full", &after) == 0 && S_ISCHR(after.st_mode));
	CHECK_EQ(snap_plain("/dev/null", 0), 0);
}

TEST(standard_output_gets_the_picture)
{
	CHECK_EQ(snap_plain("-", 0), 0);
	CHECK(memcmp(program.out, "\211PNG\r\n\032\n", 8) == 0);
}

TEST(a_link_stays_and_what_it_leads_to_is_replaced)
{
	char link[128], target[128];
	struct stat st;
	path_of(link, sizeof(link), "link.png");
	path_of(target, sizeof(target), "target.png");
	fclose(fopen(target, "we"));
	CHECK(symlink("target.png", link) == 0);
	CHECK_EQ(snap_plain(link, 0), 0);
	CHECK(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
	check_png(target, &plain);
}

TEST(a_folder_that_does_not_exist_is_told)
{
	CHECK_EQ(snap_plain("/nonexistent/a.png", 0), 1);
	CHECK(strstr(program.err, "cannot write /nonexistent/a.png: No such file"));
	CHECK_EQ(snap_plain(test_tmpdir(), 0), 1);
	CHECK(strstr(program.err, "Is a directory"));
}

/* --- No picture -------------------------------------------------------------------------------*/

static void script_silent(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_subscribed(fake, 1);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	Sluice__StreamInfo *list[1] = { &info };
	info.name = (char *)"desktop";
	info.text = (char *)"no node of that name";
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	streams.n_streams = 1;
	streams.streams = list;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STREAMS;
	packet.streams = &streams;
	fake_send(fake, &packet, NULL);
	fake_expect_end(fake);
}

TEST(no_frame_in_time_is_told_with_what_the_stream_waits_for)
{
	struct fake fake;
	fake_start(&fake, script_silent, NULL);
	const char *argv[] = { SLUICE_SNAP, "--socket", fake.address.sun_path, "--stream",
		"desktop", "--timeout", "0.05", "/dev/null", NULL };
	program_run(&program, argv, 0);
	CHECK_EQ(program.status, 1);
	CHECK_STR(program.err,
		"sluice-snap: no frame of desktop came within 0.05 s: no node of that name\n");
	fake_stop(&fake);
}

static void script_refuse(struct fake *fake)
{
	fake_welcome(fake, 1);
	fake_refuse(fake, SLUICE__ERROR_CODE__ERROR_NO_STREAM, "there is no stream \"desktop\"");
	fake_expect_end(fake);
}

TEST(a_stream_that_does_not_exist_is_told)
{
	struct fake fake;
	fake_start(&fake, script_refuse, NULL);
	CHECK_EQ(snap(&fake, "/dev/null", 0), 1);
	CHECK_STR(program.err, "sluice-snap: there is no stream \"desktop\"\n");
	fake_stop(&fake);
	CHECK(!exists("out.png"));
}

TEST(help_that_could_not_be_written_is_a_failure)
{
	enum { ROOM = 100 }; /* bytes: for the sentence, but not for the help */
	program_run(&program, (const char *const[]){ SLUICE_SNAP, "--help", NULL }, ROOM);
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "cannot write to the standard output"));
}

TEST(wrong_usage_is_status_2_and_teaches)
{
	static const char *const rows[][6] = {
		{ SLUICE_SNAP, "out.png" },
		{ SLUICE_SNAP, "--stream", "a" },
		{ SLUICE_SNAP, "--stream", "a", "b", "c" },
		{ SLUICE_SNAP, "--nonsense" },
		{ SLUICE_SNAP, "--stream", "a", "--timeout=0", "b" },
		{ SLUICE_SNAP, "--stream", "a", "--timeout=3601", "b" },
		{ SLUICE_SNAP, "--stream", "a", "--timeout=nan", "b" },
		{ SLUICE_SNAP, "--stream", "a", "--timeout=1x", "b" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		program_run(&program, rows[i], 0);
		CHECK_EQ(program.status, 2);
		CHECK(program.err[0] && !program.out[0]);
	}
	program_run(&program, (const char *const[]){ SLUICE_SNAP, "--help", NULL }, 0);
	CHECK_EQ(program.status, 0);
	CHECK(strstr(program.out, "examples:") && strstr(program.out, "exit status:"));
	program_run(&program, (const char *const[]){ SLUICE_SNAP, "--version", NULL }, 0);
	CHECK_STR(program.out, "sluice-snap " SLUICE_VERSION "\n");
	program_run(&program,
		(const char *const[]){
			SLUICE_SNAP, "--socket=/nonexistent/s", "--stream=a", "x.png", NULL },
		0);
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "no broker listens at /nonexistent/s"));
}
