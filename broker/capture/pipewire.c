/*
 * The capture over PipeWire: finds its target, connects, notices the end, and tries again.
 *
 * PipeWire calls back from within pw_loop_iterate(); nothing is destroyed there. What happened is
 * looked at afterwards, in step(), which alone decides.
 */
#include "broker/capture/pipewire.h"

#include <errno.h>
#include <pipewire/pipewire.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"

#define BACKOFF_MIN_NS (250 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)
#define ANSWER_NS      (3 * NS_PER_S) /* a daemon that says nothing for so long hangs */
#define NEGOTIATE_NS   (3 * NS_PER_S) /* as does a negotiation that takes so long */
#define APPEAR_NS      (2 * NS_PER_S) /* a node that was just made may not be listed yet */

/* In order of life; what is lost leads back to WAITING. */
enum phase {
	PHASE_IDLE,
	PHASE_WAITING,    /* the timer runs: then try again */
	PHASE_LISTING,    /* the daemon is there; it lists its nodes */
	PHASE_LOOKING,    /* the target is not there: it may come */
	PHASE_CONNECTING, /* to the target */
	PHASE_LIVE,
	PHASE_ENDED, /* the target can never come back */
	PHASES,
};

#define BIT(n) (1u << (n))

static const unsigned phase_next[PHASES] = {
	[PHASE_IDLE] = BIT(PHASE_WAITING) | BIT(PHASE_LISTING) | BIT(PHASE_ENDED),
	[PHASE_WAITING] = BIT(PHASE_WAITING) | BIT(PHASE_LISTING) | BIT(PHASE_LOOKING) |
			  BIT(PHASE_CONNECTING) | BIT(PHASE_ENDED),
	[PHASE_LISTING] =
		BIT(PHASE_WAITING) | BIT(PHASE_LOOKING) | BIT(PHASE_CONNECTING) | BIT(PHASE_ENDED),
	[PHASE_LOOKING] = BIT(PHASE_WAITING) | BIT(PHASE_CONNECTING) | BIT(PHASE_ENDED),
	[PHASE_CONNECTING] = BIT(PHASE_WAITING) | BIT(PHASE_LIVE) | BIT(PHASE_ENDED),
	[PHASE_LIVE] = BIT(PHASE_WAITING) | BIT(PHASE_ENDED),
	[PHASE_ENDED] = 0,
};

struct pipewire {
	struct capture base;
	struct loop *loop;
	char name[PIPEWIRE_TEXT_MAX / 2];
	struct pipewire_target target;
	bool found; /* the target was there once */
	enum phase phase;
	uint64_t backoff_ns;
	char reason[PIPEWIRE_TEXT_MAX]; /* that the listener knows; "" while it is live */

	bool initialised; /* pw_init() was called */
	struct pw_loop *pw_loop;
	bool entered;
	struct watch *watch; /* of pw_loop's descriptor */
	struct watch *timer;
	struct pw_context *context;
	struct pipewire_graph *graph;
	struct pipewire_node node; /* that we are connected to */
	struct pipewire_stream *stream;
	struct video_format announced;
};

static void set_phase(struct pipewire *p, enum phase phase)
{
	if (!(phase_next[p->phase] & BIT(phase)))
		log_error("stream=%s pipewire: phase %d after %d", p->name, phase, p->phase);
	p->phase = phase;
	watch_disarm(p->timer);
}

static void arm(struct pipewire *p, uint64_t delay_ns)
{
	if (watch_arm(p->timer, delay_ns) < 0)
		log_error("stream=%s no memory for a timer", p->name);
}

