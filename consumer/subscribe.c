/* Asking for a view. */
#include <errno.h>
#include <stdio.h>

#include "consumer/conn.h"
#include "consumer/text.h"
#include "consumer/view.h"

_Static_assert((int)SLUICE_TIMELINE == (int)SLUICE__READINESS__READINESS_TIMELINE &&
		       (int)SLUICE_SYNC_FD == (int)SLUICE__READINESS__READINESS_SYNC_FD,
	"the header's numbers are the protocol's");
_Static_assert((int)SLUICE_RANGE_LIMITED == (int)SLUICE__RANGE__RANGE_LIMITED &&
		       (int)SLUICE_RANGE_FULL == (int)SLUICE__RANGE__RANGE_FULL,
	"the header's numbers are the protocol's");

/* What can be asked for, and the note if that is less than the user would like. */
static void choose_readiness(struct sluice_view *view)
{
	const struct importer *importer = view->importer;
	const char *why = NULL;
	view->readiness = view->request.readiness;
	if (view->readiness == SLUICE_COMPLETE)
		return;
	if (importer->ops->memory == SLUICE_MEMORY_HOST)
		why = "frames in host memory are always complete";
	else if (view->readiness == SLUICE_TIMELINE && !importer->can_timeline)
		why = importer->timeline_text;
	if (!why)
		return;
	view->readiness = SLUICE_COMPLETE;
	if (!view->note[0])
		snprintf(view->note, sizeof(view->note), "frames come complete: %s", why);
}

static void describe(struct sluice_view *view, Sluice__Subscribe *out)
{
	const struct sluice_view_request *request = &view->request;
	out->request = view->number;
	out->stream = view->stream;
	out->memory = view->importer->ops->wire_memory;
	out->readiness = (Sluice__Readiness)view->readiness;
	out->fourcc = request->fourcc;
	out->width = request->width;
	out->height = request->height;
	out->matrix = request->matrix;
	out->range = (Sluice__Range)request->range;
	out->min_interval_ns = request->min_interval_ns;
	out->delivery = request->delivery == SLUICE_FIFO ? SLUICE__DELIVERY__DELIVERY_FIFO
							 : SLUICE__DELIVERY__DELIVERY_MAILBOX;
	out->fifo_depth = request->fifo_depth;
	out->max_holds = request->max_holds;
	out->reserved_holds = request->reserved_holds;
}

/* The note of a fall-back stays, that of a readiness is new each time. */
static void clear_note(struct sluice_view *view)
{
	if (view->importer->ops->memory == view->request.memory)
		view->note[0] = 0;
}

void view_send_subscribe(struct sluice_view *view)
{
	struct importer *importer = view->importer;
	ProtobufCBinaryData uuids[WIRE_DEVICES_MAX];
	Sluice__Subscribe subscribe = SLUICE__SUBSCRIBE__INIT;
	view->number = conn_next_request(view->conn);
	view->state = VIEW_SUBSCRIBING;
	view->import_error.text[0] = 0;
	clear_note(view);
	choose_readiness(view);
	describe(view, &subscribe);
	for (unsigned i = 0; i < importer->n_uuids; i++)
		uuids[i] = (ProtobufCBinaryData){ WIRE_UUID_BYTES, importer->uuid[i] };
	subscribe.n_device_uuids = importer->n_uuids;
	subscribe.device_uuids = uuids;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_SUBSCRIBE;
	packet.subscribe = &subscribe;
	conn_send(view->conn, &packet);
}

/* --- Calls ------------------------------------------------------------------------------------*/

static int check_kind(struct sluice *conn, const struct sluice_view_request *request)
{
	if ((unsigned)request->memory > SLUICE_MEMORY_VULKAN)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"memory is SLUICE_MEMORY_HOST, SLUICE_MEMORY_CUDA or SLUICE_MEMORY_VULKAN");
	if ((unsigned)request->readiness > SLUICE_SYNC_FD)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"readiness is SLUICE_COMPLETE, SLUICE_TIMELINE or SLUICE_SYNC_FD");
	if (request->flags & ~(unsigned)SLUICE_HOST_FALLBACK)
		return conn_error(
			conn, -EINVAL, SLUICE_ERROR_NONE, "flags has bits that do not exist");
	if (request->delivery != SLUICE_MAILBOX && request->delivery != SLUICE_FIFO)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"delivery is SLUICE_MAILBOX or SLUICE_FIFO");
	return 0;
}

static int check_limits(struct sluice *conn, const struct sluice_view_request *request)
{
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

static int check_colour(struct sluice *conn, const struct sluice_view_request *request)
{
	bool is_known = request->matrix == 0 || request->matrix == 1 || request->matrix == 6 ||
			request->matrix == 9;
	if (!is_known)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"matrix is 1 (BT.709), 6 (BT.601), 9 (BT.2020) or 0");
	if ((unsigned)request->range > SLUICE_RANGE_FULL)
		return conn_error(conn, -EINVAL, SLUICE_ERROR_NONE,
			"range is SLUICE_RANGE_USUAL, SLUICE_RANGE_LIMITED or SLUICE_RANGE_FULL");
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

/* The view has the memory that was asked for, or host memory and a note. */
static int open_importer(struct sluice_view *view, struct error *error)
{
	struct sluice_view_request host = { .memory = SLUICE_MEMORY_HOST };
	struct sluice_view_request *request = &view->request;
	struct list *leaving = &view->conn->leaving;
	int r = importer_open(&view->importer, request, leaving, error);
	if (r == 0 || r == -EINVAL || !(request->flags & SLUICE_HOST_FALLBACK))
		return r;
	snprintf(view->note, sizeof(view->note), "host memory instead of %s: %.*s",
		importer_memory_name(request->memory), WIRE_TEXT_MAX, error->text);
	return importer_open(&view->importer, &host, leaving, error);
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
	int r = open_importer(view, &conn->error);
	if (r < 0) {
		view_destroy(view);
		return r;
	}
	view_send_subscribe(view);
	r = conn_until(conn, is_answered, view);
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
	int r = check_kind(conn, &request);
	if (r == 0)
		r = check_limits(conn, &request);
	if (r == 0)
		r = check_colour(conn, &request);
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
