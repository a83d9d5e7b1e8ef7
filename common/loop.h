/*
 * The event loop. The only user of libevent.
 *
 * One thread owns a loop and everything watched on it; no function here is thread-safe. A callback
 * may destroy any watch, its own included. Only the outermost callback destroys the object that it
 * was called for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/list.h"

struct loop;
struct watch;

enum loop_event {
	LOOP_READ = 1,
	LOOP_WRITE = 2,
};

typedef void (*loop_fn)(void *data);

/* loop_out [give]. 0 or -ENOMEM. */
int loop_create(struct loop **loop_out);

/* Asserts that nothing is watched any more, and nothing spins. Takes NULL. Returns NULL. */
struct loop *loop_destroy(struct loop *loop);

/* Runs callbacks until loop_stop(). Blocks. 0 or negative errno. */
int loop_run(struct loop *loop);

/* loop_run() returns after the callback that is running now. */
void loop_stop(struct loop *loop);

/* Called once in each turn of the loop. False: it is enough. */
typedef bool (*loop_spin_fn)(void *data);

/* Something that is polled for without sleep. The caller's memory, zeroed; the loop's fields. */
struct loop_spin {
	struct list link;
	struct loop *loop; /* NULL: not spinning */
	loop_spin_fn fn;
	void *data;
};

/**
 * Call fn between the turns of the loop, which does not sleep meanwhile: descriptors and timers are
 * served as before. A turn takes a microsecond of its own, so fn had better poll for some too.
 *
 * spin  [borrow] until fn returns false or loop_unspin(); not spinning yet (asserted)
 */
void loop_spin(struct loop *loop, struct loop_spin *spin, loop_spin_fn fn, void *data);

/* fn is not called after this, which may be called from it. Nothing if it does not spin. */
void loop_unspin(struct loop_spin *spin);

/**
 * Call fn whenever the descriptor is ready (level-triggered).
 *
 * fd         [borrow] must stay open until watch_destroy(): unwatch, then close
 * events     LOOP_READ, LOOP_WRITE or both
 * watch_out  [give]
 */
int loop_watch(struct loop *loop, struct watch **watch_out, int fd, unsigned events, loop_fn fn,
	void *data);

/* A timer that is not running yet; resolution some ms: it may be early by a tick of
 * the kernel's coarse clock. watch_out [give]. */
int loop_timer(struct loop *loop, struct watch **watch_out, loop_fn fn, void *data);

/* Call once after delay_ns from now; a running timer is set anew. */
int watch_arm(struct watch *watch, uint64_t delay_ns);

/* Stop a timer. It may be armed again. */
void watch_disarm(struct watch *watch);

/* Call fn when the process gets the signal. watch_out [give]. */
int loop_signal(struct loop *loop, struct watch **watch_out, int signo, loop_fn fn, void *data);

/* The callback is not run after this. Takes NULL. Returns NULL. */
struct watch *watch_destroy(struct watch *watch);

DEFINE_CLEANUP(struct loop *, loop_destroy);
DEFINE_CLEANUP(struct watch *, watch_destroy);
