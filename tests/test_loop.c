#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/loop.h"
#include "tests/death.h"

/* A watch that counts its calls, and can stop the loop or destroy watches. */
struct probe {
	struct loop *loop;
	struct watch *watch;
	struct watch **victim; /* destroyed in the callback */
	unsigned calls;
	unsigned stop_after; /* calls; 0: never */
	bool drain;
	int fd;
};

static void on_probe(void *data)
{
	struct probe *p = data;
	eventfd_t n;
	p->calls++;
	if (p->drain)
		eventfd_read(p->fd, &n);
	if (p->victim)
		*p->victim = watch_destroy(*p->victim);
	if (p->calls == p->stop_after)
		loop_stop(p->loop);
}

static struct probe make_probe(struct loop *loop)
{
	struct probe p = { .loop = loop };
	p.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(p.fd >= 0);
	return p;
}

static void finish_probe(struct probe *p)
{
	p->watch = watch_destroy(p->watch);
	fd_closep(&p->fd);
}

static void on_stop(void *data)
{
	loop_stop(data);
}

static void run_for_ms(struct loop *loop, unsigned ms)
{
	struct watch *timer;
	CHECK_EQ(loop_timer(loop, &timer, on_stop, loop), 0);
	CHECK_EQ(watch_arm(timer, ms * NS_PER_MS), 0);
	CHECK_EQ(loop_run(loop), 0);
	watch_destroy(timer);
}

TEST(a_readable_descriptor_calls_back_until_it_is_drained)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = make_probe(loop);
	CHECK_EQ(loop_watch(loop, &p.watch, p.fd, LOOP_READ, on_probe, &p), 0);
	run_for_ms(loop, 10);
	CHECK_EQ(p.calls, 0);
	eventfd_write(p.fd, 1);
	p.stop_after = 3; /* level-triggered */
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(p.calls, 3);
	p.drain = true;
	p.stop_after = 0;
	run_for_ms(loop, 10);
	CHECK_EQ(p.calls, 4);
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(writable_and_both_are_watched_too)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = make_probe(loop);
	p.stop_after = 1;
	CHECK_EQ(loop_watch(loop, &p.watch, p.fd, LOOP_READ | LOOP_WRITE, on_probe, &p), 0);
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(p.calls, 1);
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(a_callback_may_destroy_its_own_watch)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = make_probe(loop);
	p.victim = &p.watch;
	CHECK_EQ(loop_watch(loop, &p.watch, p.fd, LOOP_READ, on_probe, &p), 0);
	eventfd_write(p.fd, 1);
	run_for_ms(loop, 10);
	CHECK_EQ(p.calls, 1);
	finish_probe(&p);
	loop_destroy(loop);
}

/* Both are ready in the same turn: whichever is called first destroys the other. */
TEST(a_destroyed_watch_is_not_called_in_the_same_turn)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe a = make_probe(loop), b = make_probe(loop);
	a.victim = &b.watch;
	b.victim = &a.watch;
	CHECK_EQ(loop_watch(loop, &a.watch, a.fd, LOOP_READ, on_probe, &a), 0);
	CHECK_EQ(loop_watch(loop, &b.watch, b.fd, LOOP_READ, on_probe, &b), 0);
	eventfd_write(a.fd, 1);
	eventfd_write(b.fd, 1);
	a.stop_after = b.stop_after = 1;
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(a.calls + b.calls, 1);
	finish_probe(&a);
	finish_probe(&b);
	loop_destroy(loop);
}

TEST(a_number_that_is_used_again_belongs_to_the_new_watch)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe a = make_probe(loop);
	CHECK_EQ(loop_watch(loop, &a.watch, a.fd, LOOP_READ, on_probe, &a), 0);
	eventfd_write(a.fd, 1);
	int number = a.fd;
	finish_probe(&a);
	struct probe b = make_probe(loop);
	CHECK_EQ(b.fd, number);
	CHECK_EQ(loop_watch(loop, &b.watch, b.fd, LOOP_READ, on_probe, &b), 0);
	run_for_ms(loop, 10);
	CHECK_EQ(a.calls + b.calls, 0);
	finish_probe(&b);
	loop_destroy(loop);
}

