/*
 * Clients that are killed or stopped at each step of the protocol, beside three healthy ones: the
 * healthy ones get every frame, and the broker has what it had before.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/scene.h"
#include "tests/test.h"

/* --- steps of the protocol that a client can be at -------------------------------------------- */

static void send_list(struct raw *raw, bool watch)
{
	Sluice__ListStreams list = SLUICE__LIST_STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	list.watch = watch;
	packet.body_case = SLUICE__PACKET__BODY_LIST_STREAMS;
	packet.list_streams = &list;
	CHECK_EQ(raw_send(raw, &packet), 0);
}

static void step_connected(struct raw *raw)
{
	(void)raw;
}

static void step_hello(struct raw *raw)
{
	raw_hello(raw);
}

static void step_watching(struct raw *raw)
{
	raw_hello(raw);
	send_list(raw, true);
	raw_expect(raw, SLUICE__PACKET__BODY_STREAMS);
}

static void step_asked(struct raw *raw)
{
	Sluice__Subscribe request = SLUICE__SUBSCRIBE__INIT;
	request.stream = (char *)"test";
	raw_hello(raw);
	raw_subscribe_with(raw, &request);
}

static void step_generation(struct raw *raw)
{
	raw_hello(raw);
	raw_subscribe(raw, 2);
}

static void step_bound(struct raw *raw)
{
	raw_hello(raw);
	raw_subscribe(raw, 2);
	raw_bound(raw);
}

static void step_holding(struct raw *raw)
{
	hold_frames(raw, 2);
}

static void step_holding_many(struct raw *raw)
{
	hold_frames(raw, 16);
}

static void step_revoked(struct raw *raw)
{
	hold_frames(raw, 16);
	raw_expect(raw, SLUICE__PACKET__BODY_REVOKED);
}

static void step_releasing(struct raw *raw)
{
	hold_frames(raw, 1);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(raw_release(raw, raw->packet->frame), 0);
		raw_expect(raw, SLUICE__PACKET__BODY_FRAME);
	}
}

static void step_unsubscribed(struct raw *raw)
{
	Sluice__Unsubscribe m = SLUICE__UNSUBSCRIBE__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	hold_frames(raw, 2);
	m.view = raw->view;
	packet.body_case = SLUICE__PACKET__BODY_UNSUBSCRIBE;
	packet.unsubscribe = &m;
	CHECK_EQ(raw_send(raw, &packet), 0);
}

static void step_status(struct raw *raw)
{
	Sluice__StatusRequest m = SLUICE__STATUS_REQUEST__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	raw_hello(raw);
	packet.body_case = SLUICE__PACKET__BODY_STATUS_REQUEST;
	packet.status_request = &m;
	CHECK_EQ(raw_send(raw, &packet), 0);
	raw_expect(raw, SLUICE__PACKET__BODY_STATUS);
}

static const struct step {
	const char *name;
	void (*run)(struct raw *raw);
} steps[] = {
	{ "connected", step_connected },
	{ "after hello", step_hello },
	{ "watching", step_watching },
	{ "asked for a view", step_asked },
	{ "sent a generation", step_generation },
	{ "answered it", step_bound },
	{ "holding", step_holding },
	{ "holding many", step_holding_many },
	{ "holding reserved", hold_reserved },
	{ "revoked", step_revoked },
	{ "releasing", step_releasing },
	{ "unsubscribed", step_unsubscribed },
	{ "asking for the status", step_status },
};

enum { N_STEPS = sizeof(steps) / sizeof(steps[0]) };

/* A process that has come to this step and stays there. */
static pid_t start_at_step(const struct broker_process *b, const struct step *step)
{
	int ready[2];
	char byte;
	CHECK(pipe2(ready, O_CLOEXEC) == 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		struct raw raw;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		raw_connect(&raw, b);
		step->run(&raw);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	CHECK_ROW(read(ready[0], &byte, 1) == 1, step->name);
	close(ready[0]);
	return pid;
}

static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST(a_client_killed_at_any_step_costs_the_others_nothing)
{
	struct scene s;
	scene_begin(&s);
	for (int i = 0; i < N_STEPS; i++) {
		end_process(start_at_step(&s.broker, &steps[i]));
		broker_expect_fds(&s.broker, s.fds);
	}
	scene_end(&s);
}

TEST(a_client_stopped_at_any_step_costs_the_others_nothing)
{
	struct scene s;
	pid_t pid[N_STEPS];
	scene_begin(&s);
	for (int i = 0; i < N_STEPS; i++) {
		pid[i] = start_at_step(&s.broker, &steps[i]);
		kill(pid[i], SIGSTOP);
	}
	sleep_ms(1000);
	for (int i = 0; i < N_STEPS; i++)
		kill(pid[i], SIGCONT);
	sleep_ms(200);
	for (int i = 0; i < N_STEPS; i++)
		end_process(pid[i]);
	scene_end(&s);
}

TEST(a_library_client_that_is_stopped_goes_on_where_the_stream_is)
{
	struct scene s;
	struct healthy victim;
	scene_begin(&s);
	healthy_start(&victim, &s.broker, &healthy_default);
	sleep_ms(300);
	kill(victim.pid, SIGSTOP);
	sleep_ms(1500);
	kill(victim.pid, SIGCONT);
	sleep_ms(500);
	struct healthy_report r = healthy_finish(&victim);
	CHECK_EQ(r.result, 0);
	CHECK_EQ(r.bad, 0);
	CHECK(r.gaps > 20); /* 1.5 s are 45 frames, the queue and the pool keep some */
	CHECK(r.frames > 10);
	scene_end(&s);
}
