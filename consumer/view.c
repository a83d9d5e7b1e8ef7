#include "consumer/view.h"

#include <errno.h>
#include <string.h>

#include "consumer/conn.h"
#include "consumer/device.h"
#include "consumer/text.h"

struct sluice_view *view_destroy(struct sluice_view *view)
{
	if (!view)
		return NULL;
	list_remove(&view->link);
	for (unsigned i = 0; i < VIEW_FRAMES; i++) {
		mapping_unref(view->frames[i].mapping);
		fd_closep(&view->frames[i].pub.sync_fd);
	}
	mapping_unref(view->outgoing);
	mapping_unref(view->taken);
	mapping_unref(view->mapping);
	importer_unref(view->importer);
	free(view);
	return NULL;
}

void views_destroy(struct sluice *conn)
{
	struct sluice_view *view, *next;
	frames_finish(conn);
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

/* --- Beginning and end ------------------------------------------------------------------------*/

void view_detach(struct sluice_view *view, enum view_state state)
{
	frames_orphan(view);
	view->mapping = mapping_unref(view->mapping);
	view->epoch++;
	view->state = state;
}

/* That of a frame, if it is neither the view's nor that of a frame before. */
static struct mapping *other_mapping(const struct sluice_view *view, unsigned i)
{
	struct mapping *mapping = view->frames[i].mapping;
	bool is_other = mapping != view->mapping;
	for (unsigned k = 0; k < i && is_other; k++)
		is_other = view->frames[k].mapping != mapping;
	return is_other ? mapping : NULL;
}

void view_free_waits(struct sluice_view *view)
{
	mapping_free_waits(view->mapping);
	for (unsigned i = 0; i < VIEW_FRAMES; i++)
		mapping_free_waits(other_mapping(view, i));
}

void views_free_waits(struct sluice *conn)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link)
		view_free_waits(view);
}

static void repeat_signals(struct sluice_view *view)
{
	for (unsigned i = 0; i < VIEW_FRAMES; i++) {
		struct mapping *mapping = other_mapping(view, i);
		if (mapping && mapping->epoch != view->epoch)
			mapping_free_waits(mapping);
	}
}

void views_repeat_signals(struct sluice *conn)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link)
		repeat_signals(view);
}

void view_leave(struct sluice_view *view, enum view_state state)
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
	view_detach(view, state);
}

void view_end(struct sluice_view *view, int result, enum sluice_error_code code, const char *text)
{
	char clean[ERROR_TEXT_SIZE];
	text_copy(clean, sizeof(clean), text);
	error_set(&view->error, code, "%s", clean[0] ? clean : sluice_error_name(code));
	view->result = result;
	view_detach(view, VIEW_ENDED);
	view->conn->news = true;
}

/* --- What the broker answers ------------------------------------------------------------------*/

static int check_granted(const struct sluice_view *view, const Sluice__Subscribed *in)
{
	bool is_complete = in->readiness == SLUICE__READINESS__READINESS_COMPLETE;
	if (in->memory != view->importer->ops->wire_memory)
		return conn_protocol_error(view->conn, "memory of a kind that was not asked for");
	if (!is_complete && (unsigned)in->readiness != (unsigned)view->readiness)
		return conn_protocol_error(view->conn, "a readiness that was not asked for");
	if (in->memory != SLUICE__MEMORY__MEMORY_HOST && !in->device)
		return conn_protocol_error(view->conn, "memory of a device that it did not name");
	return 0;
}

static int check_subscribed(
	struct sluice *conn, const struct sluice_view *view, const Sluice__Subscribed *in)
{
	if (in->view == 0 || find_active(conn, in->view))
		return conn_protocol_error(conn, "the same view twice");
	if (in->max_holds == 0 || in->max_holds > WIRE_HOLDS_MAX ||
		in->reserved_holds > in->max_holds)
		return conn_protocol_error(conn, "it granted %u holds", in->max_holds);
	return check_granted(view, in);
}

/* What was granted, and why it is less than what was asked for. */
static void note_granted(struct sluice_view *view, const Sluice__Subscribed *in)
{
	bool is_less = (unsigned)in->readiness != (unsigned)view->readiness;
	view->readiness = (enum sluice_readiness)in->readiness;
	if (is_less && !view->note[0])
		text_copy(view->note, sizeof(view->note),
			in->note[0] ? in->note : "the broker grants complete frames only");
}

