#include "common/loop.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "common/clock.h"

struct loop {
	struct event_base *base;
	unsigned n_watches;
	bool stopped;
	struct list spins;
	struct list *next_spin;    /* while they are called: where to go on */
	struct loop_spin *calling; /* whose fn runs now, unless it has ended itself */
};

struct watch {
	struct loop *loop;
	struct event *event;
	loop_fn fn;
	void *data;
};

int loop_create(struct loop **loop_out)
{
	_cleanup_free_ struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->base = event_base_new();
	if (!loop->base)
		return -ENOMEM;
	list_init(&loop->spins);
	*loop_out = TAKE_PTR(loop);
	return 0;
}

struct loop *loop_destroy(struct loop *loop)
{
	if (!loop)
		return NULL;
	assert(loop->n_watches == 0);
	assert(list_empty(&loop->spins));
	event_base_free(loop->base);
	free(loop);
	return NULL;
}

/* Each may end itself or another: loop_unspin() keeps next_spin right. */
static void call_spins(struct loop *loop)
{
	for (struct list *at = loop->spins.next; at != &loop->spins; at = loop->next_spin) {
		struct loop_spin *spin = container_of(at, struct loop_spin, link);
		loop->next_spin = at->next;
		loop->calling = spin;
		bool more = spin->fn(spin->data);
		/* one that ended itself may be gone */
		if (!more && loop->calling == spin)
			loop_unspin(spin);
		loop->calling = NULL;
		if (loop->stopped)
			return;
	}
}

/* One turn at a time: what spins is called between them. */
int loop_run(struct loop *loop)
{
	loop->stopped = false;
	while (!loop->stopped) {
		int how = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;
		if (!list_empty(&loop->spins))
			how |= EVLOOP_NONBLOCK;
		if (event_base_loop(loop->base, how) < 0)
			return -EIO;
		if (!loop->stopped)
			call_spins(loop);
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
	event_base_loopbreak(loop->base);
}

void loop_spin(struct loop *loop, struct loop_spin *spin, loop_spin_fn fn, void *data)
{
	assert(!spin->loop);
	*spin = (struct loop_spin){ .loop = loop, .fn = fn, .data = data };
	/* in front: one that begins while they are called has its first call in the next turn */
	list_insert(loop->spins.next, &spin->link);
}

void loop_unspin(struct loop_spin *spin)
{
	struct loop *loop = spin->loop;
	if (!loop)
		return;
	if (loop->next_spin == &spin->link)
		loop->next_spin = spin->link.next;
	if (loop->calling == spin)
		loop->calling = NULL;
	list_remove(&spin->link);
	spin->loop = NULL;
}

static void on_event(evutil_socket_t fd, short what, void *data)
{
	(void)fd;
	(void)what;
	struct watch *watch = data;
	watch->fn(watch->data);
}

static int watch_create(
	struct loop *loop, struct watch **watch_out, int fd, short what, loop_fn fn, void *data)
{
	_cleanup_(watch_destroyp) struct watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	*watch = (struct watch){ .loop = loop, .fn = fn, .data = data };
	loop->n_watches++;
	watch->event = event_new(loop->base, fd, what, on_event, watch);
	if (!watch->event)
		return -ENOMEM;
	bool is_timer = fd < 0;
	if (!is_timer && event_add(watch->event, NULL) < 0)
		return -ENOMEM;
	*watch_out = TAKE_PTR(watch);
	return 0;
}

int loop_watch(struct loop *loop, struct watch **watch_out, int fd, unsigned events, loop_fn fn,
	void *data)
{
	short what = EV_PERSIST;
	if (events & LOOP_READ)
		what |= EV_READ;
	if (events & LOOP_WRITE)
		what |= EV_WRITE;
	return watch_create(loop, watch_out, fd, what, fn, data);
}

int loop_timer(struct loop *loop, struct watch **watch_out, loop_fn fn, void *data)
{
	return watch_create(loop, watch_out, -1, 0, fn, data);
}

int watch_arm(struct watch *watch, uint64_t delay_ns)
{
	struct timeval delay = {
		.tv_sec = (time_t)(delay_ns / NS_PER_S),
		.tv_usec = (suseconds_t)(delay_ns % NS_PER_S / NS_PER_US),
	};
	return event_add(watch->event, &delay) < 0 ? -ENOMEM : 0;
}

void watch_disarm(struct watch *watch)
{
	event_del(watch->event);
}

int loop_signal(struct loop *loop, struct watch **watch_out, int signo, loop_fn fn, void *data)
{
	return watch_create(loop, watch_out, signo, EV_SIGNAL | EV_PERSIST, fn, data);
}

struct watch *watch_destroy(struct watch *watch)
{
	if (!watch)
		return NULL;
	if (watch->event)
		event_free(watch->event); /* deletes it first */
	watch->loop->n_watches--;
	free(watch);
	return NULL;
}
