/*
 * A broker that follows a script, on a real socket and a thread of its own, so that a test decides
 * every message that libsluice gets. What the script does not expect fails the test.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <sys/un.h>

#include "common/format.h"
#include "proto/control.h"
#include "proto/wire.h"

struct fake;
typedef void (*fake_script)(struct fake *fake);

enum { FAKE_SLOTS = 6, FAKE_VIEW = 7, FAKE_WIDTH = 64, FAKE_HEIGHT = 48 };

/* The memory of one generation. */
struct fake_memory {
	uint32_t generation;
	struct video_format format;
	int control_fd;
	struct control_page *control;
	int slot_fd[FAKE_SLOTS];
	uint8_t *slot[FAKE_SLOTS];

	/* of a GPU: fake_gpu.h */
	Sluice__Memory memory;
	Sluice__Readiness readiness;
	uint64_t allocation_bytes;
	uint32_t memory_type;
	int timeline_fd; /* READINESS_TIMELINE */
};

struct fake {
	struct sockaddr_un address;
	int listener;
	int sock; /* the client's, -EBADF: none */
	pthread_t thread;
	fake_script script;
	const void *row; /* for tests with table rows */
	uint32_t view;   /* that messages are about: FAKE_VIEW unless the script sets another */
	sem_t to_script; /* fake_go() */
	sem_t to_test;   /* fake_said() */
	struct wire_arena *arena;
	uint8_t packet[WIRE_PACKET_MAX];
};

/* --- For the test -----------------------------------------------------------------------------*/

/* Listen in the test's directory and run the script. */
void fake_start(struct fake *fake, fake_script script, const void *row);

/* The script must have ended, or end now. */
void fake_stop(struct fake *fake);

/* Let the script go on from fake_pause(). */
void fake_go(struct fake *fake);

/* Wait until the script has come to fake_tell(). */
void fake_await(struct fake *fake);

/* As above, but only look. */
bool fake_has_told(struct fake *fake);

/* --- For the script ---------------------------------------------------------------------------*/

void fake_pause(struct fake *fake);
void fake_tell(struct fake *fake);

void fake_accept(struct fake *fake);
void fake_hang_up(struct fake *fake);

/* The next message, which must be this one. [lend] until the next. */
const Sluice__Packet *fake_expect(struct fake *fake, Sluice__Packet__BodyCase body);

/* The client has closed, and said nothing before. */
void fake_expect_end(struct fake *fake);

/* fds [take], may be NULL. */
void fake_send(struct fake *fake, const Sluice__Packet *packet, struct fdset *fds);
void fake_send_bytes(struct fake *fake, const void *data, size_t len);

/* Accept, read Hello, send Welcome. */
void fake_welcome(struct fake *fake, uint64_t session);

/* What a Subscribe is answered with. */
struct fake_grant {
	unsigned max_holds;
	Sluice__Memory memory;
	Sluice__Readiness readiness;
	const char *note;             /* NULL: none */
	const Sluice__Device *device; /* NULL: none */
};

/* Answer Subscribe. The request is [lend] until the next message. */
const Sluice__Subscribe *fake_grant(struct fake *fake, const struct fake_grant *grant);

/* As above: host memory, complete frames. */
void fake_subscribed(struct fake *fake, unsigned max_holds);
void fake_refuse(struct fake *fake, Sluice__ErrorCode code, const char *text);

/* Make memory; the pixels of a slot are its number plus `first`. */
void fake_memory_init(struct fake_memory *memory, uint32_t generation, unsigned first);
void fake_memory_finish(struct fake_memory *memory);

/* A Generation message that describes the memory; the arrays in it are the caller's. */
void fake_describe(const struct fake_memory *memory, Sluice__Generation *out, uint32_t offset[4],
	uint32_t stride[4]);

/* Copies of the memory's descriptors in order. */
struct fdset fake_memory_fds(const struct fake_memory *memory);

/* Send Generation. */
void fake_offer(struct fake *fake, const struct fake_memory *memory);

/* Send Generation, expect that it is bound. */
void fake_bind(struct fake *fake, const struct fake_memory *memory);

/* Make the control page alone. */
void fake_control_init(struct fake_memory *memory, uint32_t generation);
void fake_control_finish(struct fake_memory *memory);

void fake_ended(struct fake *fake, Sluice__ErrorCode code, const char *text);

/* As above, ERROR_NO_VIEW: but whoever subscribes again has the same. */
void fake_ended_for_another(struct fake *fake, const char *text);

/* fake_welcome, fake_subscribed, fake_bind. */
void fake_begin(struct fake *fake, unsigned max_holds, const struct fake_memory *memory);

/* Put frame `seq` in a slot and announce it. */
void fake_frame(struct fake *fake, const struct fake_memory *memory, unsigned slot, uint64_t seq);

/* Send Frame alone: its slot does not hold it, or not any more. */
void fake_announce(
	struct fake *fake, const struct fake_memory *memory, unsigned slot, uint64_t seq);

/* As above, with a sync_file. fds [take] */
void fake_announce_with(struct fake *fake, const struct fake_memory *memory, unsigned slot,
	uint64_t seq, struct fdset *fds);

/* As fake_frame(), with copied_ns: the pixels are there. */
void fake_frame_copied(
	struct fake *fake, const struct fake_memory *memory, unsigned slot, uint64_t seq);

void fake_revoke(struct fake *fake, const struct fake_memory *memory, unsigned slot, uint64_t seq);

/* Expect that this frame is released. */
void fake_released(
	struct fake *fake, const struct fake_memory *memory, unsigned slot, uint64_t seq);

void fake_bye(struct fake *fake, Sluice__ErrorCode code, const char *text);

/* Send StreamChanged. */
void fake_stream(struct fake *fake, const char *name, Sluice__StreamState state);
