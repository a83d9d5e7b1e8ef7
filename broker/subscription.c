#include "broker/subscription.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/describe.h"
#include "broker/due.h"
#include "broker/request.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/text.h"

/* Descriptors that one client may leave unread by subscribing and unsubscribing. */
enum {
	ORPHANED_FDS_MAX = 4 * (WIRE_SLOTS_MAX + 1),
};

static const char over_quota[] =
	"this user's clients have all the memory or descriptors that one user may have "
	"(fds-per-user, memory-per-user in the broker's configuration)";

static struct subscription *of_subscriber(struct subscriber *subscriber)
{
	return container_of(subscriber, struct subscription, subscriber);
}

/* The client's copy of the sync_file, while the pixels are not there. */
static int add_sync_fd(const struct subscription *s, const struct lease *lease, struct fdset *fds)
{
	int source = lease->hold.slot->sync_fd;
	if (s->readiness != SLUICE__READINESS__READINESS_SYNC_FD || source < 0)
		return 0;
	int fd = fcntl(source, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	fds->fd[fds->n++] = fd;
	return 0;
}

static int send_frame(
	struct subscriber *subscriber, const struct lease *lease, const struct frame_info *info)
{
	struct subscription *s = of_subscriber(subscriber);
	if (s->client->state != SESSION_READY)
		return -EPIPE;
	const struct frame_message *m =
		server_frame_message(s->client->server, s->view->id, lease, info);
	if (!m)
		return -EMSGSIZE;
	_cleanup_fdset_ struct fdset fds = { .n = 0 };
	int r = add_sync_fd(s, lease, &fds);
	if (r == 0)
		r = conn_send(s->client->conn, m->data, m->len, &fds);
	return r == WIRE_AGAIN || r == -EMFILE || r == -ETOOMANYREFS ? FANOUT_SOCKET_FULL : r;
}

static void send_revoked(struct subscriber *subscriber, const struct lease *lease)
{
	struct subscription *s = of_subscriber(subscriber);
	Sluice__Revoked revoked = SLUICE__REVOKED__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	revoked.view = s->view->id;
	revoked.generation = lease->generation;
	revoked.slot = lease->slot;
	revoked.seq = lease->seq;
	packet.body_case = SLUICE__PACKET__BODY_REVOKED;
	packet.revoked = &revoked;
	client_send(s->client, &packet, NULL);
}

static void defer(struct subscriber *subscriber, uint64_t wait_ns)
{
	watch_arm(of_subscriber(subscriber)->pace_timer, wait_ns);
}

static void on_pace_timer(void *data)
{
	struct subscription *s = data;
	view_catch_up(s->view, &s->subscriber);
}

static const struct subscriber_ops ops = {
	.send = send_frame,
	.revoked = send_revoked,
	.defer = defer,
};

struct subscription *subscription_find(struct client *client, uint32_t view)
{
	for (unsigned i = 0; i < client->n_subscriptions; i++)
		if (client->subscription[i]->view->id == view)
			return client->subscription[i];
	return NULL;
}

/* The descriptors of a generation are the client's copies: ours stay open. */
static int dup_fds(const struct generation *g, struct fdset *fds)
{
	for (unsigned i = 0; i <= g->pool.n_slots; i++) {
		int source = i == 0 ? g->control.fd : g->slot[i - 1].fd;
		int fd = fcntl(source, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return -errno;
		fds->fd[fds->n++] = fd;
	}
	return 0;
}

static Sluice__Memory wire_memory(const struct view *view)
{
	return view->source.ops->kind == MEMORY_HOST ? SLUICE__MEMORY__MEMORY_HOST
						     : SLUICE__MEMORY__MEMORY_OPAQUE_FD;
}

static void fill_generation(
	Sluice__Generation *m, Sluice__Colour *colour, const struct subscription *s)
{
	const struct generation *g = s->view->generation;
	const struct video_format *f = &g->format;
	m->view = s->view->id;
	m->generation = g->id;
	m->fourcc = f->fourcc;
	m->width = f->width;
	m->height = f->height;
	m->n_offset = m->n_stride = f->n_planes;
	m->offset = (uint32_t *)f->offset;
	m->stride = (uint32_t *)f->stride;
	m->size_bytes = f->size_bytes;
	m->slots = g->pool.n_slots;
	m->memory = wire_memory(s->view);
	m->readiness = s->readiness;
	m->data_offset = g->slot[0].data_offset;
	m->allocation_bytes = g->slot[0].allocation_bytes;
	m->memory_type = g->slot[0].memory_type;
	colour->primaries = f->colour.primaries;
	colour->transfer = f->colour.transfer;
	colour->matrix = f->colour.matrix;
	colour->full_range = f->colour.full_range;
	m->colour = colour;
}

static bool charge(struct subscription *s, uint64_t bytes, unsigned n_fds)
{
	struct quota *quota = &s->client->server->quota;
	uid_t uid = s->client->peer.uid;
	if (!quota_charge(quota, uid, QUOTA_BYTES, bytes))
		return false;
	if (!quota_charge(quota, uid, QUOTA_FDS, n_fds)) {
		quota_return(quota, uid, QUOTA_BYTES, bytes);
		return false;
	}
	s->bytes += bytes;
	s->fds_in_flight += n_fds;
	s->client->fds_in_flight += n_fds;
	return true;
}

static void return_client_fds(struct client *client, unsigned n_fds)
{
	quota_return(&client->server->quota, client->peer.uid, QUOTA_FDS, n_fds);
	client->fds_in_flight -= n_fds;
}

static void return_fds(struct subscription *s)
{
	return_client_fds(s->client, s->fds_in_flight);
	s->fds_in_flight = 0;
}

/* They lie in the client's socket, read or not: they stay charged until it is known. */
static void orphan_fds(struct subscription *s)
{
	struct client *client = s->client;
	if (s->fds_in_flight == 0)
		return;
	client->fds_orphaned += s->fds_in_flight;
	if (s->offer_number > client->orphaned_at)
		client->orphaned_at = s->offer_number;
	s->fds_in_flight = 0;
}

/* It has read the generation with this number, and so whatever was sent before. */
static void note_read(struct client *client, uint64_t offer_number)
{
	if (client->fds_orphaned == 0 || offer_number < client->orphaned_at)
		return;
	return_client_fds(client, client->fds_orphaned);
	client->fds_orphaned = 0;
}

static void return_bytes(struct subscription *s)
{
	quota_return(&s->client->server->quota, s->client->peer.uid, QUOTA_BYTES, s->bytes);
	s->bytes = 0;
}

/* One that is converted is so by its making. */
static bool has_form(const struct subscription *s)
{
	return view_is_converted(s->view) || form_is_own(&s->form, &s->view->generation->format);
}

static void send_ended(struct subscription *s, int code, const char *text, bool subscribe_again)
{
	Sluice__Ended m = SLUICE__ENDED__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.view = s->view->id;
	m.code = (Sluice__ErrorCode)code;
	m.text = (char *)text;
	m.subscribe_again = subscribe_again;
	packet.body_case = SLUICE__PACKET__BODY_ENDED;
	packet.ended = &m;
	snprintf(s->client->end_text, sizeof(s->client->end_text), "%s", text);
	client_send(s->client, &packet, NULL);
}

static void end_other_form(struct subscription *s)
{
	char text[WIRE_TEXT_MAX + 1], has[64];
	snprintf(text, sizeof(text),
		"stream \"%s\" is %s now: subscribe again to have it converted",
		s->view->stream->name,
		format_describe(&s->view->generation->format, has, sizeof(has)));
	send_ended(s, SLUICE__ERROR_CODE__ERROR_NO_VIEW, text, true);
	subscription_destroy(s);
}

static void drop_timeline(struct subscription *s)
{
	const struct slot_source *source = &s->view->source;
	if (s->subscriber.timeline)
		source->ops->unmake_timeline(source->data, s->subscriber.timeline);
	s->subscriber.timeline = NULL;
}

/* All descriptors in flight are used up, by whomever: that is no fault of this client. */
static void postpone(struct subscription *s)
{
	return_fds(s);
	return_bytes(s);
	s->offered = 0;
	s->postponed = true;
	log_limited(&s->client->server->log, LOG_LEVEL_WARNING,
		"client=%llu stream=%s waits for its memory: too many descriptors are in flight",
		(unsigned long long)s->client->id, s->view->stream->name);
}

/* Each generation comes with a timeline of its own, at 0. */
static int renew_timeline(struct subscription *s, struct fdset *fds)
{
	const struct slot_source *source = &s->view->source;
	if (!s->subscriber.on_timeline)
		return 0;
	drop_timeline(s);
	int fd = -EBADF;
	int r = source->ops->make_timeline(source->data, &s->subscriber.timeline, &fd);
	if (r == 0)
		fds->fd[fds->n++] = fd;
	return r;
}

/* The driver's failure: trying again is the client's business. */
static void end_without_timeline(struct subscription *s)
{
	const struct slot_source *source = &s->view->source;
	char text[WIRE_TEXT_MAX + 1];
	snprintf(text, sizeof(text), "no timeline can be made: %s", source->ops->why(source->data));
	return_fds(s);
	subscription_end(s, SLUICE__ERROR_CODE__ERROR_INTERNAL, text);
}

static void send_generation(struct subscription *s)
{
	_cleanup_fdset_ struct fdset fds = { .n = 0 };
	if (dup_fds(s->view->generation, &fds) < 0) {
		postpone(s);
		return;
	}
	if (renew_timeline(s, &fds) < 0) {
		end_without_timeline(s);
		return;
	}
	Sluice__Generation m = SLUICE__GENERATION__INIT;
	Sluice__Colour colour = SLUICE__COLOUR__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	fill_generation(&m, &colour, s);
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &m;
	s->offered = m.generation;
	s->offer_number = ++s->client->generations_sent;
	s->bound = false;
	if (client_send(s->client, &packet, &fds) == -ETOOMANYREFS)
		postpone(s);
}

void subscription_retry(struct subscription *s)
{
	if (!s->postponed)
		return;
	s->postponed = false;
	subscription_rebind(s);
}

void subscription_rebind(struct subscription *s)
{
	const struct generation *g = s->view->generation;
	bool answer_pending = s->offered && s->fds_in_flight > 0;
	/* one generation in flight at a time: a client that is stopped through ten resizes gets one */
	if (!g || answer_pending)
		return;
	if (!has_form(s)) {
		end_other_form(s);
		return;
	}
	return_bytes(s);
	unsigned n_fds = g->pool.n_slots + 1 + (s->subscriber.on_timeline ? 1 : 0);
	if (!charge(s, g->bytes, n_fds)) {
		subscription_end(s, SLUICE__ERROR_CODE__ERROR_LIMIT, over_quota);
		return;
	}
	send_generation(s);
}

static void send_subscribed(struct subscription *s, uint32_t request)
{
	const struct subscriber_options *o = &s->subscriber.options;
	Sluice__Subscribed m = SLUICE__SUBSCRIBED__INIT;
	Sluice__Device device;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	m.request = request;
	m.view = s->view->id;
	m.stream = s->view->stream->name;
	m.max_holds = o->max_holds;
	m.reserved_holds = o->reserved ? o->max_holds : 0;
	m.memory = wire_memory(s->view);
	m.readiness = s->readiness;
	m.note = s->note;
	if (s->view->source.device) {
		describe_device(s->view->source.device, &device);
		m.device = &device;
	}
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBED;
	packet.subscribed = &m;
	client_send(s->client, &packet, NULL);
}

/* Is there room for one more, and may it be this one? */
static int check_client(
	struct client *client, const struct view *view, char *text, size_t text_size)
{
	if (client->n_subscriptions == WIRE_SUBSCRIPTIONS_MAX) {
		snprintf(text, text_size, "one client may have %d subscriptions",
			WIRE_SUBSCRIPTIONS_MAX);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	if (client->fds_orphaned > ORPHANED_FDS_MAX) {
		snprintf(text, text_size,
			"this client has ended too many subscriptions without reading what they brought");
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	if (subscription_find(client, view->id)) {
		snprintf(text, text_size,
			"this client has subscribed to that view of stream \"%s\" already",
			view->stream->name);
		return SLUICE__ERROR_CODE__ERROR_EXISTS;
	}
	return 0;
}

/* Bytes of the generation that the view has or is to get; 0: that is not known, or cannot be. */
static uint64_t bytes_of(const struct view *view)
{
	const struct generation *native = view->stream->native.generation;
	struct video_format made;
	if (view->generation)
		return view->generation->bytes;
	if (!native || form_resolve(&view->form, &native->format, &made) < 0)
		return 0;
	return generation_bytes(&made, view->n_slots);
}

/* A converted view is made for who asks: nothing is, that would be too much for its user. */
static int check_quota(
	const struct client *client, const struct view *view, char *text, size_t text_size)
{
	const struct quota *quota = &client->server->quota;
	uid_t uid = client->peer.uid;
	if (!view_is_converted(view) ||
		(quota_allows(quota, uid, QUOTA_BYTES, bytes_of(view)) &&
			quota_allows(quota, uid, QUOTA_FDS, view->n_slots + 1)))
		return 0;
	snprintf(text, text_size, "%s", over_quota);
	return SLUICE__ERROR_CODE__ERROR_LIMIT;
}

/* Of neither its client nor its view. */
static void discard(struct subscription *s)
{
	s->pace_timer = watch_destroy(s->pace_timer);
	free(s);
}

static int prepare(struct client *client, struct view *view,
	const struct subscriber_options *options, struct subscription **s_out, char *text,
	size_t text_size)
{
	struct subscription *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;
	if (s && options->min_interval_ns)
		r = loop_timer(client->server->loop, &s->pace_timer, on_pace_timer, s);
	if (r < 0) {
		free(s);
		snprintf(text, text_size, "the broker has no memory left");
		return SLUICE__ERROR_CODE__ERROR_INTERNAL;
	}
	s->client = client;
	s->view = view;
	subscriber_init(&s->subscriber, options, &ops);
	*s_out = s;
	return 0;
}

/* s [take] unless 0 is returned */
static int join(struct subscription *s, char *text, size_t text_size)
{
	s->subscriber.early = s->readiness != SLUICE__READINESS__READINESS_COMPLETE;
	s->subscriber.on_timeline = s->readiness == SLUICE__READINESS__READINESS_TIMELINE;
	int r = view_join(s->view, &s->subscriber, text, text_size);
	if (r == 0)
		return 0;
	discard(s);
	return r == -EBUSY ? SLUICE__ERROR_CODE__ERROR_ADMISSION
			   : SLUICE__ERROR_CODE__ERROR_NO_VIEW;
}

/* It was added to the stream for a request that was refused before anybody tried to make it. */
static void forget_untried(struct view *view)
{
	if (!view->generation && !view->reason[0])
		stream_forget_converted(view);
}

/* subscription_out is a member of its client and its view if 0 is returned. */
static int subscribe(struct client *client, const Sluice__Subscribe *request,
	struct subscription **subscription_out, char *text, size_t text_size)
{
	struct subscriber_options options;
	struct form form;
	struct view *view;
	int code = request_form(request, &form, text, text_size);
	if (!code)
		code = request_view(client, request, &view, text, text_size);
	if (!code)
		code = request_options(request, &options, text, text_size);
	if (!code)
		code = request_converted(client, &form, &view, text, text_size);
	if (code)
		return code;
	struct subscription *s = NULL;
	code = check_client(client, view, text, text_size);
	if (!code)
		code = check_quota(client, view, text, text_size);
	if (!code)
		code = prepare(client, view, &options, &s, text, text_size);
	if (!code) {
		s->form = form;
		s->readiness =
			request_readiness(view, request->readiness, s->note, sizeof(s->note));
		code = join(s, text, text_size);
	}
	if (code) {
		forget_untried(view);
		return code;
	}
	client->subscription[client->n_subscriptions++] = s;
	*subscription_out = s;
	return 0;
}

void subscription_create(struct client *client, const Sluice__Subscribe *request)
{
	char text[WIRE_TEXT_MAX + 1];
	struct subscription *s;
	int code = subscribe(client, request, &s, text, sizeof(text));
	if (code) {
		text_clean(text); /* it may have the name that the client sent, or a cut one */
		snprintf(client->end_text, sizeof(client->end_text), "%s", text);
		client_send_error(client, request->request, code, text);
		return;
	}
	send_subscribed(s, request->request);
	subscription_rebind(s);
}

struct subscription *subscription_destroy(struct subscription *s)
{
	if (!s)
		return NULL;
	struct client *client = s->client;
	drop_timeline(s);
	view_leave(s->view, &s->subscriber);
	orphan_fds(s);
	return_bytes(s);
	unsigned i = 0;
	while (client->subscription[i] != s)
		i++;
	client->subscription[i] = client->subscription[--client->n_subscriptions];
	discard(s);
	return NULL;
}

void subscription_end(struct subscription *s, int code, const char *text)
{
	send_ended(s, code, text, false);
	subscription_destroy(s);
}

int subscription_on_bound(
	struct subscription *s, const Sluice__Bound *bound, char *text, size_t text_size)
{
	if (bound->generation != s->offered || s->fds_in_flight == 0) {
		snprintf(text, text_size,
			"bound: generation %u was not offered or is answered already",
			bound->generation);
		return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
	}
	return_fds(s);
	note_read(s->client, s->offer_number);
	if (bound->error != SLUICE__ERROR_CODE__ERROR_NONE) {
		log_limited(&s->client->server->log, LOG_LEVEL_WARNING,
			"client=%llu stream=%s cannot map generation %u: %.200s",
			(unsigned long long)s->client->id, s->view->stream->name, bound->generation,
			bound->text);
		char reason[WIRE_TEXT_MAX + 1];
		snprintf(reason, sizeof(reason), "the client cannot map it: %.200s", bound->text);
		text_clean(reason);
		subscription_end(s, (int)bound->error, reason);
		return 0;
	}
	s->bound = true;
	const struct generation *g = s->view->generation;
	if (g && g->id == bound->generation)
		view_bound(s->view, &s->subscriber, bound->generation);
	else
		subscription_rebind(s);
	return 0;
}

static void note_latency(struct subscription *s, uint64_t published_ns, uint64_t received_ns)
{
	if (received_ns >= published_ns && received_ns <= clock_ns())
		histogram_add(&s->latency, received_ns - published_ns);
}

int subscription_on_release(
	struct subscription *s, const Sluice__Release *release, char *text, size_t text_size)
{
	uint64_t published_ns;
	enum fanout_result r = subscriber_release(
		&s->subscriber, release->generation, release->slot, release->seq, &published_ns);
	if (r != FANOUT_NOT_HELD) {
		note_latency(s, published_ns, release->received_ns);
		view_returned(s->view);
		return 0;
	}
	if (release->generation < s->offered)
		return 0;
	snprintf(text, text_size, "release: frame %llu of slot %u is not held",
		(unsigned long long)release->seq, release->slot);
	return SLUICE__ERROR_CODE__ERROR_PROTOCOL;
}
