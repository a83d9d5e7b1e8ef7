/* What the floor sends: the sizes are those of the broker's messages. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { FLOOR_MESSAGE_MAX = 256 };

struct floor_message {
	uint64_t seq; /* 0: no message */
	uint64_t published_ns;
	char padding[FLOOR_MESSAGE_MAX - 2 * sizeof(uint64_t)];
};

struct floor_sizes {
	size_t frame;   /* bytes of a Frame as the broker sends it */
	size_t release; /* bytes of a Release as libsluice answers */
};

struct floor_sizes floor_sizes(void);

/* Connect to a floor as its consumers do; read at most for SEAT_LOOK_MS. A descriptor or negative. */
int floor_connect(const char *path);

/**
 * Receive one message.
 *
 * 1, or 0 when none came within SEAT_LOOK_MS, or negative.
 */
int floor_receive(int fd, struct floor_message *message_out);

/* Answer it. 0 or negative. */
int floor_answer(int fd, size_t bytes);