TEST(a_timer_fires_once_and_not_before_its_time)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = { .loop = loop, .fd = -EBADF };
	CHECK_EQ(loop_timer(loop, &p.watch, on_probe, &p), 0);
	run_for_ms(loop, 5);
	CHECK_EQ(p.calls, 0); /* not armed */
	uint64_t before = clock_ns();
	p.stop_after = 1;
	CHECK_EQ(watch_arm(p.watch, 20 * NS_PER_MS), 0);
	CHECK_EQ(loop_run(loop), 0);
	/* libevent reads the coarse clock: it may be a tick of the kernel late */
	CHECK(clock_ns() - before >= 15 * NS_PER_MS);
	run_for_ms(loop, 30);
	CHECK_EQ(p.calls, 1);
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(a_timer_that_is_armed_again_starts_anew)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = { .loop = loop, .fd = -EBADF };
	CHECK_EQ(loop_timer(loop, &p.watch, on_probe, &p), 0);
	CHECK_EQ(watch_arm(p.watch, 0), 0);
	CHECK_EQ(watch_arm(p.watch, 3600 * NS_PER_S), 0);
	run_for_ms(loop, 20);
	CHECK_EQ(p.calls, 0);
	CHECK_EQ(watch_arm(p.watch, 0), 0);
	run_for_ms(loop, 20);
	CHECK_EQ(p.calls, 1);
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(a_disarmed_timer_is_silent_and_may_be_armed_again)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = { .loop = loop, .fd = -EBADF };
	CHECK_EQ(loop_timer(loop, &p.watch, on_probe, &p), 0);
	CHECK_EQ(watch_arm(p.watch, 0), 0);
	watch_disarm(p.watch);
	watch_disarm(p.watch);
	run_for_ms(loop, 10);
	CHECK_EQ(p.calls, 0);
	CHECK_EQ(watch_arm(p.watch, 0), 0);
	run_for_ms(loop, 10);
	CHECK_EQ(p.calls, 1);
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(a_signal_calls_back)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = { .loop = loop, .fd = -EBADF };
	CHECK_EQ(loop_signal(loop, &p.watch, SIGUSR1, on_probe, &p), 0);
	for (unsigned i = 1; i <= 3; i++) {
		p.stop_after = i;
		raise(SIGUSR1);
		CHECK_EQ(loop_run(loop), 0);
		CHECK_EQ(p.calls, i);
	}
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(a_descriptor_that_cannot_be_watched_is_an_error)
{
	struct loop *loop;
	struct watch *watch = NULL;
	CHECK_EQ(loop_create(&loop), 0);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	close(fd);
	CHECK(loop_watch(loop, &watch, fd, LOOP_READ, on_stop, loop) < 0);
	CHECK(watch == NULL);
	loop_destroy(loop); /* asserts that nothing is left */
}

/* Something that spins: ends after some calls, and may do a thing at one of them. */
struct spinner {
	struct loop *loop;
	struct loop_spin spin;
	unsigned calls;
	unsigned end_after;            /* 0: never by itself */
	unsigned stop_after;           /* calls until it stops the loop; 0: never */
	struct spinner *victim;        /* ended at the first call */
	bool again;                    /* at its end it begins anew, once */
	const unsigned *until_counted; /* ends when this has become 3 */
};

static bool on_spin(void *data)
{
	struct spinner *s = data;
	s->calls++;
	if (s->victim) {
		loop_unspin(&s->victim->spin);
		s->victim = NULL;
	}
	if (s->again) {
		s->again = false;
		loop_unspin(&s->spin);
		loop_spin(s->loop, &s->spin, on_spin, s);
		return false; /* ends what it was called for, not what it has begun */
	}
	if (s->calls == s->stop_after)
		loop_stop(s->loop);
	if (s->until_counted && *s->until_counted == 3)
		loop_stop(s->loop);
	return s->calls != s->end_after;
}

TEST(what_spins_is_called_until_it_says_that_it_is_enough)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct spinner s = { .loop = loop, .end_after = 1000 };
	loop_spin(loop, &s.spin, on_spin, &s);
	run_for_ms(loop, 50);
	CHECK_EQ(s.calls, 1000);
	CHECK(s.spin.loop == NULL);
	loop_spin(loop, &s.spin, on_spin, &s); /* it may begin again */
	s.end_after = 1001;
	run_for_ms(loop, 10);
	CHECK_EQ(s.calls, 1001);
	loop_destroy(loop); /* asserts that nothing is left */
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

