#include "tests/scene.h"

#include "tests/test.h"

/*
 * The queue of a healthy client rides out 300 ms of a busy test machine; a client that holds 16 frames
 * makes the pool of 12 revoke.
 */
const char *const scene_options[] = { "--source", "test=pattern:320x240@30", "--slots", "12",
	NULL };

void scene_begin(struct scene *s)
{
	struct healthy_options patient = healthy_default;
	patient.fifo_depth = 9;
	broker_start(&s->broker, scene_options);
	unsigned alone = broker_fds(&s->broker);
	for (int i = 0; i < SCENE_HEALTHY; i++)
		healthy_start(&s->healthy[i], &s->broker, &patient);
	s->fds = alone + SCENE_HEALTHY;
	broker_expect_fds(&s->broker, s->fds);
}

static void check_healthy(struct scene *s, uint64_t least_frames)
{
	for (int i = 0; i < SCENE_HEALTHY; i++) {
		struct healthy_report r = healthy_finish(&s->healthy[i]);
		CHECK_EQ(r.result, 0);
		CHECK_EQ(r.bad, 0);
		CHECK_EQ(r.invalid, 0);
		CHECK_EQ(r.gaps, 0);
		if (r.frames < least_frames)
			test_fail(__FILE__, __LINE__, "only %llu frames came",
				(unsigned long long)r.frames);
	}
}

void scene_end(struct scene *s)
{
	broker_expect_fds(&s->broker, s->fds);
	sleep_ms(700);
	check_healthy(s, 10);
	broker_expect_fds(&s->broker, s->fds - SCENE_HEALTHY);
	CHECK_EQ(broker_stop(&s->broker), 0);
}

void hold_frames(struct raw *raw, unsigned n)
{
	raw_hello(raw);
	raw_subscribe(raw, n);
	raw_bound(raw);
	while (n-- > 0)
		raw_expect(raw, SLUICE__PACKET__BODY_FRAME);
}

void hold_reserved(struct raw *raw)
{
	Sluice__Subscribe request = SLUICE__SUBSCRIBE__INIT;
	request.stream = (char *)"test";
	request.reserved_holds = 1;
	raw_hello(raw);
	raw_subscribe_with(raw, &request);
	raw_expect(raw, SLUICE__PACKET__BODY_GENERATION);
	raw->view = raw->packet->generation->view;
	raw->generation = raw->packet->generation->generation;
	raw_bound(raw);
	raw_expect(raw, SLUICE__PACKET__BODY_FRAME);
}
