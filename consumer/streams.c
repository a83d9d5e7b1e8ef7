#include "consumer/streams.h"

#include <errno.h>
#include <string.h>

#include "consumer/conn.h"
#include "consumer/device.h"
#include "consumer/text.h"
#include "consumer/view.h"

void streams_finish(struct streams *s)
{
	free(s->list);
	free(s->changes);
}

void streams_ask(struct sluice *conn, bool watch)
{
	struct streams *s = &conn->streams;
	Sluice__ListStreams ask = SLUICE__LIST_STREAMS__INIT;
	ask.watch = watch;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_LIST_STREAMS;
	packet.list_streams = &ask;
	s->asked++;
	s->is_watching = s->is_watching || watch;
	conn_send(conn, &packet);
}

void streams_on_up(struct sluice *conn)
{
	struct streams *s = &conn->streams;
	if (!s->fn && !views_want_watch(conn))
		return;
	streams_ask(conn, true);
	s->watch_answer = s->fn ? s->asked : 0;
}

void streams_on_lost(struct sluice *conn)
{
	struct streams *s = &conn->streams;
	s->asked = s->answered = s->watch_answer = s->list_answer = 0;
	s->is_watching = false;
}

/* --- What waits for the watcher ---------------------------------------------------------------*/

/* A change of a stream replaces the one that still waits. */
static int push_change(struct sluice *conn, const struct sluice_stream_info *info)
{
	struct streams *s = &conn->streams;
	for (unsigned i = 0; i < s->n_changes; i++)
		if (strcmp(s->changes[i].name, info->name) == 0) {
			s->changes[i] = *info;
			return 0;
		}
	if (s->n_changes == STREAMS_CHANGES_MAX)
		return conn_protocol_error(conn, "more changes of streams than there can be");
	s->changes[s->n_changes++] = *info;
	return 0;
}

static unsigned find_known(const struct streams *s, const char *name)
{
	unsigned i = 0;
	while (i < s->n_known && strcmp(s->known[i], name) != 0)
		i++;
	return i;
}

static int learn(struct sluice *conn, const struct sluice_stream_info *info)
{
	struct streams *s = &conn->streams;
	unsigned i = find_known(s, info->name);
	bool is_removed = info->state == SLUICE_STREAM_REMOVED;
	if (is_removed && i < s->n_known)
		memmove(s->known[i], s->known[--s->n_known], sizeof(s->known[i]));
	if (!is_removed && i == s->n_known) {
		if (s->n_known == WIRE_STREAMS_MAX)
			return conn_protocol_error(conn, "more than %d streams", WIRE_STREAMS_MAX);
		memcpy(s->known[s->n_known++], info->name, sizeof(info->name));
	}
	return push_change(conn, info);
}

static bool is_listed(const Sluice__Streams *list, const char *name)
{
	for (size_t i = 0; i < list->n_streams; i++)
		if (strcmp(list->streams[i]->name, name) == 0)
			return true;
	return false;
}

/* A broker that restarted may have other streams: what is missing now was removed meanwhile. */
static int forget_missing(struct sluice *conn, const Sluice__Streams *list)
{
	struct streams *s = &conn->streams;
	int r = 0;
	for (unsigned i = s->n_known; i-- > 0 && r == 0;) {
		struct sluice_stream_info gone = { .state = SLUICE_STREAM_REMOVED };
		memcpy(gone.name, s->known[i], sizeof(gone.name));
		if (!is_listed(list, gone.name))
			r = learn(conn, &gone);
	}
	return r;
}

void streams_tell(struct sluice *conn)
{
	struct streams *s = &conn->streams;
	while (s->n_changes > 0) {
		struct sluice_stream_info info = s->changes[0];
		memmove(s->changes, s->changes + 1, --s->n_changes * sizeof(*s->changes));
		conn->news = true;
		if (s->fn)
			s->fn(s->data, &info);
	}
}

/* --- What arrives -----------------------------------------------------------------------------*/

static int read_device(
	struct sluice *conn, const Sluice__Device *in, struct sluice_stream_info *info)
{
	struct device_id device;
	if (!in)
		return 0;
	if (device_read(&device, in) < 0)
		return conn_protocol_error(conn, "a device without proper UUIDs");
	info->has_device = true;
	memcpy(info->device_uuid, device.uuid, sizeof(info->device_uuid));
	memcpy(info->driver_uuid, device.driver_uuid, sizeof(info->driver_uuid));
	memcpy(info->device_name, device.name, sizeof(info->device_name));
	return 0;
}

