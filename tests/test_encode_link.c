/* What goes to a server, from a broker that plays a script: servers that are away, slow, or mute. */
#include <arpa/inet.h>
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "consumer/encoder/avlog.h"
#include "consumer/encoder/parts.h"
#include "consumer/encoder/queue.h"
#include "consumer/encoder/record.h"
#include "consumer/encoder/stop.h"
#include "tests/fake_sluice.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

struct take {
	struct options options;
	struct stats stats;
	struct problem problem;
	char url[64];
};

/* One connection to the test's server. */
struct visit {
	unsigned away_ms;   /* nobody listens before it */
	size_t bytes;       /* are read, then it hangs up; 0: all */
	bool is_mute;       /* accepts, and reads nothing */
	unsigned asleep_ms; /* between accepting and reading */
};

static void prepare(struct take *take, int port)
{
	*take = (struct
		take){ .options = {
			       .stream = "fake",
			       .output = take->url,
			       .muxer = "mpegts",
			       .quiet = true,
			       .timeout_us = 10000000,
			       .encoder = { .codec = "libx264",
				       .crf = 20,
				       .qp = -1,
				       .gop = 1000, /* key frames where they are asked for */
				       .rate = { 30, 1 } },
		       } };
	snprintf(take->url, sizeof(take->url), "tcp://127.0.0.1:%d", port);
}

static int run(struct take *take, const struct fake_step *steps, unsigned n_steps)
{
	const AVOutputFormat *format;
	avlog_install(false);
	CHECK_EQ(stop_install(), 0);
	int r = parts_check_output(&take->options, &format, &take->problem);
	if (r < 0)
		return r;
	fake_play(steps, n_steps);
	r = record(&take->options, format, &take->stats, &take->problem);
	CHECK_EQ(fake_held(), 0);
	return r;
}

static int listen_on(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
	CHECK(fd >= 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0);
	CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(listen(fd, 5) == 0);
	return fd;
}

/* A port that nobody listens on. */
static int free_port(void)
{
	struct sockaddr_in at = { 0 };
	socklen_t size = sizeof(at);
	int fd = listen_on(0);
	CHECK(getsockname(fd, (struct sockaddr *)&at, &size) == 0);
	close(fd);
	return ntohs(at.sin_port);
}

static const char *file_of_visit(unsigned n)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/visit%u.ts", test_tmpdir(), n);
	return path;
}

static void read_all(int fd, size_t most, const char *path)
{
	char buf[16384];
	size_t done = 0;
	ssize_t n;
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while ((most == 0 || done < most) && (n = read(fd, buf, sizeof(buf))) > 0) {
		CHECK(write(file, buf, (size_t)n) == n);
		done += (size_t)n;
	}
	close(file);
}

static int connect_to(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	return fd;
}

/* GET what is served there. */
static void view(int port, const char *path)
{
	char url[64];
	unsigned char buf[16384];
	AVIOContext *from, *to;
	int n;
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
	CHECK(avio_open(&from, url, AVIO_FLAG_READ) >= 0);
	CHECK(avio_open(&to, path, AVIO_FLAG_WRITE) >= 0);
	while ((n = avio_read_partial(from, buf, sizeof(buf))) > 0)
		avio_write(to, buf, n);
	avio_closep(&from);
	avio_closep(&to);
}

static void receive(int port, const struct visit *visits, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		usleep(visits[i].away_ms * 1000);
		int listener = listen_on(port);
		int fd = accept(listener, NULL, NULL);
		CHECK(fd >= 0);
		close(listener);
		while (visits[i].is_mute)
			pause();
		usleep(visits[i].asleep_ms * 1000);
		read_all(fd, visits[i].bytes, file_of_visit(i));
		close(fd);
	}
}

static pid_t serve(int port, const struct visit *visits, unsigned n)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(60 * test_slowness()); /* whatever becomes of the test */
		receive(port, visits, n);
		_exit(0);
	}
	if (visits[0].away_ms == 0)
		usleep(200000); /* until it listens; later is only another attempt */
	return pid;
}

static void await(pid_t pid)
{
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

/* It begins with a whole picture, as only a key frame is, and none of it is damaged but the cut. */
static struct video_summary check_visit(unsigned n)
{
	struct video_summary s = video_summarize(file_of_visit(n));
	CHECK(s.frames > 0);
	CHECK_EQ(s.jumps, 0);
	CHECK(s.is_monotonic);
	return s;
}

TEST(a_server_gets_every_frame)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE }, { FAKE_FRAMES, .n = 90 },
		{ .kind = FAKE_INTERRUPT } };
	static const struct visit visits[] = { { 0 } };
	struct take t;
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	await(server);
	struct video_summary s = check_visit(0);
	CHECK_EQ(s.frames + t.stats.late, 90);
	CHECK_EQ(s.damaged, 0);
	CHECK_EQ(t.stats.n_gaps, 0);
	CHECK(t.stats.bytes > 0);
}

