/*
 * Clients that lie, flood, or never give back, beside three healthy ones: the healthy ones get every
 * frame, and the broker has what it had before.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/scene.h"
#include "tests/test.h"

/* --- never give back, give back what is not theirs --------------------------------------------- */

TEST(a_frame_that_is_never_released_is_revoked)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	unsigned n_revoked = 0, n_frames = 0;
	raw_connect(&raw, &s.broker);
	raw_hello(&raw);
	raw_subscribe(&raw, 16);
	raw_bound(&raw);
	/* the other slots of the 12 are enough for the rest: at least 6 of its 16 must go */
	while (n_revoked < 6 || n_frames < 16) {
		int body = raw_recv(&raw);
		n_revoked += body == SLUICE__PACKET__BODY_REVOKED;
		n_frames += body == SLUICE__PACKET__BODY_FRAME;
		CHECK(body && n_revoked <= n_frames);
	}
	CHECK_EQ(n_frames, 16);
	/* it gets no frame more, and is left alone */
	struct timeval short_time = { .tv_sec = 0, .tv_usec = 300000 };
	setsockopt(raw.fd, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof(short_time));
	char data[1024];
	ssize_t len;
	while ((len = recv(raw.fd, data, sizeof(data), 0)) > 0) {
		CHECK_EQ(wire_decode(data, (size_t)len, raw.arena, &raw.packet), 0);
		CHECK_EQ(raw.packet->body_case, SLUICE__PACKET__BODY_REVOKED);
	}
	CHECK(len < 0);
	raw_close(&raw);
	scene_end(&s);
}

TEST(a_release_of_a_revoked_frame_is_good_and_makes_room_for_the_next)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	hold_frames(&raw, 16);
	uint64_t last_seq = raw.packet->frame->seq;
	raw_expect(&raw, SLUICE__PACKET__BODY_REVOKED);
	const Sluice__Revoked *revoked = raw.packet->revoked;
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.view = revoked->view;
	frame.generation = revoked->generation;
	frame.slot = revoked->slot;
	frame.seq = revoked->seq;
	CHECK_EQ(raw_release(&raw, &frame), 0);
	raw_expect(&raw, SLUICE__PACKET__BODY_FRAME);
	CHECK(raw.packet->frame->seq > last_seq);
	raw_close(&raw);
	scene_end(&s);
}

TEST(a_second_release_ends_the_client)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	hold_frames(&raw, 1);
	Sluice__Frame frame = *raw.packet->frame;
	CHECK_EQ(raw_release(&raw, &frame), 0);
	CHECK_EQ(raw_release(&raw, &frame), 0);
	raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
	raw_close(&raw);
	CHECK_EQ(broker_log_count(&s.broker, "is not held"), 1);
	scene_end(&s);
}

TEST(a_release_of_a_frame_never_sent_ends_the_client)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	hold_frames(&raw, 1);
	Sluice__Frame frame = *raw.packet->frame;
	frame.slot = 99999;
	CHECK_EQ(raw_release(&raw, &frame), 0);
	raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
	raw_close(&raw);
	scene_end(&s);
}

TEST(a_reserved_frame_kept_past_the_deadline_ends_the_client)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	hold_reserved(&raw);
	raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_TIMEOUT);
	raw_close(&raw);
	CHECK_EQ(broker_log_count(&s.broker, "was held for more than"), 1);
	scene_end(&s);
}

/* --- malformed -------------------------------------------------------------------------------- */

static const int client_bodies[] = {
	SLUICE__PACKET__BODY_HELLO,
	SLUICE__PACKET__BODY_LIST_STREAMS,
	SLUICE__PACKET__BODY_SUBSCRIBE,
	SLUICE__PACKET__BODY_UNSUBSCRIBE,
	SLUICE__PACKET__BODY_BOUND,
	SLUICE__PACKET__BODY_RELEASE,
	SLUICE__PACKET__BODY_STATUS_REQUEST,
};

enum { N_BODIES = sizeof(client_bodies) / sizeof(client_bodies[0]) };

