/*
 * Frames that are sent while the GPU still writes them: what a client may wait for, what it must not
 * wait for, and what it can spoil.
 */
#include "tests/mirror_scene.h"

#include <string.h>
#include <sys/eventfd.h>
#include <vulkan/vulkan_core.h>

#include "broker/subscription.h"
#include "common/clock.h"

#define COMPLETE   SLUICE__READINESS__READINESS_COMPLETE
#define TIMELINE   SLUICE__READINESS__READINESS_TIMELINE
#define SYNC_FD    SLUICE__READINESS__READINESS_SYNC_FD
#define GPU_MEMORY SLUICE__MEMORY__MEMORY_OPAQUE_FD

static struct mirror_scene s;

static bool newest_is_complete(struct mirror_scene *scene)
{
	const struct slot *newest = mirror_gpu(scene)->generation->pool.newest;
	return newest && newest->complete;
}

/* A frame is in flight, and everybody who waits for it himself was told. */
static uint32_t begin_frame(void)
{
	mirror_hold_work();
	uint32_t number = mirror_offer(&s);
	mirror_run_ms(&s, MIRROR_QUIET_MS);
	return number;
}

static void finish_frame(void)
{
	mirror_let_work_end();
	mirror_run_until(&s, newest_is_complete);
}

/* --- Timelines ---------------------------------------------------------------------------------- */

static void check_timeline(enum mirror_source source, bool has_host_reader)
{
	struct peer host, early, other;
	mirror_open(&s, source);
	if (has_host_reader)
		mirror_consume_host(&s, &host);
	mirror_consume_gpu(&s, &early, TIMELINE);
	mirror_consume_gpu(&s, &other, COMPLETE);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		uint32_t number = begin_frame();
		CHECK(!newest_is_complete(&s));
		mirror_await_early(&s, &early, seq, 0);
		unsigned slot = early.packet->frame->slot;
		CHECK_EQ(gpu_timeline_value(mirror_timeline(&s, 0)), seq - 1);
		mirror_expect_silence(&s, &other);
		mirror_let_work_end();
		mirror_await_value(&s, mirror_timeline(&s, 0), seq);
		mirror_take(&s, &other, seq, number);
		mirror_check_picture(&s, mirror_gpu(&s), slot, number);
		mirror_expect_silence(&s, &early); /* not a second time */
		peer_release(&early, slot, seq);
		if (has_host_reader)
			mirror_take(&s, &host, seq, number);
	}
	if (has_host_reader)
		peer_close(&host);
	peer_close(&early);
	peer_close(&other);
	mirror_close(&s);
}

TEST(a_timeline_client_has_its_frame_at_submission_and_its_timeline_says_when_it_is_there)
{
	check_timeline(MIRROR_MAPPED, false);
}

TEST(that_is_so_too_if_the_frame_comes_from_the_host_view)
{
	check_timeline(MIRROR_UNMAPPED, true);
}

TEST(that_is_so_too_if_the_picture_is_drawn_on_the_gpu)
{
	check_timeline(MIRROR_GPU, false);
}

