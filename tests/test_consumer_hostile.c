/*
 * libsluice against a broker that lies: each row is one thing that it might send. Each ends the
 * connection with an error, and no descriptor stays open (the runner and each row count them).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/consumer_fixture.h"

static struct fake_memory memory;

/* How far the session has come when the lie is told. */
enum stage { GREETING, UP, SUBSCRIBED, BOUND };

struct lie {
	const char *name;
	enum stage stage;
	void (*tell)(struct fake *fake);
	const char *sentence; /* part of the error */
};

static void send_body(struct fake *fake, Sluice__Packet__BodyCase body, void *message)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = body;
	packet.frame = message; /* a union of pointers */
	fake_send(fake, &packet, NULL);
}

/* --- Datagrams --------------------------------------------------------------------------------*/

static void tell_garbage(struct fake *fake)
{
	fake_send_bytes(fake, "\377\377\377\377", 4);
}

static void tell_unknown_message(struct fake *fake)
{
	fake_send_bytes(fake, "\302\076\000", 3); /* field 1000, empty */
}

static void tell_truncated(struct fake *fake)
{
	fake_send_bytes(fake, "\302\002\020\010\007", 5); /* frame of 16 bytes, of which 2 come */
}

static void tell_too_long(struct fake *fake)
{
	static const uint8_t data[WIRE_PACKET_MAX + 1];
	fake_send_bytes(fake, data, sizeof(data));
}

/* Many small messages in one packet: more than there is room to decode. */
static void tell_bomb(struct fake *fake)
{
	static Sluice__Rect rects[3000];
	static Sluice__Rect *list[3000];
	for (unsigned i = 0; i < 3000; i++) {
		rects[i] = (Sluice__Rect)SLUICE__RECT__INIT;
		list[i] = &rects[i];
	}
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.n_damage = 3000;
	frame.damage = list;
	send_body(fake, SLUICE__PACKET__BODY_FRAME, &frame);
}

static void tell_client_message(struct fake *fake)
{
	Sluice__Release release = SLUICE__RELEASE__INIT;
	send_body(fake, SLUICE__PACKET__BODY_RELEASE, &release);
}

/* --- Descriptors ------------------------------------------------------------------------------*/

static void send_with_fds(struct fake *fake, Sluice__Packet__BodyCase body, void *message)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = body;
	packet.frame = message;
	struct fdset fds = fake_memory_fds(&memory);
	fake_send(fake, &packet, &fds);
}

static void tell_bye_with_fds(struct fake *fake)
{
	Sluice__Bye bye = SLUICE__BYE__INIT;
	send_with_fds(fake, SLUICE__PACKET__BODY_BYE, &bye);
}

static void tell_frame_with_fds(struct fake *fake)
{
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.view = FAKE_VIEW;
	frame.generation = memory.generation;
	frame.seq = 1;
	send_with_fds(fake, SLUICE__PACKET__BODY_FRAME, &frame);
}

/* --- Sessions ---------------------------------------------------------------------------------*/

static void send_welcome(struct fake *fake, uint32_t version, uint64_t session)
{
	Sluice__Welcome welcome = SLUICE__WELCOME__INIT;
	welcome.version = version;
	welcome.session = session;
	send_body(fake, SLUICE__PACKET__BODY_WELCOME, &welcome);
}

static void tell_version_2(struct fake *fake)
{
	send_welcome(fake, WIRE_VERSION + 1, 1);
}

static void tell_session_0(struct fake *fake)
{
	send_welcome(fake, WIRE_VERSION, 0);
}

static void tell_welcome_twice(struct fake *fake)
{
	send_welcome(fake, WIRE_VERSION, 1);
}

static void tell_frame_early(struct fake *fake)
{
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	send_body(fake, SLUICE__PACKET__BODY_FRAME, &frame);
}

static void tell_error_of_request_99(struct fake *fake)
{
	Sluice__Error error = SLUICE__ERROR__INIT;
	error.request = 99;
	send_body(fake, SLUICE__PACKET__BODY_ERROR, &error);
}

static void tell_status_of_request_99(struct fake *fake)
{
	Sluice__Status status = SLUICE__STATUS__INIT;
	status.request = 99;
	send_body(fake, SLUICE__PACKET__BODY_STATUS, &status);
}

static void tell_status_of_no_request(struct fake *fake)
{
	Sluice__Status status = SLUICE__STATUS__INIT;
	send_body(fake, SLUICE__PACKET__BODY_STATUS, &status);
}

