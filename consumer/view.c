#include "consumer/view.h"

#include <errno.h>
#include <string.h>

#include "consumer/conn.h"
#include "consumer/text.h"

static struct sluice_view *view_destroy(struct sluice_view *view)
{
	if (!view)
		return NULL;
	list_remove(&view->link);
	for (unsigned i = 0; i < VIEW_FRAMES; i++)
		mapping_unref(view->frames[i].mapping);
	mapping_unref(view->mapping);
	free(view);
	return NULL;
}

void views_destroy(struct sluice *conn)
{
	struct sluice_view *view, *next;
	list_for_each_safe(view, next, &conn->views, link)
		view_destroy(view);
}

void view_reap(struct sluice_view *view)
{
	if (view->is_abandoned && view->state != VIEW_SUBSCRIBING && view->n_held == 0)
		view_destroy(view);
}

int views_ready(const struct sluice *conn)
{
	const struct sluice_view *view;
	unsigned n = 0;
	list_for_each(view, &conn->views, link) {
		unsigned room = view->max_holds > view->n_held ? view->max_holds - view->n_held : 0;
		n += view->n_waiting < room ? view->n_waiting : room;
	}
	return (int)n;
}

/* --- Which view a message means ---------------------------------------------------------------*/

static struct sluice_view *find_active(struct sluice *conn, uint32_t id)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (view->state == VIEW_ACTIVE && view->id == id)
			return view;
	}
	return NULL;
}

static struct sluice_view *find_subscribing(struct sluice *conn, uint32_t request)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (view->state == VIEW_SUBSCRIBING && view->number == request)
			return view;
	}
	return NULL;
}

int view_find(struct sluice *conn, uint32_t id, struct sluice_view **view_out)
{
	struct sluice_view *view = find_active(conn, id);
	for (unsigned i = 0; i < conn->n_left && !view; i++)
		if (conn->left[i].id == id) {
			*view_out = NULL;
			return 0;
		}
	if (!view)
		return conn_protocol_error(conn, "a message about view %u, which there is not", id);
	*view_out = view;
	return 0;
}

/* The broker answers in order: what it sent before it read our Unsubscribe has all arrived. */
static void forget_left(struct sluice *conn, uint32_t answered_request)
{
	unsigned n = 0;
	for (unsigned i = 0; i < conn->n_left; i++)
		if (conn->left[i].last_request >= answered_request)
			conn->left[n++] = conn->left[i];
	conn->n_left = n;
}

/* --- Subscribing ------------------------------------------------------------------------------*/

static void send_subscribe(struct sluice_view *view)
{
	Sluice__Subscribe subscribe = SLUICE__SUBSCRIBE__INIT;
	view->number = conn_next_request(view->conn);
	view->state = VIEW_SUBSCRIBING;
	subscribe.request = view->number;
	subscribe.stream = view->stream;
	subscribe.memory = SLUICE__MEMORY__MEMORY_HOST;
	subscribe.readiness = SLUICE__READINESS__READINESS_COMPLETE;
	subscribe.fourcc = view->request.fourcc;
	subscribe.width = view->request.width;
	subscribe.height = view->request.height;
	subscribe.delivery = view->request.delivery == SLUICE_FIFO
				     ? SLUICE__DELIVERY__DELIVERY_FIFO
				     : SLUICE__DELIVERY__DELIVERY_MAILBOX;
	subscribe.fifo_depth = view->request.fifo_depth;
	subscribe.max_holds = view->request.max_holds;
	subscribe.reserved_holds = view->request.reserved_holds;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBE;
	packet.subscribe = &subscribe;
	conn_send(view->conn, &packet);
}

/* Nothing more is told to the broker about this subscription. */
static void detach(struct sluice_view *view, enum view_state state)
{
	frames_orphan(view);
	view->mapping = mapping_unref(view->mapping);
	view->state = state;
}

static void leave(struct sluice_view *view)
{
	struct sluice *conn = view->conn;
	Sluice__Unsubscribe unsubscribe = SLUICE__UNSUBSCRIBE__INIT;
	unsubscribe.view = view->id;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_UNSUBSCRIBE;
	packet.unsubscribe = &unsubscribe;
	conn_send(conn, &packet);
	/* as many as there can be active views, of which no newer one was made meanwhile */
	if (conn->n_left < WIRE_SUBSCRIPTIONS_MAX)
		conn->left[conn->n_left++] =
			(struct left_view){ .id = view->id, .last_request = conn->last_request };
	detach(view, VIEW_ENDED);
}

static void end(struct sluice_view *view, enum sluice_error_code code, const char *text)
{
	char clean[WIRE_TEXT_MAX + 1];
	text_copy(clean, sizeof(clean), text);
	error_set(&view->error, code, "%s", clean[0] ? clean : sluice_error_name(code));
	view->result = error_number(code);
	detach(view, VIEW_ENDED);
	view->conn->news = true;
}