/* One valid message of each kind. */
static size_t encode_message(int body, unsigned char *data, size_t size)
{
	Sluice__Hello hello = SLUICE__HELLO__INIT;
	Sluice__ListStreams list = SLUICE__LIST_STREAMS__INIT;
	Sluice__Subscribe subscribe = SLUICE__SUBSCRIBE__INIT;
	Sluice__Unsubscribe unsubscribe = SLUICE__UNSUBSCRIBE__INIT;
	Sluice__Bound bound = SLUICE__BOUND__INIT;
	Sluice__Release release = SLUICE__RELEASE__INIT;
	Sluice__StatusRequest status = SLUICE__STATUS_REQUEST__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	hello.version_min = hello.version_max = WIRE_VERSION;
	hello.name = (char *)"half a message";
	list.watch = true;
	subscribe.stream = (char *)"test";
	unsubscribe.view = bound.view = release.view = 1;
	bound.generation = release.generation = 1;
	release.seq = 300;
	status.request = 7;
	packet.body_case = (Sluice__Packet__BodyCase)body;
	void *bodies[] = { &hello, &list, &subscribe, &unsubscribe, &bound, &release, &status };
	for (int i = 0; i < N_BODIES; i++)
		if (client_bodies[i] == body)
			packet.hello = bodies[i]; /* a union of pointers */
	size_t len;
	CHECK_EQ(wire_encode(&packet, data, size, &len), 0);
	return len;
}

TEST(a_message_cut_anywhere_ends_its_client_alone)
{
	struct scene s;
	scene_begin(&s);
	for (int i = 0; i < N_BODIES; i++) {
		unsigned char data[256];
		size_t len = encode_message(client_bodies[i], data, sizeof(data));
		for (size_t cut = 1; cut < len; cut++) {
			struct raw raw;
			raw_connect(&raw, &s.broker);
			if (client_bodies[i] != SLUICE__PACKET__BODY_HELLO)
				raw_hello(&raw);
			CHECK_EQ(wire_send(raw.fd, data, cut, NULL), 0);
			raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
			raw_close(&raw);
		}
	}
	scene_end(&s);
}

TEST(a_client_that_disconnects_after_each_message_leaves_nothing)
{
	struct scene s;
	scene_begin(&s);
	for (int i = 0; i < N_BODIES; i++) {
		unsigned char data[256];
		size_t len = encode_message(client_bodies[i], data, sizeof(data));
		struct raw raw;
		raw_connect(&raw, &s.broker);
		if (client_bodies[i] != SLUICE__PACKET__BODY_HELLO)
			raw_hello(&raw);
		CHECK_EQ(wire_send(raw.fd, data, len, NULL), 0);
		raw_close(&raw);
	}
	scene_end(&s);
}

TEST(descriptors_that_nobody_asked_for_end_the_client_and_are_closed)
{
	struct scene s;
	scene_begin(&s);
	for (int i = 0; i < N_BODIES; i++) {
		unsigned char data[256];
		size_t len = encode_message(client_bodies[i], data, sizeof(data));
		struct raw raw;
		struct fdset fds = { .n = 2,
			.fd = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) } };
		raw_connect(&raw, &s.broker);
		if (client_bodies[i] != SLUICE__PACKET__BODY_HELLO)
			raw_hello(&raw);
		CHECK_EQ(wire_send(raw.fd, data, len, &fds), 0);
		raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
		raw_close(&raw);
		broker_expect_fds(&s.broker, s.fds);
	}
	scene_end(&s);
}

TEST(a_message_one_byte_over_the_limit_ends_the_client)
{
	struct scene s;
	struct raw raw;
	static unsigned char data[WIRE_REQUEST_MAX + 1];
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	CHECK_EQ(wire_send(raw.fd, data, sizeof(data), NULL), 0);
	raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
	raw_close(&raw);
	scene_end(&s);
}

TEST(a_message_out_of_order_ends_the_client)
{
	struct scene s;
	scene_begin(&s);
	for (int i = 0; i < N_BODIES; i++) {
		unsigned char data[256];
		size_t len = encode_message(client_bodies[i], data, sizeof(data));
		struct raw raw;
		raw_connect(&raw, &s.broker);
		if (client_bodies[i] == SLUICE__PACKET__BODY_HELLO)
			raw_hello(&raw); /* hello twice; the others before hello */
		CHECK_EQ(wire_send(raw.fd, data, len, NULL), 0);
		raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
		raw_close(&raw);
	}
	scene_end(&s);
}

TEST(an_answer_to_a_generation_that_was_not_offered_ends_the_client)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	raw_hello(&raw);
	raw_subscribe(&raw, 2);
	raw.generation += 1000;
	raw_bound(&raw);
	raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
	raw_close(&raw);
	scene_end(&s);
}

