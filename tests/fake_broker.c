#include "tests/fake_broker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/test.h"

enum { PATIENCE_MS = 20000 };

/* --- For the test -----------------------------------------------------------------------------*/

static void *run(void *data)
{
	struct fake *fake = data;
	fake->script(fake);
	fake_hang_up(fake);
	return NULL;
}

void fake_start(struct fake *fake, fake_script script, const void *row)
{
	*fake = (struct fake){ .script = script, .row = row, .sock = -EBADF, .view = FAKE_VIEW };
	fake->address.sun_family = AF_UNIX;
	snprintf(fake->address.sun_path, sizeof(fake->address.sun_path), "%s/s", test_tmpdir());
	unlink(fake->address.sun_path);
	fake->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	CHECK(fake->listener >= 0);
	struct sockaddr *address = (struct sockaddr *)&fake->address;
	CHECK(bind(fake->listener, address, sizeof(fake->address)) == 0);
	CHECK(listen(fake->listener, 4) == 0);
	CHECK(sem_init(&fake->to_script, 0, 0) == 0 && sem_init(&fake->to_test, 0, 0) == 0);
	fake->arena = wire_arena_create(WIRE_PACKET_ARENA);
	CHECK(fake->arena);
	/* signals are for the test, not for the broker */
	sigset_t all, before;
	sigfillset(&all);
	CHECK(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
	CHECK(pthread_create(&fake->thread, NULL, run, fake) == 0);
	CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

void fake_stop(struct fake *fake)
{
	CHECK(pthread_join(fake->thread, NULL) == 0);
	fd_closep(&fake->listener);
	free(fake->arena);
	sem_destroy(&fake->to_script);
	sem_destroy(&fake->to_test);
}

static void post(sem_t *sem)
{
	CHECK(sem_post(sem) == 0);
}

static void take(sem_t *sem)
{
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += PATIENCE_MS / 1000;
	int r;
	do
		r = sem_timedwait(sem, &limit);
	while (r < 0 && errno == EINTR);
	CHECK(r == 0);
}

void fake_go(struct fake *fake)
{
	post(&fake->to_script);
}

void fake_await(struct fake *fake)
{
	take(&fake->to_test);
}

bool fake_has_told(struct fake *fake)
{
	return sem_trywait(&fake->to_test) == 0;
}

/* --- For the script: the socket ---------------------------------------------------------------*/

void fake_pause(struct fake *fake)
{
	take(&fake->to_script);
}

void fake_tell(struct fake *fake)
{
	post(&fake->to_test);
}

static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	CHECK(poll(&p, 1, PATIENCE_MS) == 1);
}

void fake_accept(struct fake *fake)
{
	wait_readable(fake->listener);
	fake->sock = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fake->sock >= 0);
}

void fake_hang_up(struct fake *fake)
{
	fd_closep(&fake->sock);
}

const Sluice__Packet *fake_expect(struct fake *fake, Sluice__Packet__BodyCase body)
{
	struct fdset fds;
	size_t len;
	Sluice__Packet *packet;
	wait_readable(fake->sock);
	CHECK_EQ(wire_recv(fake->sock, fake->packet, sizeof(fake->packet), &len, &fds), WIRE_OK);
	CHECK_EQ(fds.n, 0);
	CHECK_EQ(wire_decode(fake->packet, len, fake->arena, &packet), 0);
	CHECK_STR(wire_body_name((int)packet->body_case), wire_body_name((int)body));
	return packet;
}

void fake_expect_end(struct fake *fake)
{
	struct fdset fds;
	size_t len;
	wait_readable(fake->sock);
	int r = wire_recv(fake->sock, fake->packet, sizeof(fake->packet), &len, &fds);
	CHECK(r == WIRE_CLOSED || r == -ECONNRESET);
}

void fake_send_bytes(struct fake *fake, const void *data, size_t len)
{
	int r = wire_send(fake->sock, data, len, NULL);
	CHECK(r == WIRE_OK || r == -EPIPE || r == -ECONNRESET);
}

void fake_send(struct fake *fake, const Sluice__Packet *packet, struct fdset *fds)
{
	static _Thread_local uint8_t data[WIRE_PACKET_MAX];
	size_t len;
	CHECK_EQ(wire_encode(packet, data, sizeof(data), &len), 0);
	int r = wire_send(fake->sock, data, len, fds);
	CHECK(r == WIRE_OK || r == -EPIPE || r == -ECONNRESET);
}

/* --- For the script: messages -----------------------------------------------------------------*/