static int check_subscribed(struct sluice *conn, const Sluice__Subscribed *in)
{
	if (in->view == 0 || find_active(conn, in->view))
		return conn_protocol_error(conn, "the same view twice");
	if (in->max_holds == 0 || in->max_holds > WIRE_HOLDS_MAX ||
		in->reserved_holds > in->max_holds)
		return conn_protocol_error(conn, "it granted %u holds", in->max_holds);
	return 0;
}

int view_on_subscribed(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	const Sluice__Subscribed *in = packet->subscribed;
	struct sluice_view *view = find_subscribing(conn, in->request);
	if (!view)
		return conn_protocol_error(conn, "a subscription that nobody asked for");
	int r = check_subscribed(conn, in);
	if (r < 0)
		return r;
	forget_left(conn, in->request);
	view->state = VIEW_ACTIVE;
	view->id = in->view;
	view->max_holds = in->max_holds;
	view->last_seq = 0;
	view->stats.reconnects += view->was_active;
	if (view->is_abandoned) {
		leave(view);
		view_reap(view);
	}
	return 0;
}

bool views_on_refused(
	struct sluice *conn, uint32_t request, enum sluice_error_code code, const char *text)
{
	struct sluice_view *view = find_subscribing(conn, request);
	if (!view)
		return false;
	forget_left(conn, request);
	if (view->was_active && !view->is_abandoned && code == SLUICE_ERROR_NO_STREAM)
		view->state = VIEW_MISSING;
	else
		end(view, code, text);
	view_reap(view);
	return true;
}

int view_on_ended(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	struct sluice_view *view = NULL;
	int r = view_find(conn, packet->ended->view, &view);
	if (r == 0 && view)
		end(view, error_code_from_wire((int)packet->ended->code), packet->ended->text);
	return r;
}

/* --- Memory -----------------------------------------------------------------------------------*/

static void send_bound(const struct sluice_view *view, uint32_t generation, const char *error)
{
	Sluice__Bound bound = SLUICE__BOUND__INIT;
	bound.view = view->id;
	bound.generation = generation;
	bound.error = error ? SLUICE__ERROR_CODE__ERROR_INTERNAL : SLUICE__ERROR_CODE__ERROR_NONE;
	char text[WIRE_TEXT_MAX + 1];
	text_copy(text, sizeof(text), error ? error : "");
	bound.text = text;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_BOUND;
	packet.bound = &bound;
	conn_send(view->conn, &packet);
}

int view_on_generation(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	const Sluice__Generation *in = packet->generation;
	struct sluice_view *view = NULL;
	int r = view_find(conn, in->view, &view);
	if (r < 0 || !view)
		return r;
	bool is_bound = view->mapping && view->mapping->id == in->generation;
	if (is_bound || frames_use_generation(view, in->generation))
		return conn_protocol_error(conn, "the same generation twice");
	view->mapping = mapping_unref(view->mapping);
	r = mapping_create(&view->mapping, in, fds, &conn->error);
	if (r == -EPROTO)
		return r;
	if (r == 0)
		view->mapping->number = ++conn->last_mapping;
	send_bound(view, in->generation, r < 0 ? conn->error.text : NULL);
	return 0;
}

/* --- Sessions come and go ---------------------------------------------------------------------*/

void views_on_up(struct sluice *conn)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (view->state == VIEW_DOWN)
			send_subscribe(view);
	}
}

static void lose(struct sluice_view *view, bool will_retry)
{
	struct sluice *conn = view->conn;
	if (view->is_abandoned || view->state == VIEW_ENDED) {
		detach(view, VIEW_ENDED);
		return;
	}
	if (will_retry) {
		frames_drop_waiting(view);
		detach(view, VIEW_DOWN);
		return;
	}
	view->error = conn->error;
	view->result = conn->result;
	detach(view, VIEW_ENDED);
}

void views_on_lost(struct sluice *conn, bool will_retry)
{
	struct sluice_view *view, *next;
	conn->n_left = 0;
	list_for_each_safe(view, next, &conn->views, link) {
		lose(view, will_retry);
		view_reap(view);
	}
}

void views_on_stream(struct sluice *conn, const char *name)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (view->state == VIEW_MISSING && strcmp(view->stream, name) == 0)
			send_subscribe(view);
	}
}

bool views_want_watch(const struct sluice *conn)
{
	const struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (view->state == VIEW_DOWN)
			return true;
	}
	return false;
}

/* --- Calls ------------------------------------------------------------------------------------*/