TEST(a_client_that_signals_its_own_timeline_ends_only_its_own_view)
{
	struct peer peers[3];
	mirror_open(&s, MIRROR_MAPPED);
	for (unsigned i = 0; i < 3; i++)
		mirror_consume_gpu(&s, &peers[i], TIMELINE);
	mirror_feed(&s);
	for (unsigned i = 0; i < 3; i++) {
		mirror_await_early(&s, &peers[i], 1, 0);
		peer_release_last(&peers[i]);
	}
	mirror_signal(mirror_timeline(&s, 1), 1000);
	mirror_feed(&s);
	mirror_await_end(
		&s, &peers[1], "the client has signalled the timeline that the broker signals");
	for (unsigned i = 0; i < 3; i += 2)
		mirror_await_early(&s, &peers[i], 2, 0);
	CHECK_EQ(mirror_gpu(&s)->n_subscribers, 2);
	for (unsigned i = 0; i < 2; i++)
		mirror_await_value(&s, mirror_timeline(&s, i), 2);
	/* it may come again, with another one */
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, TIMELINE);
	peer_consume_as(&peers[1], &request);
	mirror_await_frame(&s, &peers[1], 2);
	mirror_feed(&s);
	mirror_await_early(&s, &peers[1], 3, 0);
	mirror_await_value(&s, mirror_timeline(&s, 2), 3);
	for (unsigned i = 0; i < 3; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

TEST(a_timeline_client_that_binds_late_is_told_that_the_newest_frame_needs_no_wait)
{
	struct peer first, late;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &first, COMPLETE);
	mirror_take(&s, &first, 1, mirror_feed(&s));
	mirror_consume_gpu(&s, &late, TIMELINE);
	mirror_take(&s, &late, 1, s.last_number);
	CHECK_EQ(gpu_timeline_value(mirror_timeline(&s, 1)), 0);
	/* and of the next it has a part */
	begin_frame();
	mirror_await_early(&s, &late, 2, 0);
	mirror_let_work_end();
	mirror_await_value(&s, mirror_timeline(&s, 1), 2);
	peer_close(&first);
	peer_close(&late);
	mirror_close(&s);
}

/* Its timeline, or its sync_file, is no part of what was submitted before. */
static void check_bound_in_flight(Sluice__Readiness of_first, Sluice__Readiness of_late)
{
	struct peer first, late;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &first, of_first);
	mirror_feed(&s);
	uint32_t number = begin_frame();
	mirror_consume_gpu(&s, &late, of_late);
	CHECK(!newest_is_complete(&s)); /* nobody had to wait */
	mirror_expect_silence(&s, &late);
	finish_frame();
	mirror_take(&s, &late, 2, number);
	peer_close(&first);
	peer_close(&late);
	mirror_close(&s);
}

TEST(a_timeline_client_that_binds_while_a_frame_is_in_flight_has_it_when_it_is_complete)
{
	check_bound_in_flight(TIMELINE, TIMELINE);
}

TEST(a_sync_file_client_that_binds_while_a_frame_is_in_flight_has_it_when_it_is_complete)
{
	check_bound_in_flight(TIMELINE, SYNC_FD);
}

/* One is for those who wait for its end; that it is there now is nobody's business. */
TEST(a_sync_file_is_not_given_to_a_client_that_came_after_it)
{
	check_bound_in_flight(SYNC_FD, SYNC_FD);
}

TEST(no_more_timelines_are_granted_than_one_submission_can_signal)
{
	static struct peer peers[GPU_SIGNALS_MAX + 1];
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, TIMELINE);
	mirror_open_empty(&s);
	for (unsigned i = 0; i <= GPU_SIGNALS_MAX; i++) {
		peer_ready(&peers[i], &s.rig, "consumer");
		peer_subscribe(&peers[i], &request);
		CHECK_EQ(peers[i].packet->subscribed->readiness,
			i < GPU_SIGNALS_MAX ? TIMELINE : COMPLETE);
	}
	CHECK_STR(peers[GPU_SIGNALS_MAX].packet->subscribed->note,
		"frames come complete: too many clients of this view have a timeline");
	mirror_resize(&s, MIRROR_SIDE, MIRROR_SIDE);
	for (unsigned i = 0; i <= GPU_SIGNALS_MAX; i++) {
		peer_expect(&peers[i], SLUICE__PACKET__BODY_GENERATION);
		peer_bound(&peers[i], 0, "");
	}
	uint32_t number = mirror_feed(&s);
	for (unsigned i = 0; i < GPU_SIGNALS_MAX; i++) {
		mirror_await_early(&s, &peers[i], 1, 0);
		mirror_await_value(&s, mirror_timeline(&s, i), 1);
	}
	mirror_take(&s, &peers[GPU_SIGNALS_MAX], 1, number);
	for (unsigned i = 0; i <= GPU_SIGNALS_MAX; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

TEST(a_timeline_that_cannot_be_made_ends_the_view_with_the_drivers_sentence)
{
	struct peer peer;
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, TIMELINE);
	mirror_open(&s, MIRROR_MAPPED);
	CHECK(gpu_fault("vkGetSemaphoreFdKHR", VK_ERROR_OUT_OF_HOST_MEMORY, 1, true));
	peer_ready(&peer, &s.rig, "consumer");
	peer_subscribe(&peer, &request);
	mirror_await_end(&s, &peer,
		"no timeline can be made: vkGetSemaphoreFdKHR: VK_ERROR_OUT_OF_HOST_MEMORY");
	CHECK_EQ(peer.packet->ended->code, SLUICE__ERROR_CODE__ERROR_INTERNAL);
	mirror_run_ms(&s, 300); /* it is not tried again by the broker */
	peer_expect_nothing(&peer);
	CHECK(gpu_fault("vkGetSemaphoreFdKHR", VK_SUCCESS, 0, false));
	peer_consume_as(&peer, &request);
	mirror_feed(&s);
	mirror_await_early(&s, &peer, 1, 0);
	peer_close(&peer);
	mirror_close(&s);
}