/* --- floods ----------------------------------------------------------------------------------- */

TEST(a_client_that_never_reads_is_ended_when_its_socket_is_full)
{
	struct scene s;
	struct raw raw;
	Sluice__ListStreams list = SLUICE__LIST_STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	raw_hello(&raw);
	packet.body_case = SLUICE__PACKET__BODY_LIST_STREAMS;
	packet.list_streams = &list;
	int r = WIRE_OK;
	for (int i = 0; i < 200000 && (r == WIRE_OK || r == WIRE_AGAIN); i++) {
		r = raw_send(&raw, &packet);
		if (r == WIRE_AGAIN)
			sleep_ms(1);
	}
	CHECK(r < 0); /* the broker has closed */
	raw_close(&raw);
	CHECK_EQ(broker_log_count(&s.broker, "does not read its socket"), 1);
	scene_end(&s);
}

TEST(two_thousand_connections_are_refused_past_the_limit)
{
	enum { MANY = 2000 };
	struct scene s;
	static int fd[MANY];
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < MANY + 100)
		test_skip("this process may not open 2,000 descriptors");
	scene_begin(&s);
	unsigned refused = 0;
	for (int i = 0; i < MANY; i++) {
		struct raw raw;
		raw_connect(&raw, &s.broker);
		fd[i] = raw.fd;
		raw.fd = -EBADF;
		raw_close(&raw);
	}
	sleep_ms(500);
	for (int i = 0; i < MANY; i++) {
		char data[1024];
		refused += recv(fd[i], data, sizeof(data), MSG_DONTWAIT) > 0;
		close(fd[i]);
	}
	CHECK(refused >= MANY - 256);
	/* once for the flood; the healthy ones were there before */
	CHECK_EQ(broker_log_count(&s.broker, "refused a connection"), 1);
	scene_end(&s);
}

/* The memory that comes with a subscription is descriptors in flight until it is read. */
TEST(who_subscribes_and_never_reads_what_comes_runs_into_a_limit)
{
	struct scene s;
	struct raw raw;
	scene_begin(&s);
	raw_connect(&raw, &s.broker);
	raw_hello(&raw);
	Sluice__Subscribe request = SLUICE__SUBSCRIBE__INIT;
	Sluice__Unsubscribe unsubscribe = SLUICE__UNSUBSCRIBE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	request.stream = (char *)"test";
	unsubscribe.view = 1;
	packet.body_case = SLUICE__PACKET__BODY_UNSUBSCRIBE;
	packet.unsubscribe = &unsubscribe;
	for (int i = 0; i < 40; i++) {
		raw_subscribe_with(&raw, &request);
		CHECK_EQ(raw_send(&raw, &packet), 0);
	}
	raw_expect(&raw, SLUICE__PACKET__BODY_ERROR);
	CHECK_EQ(raw.packet->error->code, SLUICE__ERROR_CODE__ERROR_LIMIT);
	raw_close(&raw);

	/* reading and answering clears it */
	raw_connect(&raw, &s.broker);
	raw_hello(&raw);
	for (int i = 0; i < 100; i++) {
		raw_subscribe(&raw, 1);
		if (i % 4 == 3)
			raw_bound(&raw);
		unsubscribe.view = raw.view;
		CHECK_EQ(raw_send(&raw, &packet), 0);
	}
	raw_close(&raw);
	scene_end(&s);
}

TEST(a_flood_of_nonsense_leaves_few_lines_in_the_log)
{
	struct scene s;
	scene_begin(&s);
	for (int i = 0; i < 300; i++) {
		struct raw raw;
		raw_connect(&raw, &s.broker);
		CHECK_EQ(wire_send(raw.fd, "nonsense", 8, NULL), 0);
		raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
		raw_close(&raw);
	}
	unsigned lines = broker_log_count(&s.broker, "is malformed");
	CHECK(lines >= 10 && lines < 100);
	scene_end(&s);
}

