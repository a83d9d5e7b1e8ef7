#include "consumer/encoder/stop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t asked, overdue;

static void on_stop(int signo)
{
	if (asked)
		overdue = 1;
	asked = 1;
	alarm(STOP_GRACE_S);
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
