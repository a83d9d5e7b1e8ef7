/*
 * The input of fuzz_session: one byte of configuration, then steps. A step is a byte that says what
 * and who, then the bytes that it takes (0 where the input has ended).
 */
#pragma once

enum {
	FUZZ_PEERS = 3,
	FUZZ_TOO_BIG = 4,

	/* the first byte */
	FUZZ_ROLES = 0x07,     /* enum access_role; 0: refused */
	FUZZ_FEW_FDS = 0x08,   /* a quota that two generations in flight exceed */
	FUZZ_FEW_BYTES = 0x10, /* a quota that two bound generations exceed */
	FUZZ_FEW_CLIENTS = 0x20,
	FUZZ_SMALL_SOCKETS = 0x40, /* with room for a few messages */
};

/* The low six bits of a step; the high two say which client, where it is about one. */
enum fuzz_step {
	FUZZ_CONNECT, /* closes the one before */
	FUZZ_CLOSE,
	FUZZ_READ,        /* how many packets */
	FUZZ_RAW,         /* how many descriptors, how many bytes, the bytes */
	FUZZ_HELLO,       /* version, length of the name */
	FUZZ_LIST,        /* watch */
	FUZZ_SUBSCRIBE,   /* stream, delivery, depth, holds, reserved holds, what is wrong */
	FUZZ_UNSUBSCRIBE, /* stream, what is wrong */
	FUZZ_BOUND,       /* stream, generations back, error, length of the text */
	FUZZ_RELEASE,     /* which of the frames that it knows, what is wrong */
	FUZZ_STATUS,      /* from where, as a shift, and an offset */
	FUZZ_PUBLISH,     /* stream, how many frames */
	FUZZ_RESIZE,      /* stream, size; FUZZ_TOO_BIG: no memory */
	FUZZ_GONE,        /* stream: its source is gone */
	FUZZ_REMOVE,      /* stream: removed, and added anew without a format */
	FUZZ_WAIT,        /* every deadline passes */
	FUZZ_BYE,         /* the broker tells this client that it ends; 1: and ends it */
	FUZZ_STEPS,
};
