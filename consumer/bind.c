/* A view's memory: imported, or why not and what then. */
#include <errno.h>
#include <stdio.h>

#include "common/clock.h"
#include "consumer/conn.h"
#include "consumer/text.h"
#include "consumer/view.h"

/* How long until memory that could not be dropped is tried again. */
static const uint64_t leave_ns = 10 * NS_PER_MS;

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

/* Is it of the form that was asked for? */
static bool has_form(const struct sluice_view *view, const struct video_format *format)
{
	const struct sluice_view_request *request = &view->request;
	return (!request->fourcc || request->fourcc == format->fourcc) &&
	       (!request->width || request->width == format->width) &&
	       (!request->height || request->height == format->height);
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
	view->import_error.text[0] = 0;
	uint64_t began = clock_ns();
	r = mapping_create(&view->mapping, in, fds, view->importer, view->readiness, &conn->error);
	view->stats.import_ns += clock_ns() - began;
	if (r == -EPROTO)
		return r;
	if (r == 0 && !has_form(view, &view->mapping->format))
		return conn_protocol_error(conn, "a picture of a form that was not asked for");
	if (r == 0) {
		view->mapping->number = ++conn->last_mapping;
		view->mapping->epoch = view->epoch;
		backoff_reset(&view->backoff);
	} else {
		view->import_error = conn->error;
	}
	send_bound(view, in->generation, r < 0 ? conn->error.text : NULL);
	return 0;
}

/* --- What then --------------------------------------------------------------------------------*/

bool view_can_fall_back(const struct sluice_view *view)
{
	return (view->request.flags & SLUICE_HOST_FALLBACK) && !view->is_abandoned &&
	       view->importer->ops->memory != SLUICE_MEMORY_HOST;
}

void view_fall_back(struct sluice_view *view, const char *why)
{
	struct sluice_view_request host = { .memory = SLUICE_MEMORY_HOST };
	struct importer *importer = NULL;
	char clean[WIRE_TEXT_MAX + 1];
	text_copy(clean, sizeof(clean), why);
	snprintf(view->note, sizeof(view->note), "host memory instead of %s: %s",
		importer_memory_name(view->importer->ops->memory), clean);
	view_detach(view, VIEW_ENDED);
	int r = importer_open(&importer, &host, &view->conn->leaving, &view->error);
	if (r < 0) {
		view_end(view, r, SLUICE_ERROR_NONE, "out of memory");
		return;
	}
	importer_unref(view->importer);
	view->importer = importer;
	view->conn->news = true;
	view_send_subscribe(view);
}

/* Later, but not for ever. */
static void retry_later(struct sluice_view *view)
{
	char text[ERROR_TEXT_SIZE];
	backoff_fail(&view->backoff, clock_ns());
	if (!backoff_is_latched(&view->backoff)) {
		view_detach(view, VIEW_FAILED);
		views_retry(view->conn);
		return;
	}
	snprintf(text, sizeof(text), "tried %u times: %.*s", view->backoff.failures, WIRE_TEXT_MAX,
		view->import_error.text);
	view_end(view, error_number(SLUICE_ERROR_INTERNAL), SLUICE_ERROR_INTERNAL, text);
}

void view_import_failed(struct sluice_view *view)
{
	const struct importer *importer = view->importer;
	bool is_gpu = importer->ops->memory != SLUICE_MEMORY_HOST;
	if (is_gpu && view->readiness == SLUICE_TIMELINE && !importer->can_timeline) {
		/* without one it may work */
		view_detach(view, VIEW_ENDED);
		view_send_subscribe(view);
	} else if (view_can_fall_back(view)) {
		view_fall_back(view, view->import_error.text);
	} else {
		retry_later(view);
	}
}

void views_retry(struct sluice *conn)
{
	struct sluice_view *view;
	bool is_leaving = !list_empty(&conn->leaving);
	uint64_t now = is_leaving ? clock_ns() : 0;
	uint64_t next = is_leaving ? now + leave_ns : UINT64_MAX;
	list_for_each(view, &conn->views, link) {
		if (view->state != VIEW_FAILED)
			continue;
		now = now ? now : clock_ns();
		if (view->backoff.retry_ns <= now)
			view_send_subscribe(view);
		else if (view->backoff.retry_ns < next)
			next = view->backoff.retry_ns;
	}
	if (next != UINT64_MAX)
		link_arm(&conn->link, next);
}