void fake_welcome(struct fake *fake, uint64_t session)
{
	fake_accept(fake);
	fake_expect(fake, SLUICE__PACKET__BODY_HELLO);
	Sluice__Welcome welcome = SLUICE__WELCOME__INIT;
	welcome.version = WIRE_VERSION;
	welcome.session = session;
	welcome.broker = (char *)"fake";
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_WELCOME;
	packet.welcome = &welcome;
	fake_send(fake, &packet, NULL);
}

const Sluice__Subscribe *fake_grant(struct fake *fake, const struct fake_grant *grant)
{
	const Sluice__Subscribe *ask = fake_expect(fake, SLUICE__PACKET__BODY_SUBSCRIBE)->subscribe;
	Sluice__Subscribed subscribed = SLUICE__SUBSCRIBED__INIT;
	subscribed.request = ask->request;
	subscribed.view = fake->view;
	subscribed.stream = ask->stream;
	subscribed.max_holds = grant->max_holds;
	subscribed.memory = grant->memory;
	subscribed.readiness = grant->readiness;
	subscribed.note = (char *)(grant->note ? grant->note : "");
	subscribed.device = (Sluice__Device *)grant->device;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBED;
	packet.subscribed = &subscribed;
	fake_send(fake, &packet, NULL);
	return ask;
}

void fake_subscribed(struct fake *fake, unsigned max_holds)
{
	fake_grant(fake, &(struct fake_grant){ .max_holds = max_holds });
}

void fake_refuse(struct fake *fake, Sluice__ErrorCode code, const char *text)
{
	const Sluice__Packet *ask = fake_expect(fake, SLUICE__PACKET__BODY_SUBSCRIBE);
	Sluice__Error error = SLUICE__ERROR__INIT;
	error.request = ask->subscribe->request;
	error.code = code;
	error.text = (char *)text;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_ERROR;
	packet.error = &error;
	fake_send(fake, &packet, NULL);
}

void fake_bye(struct fake *fake, Sluice__ErrorCode code, const char *text)
{
	Sluice__Bye bye = SLUICE__BYE__INIT;
	bye.code = code;
	bye.text = (char *)text;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_BYE;
	packet.bye = &bye;
	fake_send(fake, &packet, NULL);
}

static void send_ended(struct fake *fake, Sluice__Ended *ended)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_ENDED;
	packet.ended = ended;
	fake_send(fake, &packet, NULL);
}

void fake_ended(struct fake *fake, Sluice__ErrorCode code, const char *text)
{
	Sluice__Ended ended = SLUICE__ENDED__INIT;
	ended.view = fake->view;
	ended.code = code;
	ended.text = (char *)text;
	send_ended(fake, &ended);
}

void fake_ended_for_another(struct fake *fake, const char *text)
{
	Sluice__Ended ended = SLUICE__ENDED__INIT;
	ended.view = fake->view;
	ended.code = SLUICE__ERROR_CODE__ERROR_NO_VIEW;
	ended.text = (char *)text;
	ended.subscribe_again = true;
	send_ended(fake, &ended);
}

void fake_stream(struct fake *fake, const char *name, Sluice__StreamState state)
{
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	info.name = (char *)name;
	info.state = state;
	Sluice__StreamChanged changed = SLUICE__STREAM_CHANGED__INIT;
	changed.stream = &info;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STREAM_CHANGED;
	packet.stream_changed = &changed;
	fake_send(fake, &packet, NULL);
}

/* --- For the script: memory -------------------------------------------------------------------*/

static void *make(int *fd_out, size_t size_bytes)
{
	int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size_bytes) == 0);
	void *map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) == 0);
	*fd_out = fd;
	return map;
}

void fake_control_init(struct fake_memory *m, uint32_t generation)
{
	*m = (struct fake_memory){ .generation = generation, .timeline_fd = -EBADF };
	CHECK(format_layout(format_info_by_name("BGRx")->fourcc, FAKE_WIDTH, FAKE_HEIGHT,
		      &m->format) == 0);
	m->control = make(&m->control_fd, control_page_bytes(FAKE_SLOTS));
	m->control->magic = CONTROL_MAGIC;
	m->control->version = CONTROL_VERSION;
	m->control->n_slots = FAKE_SLOTS;
	m->control->generation = generation;
}

void fake_control_finish(struct fake_memory *m)
{
	munmap(m->control, control_page_bytes(FAKE_SLOTS));
	fd_closep(&m->control_fd);
}

void fake_memory_init(struct fake_memory *m, uint32_t generation, unsigned first)
{
	fake_control_init(m, generation);
	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		m->slot[i] = make(&m->slot_fd[i], m->format.size_bytes);
		memset(m->slot[i], (int)(first + i), m->format.size_bytes);
	}
}

void fake_memory_finish(struct fake_memory *m)
{
	fake_control_finish(m);
	for (unsigned i = 0; i < FAKE_SLOTS; i++) {
		munmap(m->slot[i], m->format.size_bytes);
		fd_closep(&m->slot_fd[i]);
	}
}