static void tell_streams_unasked(struct fake *fake)
{
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	send_body(fake, SLUICE__PACKET__BODY_STREAMS, &streams);
}

static void tell_change_unwatched(struct fake *fake)
{
	fake_stream(fake, "desktop", SLUICE__STREAM_STATE__STREAM_LIVE);
}

static void send_subscribed(struct fake *fake, uint32_t request, uint32_t view)
{
	Sluice__Subscribed subscribed = SLUICE__SUBSCRIBED__INIT;
	subscribed.request = request;
	subscribed.view = view;
	subscribed.max_holds = 1;
	send_body(fake, SLUICE__PACKET__BODY_SUBSCRIBED, &subscribed);
}

static void tell_subscribed_unasked(struct fake *fake)
{
	send_subscribed(fake, 1, 1);
}

static void tell_subscribed_twice(struct fake *fake)
{
	send_subscribed(fake, 1, FAKE_VIEW + 1);
}

/* --- Views and frames -------------------------------------------------------------------------*/

static void tell_unknown_view_ended(struct fake *fake)
{
	Sluice__Ended ended = SLUICE__ENDED__INIT;
	ended.view = FAKE_VIEW + 1;
	send_body(fake, SLUICE__PACKET__BODY_ENDED, &ended);
}

static void tell_unknown_view_revoked(struct fake *fake)
{
	Sluice__Revoked revoked = SLUICE__REVOKED__INIT;
	send_body(fake, SLUICE__PACKET__BODY_REVOKED, &revoked);
}

static void send_frame(struct fake *fake, const Sluice__Frame *change)
{
	Sluice__Frame frame = *change;
	control_end_write(memory.control, 0, change->seq);
	send_body(fake, SLUICE__PACKET__BODY_FRAME, &frame);
}

static Sluice__Frame good_frame(void)
{
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.view = FAKE_VIEW;
	frame.generation = memory.generation;
	frame.seq = 1;
	return frame;
}

static void tell_frame_of_unknown_view(struct fake *fake)
{
	Sluice__Frame frame = good_frame();
	frame.view++;
	send_frame(fake, &frame);
}

static void tell_frame_of_unknown_generation(struct fake *fake)
{
	Sluice__Frame frame = good_frame();
	frame.generation++;
	send_frame(fake, &frame);
}

static void tell_frame_past_the_slots(struct fake *fake)
{
	Sluice__Frame frame = good_frame();
	frame.slot = FAKE_SLOTS;
	send_frame(fake, &frame);
}

static void tell_frame_0(struct fake *fake)
{
	Sluice__Frame frame = good_frame();
	frame.seq = 0;
	send_frame(fake, &frame);
}

static void tell_frame_twice(struct fake *fake)
{
	Sluice__Frame frame = good_frame();
	send_frame(fake, &frame);
	send_frame(fake, &frame);
}

static void tell_more_frames_than_holds(struct fake *fake)
{
	for (unsigned seq = 1; seq <= 3; seq++)
		fake_frame(fake, &memory, seq, seq);
}

static void tell_much_damage(struct fake *fake)
{
	Sluice__Rect rects[WIRE_DAMAGE_MAX + 1];
	Sluice__Rect *list[WIRE_DAMAGE_MAX + 1];
	for (unsigned i = 0; i <= WIRE_DAMAGE_MAX; i++) {
		rects[i] = (Sluice__Rect)SLUICE__RECT__INIT;
		rects[i].width = rects[i].height = 1;
		list[i] = &rects[i];
	}
	Sluice__Frame frame = good_frame();
	frame.n_damage = WIRE_DAMAGE_MAX + 1;
	frame.damage = list;
	send_frame(fake, &frame);
}

/* --- Generations ------------------------------------------------------------------------------*/

struct draft {
	Sluice__Generation generation;
	uint32_t offset[4], stride[4];
	struct fdset fds;
};

static void draft(struct draft *d)
{
	fake_describe(&memory, &d->generation, d->offset, d->stride);
	d->fds = fake_memory_fds(&memory);
}

static void send_draft(struct fake *fake, struct draft *d)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &d->generation;
	fake_send(fake, &packet, &d->fds);
}

static void drop_last_fd(struct draft *d)
{
	fd_closep(&d->fds.fd[--d->fds.n]);
}

static void replace_fd(struct draft *d, unsigned i, int fd)
{
	fd_closep(&d->fds.fd[i]);
	d->fds.fd[i] = fd;
}