/* --- Sync files --------------------------------------------------------------------------------- */

TEST(a_sync_file_client_has_its_frame_and_one_descriptor_at_submission)
{
	struct peer early, other;
	eventfd_t which;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &early, SYNC_FD);
	mirror_consume_gpu(&s, &other, COMPLETE);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		uint32_t number = begin_frame();
		CHECK(!newest_is_complete(&s));
		mirror_await_early(&s, &early, seq, 1);
		CHECK_EQ(eventfd_read(early.fds.fd[0], &which), 0);
		CHECK_EQ(which, seq); /* that of this submission */
		unsigned slot = early.packet->frame->slot;
		mirror_expect_silence(&s, &other);
		finish_frame();
		mirror_take(&s, &other, seq, number);
		mirror_check_picture(&s, mirror_gpu(&s), slot, number);
		mirror_expect_silence(&s, &early);
		peer_release(&early, slot, seq);
	}
	peer_close(&early);
	peer_close(&other);
	mirror_close(&s);
}

TEST(a_sync_file_is_asked_for_only_if_somebody_wants_it_and_once_for_all)
{
	struct peer peers[3];
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &peers[0], TIMELINE);
	mirror_feed(&s);
	CHECK_EQ(mirror_driver.n_sync_fds, 0);
	for (unsigned i = 1; i < 3; i++)
		mirror_consume_gpu(&s, &peers[i], SYNC_FD);
	mirror_feed(&s);
	CHECK_EQ(mirror_driver.n_sync_fds, 1);
	for (unsigned i = 1; i < 3; i++) {
		mirror_await_frame(&s, &peers[i], 1); /* it was there when they came */
		mirror_await_early(&s, &peers[i], 2, 1);
	}
	for (unsigned i = 0; i < 3; i++)
		peer_close(&peers[i]);
	mirror_close(&s);
}

/* One may be held, so the second waits in the queue; it is complete when it is sent. */
static void check_queued(Sluice__Readiness readiness, unsigned n_fds)
{
	struct peer peer;
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, readiness);
	request.max_holds = 1;
	mirror_open(&s, MIRROR_MAPPED);
	peer_ready(&peer, &s.rig, "consumer");
	peer_consume_as(&peer, &request);
	mirror_feed(&s);
	mirror_await_early(&s, &peer, 1, n_fds);
	uint32_t number = begin_frame();
	peer_expect_nothing(&peer);
	finish_frame();
	peer_expect_nothing(&peer);
	peer_release_last(&peer);
	mirror_take(&s, &peer, 2, number);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(a_frame_that_waited_until_it_was_complete_needs_no_wait)
{
	check_queued(TIMELINE, 0);
}

TEST(a_frame_that_waited_until_it_was_complete_has_no_sync_file)
{
	check_queued(SYNC_FD, 1);
}

/* --- What the driver cannot do ------------------------------------------------------------------ */