/* A hung reader of the broker's stderr must not stop the frames. */
TEST(a_log_that_nobody_reads_does_not_stop_the_broker)
{
	int out[2];
	struct broker_process b;
	struct healthy h;
	CHECK(pipe2(out, O_CLOEXEC) == 0);
	CHECK(fcntl(out[1], F_SETPIPE_SZ, 4096) > 0);
	snprintf(b.socket, sizeof(b.socket), "%s/s", test_tmpdir());
	fflush(NULL);
	b.pid = fork();
	if (b.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDERR_FILENO);
		execl(e2e_broker_path(), "sluice-broker", "--socket", b.socket, "--source",
			"test=pattern:320x240@30", "--slots", "12", "--log-level", "debug", "--gpu",
			"none", NULL);
		_exit(127);
	}
	for (int i = 0; access(b.socket, F_OK) < 0 && i < 500; i++)
		sleep_ms(10);
	sleep_ms(100);
	for (int i = 0; i < 200; i++) {
		struct raw raw;
		raw_connect(&raw, &b);
		raw_hello(&raw); /* said at level debug */
		raw_close(&raw);
	}
	healthy_start(&h, &b, &healthy_default);
	sleep_ms(1000);
	struct healthy_report r = healthy_finish(&h);
	CHECK_EQ(r.result, 0);
	CHECK(r.frames > 10);
	CHECK_EQ(broker_stop(&b), 0);
	close(out[0]);
	close(out[1]);
}

TEST(a_thousand_connect_cycles_leave_descriptors_and_memory_flat)
{
	struct broker_process b;
	broker_start(&b, scene_options);
	uint64_t rss = 0;
	unsigned fds = broker_fds(&b);
	sleep_ms(1000); /* every slot is written for the first time */
	for (int i = 0; i < 1000; i++) {
		struct raw raw;
		raw_connect(&raw, &b);
		hold_frames(&raw, 1);
		raw_close(&raw);
		if (i == 100) /* allocators are warm */
			rss = test_rss_bytes(b.pid);
	}
	broker_expect_fds(&b, fds);
	uint64_t after = test_rss_bytes(b.pid);
	/* sanitizers keep what was freed for a while */
	uint64_t slack = test_slowness() > 1 ? 96 << 20 : 1 << 20;
	if (after > rss + slack)
		test_fail(__FILE__, __LINE__, "resident memory grew from %llu to %llu bytes",
			(unsigned long long)rss, (unsigned long long)after);
	CHECK_EQ(broker_stop(&b), 0);
}

/* --- memory ----------------------------------------------------------------------------------- */

TEST(a_client_cannot_write_or_shrink_what_it_is_lent)
{
	struct broker_process b;
	struct raw raw;
	broker_start(&b, scene_options);
	raw_connect(&raw, &b);
	raw_hello(&raw);
	raw_subscribe(&raw, 1);
	CHECK_EQ(raw.fds.n, SCENE_SLOTS + 1);
	for (unsigned i = 0; i < raw.fds.n; i++) {
		int fd = raw.fds.fd[i];
		CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
		CHECK(ftruncate(fd, 0) < 0);
		CHECK(pwrite(fd, "x", 1, 0) < 0);
		CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
		CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
		void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(map != MAP_FAILED);
		CHECK(mprotect(map, 4096, PROT_READ | PROT_WRITE) < 0);
		munmap(map, 4096);
	}
	raw_close(&raw);
	CHECK_EQ(broker_stop(&b), 0);
}

#ifdef SLUICE_FAULTS
/* The check that all tests rest on must fail when the broker writes into slots that are held. */
TEST(the_stamp_check_notices_a_slot_that_is_reused_too_early)
{
	/*
	 * A frame is taken at 0 ms, is not the newest any more at 33, and its slot is written again
	 * from 36 ms on, 30 ms before that is announced: a reader that looks at 50 sees the wrong one.
	 */
	static const char *const broken[] = { "--source", "test=pattern:320x240@30", "--slots", "4",
		"--fault-early-reuse", "1", "--fault-slow", "30", NULL };
	static const char *const sound[] = { "--source", "test=pattern:320x240@30", "--slots", "4",
		"--fault-early-reuse", "0", "--fault-slow", "30", NULL };
	static const struct healthy_options slow = {
		.delivery = SLUICE_MAILBOX, .max_holds = 1, .read_ms = 50
	};
	for (int is_broken = 0; is_broken < 2; is_broken++) {
		struct broker_process b;
		struct healthy h;
		broker_start(&b, is_broken ? broken : sound);
		healthy_start(&h, &b, &slow);
		sleep_ms(1500 * test_slowness());
		struct healthy_report r = healthy_finish(&h);
		CHECK_EQ(r.result, 0);
		CHECK(r.frames > 5);
		if (is_broken)
			CHECK(r.bad > 0);
		else
			CHECK_EQ(r.bad, 0);
		CHECK_EQ(broker_stop(&b), 0);
	}
}
#endif
