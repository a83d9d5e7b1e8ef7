/* sluice-cuda-check against a scripted broker: what it counts, what it says, and how it is ended. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "common/stamp.h"
#include "tests/cuda_session.h"
#include "tests/program.h"

static struct program program;
static struct fake_memory memory, newer;

/* Run it with these arguments, which end with NULL. */
static void check(fake_script script, const char *const *arguments)
{
	enum { ARGUMENTS_MAX = 16 };
	struct fake fake;
	fake_start(&fake, script, NULL);
	const char *argv[ARGUMENTS_MAX] = { SLUICE_CUDA_CHECK, "--socket", fake.address.sun_path,
		"--stream", "desktop" };
	unsigned n = 5;
	while (*arguments && n < ARGUMENTS_MAX - 1)
		argv[n++] = *arguments++;
	program_run(&program, argv, 0);
	fake_stop(&fake);
}

static void listen_for_it(struct fake *fake)
{
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	Sluice__StreamInfo *list[] = { &info };
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	info.name = (char *)"desktop";
	info.device = &gpu.device;
	streams.n_streams = 1;
	streams.streams = list;
	packet.body_case = SLUICE__PACKET__BODY_STREAMS;
	packet.streams = &streams;
	fake_welcome(fake, 1);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_send(fake, &packet, NULL);
}

static void send_stamped(struct fake *fake, struct fake_memory *m, unsigned slot, uint32_t number)
{
	stamp_draw(m->slot[slot], &m->format, number);
	fake_frame(fake, m, slot, number);
}

static void expect_leave(struct fake *fake)
{
	fake_expect(fake, SLUICE__PACKET__BODY_UNSUBSCRIBE);
	fake_expect_end(fake);
}

/* It is held by then, and not yet read. */
static void send_revoked(struct fake *fake)
{
	enum { TAKEN_US = 100000 };
	fake_gpu_memory_init(&memory, &gpu, 1, 0, complete);
	listen_for_it(fake);
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_bind(fake, &memory);
	send_stamped(fake, &memory, 0, 1);
	usleep(TAKEN_US * test_slowness());
	fake_revoke(fake, &memory, 0, 1);
	fake_released(fake, &memory, 0, 1);
}

static void script_all_revoked(struct fake *fake)
{
	send_revoked(fake);
	expect_leave(fake);
	fake_gpu_memory_finish(&memory);
}

/* How long each frame is held. */
static const char *hold_ms(void)
{
	static char text[16];
	snprintf(text, sizeof(text), "%u", 400 * test_slowness());
	return text;
}

CUDA_TEST(who_has_verified_nothing_has_failed)
{
	char seconds[16];
	snprintf(seconds, sizeof(seconds), "%u", 1 * test_slowness());
	check(script_all_revoked, (const char *[]){ "--hold", hold_ms(), "-t", seconds, NULL });
	CHECK_EQ(program.status, 1);
	CHECK(has_text(program.out, "0 frames, 0 wrong"));
	CHECK(has_text(program.out, "1 revoked"));
	CHECK(has_text(program.err, "taken back before it was read"));
}

static void script_second_is_good(struct fake *fake)
{
	send_revoked(fake);
	send_stamped(fake, &memory, 1, 2);
	fake_released(fake, &memory, 1, 2);
	expect_leave(fake);
	fake_gpu_memory_finish(&memory);
}

CUDA_TEST(a_frame_that_was_revoked_does_not_count)
{
	check(script_second_is_good, (const char *[]){ "--hold", hold_ms(), "-n", "1", NULL });
	CHECK_EQ(program.status, 0);
	CHECK(has_text(program.out, "1 frames, 0 wrong"));
	CHECK(has_text(program.out, "1 revoked"));
}

static void script_without_timeline(struct fake *fake)
{
	fake_gpu_memory_init(&memory, &gpu, 1, 0, timeline);
	fake_gpu_memory_init(&newer, &gpu, 2, 0, complete);
	listen_for_it(fake);
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_offer(fake, &memory);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	fake_ended(fake, bound->error, "the client cannot map it");
	fake_gpu_granted(fake, &gpu, 2, complete);
	fake_bind(fake, &newer);
	send_stamped(fake, &newer, 0, 1);
	fake_released(fake, &newer, 0, 1);
	expect_leave(fake);
	fake_gpu_memory_finish(&memory);
	fake_gpu_memory_finish(&newer);
}

CUDA_FAIL_TEST(what_it_gets_less_of_later_is_said_too, "cuImportExternalSemaphore=999")
{
	check(script_without_timeline,
		(const char *[]){ "--readiness", "timeline", "-n", "1", NULL });
	CHECK_EQ(program.status, 0);
	CHECK(has_text(program.err, "frames come complete: cuImportExternalSemaphore"));
}

static void script_hangs(struct fake *fake)
{
	enum { WAITS_US = 300000 };
	struct ucred peer;
	socklen_t len = sizeof(peer);
	fake_gpu_memory_init(&memory, &gpu, 1, 0, timeline);
	listen_for_it(fake);
	fake_gpu_granted(fake, &gpu, 2, timeline);
	fake_bind(fake, &memory);
	send_stamped(fake, &memory, 0, 1);
	usleep(WAITS_US * test_slowness());
	CHECK(getsockopt(fake->sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0);
	CHECK(kill(peer.pid, SIGTERM) == 0);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

static void check_stuck(void)
{
	CHECK_EQ(program.status, 1);
	CHECK(has_text(program.err, "frame 1 was announced, and its pixels do not come"));
	CHECK(has_text(program.out, "0 frames, 0 wrong"));
}

CUDA_TEST(a_signal_ends_it_while_the_broker_hangs)
{
	check(script_hangs, (const char *[]){ "--readiness", "timeline", NULL });
	check_stuck();
}

CUDA_TEST(a_signal_ends_it_when_the_frame_is_given_back_already)
{
	check(script_hangs, (const char *[]){ "--readiness", "timeline", "--release-after",
				    "--reserved", "2", NULL });
	check_stuck();
}
