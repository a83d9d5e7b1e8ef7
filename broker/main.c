/* sluice-broker: options, signals, systemd, exit status. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "broker/bridge.h"
#include "broker/broker.h"
#include "broker/cpu_job.h"
#include "common/clock.h"

enum { EXIT_USAGE = 2, DRAIN_MS = 1000, DRAIN_STEP_MS = 10 };

struct program {
	int argc;
	char **argv;
	struct loop *loop;
	struct broker *broker;
	struct watch *on_term, *on_int, *on_hup;
	struct watch *watchdog; /* timer; NULL: systemd wants none */
	uint64_t watchdog_ns;
	struct watch *drain; /* timer */
	uint64_t drain_until_ns;
	char socket[sizeof(((struct settings *)0)->socket)]; /* as it was started with */
	mode_t mode;
};

static void on_watchdog(void *data)
{
	struct program *p = data;
	sd_notify(0, "WATCHDOG=1");
	watch_arm(p->watchdog, p->watchdog_ns / 2);
}

static void on_drain(void *data)
{
	struct program *p = data;
	if (broker_idle(p->broker) || clock_ns() >= p->drain_until_ns)
		loop_stop(p->loop);
	else
		watch_arm(p->drain, DRAIN_STEP_MS * NS_PER_MS);
}

/* A second signal does not wait for the clients. */
static void on_end(void *data)
{
	struct program *p = data;
	if (p->drain_until_ns) {
		loop_stop(p->loop);
		return;
	}
	sd_notify(0, "STOPPING=1");
	log_info("ending: telling the clients");
	p->drain_until_ns = clock_ns() + DRAIN_MS * NS_PER_MS;
	broker_drain(p->broker, "the broker was told to end");
	on_drain(p);
}

#ifdef SLUICE_FAULTS
/* "vkAllocateMemory=-2@3+,...": the third call and all after it. */
static void set_vulkan_faults(const char *text)
{
	char copy[sizeof(((struct settings *)0)->fault_vulkan)], *rest = copy, *part;
	snprintf(copy, sizeof(copy), "%s", text);
	while ((part = strsep(&rest, ",")) && *part) {
		char name[64], plus = 0;
		int result;
		unsigned nth = 1;
		int n = sscanf(part, "%63[A-Za-z0-9]=%d@%u%c", name, &result, &nth, &plus);
		if (n < 2 || !gpu_fault(name, result, nth, plus == '+'))
			log_error("fault-vulkan: \"%s\" cannot be made to fail", part);
	}
}
#endif

static void apply_process_settings(const struct settings *settings)
{
	log_set_level(settings->log_level);
#ifdef SLUICE_FAULTS
	pool_fault_early_reuse = settings->fault_early_reuse;
	lane_fault_slow_ms = settings->fault_slow_ms;
	gpu_fault_early = settings->fault_gpu_early;
	set_vulkan_faults(settings->fault_vulkan);
#endif
}

/* What is wrong in the file changes nothing: the broker goes on as it was. */
static void on_reload(void *data)
{
	struct program *p = data;
	char error[1024];
	_cleanup_free_ struct settings *settings = malloc(sizeof(*settings));
	if (!settings || p->drain_until_ns)
		return;
	sd_notify(0, "RELOADING=1");
	int r = settings_load(settings, p->argc, p->argv, error, sizeof(error));
	if (r < 0) {
		log_error("configuration not read again: %s", error);
	} else {
		apply_process_settings(settings);
		broker_configure(p->broker, settings);
		log_info("configuration read again");
	}
	if (r == 0 &&
		(strcmp(settings->socket, p->socket) != 0 || settings->socket_mode != p->mode))
		log_warning("socket and socket-mode are changed by a restart only");
	sd_notify(0, "READY=1");
}

/* Every client costs descriptors, open or in flight: take as many as the system lets us have. */
static void raise_fd_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int start_watchdog(struct program *p)
{
	uint64_t usec;
	if (sd_watchdog_enabled(0, &usec) <= 0)
		return 0;
	p->watchdog_ns = usec * NS_PER_US;
	int r = loop_timer(p->loop, &p->watchdog, on_watchdog, p);
	if (r == 0)
		on_watchdog(p);
	return r;
}

static int watch_signals(struct program *p)
{
	signal(SIGPIPE, SIG_IGN);
	int r = loop_signal(p->loop, &p->on_term, SIGTERM, on_end, p);
	if (r == 0)
		r = loop_signal(p->loop, &p->on_int, SIGINT, on_end, p);
	if (r == 0)
		r = loop_signal(p->loop, &p->on_hup, SIGHUP, on_reload, p);
	if (r == 0)
		r = loop_timer(p->loop, &p->drain, on_drain, p);
	return r;
}

static void program_finish(struct program *p)
{
	p->broker = broker_destroy(p->broker);
	p->on_term = watch_destroy(p->on_term);
	p->on_int = watch_destroy(p->on_int);
	p->on_hup = watch_destroy(p->on_hup);
	p->watchdog = watch_destroy(p->watchdog);
	p->drain = watch_destroy(p->drain);
	p->loop = loop_destroy(p->loop);
}

static int run(struct program *p, const struct settings *settings)
{
	char error[1024] = "no memory";
	if (loop_create(&p->loop) < 0 || watch_signals(p) < 0 || start_watchdog(p) < 0) {
		log_error("cannot start the event loop");
		return EXIT_FAILURE;
	}
	int r = broker_create(&p->broker, p->loop, settings, error, sizeof(error));
	if (r < 0) {
		log_error("%s", error);
		return r == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
	}
	log_info("listening on %s with %u sources", broker_socket_path(p->broker),
		settings->n_sources);
	sd_notify(0, "READY=1");
	return loop_run(p->loop) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	char error[1024] = "no memory";
	struct program p = { .argc = argc, .argv = argv };
	signal(SIGHUP, SIG_IGN); /* until it means something */
	_cleanup_free_ struct settings *settings = malloc(sizeof(*settings));
	int r = settings ? settings_load(settings, argc, argv, error, sizeof(error)) : -ENOMEM;
	if (r == SETTINGS_EXIT) /* a help that could not be written was no help */
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	if (r < 0) {
		fprintf(stderr, "sluice-broker: %s\n", error);
		return EXIT_USAGE;
	}
	memcpy(p.socket, settings->socket, sizeof(p.socket));
	p.mode = settings->socket_mode;
	apply_process_settings(settings);
	raise_fd_limit();
	int status = run(&p, settings);
	program_finish(&p);
	return status;
}