/* Has the view become what it was asked to be? If not it has left. 0 or -EPROTO. */
static int attach(struct sluice_view *view, const Sluice__Subscribed *in)
{
	struct sluice *conn = view->conn;
	struct device_id device = { 0 };
	struct error error = { 0 };
	if (in->memory == SLUICE__MEMORY__MEMORY_HOST)
		return 0;
	if (device_read(&device, in->device) < 0)
		return conn_protocol_error(conn, "a device without proper UUIDs");
	int r = importer_attach(&view->importer, &device, &error);
	if (r == 0)
		return 0;
	view_leave(view, VIEW_ENDED);
	if (view_can_fall_back(view))
		view_fall_back(view, error.text);
	else
		view_end(view, r, SLUICE_ERROR_NONE, error.text);
	return 0;
}

int view_on_subscribed(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	const Sluice__Subscribed *in = packet->subscribed;
	struct sluice_view *view = find_subscribing(conn, in->request);
	if (!view)
		return conn_protocol_error(conn, "a subscription that nobody asked for");
	int r = check_subscribed(conn, view, in);
	if (r < 0)
		return r;
	forget_left(conn, in->request);
	view->state = VIEW_ACTIVE;
	view->id = in->view;
	view->max_holds = in->max_holds;
	view->last_seq = 0;
	view->stats.reconnects += view->is_reconnecting;
	view->is_reconnecting = false;
	if (view->is_abandoned) {
		view_leave(view, VIEW_ENDED);
		view_reap(view);
		return 0;
	}
	note_granted(view, in);
	return attach(view, in);
}

/* Another kind of memory may be had where this one is refused. */
static bool is_about_memory(enum sluice_error_code code)
{
	return code == SLUICE_ERROR_NO_VIEW || code == SLUICE_ERROR_PERMISSION;
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
	else if (is_about_memory(code) && view_can_fall_back(view))
		view_fall_back(view, text);
	else
		view_end(view, error_number(code), code, text);
	view_reap(view);
	return true;
}

/*
 * Ended only as it was: a stream that had this form by itself has another now, and is converted for
 * whoever subscribes. If that is refused, it is over. What nobody has taken yet is dropped: frames of one
 * subscription after the other must not pile up.
 */
static void ask_again(struct sluice_view *view)
{
	view->stats.missed += view->n_waiting;
	if (view->last_seq > 0)
		view->left_off_seq = view->last_seq;
	frames_drop_waiting(view);
	view_detach(view, VIEW_SUBSCRIBING);
	view_send_subscribe(view);
}

int view_on_ended(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	struct sluice_view *view = NULL;
	int r = view_find(conn, packet->ended->view, &view);
	if (r < 0 || !view)
		return r;
	enum sluice_error_code code = error_code_from_wire((int)packet->ended->code);
	char text[WIRE_TEXT_MAX + 1];
	text_copy(text, sizeof(text), packet->ended->text);
	view_free_waits(view);
	/* that was our Bound, or crossed it */
	if (code == SLUICE_ERROR_INTERNAL && view->import_error.text[0])
		view_import_failed(view);
	else if (packet->ended->subscribe_again)
		ask_again(view);
	else if (is_about_memory(code) && view_can_fall_back(view))
		view_fall_back(view, text);
	else
		view_end(view, error_number(code), code, text);
	return 0;
}

/* --- Sessions come and go ---------------------------------------------------------------------*/

void views_on_up(struct sluice *conn)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (view->state != VIEW_DOWN)
			continue;
		view->is_reconnecting = view->was_active;
		view_send_subscribe(view);
	}
}

static void lose(struct sluice_view *view, bool will_retry)
{
	struct sluice *conn = view->conn;
	view->left_off_seq = 0;
	if (view->is_abandoned || view->state == VIEW_ENDED) {
		view_detach(view, VIEW_ENDED);
		return;
	}
	if (will_retry) {
		frames_drop_waiting(view);
		view_detach(view, VIEW_DOWN);
		return;
	}
	view->error = conn->error;
	view->result = conn->result;
	view_detach(view, VIEW_ENDED);
}

void views_on_lost(struct sluice *conn, bool will_retry)
{
	struct sluice_view *view, *next;
	conn->n_left = 0;
	views_free_waits(conn);
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
			view_send_subscribe(view);
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

struct sluice_view *sluice_unsubscribe(struct sluice_view *view)
{
	if (!view)
		return NULL;
	frames_settle(view);
	frames_drop_waiting(view);
	if (view->state == VIEW_ACTIVE)
		view_leave(view, VIEW_ENDED);
	else if (view->state != VIEW_SUBSCRIBING)
		view_detach(view, VIEW_ENDED);
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

enum sluice_memory sluice_view_memory(const struct sluice_view *view)
{
	return view->importer->ops->memory;
}

enum sluice_readiness sluice_view_readiness(const struct sluice_view *view)
{
	return view->readiness;
}

const char *sluice_view_note(const struct sluice_view *view)
{
	return view->note;
}