static int check_limits(struct sluice *conn, const struct sluice_view_request *request)
{
	if (request->memory != SLUICE_MEMORY_HOST)
		return conn_error(conn, -EOPNOTSUPP, SLUICE_ERROR_NONE,
			"this version of libsluice maps host memory only");
	if (request->delivery != SLUICE_MAILBOX && request->delivery != SLUICE_FIFO)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"delivery is SLUICE_MAILBOX or SLUICE_FIFO");
	if (request->fifo_depth > WIRE_FIFO_MAX)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"fifo_depth is %u: at most %d frames can wait", request->fifo_depth,
			WIRE_FIFO_MAX);
	if (request->max_holds > WIRE_HOLDS_MAX || request->reserved_holds > WIRE_HOLDS_MAX)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"at most %d frames can be held at once", WIRE_HOLDS_MAX);
	if (request->width > FORMAT_SIDE_MAX || request->height > FORMAT_SIDE_MAX)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"a picture has at most %d pixels a side", FORMAT_SIDE_MAX);
	return 0;
}

static void set_defaults(struct sluice_view_request *request)
{
	enum { FIFO_DEFAULT = 4 };
	if (request->delivery == SLUICE_FIFO && request->fifo_depth == 0)
		request->fifo_depth = FIFO_DEFAULT;
	if (request->reserved_holds > 0)
		request->max_holds = request->reserved_holds;
	if (request->max_holds == 0)
		request->max_holds = WIRE_HOLDS_DEFAULT;
}

/* Views that the broker has, or will have, a subscription for. */
static unsigned count_subscriptions(const struct sluice *conn)
{
	const struct sluice_view *view;
	unsigned n = 0;
	list_for_each(view, &conn->views, link)
		n += view->state != VIEW_ENDED;
	return n;
}

static struct sluice_view *create(
	struct sluice *conn, const char *stream, const struct sluice_view_request *request)
{
	struct sluice_view *view = calloc(1, sizeof(*view));
	if (!view)
		return NULL;
	view->conn = conn;
	text_copy(view->stream, sizeof(view->stream), stream);
	view->request = *request;
	frames_init(view);
	list_init(&view->link);
	list_insert(&conn->views, &view->link);
	return view;
}

static bool is_answered(const struct sluice *conn, const void *arg)
{
	const struct sluice_view *view = arg;
	return view->state != VIEW_SUBSCRIBING;
}

/* What became of it: 0 if it is active. */
static int settle(struct sluice *conn, struct sluice_view *view)
{
	if (view->state == VIEW_ACTIVE)
		return 0;
	if (view->state == VIEW_DOWN)
		return conn_error(conn, -ECONNRESET, conn->bye.code,
			"the broker went away before it answered");
	conn->error = view->error;
	return view->result;
}

static int subscribe(struct sluice *conn, struct sluice_view *view)
{
	send_subscribe(view);
	int r = conn_until(conn, is_answered, view);
	if (view->state == VIEW_SUBSCRIBING) {
		view->is_abandoned = true; /* the answer is still to come */
		return r;
	}
	r = settle(conn, view);
	if (r < 0)
		view_destroy(view);
	else
		view->was_active = true;
	return r;
}

int sluice_subscribe(struct sluice *conn, const char *stream,
	const struct sluice_view_request *request_in, struct sluice_view **view_out)
{
	struct sluice_view_request request =
		request_in ? *request_in : (struct sluice_view_request){ 0 };
	if (!stream || wire_name_check(stream) < 0)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"a stream's name has 1 to %d bytes, none of them a control character",
			WIRE_NAME_MAX);
	int r = check_limits(conn, &request);
	if (r < 0)
		return r;
	set_defaults(&request);
	r = conn_until_up(conn);
	if (r < 0)
		return r;
	if (count_subscriptions(conn) >= WIRE_SUBSCRIPTIONS_MAX)
		return conn_error(conn, -EDQUOT, SLUICE_ERROR_LIMIT,
			"a connection has at most %d views: make another connection",
			WIRE_SUBSCRIPTIONS_MAX);
	struct sluice_view *view = create(conn, stream, &request);
	if (!view)
		return conn_error(conn, -ENOMEM, SLUICE_ERROR_NONE, "out of memory");
	r = subscribe(conn, view);
	if (r < 0)
		return r;
	*view_out = view;
	return 0;
}

struct sluice_view *sluice_unsubscribe(struct sluice_view *view)
{
	if (!view)
		return NULL;
	frames_drop_waiting(view);
	if (view->state == VIEW_ACTIVE)
		leave(view);
	else if (view->state != VIEW_SUBSCRIBING)
		detach(view, VIEW_ENDED);
	view->is_abandoned = true;
	view_reap(view);
	return NULL;
}

void sluice_view_get_stats(const struct sluice_view *view, struct sluice_view_stats *stats_out)
{
	*stats_out = view->stats;
}

const char *sluice_view_stream(const struct sluice_view *view)
{
	return view->stream;
}