TEST(a_server_that_is_not_there_is_an_error_at_once)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 3000 } };
	struct take t;
	uint64_t begin = clock_ns();
	prepare(&t, free_port());
	CHECK_EQ(run(&t, steps, N(steps)), -ECONNREFUSED);
	CHECK(strstr(t.problem.text, t.url) && strstr(t.problem.text, "Connection refused"));
	CHECK(clock_ns() - begin < test_slowness() * NS_PER_S);
}

TEST(with_wait_a_server_may_come_later)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 60 }, { .kind = FAKE_INTERRUPT } };
	static const struct visit visits[] = { { .away_ms = 300 } };
	struct take t;
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	await(server);
	struct video_summary s = check_visit(0);
	CHECK(s.damaged == 0 && s.last == 60);
	CHECK_EQ(s.frames + t.stats.late, 60);
}

TEST(a_server_that_comes_back_goes_on_with_a_key_frame)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 110 }, { .kind = FAKE_INTERRUPT } };
	static const struct visit visits[] = { { .bytes = 20000 }, { .away_ms = 400 } };
	struct take t;
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	await(server);
	CHECK(check_visit(0).first < 60);
	struct video_summary s = check_visit(1);
	CHECK(s.damaged == 0 && s.last == 110);
	CHECK(t.stats.republished >= 1 && t.stats.late > 0);
	CHECK(t.stats.n_gaps == 0 &&
		t.stats.frames == 110); /* the frames were taken all the same */
}

TEST(a_mute_server_stops_neither_the_capture_nor_the_end)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 150 }, { .kind = FAKE_INTERRUPT } };
	static const struct visit visits[] = { { .is_mute = true } };
	struct take t;
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	t.options.muxer = "nut";
	t.options.encoder.codec = "rawvideo"; /* more than a socket takes */
	t.options.encoder.crf = -1;
	uint64_t begin = clock_ns();
	CHECK_EQ(run(&t, steps, N(steps)), -ETIMEDOUT);
	CHECK(strstr(t.problem.text, "does not answer"));
	double seconds = (double)(clock_ns() - begin) / 1e9;
	CHECK_EQ(t.stats.frames, 150);
	CHECK(t.stats.late > 0);
	CHECK(seconds < 4.7 * test_slowness() + STOP_GRACE_S);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

TEST(a_server_that_falls_silent_is_left_and_patience_ends)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 3000 } };
	static const struct visit visits[] = { { .is_mute = true } };
	struct take t;
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	t.options.timeout_us = 500000;
	t.options.patience_us = 700000;
	t.options.muxer = "nut";
	t.options.encoder.codec = "rawvideo";
	t.options.encoder.crf = -1;
	CHECK_EQ(run(&t, steps, N(steps)), -ETIMEDOUT);
	CHECK(strstr(t.problem.text, "Connection refused")); /* of the last attempt */
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

TEST(another_size_is_published_anew)
{
	static const struct fake_step steps[] = {
		{ .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 30 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 200, 160 },
		{ FAKE_LIVE_FRAMES, .n = 30 },
		{ FAKE_STILL, .n = 300 },
		{ FAKE_LIVE_FRAMES, .n = 30 },
		{ .kind = FAKE_INTERRUPT },
	};
	static const struct visit visits[] = { { 0 }, { 0 } };
	struct take t;
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	await(server);
	struct video_summary before = check_visit(0), after = check_visit(1);
	CHECK(before.width == 320 && before.damaged == 0);
	CHECK(after.width == 200 && after.damaged == 0 && after.last == 90);
	CHECK_EQ(t.stats.parts, 2);
}

static AVPacket *packet_of(int size)
{
	AVPacket *packet = av_packet_alloc();
	CHECK(packet && av_new_packet(packet, size) == 0);
	return packet;
}

static void add(struct queue *queue, int size, uint64_t now_ns)
{
	AVPacket *packet = packet_of(size);
	CHECK_EQ(queue_add_packet(queue, packet, now_ns), 0);
	CHECK_EQ(packet->size, 0);
	av_packet_free(&packet);
}

TEST(a_queue_is_bounded_in_time_and_in_memory)
{
	struct queue q;
	struct queue_item item;
	queue_init(&q);
	CHECK(!queue_is_full(&q, 1000 * NS_PER_S));
	add(&q, 10, NS_PER_S);
	CHECK(!queue_is_full(&q, 2 * NS_PER_S));
	CHECK(queue_is_full(&q, NS_PER_S + QUEUE_AGE_MS * NS_PER_MS + 1));
	add(&q, QUEUE_BYTES_MAX, NS_PER_S);
	CHECK(queue_is_full(&q, NS_PER_S));
	CHECK(queue_take(&q, &item) && item.packet && item.packet->size == 10);
	av_packet_free(&item.packet);
	CHECK_EQ(queue_clear(&q), 1);
	CHECK(!queue_take(&q, &item));
	CHECK(!queue_is_full(&q, 1000 * NS_PER_S));
}

