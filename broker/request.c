#include "broker/request.h"

#include <stdio.h>
#include <string.h>

#include "broker/subscription.h"
#include "common/clock.h"

enum { TIMELINES_MAX = 64 /* that one submission signals: GPU_SIGNALS_MAX */ };

static const uint64_t interval_max_ns = 3600 * NS_PER_S;

int request_options(const Sluice__Subscribe *request, struct subscriber_options *options_out,
	char *text, size_t text_size)
{
	uint32_t holds = request->reserved_holds ? request->reserved_holds : request->max_holds;
	if (holds > WIRE_HOLDS_MAX) {
		snprintf(text, text_size, "%u holds: one subscription may have %d", holds,
			WIRE_HOLDS_MAX);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	bool fifo = request->delivery == SLUICE__DELIVERY__DELIVERY_FIFO;
	if (!fifo && request->delivery != SLUICE__DELIVERY__DELIVERY_MAILBOX) {
		snprintf(text, text_size, "delivery %d is unknown", (int)request->delivery);
		return SLUICE__ERROR_CODE__ERROR_NO_VIEW;
	}
	if (fifo && (request->fifo_depth == 0 || request->fifo_depth > WIRE_FIFO_MAX)) {
		snprintf(text, text_size, "a queue of %u frames: it may have 1 to %d",
			request->fifo_depth, WIRE_FIFO_MAX);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	if (request->min_interval_ns > interval_max_ns) {
		snprintf(text, text_size, "a frame in %llu s: one in an hour is the least",
			(unsigned long long)(request->min_interval_ns / NS_PER_S));
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	*options_out = (struct subscriber_options){
		.delivery = fifo ? FANOUT_FIFO : FANOUT_MAILBOX,
		.fifo_depth = fifo ? request->fifo_depth : 0,
		.max_holds = holds ? holds : WIRE_HOLDS_DEFAULT,
		.reserved = request->reserved_holds > 0,
		.min_interval_ns = request->min_interval_ns,
	};
	return 0;
}

/* Is the view's GPU one of those that the client has? One that does not say looks for itself. */
static bool has_device(const Sluice__Subscribe *request, const struct slot_device *device)
{
	if (request->n_device_uuids == 0)
		return true;
	for (size_t i = 0; i < request->n_device_uuids; i++) {
		const ProtobufCBinaryData *uuid = &request->device_uuids[i];
		if (uuid->len == sizeof(device->uuid) &&
			memcmp(uuid->data, device->uuid, uuid->len) == 0)
			return true;
	}
	return false;
}

/* GPU memory can be written by whoever has it: a role of its own. */
static int check_gpu(const struct client *client, const struct view *view,
	const Sluice__Subscribe *request, char *text, size_t text_size)
{
	if (!(client->roles & ROLE_GPU)) {
		snprintf(text, text_size,
			"this user may not have GPU memory: it needs the role \"gpu\" (host memory can "
			"be had)");
		return SLUICE__ERROR_CODE__ERROR_PERMISSION;
	}
	if (!has_device(request, view->source.device)) {
		snprintf(text, text_size,
			"stream \"%s\" is on another GPU, %s: the client has none that is it (host "
			"memory can be had)",
			view->stream->name, view->source.device->name);
		return SLUICE__ERROR_CODE__ERROR_NO_VIEW;
	}
	return 0;
}

static int find_kind(const struct client *client, struct stream *stream,
	const Sluice__Subscribe *request, struct view **view_out, char *text, size_t text_size)
{
	if (stream->is_over) {
		snprintf(text, text_size, "stream \"%s\" has no frames: %.400s", stream->name,
			stream->text);
		return SLUICE__ERROR_CODE__ERROR_NO_VIEW;
	}
	bool is_gpu = request->memory == SLUICE__MEMORY__MEMORY_OPAQUE_FD;
	bool is_host = request->memory == SLUICE__MEMORY__MEMORY_HOST;
	struct view *view = is_gpu || is_host
				    ? stream_view(stream, is_gpu ? MEMORY_OPAQUE_FD : MEMORY_HOST)
				    : NULL;
	if (!view) {
		snprintf(text, text_size, "stream \"%s\" cannot be had in %s memory%s%s",
			stream->name,
			is_gpu    ? "GPU"
			: is_host ? "host"
				  : "this kind of",
			stream->gpu_text[0] ? ": " : "", is_gpu ? stream->gpu_text : "");
		return SLUICE__ERROR_CODE__ERROR_NO_VIEW;
	}
	*view_out = view;
	return is_gpu ? check_gpu(client, view, request, text, text_size) : 0;
}

int request_view(const struct client *client, const Sluice__Subscribe *request,
	struct view **view_out, char *text, size_t text_size)
{
	char names[256];
	struct stream *stream = catalog_find(client->server->catalog, request->stream);
	if (!stream) {
		snprintf(text, text_size, "there is no stream \"%.64s\"; streams: %s",
			request->stream,
			catalog_names(client->server->catalog, names, sizeof(names)));
		return SLUICE__ERROR_CODE__ERROR_NO_STREAM;
	}
	return find_kind(client, stream, request, view_out, text, text_size);
}

/* --- Another form ----------------------------------------------------------------------------- */

_Static_assert((int)FORM_RANGE_LIMITED == (int)SLUICE__RANGE__RANGE_LIMITED &&
		       (int)FORM_RANGE_FULL == (int)SLUICE__RANGE__RANGE_FULL,
	"a form has the protocol's numbers");

/* "NV12, I420": what there is at all. */
static void list_formats(char *buf, size_t size)
{
	const struct format_info *info;
	buf[0] = 0;
	for (unsigned i = 0; (info = format_info_at(i)); i++) {
		size_t len = strlen(buf);
		snprintf(buf + len, size - len, "%s%s", len ? ", " : "", info->name);
	}
}

int request_form(
	const Sluice__Subscribe *request, struct form *form_out, char *text, size_t text_size)
{
	enum { NO_MATRIX = 255 };
	char names[160];
	const char *why;
	*form_out = (struct form){
		.fourcc = request->fourcc,
		.width = request->width,
		.height = request->height,
		.matrix = request->matrix < NO_MATRIX ? (uint8_t)request->matrix : NO_MATRIX,
		.range = (enum form_range)request->range,
	};
	if (form_is_sound(form_out, &why))
		return 0;
	list_formats(names, sizeof(names));
	snprintf(text, text_size, "stream \"%.64s\" cannot be had in that form: %s; formats are %s",
		request->stream, why, names);
	return SLUICE__ERROR_CODE__ERROR_NO_VIEW;
}

/* Nobody makes its frames who could make others. */
static int refuse_form(const struct view *view, char *text, size_t text_size)
{
	char has[64];
	snprintf(text, text_size, "stream \"%s\" is %s; only its own format and size can be had",
		view->stream->name,
		format_describe(&view->stream->native.generation->format, has, sizeof(has)));
	return SLUICE__ERROR_CODE__ERROR_NO_VIEW;
}

static bool user_has(const struct client *one, uint32_t view)
{
	struct client *client;
	list_for_each(client, &one->server->clients, link)
		if (client->peer.uid == one->peer.uid && subscription_find(client, view))
			return true;
	return false;
}

/* Has the client's user as many views of the stream as it may, without this one? NULL: a new one. */
static bool has_too_many(
	const struct client *client, const struct stream *stream, const struct view *wanted)
{
	const struct view *view;
	unsigned n = 0;
	if (client->peer.uid == client->server->own_uid)
		return false;
	list_for_each(view, &stream->converted, link)
		n += view != wanted && user_has(client, view->id);
	return n >= REQUEST_VIEWS_PER_USER;
}

int request_converted(const struct client *client, const struct form *form, struct view **view,
	char *text, size_t text_size)
{
	struct stream *stream = (*view)->stream;
	enum memory_kind kind = (*view)->source.ops->kind;
	const struct generation *native = stream->native.generation;
	struct form wanted = *form;
	/* what is not known yet may turn out to be it: else the subscription ends then */
	if (form_is_any(form) || !native || form_is_own(form, &native->format))
		return 0;
	if (!stream->supply)
		return refuse_form(*view, text, text_size);
	form_settle(&wanted, &native->format);
	struct view *found = stream_find_converted(stream, &wanted, kind);
	if (has_too_many(client, stream, found)) {
		snprintf(text, text_size,
			"this user's clients have %d converted views of stream \"%s\": one user may have "
			"no more",
			REQUEST_VIEWS_PER_USER, stream->name);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	if (!found)
		found = stream_add_converted(stream, &wanted, kind);
	if (!found) {
		snprintf(text, text_size, "stream \"%s\" has %d converted views already",
			stream->name, STREAM_CONVERTED_MAX);
		return SLUICE__ERROR_CODE__ERROR_LIMIT;
	}
	*view = found;
	return 0;
}

/* --- Readiness -------------------------------------------------------------------------------- */

static unsigned count_timelines(const struct view *view)
{
	const struct subscriber *other;
	unsigned n = 0;
	list_for_each(other, &view->subscribers, link)
		n += other->on_timeline;
	return n;
}

/* What is asked for, or complete frames and why. */
Sluice__Readiness request_readiness(
	const struct view *view, Sluice__Readiness wanted, char *note, size_t note_size)
{
	const struct slot_device *device = view->source.device;
	bool timeline = wanted == SLUICE__READINESS__READINESS_TIMELINE;
	const char *why = NULL;
	if (wanted == SLUICE__READINESS__READINESS_COMPLETE)
		return wanted;
	if (!timeline && wanted != SLUICE__READINESS__READINESS_SYNC_FD)
		why = "this broker does not know the readiness that was asked for";
	else if (!device)
		why = "frames in host memory are always complete";
	else if (!(timeline ? device->can_timeline : device->can_sync_fd))
		why = timeline ? "the driver of this GPU cannot export timeline semaphores"
			       : "the driver of this GPU cannot export sync files";
	else if (timeline && count_timelines(view) >= TIMELINES_MAX)
		why = "too many clients of this view have a timeline";
	if (!why)
		return wanted;
	snprintf(note, note_size, "frames come complete: %s", why);
	return SLUICE__READINESS__READINESS_COMPLETE;
}