static int memory_of(size_t size_bytes, int seals)
{
	int fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size_bytes) == 0);
	CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

/* A field of the message, or a descriptor, is not as it should be. */
#define LIE_ABOUT_MEMORY(what, ...)                \
	static void tell_##what(struct fake *fake) \
	{                                          \
		struct draft d;                    \
		draft(&d);                         \
		__VA_ARGS__;                       \
		send_draft(fake, &d);              \
	}

LIE_ABOUT_MEMORY(good_memory_again, )
LIE_ABOUT_MEMORY(memory_of_unknown_view, d.generation.view++)
LIE_ABOUT_MEMORY(gpu_memory, d.generation.memory = SLUICE__MEMORY__MEMORY_DMA_BUF)
LIE_ABOUT_MEMORY(fences, d.generation.readiness = SLUICE__READINESS__READINESS_SYNC_FD)
LIE_ABOUT_MEMORY(no_slots, d.generation.slots = 0)
LIE_ABOUT_MEMORY(few_slots, d.generation.slots = WIRE_SLOTS_MIN - 1)
LIE_ABOUT_MEMORY(many_slots, d.generation.slots = WIRE_SLOTS_MAX + 1)
LIE_ABOUT_MEMORY(all_slots, d.generation.slots = UINT32_MAX)
LIE_ABOUT_MEMORY(a_missing_fd, drop_last_fd(&d))
LIE_ABOUT_MEMORY(an_extra_fd, d.generation.slots--)
LIE_ABOUT_MEMORY(no_fd, fdset_close(&d.fds))
LIE_ABOUT_MEMORY(no_width, d.generation.width = 0)
LIE_ABOUT_MEMORY(great_height, d.generation.height = FORMAT_SIDE_MAX + 1)
LIE_ABOUT_MEMORY(a_row_more, d.generation.height++)
LIE_ABOUT_MEMORY(narrow_stride, d.stride[0] = FAKE_WIDTH * 4 - 1)
LIE_ABOUT_MEMORY(wide_stride, d.stride[0] = UINT32_MAX)
LIE_ABOUT_MEMORY(an_offset, d.offset[0] = 1)
LIE_ABOUT_MEMORY(a_great_offset, d.offset[0] = UINT32_MAX)
LIE_ABOUT_MEMORY(no_planes, d.generation.n_offset = d.generation.n_stride = 0)
LIE_ABOUT_MEMORY(planes_that_differ, d.generation.n_stride = 2)
LIE_ABOUT_MEMORY(a_plane_too_many, d.generation.n_stride = d.generation.n_offset = 2)
LIE_ABOUT_MEMORY(a_small_size, d.generation.size_bytes = 1)
LIE_ABOUT_MEMORY(a_great_size, d.generation.size_bytes = UINT64_MAX)
LIE_ABOUT_MEMORY(a_size_past_the_memory, d.generation.size_bytes++)
LIE_ABOUT_MEMORY(data_past_the_memory, d.generation.data_offset = 1)
LIE_ABOUT_MEMORY(data_far_away, d.generation.data_offset = UINT64_MAX)
LIE_ABOUT_MEMORY(an_unsealed_slot, replace_fd(&d, 2, memory_of(1 << 20, 0)))
LIE_ABOUT_MEMORY(a_short_slot, replace_fd(&d, FAKE_SLOTS, memory_of(64, F_SEAL_SHRINK)))
LIE_ABOUT_MEMORY(a_file_as_slot, replace_fd(&d, 1, open("/dev/zero", O_RDWR | O_CLOEXEC)))
LIE_ABOUT_MEMORY(a_socket_as_slot, replace_fd(&d, 1, fcntl(fake->sock, F_DUPFD_CLOEXEC, 3)))
LIE_ABOUT_MEMORY(an_empty_control_page, replace_fd(&d, 0, memory_of(1 << 20, F_SEAL_SHRINK)))
LIE_ABOUT_MEMORY(a_short_control_page, replace_fd(&d, 0, memory_of(64, F_SEAL_SHRINK)))
LIE_ABOUT_MEMORY(another_control_page, memory.control->generation++)
LIE_ABOUT_MEMORY(a_control_page_of_fewer, memory.control->n_slots--)
LIE_ABOUT_MEMORY(a_control_page_of_version_2, memory.control->version++)

static const char no_fit[] = "does not fit", described[] = "described a view's memory wrongly";

