/*
 * Whole-broker tests: a real sluice-broker process, real client processes. Healthy clients use
 * libsluice and check every frame; misbehaving ones speak the protocol by hand.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "consumer/sluice_consumer.h"
#include "proto/wire.h"

enum { E2E_ARGS_MAX = 24 };

struct broker_process {
	pid_t pid;
	char socket[100];
	char log[110]; /* its stderr */
};

/* Path of the program. Lives for ever. */
const char *e2e_broker_path(void);

/* Start a broker with these further options (NULL at the end) and wait until it listens. */
void broker_start(struct broker_process *b, const char *const *options);

/* As above, in the same place as before (after broker_kill()). */
void broker_restart(struct broker_process *b, const char *const *options);

/* SIGTERM, and its exit status. */
int broker_stop(struct broker_process *b);

/* SIGKILL. */
void broker_kill(struct broker_process *b);

/* Open descriptors of the broker. */
unsigned broker_fds(const struct broker_process *b);

/* Wait until it has as many descriptors as this again; fails the test if it does not. */
void broker_expect_fds(const struct broker_process *b, unsigned n);

/* How often this text is in its log. */
unsigned broker_log_count(const struct broker_process *b, const char *text);

/* Pause. */
void sleep_ms(unsigned ms);

/* --- a healthy client ------------------------------------------------------------------------ */

struct healthy_report {
	uint64_t frames;
	uint64_t gaps;    /* frames missing between the first and the last */
	uint64_t bad;     /* wrong stamp, or torn, though the library called it valid */
	uint64_t invalid; /* revoked while it was read */
	int result;       /* of the call that ended it, 0 when it was told to end */
	int error_code;
};

struct healthy {
	pid_t pid;
	int stop_fd;   /* close it to end the client */
	int report_fd; /* read the report from it */
};

struct healthy_options {
	enum sluice_delivery delivery;
	uint32_t fifo_depth;
	uint32_t max_holds;
	uint32_t reserved_holds;
	unsigned read_ms; /* takes so long to read a frame */
	unsigned flags;   /* SLUICE_RECONNECT */
};

/* Every frame, and quick. */
extern const struct healthy_options healthy_default;

/* A process that reads the stream "test" and checks every frame. */
void healthy_start(
	struct healthy *h, const struct broker_process *b, const struct healthy_options *options);

/* Wait until it ends by itself, and read what it saw. */
struct healthy_report healthy_await(struct healthy *h);

/* Tell it to end, and read what it saw. */
struct healthy_report healthy_finish(struct healthy *h);

/* --- a client that speaks the protocol by hand ------------------------------------------------ */

struct raw {
	int fd;
	struct wire_arena *arena;
	Sluice__Packet *packet; /* the last one received */
	struct fdset fds;       /* that came with it */
	uint32_t view;
	uint32_t generation;
};

void raw_connect(struct raw *raw, const struct broker_process *b);
void raw_close(struct raw *raw);

/* Returns wire_send()'s result. */
int raw_send(struct raw *raw, const Sluice__Packet *packet);

/* Wait for the next packet, 5 s at most. Its body case, or 0 when the broker has closed. */
int raw_recv(struct raw *raw);

/* Skip other packets until this one; fails the test if the broker closes before. */
void raw_expect(struct raw *raw, int body);

/* Skip other packets until Bye; checks its code, and that the broker closes after it. */
void raw_expect_bye(struct raw *raw, int code);

void raw_hello(struct raw *raw);                     /* to Welcome */
void raw_subscribe(struct raw *raw, uint32_t holds); /* to Generation of "test" */
void raw_subscribe_with(struct raw *raw, const Sluice__Subscribe *request);
void raw_bound(struct raw *raw);
int raw_release(struct raw *raw, const Sluice__Frame *frame);