TEST(packets_are_thrown_away_and_tracks_are_kept)
{
	struct queue q;
	struct queue_item item;
	struct track *tracks[] = { calloc(1, sizeof(struct track)),
		calloc(1, sizeof(struct track)) };
	queue_init(&q);
	CHECK(tracks[0] && tracks[1]);
	add(&q, 10, NS_PER_S);
	CHECK_EQ(queue_add_track(&q, tracks[0], NS_PER_S), 0);
	add(&q, 20, 2 * NS_PER_S);
	CHECK_EQ(queue_add_track(&q, tracks[1], 2 * NS_PER_S), 0);
	CHECK(queue_is_older(&q, NS_PER_S / 2, 2 * NS_PER_S));
	CHECK_EQ(queue_drop_packets(&q), 2);
	CHECK(q.n_packets == 0 && q.bytes == 0);
	CHECK(!queue_is_full(&q, 1000 * NS_PER_S)); /* a track is never too old */
	add(&q, 30, 3 * NS_PER_S);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(queue_take(&q, &item) && item.track == tracks[i]);
		track_destroy(item.track);
	}
	CHECK(queue_take(&q, &item) && item.packet && item.packet->size == 30);
	av_packet_free(&item.packet);
	CHECK(!queue_take(&q, &item));
	CHECK_EQ(queue_drop_packets(&q), 0);
	add(&q, 40, NS_PER_S);
	CHECK_EQ(queue_clear(&q), 1);
}

/* Numbers of a visit's frames. Returns how many. */
static unsigned read_numbers(const char *path, uint32_t *number, unsigned most)
{
	struct video v;
	AVFrame *frame;
	unsigned n = 0;
	CHECK(video_open(&v, path));
	while (n < most && video_next(&v, &frame))
		n += video_stamp(frame, &number[n]) == STAMP_OK;
	video_close(&v);
	return n;
}

TEST(a_server_that_sleeps_gets_what_is_new_and_not_what_is_old)
{
	enum { ALL = 190 };
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = ALL }, { .kind = FAKE_INTERRUPT } };
	static const struct visit visits[] = { { .asleep_ms = 3200 } };
	struct take t;
	uint32_t number[ALL];
	int port = free_port();
	pid_t server = serve(port, visits, N(visits));
	prepare(&t, port);
	t.options.wait = true;
	t.options.muxer = "nut";
	t.options.encoder.codec = "rawvideo"; /* more than a socket takes */
	t.options.encoder.crf = -1;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	await(server);
	unsigned n = read_numbers(file_of_visit(0), number, ALL);
	CHECK(n > 0 && t.stats.late > 0 && number[n - 1] == ALL);
	unsigned at = n - 1, jumps = 0;
	for (unsigned i = 1; i < n; i++)
		if (number[i] != number[i - 1] + 1) {
			at = i;
			jumps++;
		}
	printf("     %u frames, up to %u, then from %u\n", n, number[at - 1], number[at]);
	CHECK_EQ(jumps, 1);
	/* what came in the two seconds behind what the socket took is what is missing */
	CHECK(number[at - 1] < 40);
}

TEST(a_viewer_who_comes_late_sees_what_is_new)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 90 }, { .kind = FAKE_INTERRUPT } };
	struct take t;
	int port = free_port();
	prepare(&t, port);
	snprintf(t.url, sizeof(t.url), "http://127.0.0.1:%d/?listen=1", port);
	fflush(NULL);
	pid_t viewer = fork();
	if (viewer == 0) {
		alarm(60 * test_slowness());
		usleep(1500000); /* frame 48, or fewer on a slow machine */
		view(port, file_of_visit(0));
		_exit(0);
	}
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	await(viewer);
	struct video_summary s = check_visit(0);
	CHECK(s.damaged == 0 && s.last == 90);
	CHECK(s.first > 10);
}

/* A scanner of ports, or a browser that opens connections in advance. */
TEST(one_who_comes_and_says_nothing_keeps_no_viewer_out)
{
	static const struct fake_step steps[] = { { .kind = FAKE_LIVE },
		{ FAKE_LIVE_FRAMES, .n = 130 }, { .kind = FAKE_INTERRUPT } };
	struct take t;
	int port = free_port();
	prepare(&t, port);
	snprintf(t.url, sizeof(t.url), "http://127.0.0.1:%d/?listen=1", port);
	t.options.timeout_us = 500000;
	fflush(NULL);
	pid_t viewer = fork();
	if (viewer == 0) {
		alarm(60 * test_slowness());
		usleep(500000);
		int mute = connect_to(port);
		usleep(1500000);
		view(port, file_of_visit(0));
		close(mute);
		_exit(0);
	}
	pid_t encoder = fork(); /* FFmpeg 5 loses the descriptor of the mute one */
	if (encoder == 0 && run(&t, steps, N(steps)) != 0)
		test_fail(__FILE__, __LINE__, "%s", t.problem.text);
	if (encoder == 0)
		_exit(0);
	await(encoder);
	await(viewer);
	struct video_summary s = check_visit(0);
	CHECK(s.damaged == 0 && s.last == 130);
}