static void check_refused(Sluice__Readiness wanted, const char *note)
{
	struct peer peer;
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, wanted);
	mirror_driver.exports_nothing = true;
	mirror_open(&s, MIRROR_MAPPED);
	peer_ready(&peer, &s.rig, "consumer");
	peer_subscribe(&peer, &request);
	CHECK_EQ(peer.packet->subscribed->readiness, COMPLETE);
	CHECK_STR(peer.packet->subscribed->note, note);
	peer_expect(&peer, SLUICE__PACKET__BODY_GENERATION);
	CHECK_EQ(peer.packet->generation->readiness, COMPLETE);
	peer_bound(&peer, 0, "");
	begin_frame();
	peer_expect_nothing(&peer);
	finish_frame();
	mirror_take(&s, &peer, 1, s.last_number);
	peer_close(&peer);
	mirror_close(&s);
}

TEST(without_exported_timelines_frames_come_complete_and_the_note_says_why)
{
	check_refused(TIMELINE, "frames come complete: the driver of this GPU cannot export "
				"timeline semaphores");
}

TEST(without_exported_sync_files_frames_come_complete_and_the_note_says_why)
{
	check_refused(
		SYNC_FD, "frames come complete: the driver of this GPU cannot export sync files");
}

/* --- Work that is cancelled, forgotten or lost -------------------------------------------------- */

/* What was announced is there, and its number is used once. */
static void check_revoked(Sluice__Readiness readiness, unsigned n_fds)
{
	struct peer early, other;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &early, readiness);
	mirror_consume_gpu(&s, &other, COMPLETE);
	mirror_feed(&s);
	mirror_await_early(&s, &early, 1, n_fds);
	mirror_await_frame(&s, &other, 1);
	uint32_t number = begin_frame();
	mirror_await_early(&s, &early, 2, n_fds);
	mirror_revoke_last(&s);
	mirror_take(&s, &other, 2, number);
	if (readiness == TIMELINE)
		mirror_await_value(&s, mirror_timeline(&s, 0), 2);
	number = mirror_feed(&s);
	mirror_await_early(&s, &early, 3, n_fds);
	mirror_take(&s, &other, 3, number);
	peer_close(&early);
	peer_close(&other);
	mirror_close(&s);
}

TEST(the_number_of_a_revoked_picture_that_timelines_wait_for_is_not_used_again)
{
	check_revoked(TIMELINE, 0);
}

TEST(the_number_of_a_revoked_picture_with_a_sync_file_is_not_used_again)
{
	check_revoked(SYNC_FD, 1);
}

/* One that nobody heard of has no frame: its number goes to the next. */
TEST(the_number_of_a_revoked_picture_that_was_not_announced_goes_to_the_next)
{
	struct peer peer;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &peer, COMPLETE);
	mirror_take(&s, &peer, 1, mirror_feed(&s));
	begin_frame();
	mirror_revoke_last(&s);
	mirror_expect_silence(&s, &peer);
	mirror_take(&s, &peer, 2, mirror_feed(&s));
	peer_close(&peer);
	mirror_close(&s);
}

static bool host_is_ahead(struct mirror_scene *scene)
{
	return mirror_host(scene)->generation->pool.newest->seq == 3;
}

/* The host view is a frame ahead, so the newest of the mirror is old, but its slot is not free. */
TEST(a_frame_in_flight_stays_where_it_is_when_a_client_comes_after_the_next_one)
{
	struct peer host, early, other, late;
	mirror_open(&s, MIRROR_UNMAPPED);
	mirror_consume_host(&s, &host);
	mirror_consume_gpu(&s, &early, TIMELINE);
	mirror_consume_gpu(&s, &other, COMPLETE);
	mirror_take(&s, &other, 1, mirror_feed(&s));
	mirror_await_early(&s, &early, 1, 0);
	peer_release_last(&early);
	uint32_t number = begin_frame();
	mirror_await_early(&s, &early, 2, 0);
	peer_release_last(&early); /* at once: nobody holds it */
	mirror_offer(&s);
	mirror_run_until(&s, host_is_ahead);
	const struct slot *newest = mirror_gpu(&s)->generation->pool.newest;
	CHECK_EQ(newest->seq, 2);
	mirror_consume_gpu(&s, &late, COMPLETE);
	CHECK(mirror_gpu(&s)->generation->pool.newest == newest);
	CHECK_EQ(newest->state, SLOT_READY);
	mirror_let_work_end();
	mirror_take(&s, &other, 2, number);
	mirror_take(&s, &other, 3, s.last_number);
	mirror_await_frame(&s, &late, 2);
	mirror_take(&s, &late, 3, s.last_number);
	peer_close(&host);
	peer_close(&early);
	peer_close(&other);
	peer_close(&late);
	mirror_close(&s);
}