static const struct lie lies[] = {
	{ "garbage", UP, tell_garbage, "malformed" },
	{ "garbage as greeting", GREETING, tell_garbage, "malformed" },
	{ "an unknown message", UP, tell_unknown_message, "malformed" },
	{ "a truncated message", BOUND, tell_truncated, "malformed" },
	{ "a datagram one byte too long", UP, tell_too_long, "too long" },
	{ "a message that is great once decoded", BOUND, tell_bomb, "the protocol" },
	{ "a client's message", UP, tell_client_message, "release, which is a client's" },
	{ "bye with descriptors", UP, tell_bye_with_fds, "7 descriptors with bye" },
	{ "frame with descriptors", BOUND, tell_frame_with_fds, "7 descriptors with frame" },
	{ "version 2", GREETING, tell_version_2, "version 2" },
	{ "session 0", GREETING, tell_session_0, "session without a number" },
	{ "welcome twice", UP, tell_welcome_twice, "welcome, which is not for now" },
	{ "a frame before welcome", GREETING, tell_frame_early, "frame, which is not for now" },
	{ "an error of no request", UP, tell_error_of_request_99, "not made" },
	{ "a status of no request", UP, tell_status_of_request_99, "nobody asked" },
	{ "a status of request 0", UP, tell_status_of_no_request, "nobody asked" },
	{ "streams unasked", UP, tell_streams_unasked, "nobody asked" },
	{ "a change unwatched", UP, tell_change_unwatched, "nobody watches" },
	{ "subscribed unasked", UP, tell_subscribed_unasked, "nobody asked" },
	{ "subscribed twice", SUBSCRIBED, tell_subscribed_twice, "nobody asked" },
	{ "an unknown view ends", SUBSCRIBED, tell_unknown_view_ended, "view 8" },
	{ "revoked of an unknown view", SUBSCRIBED, tell_unknown_view_revoked, "view 0" },
	{ "a frame before the memory", SUBSCRIBED, tell_frame_twice, "not bound" },
	{ "a frame of an unknown view", BOUND, tell_frame_of_unknown_view, "view 8" },
	{ "a frame of an unknown generation", BOUND, tell_frame_of_unknown_generation,
		"not bound" },
	{ "a frame past the slots", BOUND, tell_frame_past_the_slots, "does not exist" },
	{ "frame 0", BOUND, tell_frame_0, "not newer" },
	{ "the same frame twice", BOUND, tell_frame_twice, "not newer" },
	{ "more frames than holds", BOUND, tell_more_frames_than_holds, "the 2 agreed upon" },
	{ "one rectangle too many", BOUND, tell_much_damage, "damage" },
	{ "the same generation twice", BOUND, tell_good_memory_again, "same generation" },
	{ "memory of an unknown view", SUBSCRIBED, tell_memory_of_unknown_view, "view 8" },
	{ "gpu memory", SUBSCRIBED, tell_gpu_memory, "not asked for" },
	{ "fences", SUBSCRIBED, tell_fences, "not asked for" },
	{ "no slots", SUBSCRIBED, tell_no_slots, "outside the limits" },
	{ "one slot too few", SUBSCRIBED, tell_few_slots, "outside the limits" },
	{ "one slot too many", SUBSCRIBED, tell_many_slots, "outside the limits" },
	{ "all slots", SUBSCRIBED, tell_all_slots, "outside the limits" },
	{ "a missing descriptor", SUBSCRIBED, tell_a_missing_fd, "number of descriptors" },
	{ "an extra descriptor", SUBSCRIBED, tell_an_extra_fd, "number of descriptors" },
	{ "no descriptor", SUBSCRIBED, tell_no_fd, "number of descriptors" },
	{ "no width", SUBSCRIBED, tell_no_width, no_fit },
	{ "one row past the limit", SUBSCRIBED, tell_great_height, no_fit },
	{ "a row more", SUBSCRIBED, tell_a_row_more, no_fit },
	{ "a stride one byte short", SUBSCRIBED, tell_narrow_stride, no_fit },
	{ "a great stride", SUBSCRIBED, tell_wide_stride, no_fit },
	{ "an offset", SUBSCRIBED, tell_an_offset, no_fit },
	{ "a great offset", SUBSCRIBED, tell_a_great_offset, no_fit },
	{ "no planes", SUBSCRIBED, tell_no_planes, no_fit },
	{ "numbers of planes that differ", SUBSCRIBED, tell_planes_that_differ, "disagree" },
	{ "a plane too many", SUBSCRIBED, tell_a_plane_too_many, no_fit },
	{ "a small size", SUBSCRIBED, tell_a_small_size, no_fit },
	{ "a great size", SUBSCRIBED, tell_a_great_size, "larger than any picture" },
	{ "a size past the memory", SUBSCRIBED, tell_a_size_past_the_memory, "smaller than" },
	{ "data past the memory", SUBSCRIBED, tell_data_past_the_memory, "smaller than" },
	{ "data far away", SUBSCRIBED, tell_data_far_away, "larger than any picture" },
	{ "an unsealed slot", SUBSCRIBED, tell_an_unsealed_slot, "not sealed" },
	{ "a short slot", SUBSCRIBED, tell_a_short_slot, "smaller than" },
	{ "a file as slot", SUBSCRIBED, tell_a_file_as_slot, "not sealed" },
	{ "a socket as slot", SUBSCRIBED, tell_a_socket_as_slot, "not sealed" },
	{ "an empty control page", SUBSCRIBED, tell_an_empty_control_page, "another version" },
	{ "a short control page", SUBSCRIBED, tell_a_short_control_page, "smaller than" },
	{ "the control page of another", SUBSCRIBED, tell_another_control_page, described },
	{ "a control page of fewer", SUBSCRIBED, tell_a_control_page_of_fewer, described },
	{ "a control page of version 2", SUBSCRIBED, tell_a_control_page_of_version_2,
		"another version" },
};