void fake_describe(const struct fake_memory *m, Sluice__Generation *out, uint32_t offset[4],
	uint32_t stride[4])
{
	Sluice__Generation g = SLUICE__GENERATION__INIT;
	g.view = FAKE_VIEW;
	g.generation = m->generation;
	g.fourcc = m->format.fourcc;
	g.width = m->format.width;
	g.height = m->format.height;
	g.n_offset = g.n_stride = m->format.n_planes;
	memcpy(offset, m->format.offset, sizeof(m->format.offset));
	memcpy(stride, m->format.stride, sizeof(m->format.stride));
	g.offset = offset;
	g.stride = stride;
	g.size_bytes = m->format.size_bytes;
	g.slots = FAKE_SLOTS;
	g.memory = m->memory;
	g.readiness = m->readiness;
	g.allocation_bytes = m->allocation_bytes;
	g.memory_type = m->memory_type;
	*out = g;
}

struct fdset fake_memory_fds(const struct fake_memory *m)
{
	struct fdset fds = { .n = FAKE_SLOTS + 1 };
	fds.fd[0] = fcntl(m->control_fd, F_DUPFD_CLOEXEC, 3);
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		fds.fd[i + 1] = fcntl(m->slot_fd[i], F_DUPFD_CLOEXEC, 3);
	if (m->readiness == SLUICE__READINESS__READINESS_TIMELINE)
		fds.fd[fds.n++] = fcntl(m->timeline_fd, F_DUPFD_CLOEXEC, 3);
	return fds;
}

void fake_offer(struct fake *fake, const struct fake_memory *m)
{
	Sluice__Generation generation;
	uint32_t offset[4], stride[4];
	fake_describe(m, &generation, offset, stride);
	generation.view = fake->view;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &generation;
	struct fdset fds = fake_memory_fds(m);
	fake_send(fake, &packet, &fds);
}

void fake_bind(struct fake *fake, const struct fake_memory *m)
{
	fake_offer(fake, m);
	const Sluice__Packet *answer = fake_expect(fake, SLUICE__PACKET__BODY_BOUND);
	CHECK_STR(answer->bound->text, "");
	CHECK_EQ(answer->bound->error, SLUICE__ERROR_CODE__ERROR_NONE);
	CHECK_EQ(answer->bound->view, fake->view);
	CHECK_EQ(answer->bound->generation, m->generation);
}

void fake_begin(struct fake *fake, unsigned max_holds, const struct fake_memory *m)
{
	fake_welcome(fake, 1);
	fake_subscribed(fake, max_holds);
	fake_bind(fake, m);
}

static Sluice__Frame describe_frame(
	const struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq)
{
	Sluice__Frame frame = SLUICE__FRAME__INIT;
	frame.view = fake->view;
	frame.generation = m->generation;
	frame.slot = slot;
	frame.seq = seq;
	frame.pts_ns = seq * 1000;
	return frame;
}

static void send_frame(struct fake *fake, Sluice__Frame *frame, struct fdset *fds)
{
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_FRAME;
	packet.frame = frame;
	fake_send(fake, &packet, fds);
}

void fake_announce_with(struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq,
	struct fdset *fds)
{
	Sluice__Frame frame = describe_frame(fake, m, slot, seq);
	send_frame(fake, &frame, fds);
}

void fake_announce(struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq)
{
	fake_announce_with(fake, m, slot, seq, NULL);
}

void fake_frame(struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq)
{
	control_end_write(m->control, slot, seq);
	fake_announce(fake, m, slot, seq);
}

void fake_frame_copied(struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq)
{
	Sluice__Frame frame = describe_frame(fake, m, slot, seq);
	frame.copied_ns = 1;
	control_end_write(m->control, slot, seq);
	send_frame(fake, &frame, NULL);
}

void fake_revoke(struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq)
{
	Sluice__Revoked revoked = SLUICE__REVOKED__INIT;
	revoked.view = fake->view;
	revoked.generation = m->generation;
	revoked.slot = slot;
	revoked.seq = seq;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_REVOKED;
	packet.revoked = &revoked;
	fake_send(fake, &packet, NULL);
}

void fake_released(struct fake *fake, const struct fake_memory *m, unsigned slot, uint64_t seq)
{
	const Sluice__Packet *packet = fake_expect(fake, SLUICE__PACKET__BODY_RELEASE);
	CHECK_EQ(packet->release->view, fake->view);
	CHECK_EQ(packet->release->generation, m->generation);
	CHECK_EQ(packet->release->slot, slot);
	CHECK_EQ(packet->release->seq, seq);
	CHECK(packet->release->received_ns > 0);
}
