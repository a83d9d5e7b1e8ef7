#include "consumer/encoder/stop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "consumer/encoder/now.h"

#define ECHO_NS NS_PER_S /* within this another signal is the same wish */

static volatile sig_atomic_t asked, insisted, overdue;
static uint64_t asked_ns; /* the handler's: the signals block each other */

static void on_stop(int signo)
{
	if (!asked) {
		asked = 1;
		asked_ns = now_ns();
		alarm(STOP_GRACE_S);
	} else if (now_ns() - asked_ns >= ECHO_NS) {
		insisted = overdue = 1;
	}
}

static void on_alarm(int signo)
{
	overdue = 1;
}

/* Without SA_RESTART: a call that blocks comes back and sees the flag. */
static int handle(int signo, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };
	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGINT);
	sigaddset(&action.sa_mask, SIGTERM);
	sigaddset(&action.sa_mask, SIGHUP);
	return sigaction(signo, &action, NULL) < 0 ? -errno : 0;
}

/* The terminal is gone; not if it is ignored: nohup(1) asked for that. */
static int handle_hangup(void)
{
	struct sigaction now;
	if (sigaction(SIGHUP, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
		return 0;
	return handle(SIGHUP, on_stop);
}

int stop_install(void)
{
	int r = handle(SIGINT, on_stop);
	if (r == 0)
		r = handle_hangup();
	if (r == 0)
		r = handle(SIGTERM, on_stop);
	if (r == 0)
		r = handle(SIGALRM, on_alarm);
	if (r == 0)
		r = handle(SIGPIPE, SIG_IGN);
	return r;
}

bool stop_is_asked(void)
{
	return asked;
}

int stop_is_overdue(void *data)
{
	return overdue;
}

int stop_is_insisted_on(void *data)
{
	return insisted;
}