TEST(the_loop_sleeps_again_when_nothing_spins_any_more)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct spinner s = { .loop = loop, .end_after = 3 };
	loop_spin(loop, &s.spin, on_spin, &s);
	uint64_t before = cpu_ns();
	run_for_ms(loop, 200);
	CHECK(cpu_ns() - before < 50 * NS_PER_MS * test_slowness());
	CHECK_EQ(s.calls, 3);
	loop_destroy(loop);
}

/* Even one that is always ready does not keep the spin from its turn, nor the spin that one. */
TEST(descriptors_and_timers_are_served_while_something_spins)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct probe p = make_probe(loop);
	CHECK_EQ(loop_watch(loop, &p.watch, p.fd, LOOP_READ, on_probe, &p), 0);
	eventfd_write(p.fd, 1);
	struct spinner s = { .loop = loop, .until_counted = &p.calls };
	loop_spin(loop, &s.spin, on_spin, &s);
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(p.calls, 3); /* one a turn */
	CHECK_EQ(s.calls, 3);
	s.until_counted = NULL;
	run_for_ms(loop, 10); /* the timer comes */
	CHECK(p.calls > 3 && s.calls > 3);
	loop_unspin(&s.spin);
	loop_unspin(&s.spin); /* a second time is harmless */
	finish_probe(&p);
	loop_destroy(loop);
}

TEST(what_spins_may_stop_the_loop)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct spinner s = { .loop = loop, .stop_after = 5 }, t = { .loop = loop };
	loop_spin(loop, &t.spin, on_spin, &t);
	loop_spin(loop, &s.spin, on_spin, &s); /* the last that began is called first */
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(s.calls, 5);
	CHECK_EQ(t.calls, 4);
	s.stop_after = 6;
	CHECK_EQ(loop_run(loop), 0); /* and goes on where it was */
	CHECK_EQ(s.calls, 6);
	loop_unspin(&s.spin);
	loop_unspin(&t.spin);
	loop_destroy(loop);
}

TEST(what_spins_may_end_another_and_itself)
{
	struct loop *loop;
	CHECK_EQ(loop_create(&loop), 0);
	struct spinner a = { .loop = loop }, b = { .loop = loop }, c = { .loop = loop };
	a.victim = &b;
	c.stop_after = 3;
	loop_spin(loop, &c.spin, on_spin, &c);
	loop_spin(loop, &b.spin, on_spin, &b);
	loop_spin(loop, &a.spin, on_spin, &a);
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(b.calls, 0);
	CHECK(a.calls == 3 && c.calls == 3);
	a.victim = &a;
	c.stop_after = 5;
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(a.calls, 4);
	CHECK_EQ(c.calls, 5);
	c.again = true;
	c.stop_after = 7;
	CHECK_EQ(loop_run(loop), 0);
	CHECK_EQ(c.calls, 7);
	loop_unspin(&c.spin);
	loop_destroy(loop);
}

static bool spin_for_ever(void *data)
{
	return true;
}

static void destroy_while_spinning(void)
{
	static struct loop_spin spin;
	struct loop *loop;
	if (loop_create(&loop) < 0)
		return;
	loop_spin(loop, &spin, spin_for_ever, NULL);
	loop_destroy(loop);
}

TEST(destroying_a_loop_in_which_something_spins_is_a_mistake)
{
	CHECK(dies(destroy_while_spinning));
}

static void destroy_while_watched(void)
{
	struct loop *loop;
	struct watch *timer;
	if (loop_create(&loop) == 0 && loop_timer(loop, &timer, on_stop, loop) == 0)
		loop_destroy(loop);
}

TEST(destroying_a_loop_that_is_in_use_is_a_mistake)
{
	CHECK(dies(destroy_while_watched));
}

TEST(destroy_takes_nothing)
{
	CHECK(loop_destroy(NULL) == NULL);
	CHECK(watch_destroy(NULL) == NULL);
}