static void script_lie(struct fake *fake)
{
	const struct lie *lie = fake->row;
	fake_memory_init(&memory, 1, 0);
	if (lie->stage == GREETING) {
		fake_accept(fake);
		fake_expect(fake, SLUICE__PACKET__BODY_HELLO);
	} else {
		fake_welcome(fake, 1);
	}
	if (lie->stage >= SUBSCRIBED)
		fake_subscribed(fake, 2);
	if (lie->stage >= BOUND)
		fake_bind(fake, &memory);
	lie->tell(fake);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

static int live_through(const struct lie *lie, struct sluice **conn_out, const char *path)
{
	struct sluice_options options = { .socket = path, .flags = SLUICE_RECONNECT };
	struct sluice_view *view;
	int r = sluice_connect(conn_out, &options);
	if (r == 0 && lie->stage >= SUBSCRIBED)
		r = sluice_subscribe(*conn_out, "desktop", &fifo, &view);
	return r < 0 ? r : wait_for_end(*conn_out);
}

TEST(each_lie_ends_the_connection_and_leaks_nothing)
{
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const struct lie *lie = &lies[i];
		struct fake fake;
		struct sluice *conn = NULL;
		unsigned before = test_count_fds();
		fake_start(&fake, script_lie, lie);
		int r = live_through(lie, &conn, fake.address.sun_path);
		if (r != -EPROTO || !strstr(sluice_error(conn), lie->sentence))
			test_fail(__FILE__, __LINE__, "row \"%s\": %d, %s", lie->name, r,
				sluice_error(conn));
		CHECK_ROW(sluice_error_code(conn) == SLUICE_ERROR_PROTOCOL, lie->name);
		sluice_close(conn);
		fake_stop(&fake);
		CHECK_ROW(test_count_fds() == before, lie->name);
	}
}

/* A format of a later version is nobody's lie: the broker is told, and may offer another. */
static void script_new_format(struct fake *fake)
{
	fake_memory_init(&memory, 1, 0);
	fake_welcome(fake, 1);
	fake_subscribed(fake, 2);
	struct draft d;
	draft(&d);
	d.generation.fourcc = 0x20202020;
	send_draft(fake, &d);
	const Sluice__Bound *bound = fake_expect(fake, SLUICE__PACKET__BODY_BOUND)->bound;
	CHECK_EQ(bound->error, SLUICE__ERROR_CODE__ERROR_INTERNAL);
	CHECK(strstr(bound->text, "0x20202020"));
	fake_bind(fake, &memory);
	fake_frame(fake, &memory, 0, 1);
	fake_expect_end(fake);
	fake_memory_finish(&memory);
}

TEST(a_format_that_is_not_known_is_reported_to_the_broker)
{
	struct session s;
	begin(&s, script_new_format, NULL, 0);
	CHECK_EQ(next(&s)->seq, 1);
	end(&s);
}