static bool loss_is_heard(struct mirror_scene *scene)
{
	return scene->gpu_is_lost;
}

TEST(a_lost_gpu_is_not_said_to_be_its_clients_fault)
{
	struct peer host, peers[2];
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_host(&s, &host);
	mirror_consume_gpu(&s, &peers[0], TIMELINE);
	mirror_consume_gpu(&s, &peers[1], SYNC_FD);
	mirror_feed(&s);
	mirror_await_early(&s, &peers[0], 1, 0);
	mirror_await_early(&s, &peers[1], 1, 1);
	mirror_break_gpu();
	begin_frame();
	mirror_run_until(&s, loss_is_heard);
	for (unsigned i = 0; i < 3; i++) { /* the broker has not come to it yet */
		mirror_offer(&s);
		mirror_run_ms(&s, 5);
	}
	CHECK_EQ(mirror_gpu(&s)->n_subscribers, 2);
	mirror_drop_gpu(&s, "the GPU is lost: by a test");
	mirror_await_early(&s, &peers[0], 2, 0);
	mirror_await_early(&s, &peers[1], 2, 1);
	for (unsigned i = 0; i < 2; i++)
		mirror_await_end(&s, &peers[i], "the GPU is lost: by a test");
	mirror_regain_gpu(&s);
	Sluice__Subscribe request = mirror_request(GPU_MEMORY, TIMELINE);
	peer_consume_as(&peers[0], &request);
	uint64_t seq = s.stream->next_seq;
	mirror_await_early(&s, &peers[0], seq - 1, 0); /* uploaded when it came */
	mirror_feed(&s);
	mirror_await_early(&s, &peers[0], seq, 0);
	mirror_await_value(&s, mirror_timeline(&s, 0), seq);
	peer_close(&host);
	peer_close(&peers[0]);
	peer_close(&peers[1]);
	mirror_close(&s);
}

/*
 * Nobody but the GPU's client is there, so pictures go on being tried there until the broker acts.
 * told: the last number that the client hears of.
 */
static void check_loss_alone(const char *function, uint64_t told)
{
	struct peer peer, host;
	mirror_open(&s, MIRROR_MAPPED);
	mirror_consume_gpu(&s, &peer, TIMELINE);
	for (unsigned i = 1; i <= MIRROR_BUFFERS;
		i++) { /* the GPU knows all buffers from then on */
		mirror_feed(&s);
		mirror_await_early(&s, &peer, i, 0);
		peer_release_last(&peer);
	}
	mirror_break_gpu_in(function);
	begin_frame();
	mirror_run_until(&s, loss_is_heard);
	for (unsigned i = 0; i < 3; i++) {
		mirror_offer(&s);
		mirror_run_ms(&s, 5);
	}
	CHECK_EQ(mirror_gpu(&s)->n_subscribers, 1);
	if (told > MIRROR_BUFFERS)
		mirror_await_early(&s, &peer, told, 0);
	mirror_drop_gpu(&s, "the GPU is lost: by a test");
	mirror_await_end(&s, &peer, "the GPU is lost: by a test");
	/* a number that a client was told of is not used again, though the frame never was there */
	mirror_consume_host(&s, &host);
	mirror_take(&s, &host, told + 1, mirror_feed(&s));
	peer_close(&host);
	peer_close(&peer);
	CHECK(gpu_fault(function, VK_SUCCESS, 0, false));
	mirror_close(&s);
}

TEST(a_gpu_that_is_lost_while_it_writes_a_frame_takes_the_number_with_it)
{
	check_loss_alone("vkWaitSemaphores", MIRROR_BUFFERS + 1);
}

TEST(a_loss_that_is_found_as_a_timeline_is_read_is_not_its_clients_fault)
{
	check_loss_alone("vkGetSemaphoreCounterValue", MIRROR_BUFFERS);
}