/* Each reason is told once, until there is another. */
__attribute__((format(printf, 2, 3))) static void tell_gone(
	struct pipewire *p, const char *fmt, ...)
{
	char reason[PIPEWIRE_TEXT_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(reason, sizeof(reason), fmt, args);
	va_end(args);
	if (strcmp(reason, p->reason) == 0)
		return;
	memcpy(p->reason, reason, sizeof(reason));
	p->base.listener->gone(p->base.listener_data, p->reason);
}

static void close_stream(struct pipewire *p)
{
	p->stream = pipewire_stream_destroy(p->stream);
}

static void try_later(struct pipewire *p)
{
	set_phase(p, PHASE_WAITING);
	arm(p, p->backoff_ns);
	p->backoff_ns = p->backoff_ns * 2 < BACKOFF_MAX_NS ? p->backoff_ns * 2 : BACKOFF_MAX_NS;
}

static void disconnect(struct pipewire *p)
{
	close_stream(p);
	p->graph = pipewire_graph_destroy(p->graph);
}

/*
 * Ids and serials are given anew, to whatever comes next: a number is good for the node that had it
 * when we first looked, and for no other.
 */
static bool may_return(const struct pipewire *p)
{
	return p->target.kind == PIPEWIRE_BY_NAME && !p->target.has_remote;
}

static void end(struct pipewire *p, const char *what)
{
	char target[PIPEWIRE_TEXT_MAX];
	pipewire_target_describe(&p->target, target, sizeof(target));
	disconnect(p);
	set_phase(p, PHASE_ENDED);
	tell_gone(p,
		"%s: %s; its number may belong to another program next, so that it is not tried "
		"again: restart with a new one, or with the node's name",
		target, what);
}

static void lose_daemon(struct pipewire *p)
{
	bool remote = p->target.has_remote;
	if (remote || (p->found && !may_return(p))) {
		end(p, remote ? "the portal's connection has ended" : "PipeWire has ended");
		return;
	}
	disconnect(p);
	tell_gone(p, "PipeWire has ended: start it again (systemctl --user start pipewire)");
	try_later(p);
}

static void lose_node(struct pipewire *p)
{
	char target[PIPEWIRE_TEXT_MAX];
	close_stream(p);
	if (!may_return(p)) {
		end(p, "the node has ended");
		return;
	}
	tell_gone(p, "%s has ended; it is captured again when it comes back",
		pipewire_target_describe(&p->target, target, sizeof(target)));
	try_later(p);
}

static void connect_daemon(struct pipewire *p)
{
	int *remote_fd = p->target.has_remote ? &p->target.remote_fd : NULL;
	const char *dir = getenv("PIPEWIRE_RUNTIME_DIR");
	dir = dir ? dir : getenv("XDG_RUNTIME_DIR");
	int r = pipewire_graph_connect(&p->graph, p->context, remote_fd);
	if (r == 0) {
		set_phase(p, PHASE_LISTING);
		arm(p, ANSWER_NS);
		return;
	}
	if (remote_fd) {
		end(p, "the portal's connection is not one to PipeWire");
		return;
	}
	tell_gone(p,
		"PipeWire is not running in %s (%s): start it (systemctl --user start pipewire) "
		"or set XDG_RUNTIME_DIR",
		dir ? dir : "XDG_RUNTIME_DIR, which is not set", strerror(-r));
	try_later(p);
}

static void connect_node(struct pipewire *p, const struct pipewire_node *node)
{
	p->found = true;
	p->node = *node;
	if (!*p->node.name)
		snprintf(p->node.name, sizeof(p->node.name), "id %u", node->id);
	int r = pipewire_stream_open(
		&p->stream, pipewire_graph_core(p->graph), node, &p->base, &p->announced, p->name);
	if (r < 0) {
		tell_gone(p, "cannot make a PipeWire stream: %s", strerror(-r));
		try_later(p);
		return;
	}
	set_phase(p, PHASE_CONNECTING);
	arm(p, NEGOTIATE_NS);
}

static void look(struct pipewire *p)
{
	char target[PIPEWIRE_TEXT_MAX], there[PIPEWIRE_TEXT_MAX];
	if (p->found && !may_return(p) && !pipewire_graph_has(p->graph, &p->node)) {
		end(p, "the node has ended");
		return;
	}
	const struct pipewire_node *node = pipewire_graph_find(p->graph, &p->target);
	if (node) {
		connect_node(p, node);
		return;
	}
	if (p->phase == PHASE_LOOKING)
		return;
	set_phase(p, PHASE_LOOKING);
	if (!may_return(p))
		arm(p, APPEAR_NS);
	tell_gone(p, "%s does not exist (%s; \"pw-cli ls Node\" shows all)",
		pipewire_target_describe(&p->target, target, sizeof(target)),
		pipewire_graph_describe(p->graph, there, sizeof(there)));
}

/* The stream is over, or was never begun, while its node lives on. */
static void lose_stream(struct pipewire *p)
{
	char error[PIPEWIRE_TEXT_MAX];
	snprintf(error, sizeof(error), "%.100s", pipewire_stream_error(p->stream));
	bool was_live = p->phase == PHASE_LIVE;
	close_stream(p);
	if (was_live)
		tell_gone(p, "PipeWire has cut the connection to node %s%s%s", p->node.name,
			*error ? ": " : "", error);
	else
		tell_gone(p,
			"no connection to node %s (%s): it must offer BGRx, BGRA, RGBx, RGBA, "
			"YUY2, NV12 or I420 in host memory, and WirePlumber must run",
			p->node.name, *error ? error : "nothing was agreed on");
	try_later(p);
}

static void watch_stream(struct pipewire *p)
{
	enum pipewire_stream_state state = pipewire_stream_state(p->stream);
	if (!pipewire_graph_has(p->graph, &p->node)) {
		lose_node(p);
	} else if (state == PIPEWIRE_OVER) {
		lose_stream(p);
	} else if (pipewire_graph_strayed(
			   p->graph, p->node.id, pipewire_stream_node_id(p->stream))) {
		close_stream(p);
		tell_gone(p, "PipeWire has linked another node than %s to this stream; cut",
			p->node.name);
		try_later(p);
	} else if (state == PIPEWIRE_STREAMING && p->phase == PHASE_CONNECTING) {
		set_phase(p, PHASE_LIVE);
		p->backoff_ns = BACKOFF_MIN_NS;
		p->reason[0] = 0;
	}
}

static void step(struct pipewire *p)
{
	if (!p->graph)
		return;
	if (pipewire_graph_lost(p->graph))
		lose_daemon(p);
	else if (p->stream)
		watch_stream(p);
	else if (p->phase != PHASE_WAITING && pipewire_graph_listed(p->graph))
		look(p);
}

static void on_pipewire(void *data)
{
	struct pipewire *p = data;
	int r = pw_loop_iterate(p->pw_loop, 0);
	if (r < 0 && r != -EINTR)
		log_debug("stream=%s pw_loop_iterate: %s", p->name, strerror(-r));
	step(p);
}

static void on_negotiation_timeout(struct pipewire *p)
{
	if (pipewire_stream_state(p->stream) == PIPEWIRE_NEGOTIATED) {
		tell_gone(p, "node %s is there and sends nothing yet", p->node.name);
		return;
	}
	lose_stream(p);
}

static void on_timer(void *data)
{
	struct pipewire *p = data;
	switch (p->phase) {
	case PHASE_WAITING:
		if (p->graph)
			look(p);
		else
			connect_daemon(p);
		break;
	case PHASE_LISTING:
		disconnect(p);
		tell_gone(p, "PipeWire does not answer: restart it");
		try_later(p);
		break;
	case PHASE_LOOKING:
		end(p, "there is no such node");
		break;
	case PHASE_CONNECTING:
		on_negotiation_timeout(p);
		break;
	default:
		break;
	}
}

/* --- the capture --- */

static int pipewire_start(struct capture *capture)
{
	struct pipewire *p = container_of(capture, struct pipewire, base);
	pw_init(NULL, NULL);
	p->initialised = true;
	p->pw_loop = pw_loop_new(NULL);
	if (!p->pw_loop)
		return errno > 0 ? -errno : -ENOMEM;
	pw_loop_enter(p->pw_loop);
	p->entered = true;
	p->context = pw_context_new(p->pw_loop, NULL, 0);
	if (!p->context)
		return errno > 0 ? -errno : -ENOMEM;
	int r = loop_timer(p->loop, &p->timer, on_timer, p);
	if (r < 0)
		return r;
	r = loop_watch(p->loop, &p->watch, pw_loop_get_fd(p->pw_loop), LOOP_READ, on_pipewire, p);
	if (r < 0)
		return r;
	connect_daemon(p);
	return 0;
}

static void pipewire_give_back(struct capture *capture, struct capture_buffer *buffer)
{
	(void)capture;
	pipewire_stream_give_back(buffer);
}

static struct capture *pipewire_destroy(struct capture *capture)
{
	struct pipewire *p = container_of(capture, struct pipewire, base);
	disconnect(p);
	p->watch = watch_destroy(p->watch);
	p->timer = watch_destroy(p->timer);
	if (p->context)
		pw_context_destroy(p->context);
	if (p->entered)
		pw_loop_leave(p->pw_loop);
	if (p->pw_loop)
		pw_loop_destroy(p->pw_loop);
	if (p->initialised)
		pw_deinit();
	fd_closep(&p->target.remote_fd);
	free(p);
	return NULL;
}

static const struct capture_ops pipewire_ops = {
	.start = pipewire_start,
	.give_back = pipewire_give_back,
	.destroy = pipewire_destroy,
};

int capture_pipewire_create(struct capture **capture_out, const struct capture_place *place,
	const char *rest, char *error, size_t error_size)
{
	_cleanup_free_ struct pipewire *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct pipewire){
		.base.ops = &pipewire_ops,
		.loop = place->loop,
		.backoff_ns = BACKOFF_MIN_NS,
	};
	snprintf(p->name, sizeof(p->name), "%s", place->name);
	int r = pipewire_target_parse(&p->target, rest, error, error_size);
	if (r < 0)
		return r;
	*capture_out = &p->base;
	(void)TAKE_PTR(p);
	return 0;
}