static int read_info(
	struct sluice *conn, const Sluice__StreamInfo *in, struct sluice_stream_info *info_out)
{
	if (!in || wire_name_check(in->name) < 0)
		return conn_protocol_error(conn, "a stream without a proper name");
	if ((unsigned)in->state > SLUICE__STREAM_STATE__STREAM_REMOVED)
		return conn_protocol_error(conn, "a stream in an unknown state");
	*info_out = (struct sluice_stream_info){
		.state = (enum sluice_stream_state)in->state,
		.fourcc = in->fourcc,
		.width = in->width,
		.height = in->height,
	};
	text_copy(info_out->name, sizeof(info_out->name), in->name);
	text_copy(info_out->text, sizeof(info_out->text), in->text);
	text_copy(info_out->source, sizeof(info_out->source), in->source);
	return read_device(conn, in->device, info_out);
}

static int check_list(struct sluice *conn, const Sluice__Streams *list)
{
	struct sluice_stream_info info;
	int r = 0;
	if (list->n_streams > WIRE_STREAMS_MAX)
		return conn_protocol_error(conn, "more than %d streams", WIRE_STREAMS_MAX);
	for (size_t i = 0; i < list->n_streams && r == 0; i++)
		r = read_info(conn, list->streams[i], &info);
	return r;
}

/* For sluice_streams(), which waits. Out of memory is its failure, not the connection's. */
static void keep_list(struct sluice *conn, const Sluice__Streams *list)
{
	struct streams *s = &conn->streams;
	s->list_answer = 0;
	free(s->list);
	s->list = calloc(list->n_streams + 1, sizeof(*s->list));
	s->n_list = s->list ? (int)list->n_streams : -ENOMEM;
	for (int i = 0; i < s->n_list; i++)
		read_info(conn, list->streams[i], &s->list[i]);
}

static int tell_all(struct sluice *conn, const Sluice__Streams *list)
{
	struct sluice_stream_info info;
	int r = forget_missing(conn, list);
	for (size_t i = 0; i < list->n_streams && r == 0; i++) {
		read_info(conn, list->streams[i], &info);
		r = learn(conn, &info);
	}
	return r;
}

int streams_on_streams(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	struct streams *s = &conn->streams;
	const Sluice__Streams *list = packet->streams;
	if (s->answered == s->asked)
		return conn_protocol_error(conn, "a list of streams that nobody asked for");
	int r = check_list(conn, list);
	if (r < 0)
		return r;
	s->answered++;
	if (s->answered == s->list_answer)
		keep_list(conn, list);
	if (s->fn && s->answered == s->watch_answer)
		return tell_all(conn, list);
	return 0;
}

int streams_on_changed(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	struct sluice_stream_info info = { 0 };
	if (!conn->streams.is_watching)
		return conn_protocol_error(conn, "a change of a stream that nobody watches");
	int r = read_info(conn, packet->stream_changed->stream, &info);
	if (r < 0)
		return r;
	if (info.state != SLUICE_STREAM_REMOVED)
		views_on_stream(conn, info.name);
	return conn->streams.fn ? learn(conn, &info) : 0;
}

/* --- Calls ------------------------------------------------------------------------------------*/

static bool list_is_done(const struct sluice *conn, const void *arg)
{
	const unsigned *epoch = arg;
	return conn->streams.list_answer == 0 || conn->epoch != *epoch;
}

int sluice_streams(struct sluice *conn, struct sluice_stream_info **infos_out)
{
	struct streams *s = &conn->streams;
	int r = conn_until_up(conn);
	if (r < 0)
		return r;
	unsigned epoch = conn->epoch;
	streams_ask(conn, s->is_watching);
	s->list_answer = s->asked;
	r = conn_until(conn, list_is_done, &epoch);
	s->list_answer = 0;
	if (r < 0)
		return r;
	if (conn->epoch != epoch)
		return conn_error(conn, -ECONNRESET, conn->bye.code,
			"the broker went away before it listed its streams");
	if (s->n_list < 0)
		return conn_error(conn, s->n_list, SLUICE_ERROR_NONE, "out of memory");
	*infos_out = TAKE_PTR(s->list);
	return s->n_list;
}

int sluice_watch(struct sluice *conn, sluice_stream_fn fn, void *data)
{
	struct streams *s = &conn->streams;
	if (conn->state == CONN_DEAD)
		return conn->result;
	if (fn && !s->changes)
		s->changes = calloc(STREAMS_CHANGES_MAX, sizeof(*s->changes));
	if (fn && !s->changes)
		return conn_error(conn, -ENOMEM, SLUICE_ERROR_NONE, "out of memory");
	s->fn = fn;
	s->data = data;
	s->n_changes = s->n_known = 0;
	s->watch_answer = 0;
	if (!fn || conn->state != CONN_UP)
		return 0;
	streams_ask(conn, true);
	s->watch_answer = s->asked;
	return 0;
}
