#include "consumer/status.h"

#include <errno.h>

#include "consumer/conn.h"
#include "consumer/status_json.h"

/*
 * A page has 8 clients or 16 streams, and a broker accepts 65,536 clients at most: several times as
 * many pages as that makes. Each goes on behind the one before; this ends a broker that never ends.
 */
enum { STATUS_PAGES_MAX = 65536 };

static void settle(struct status *status, int result)
{
	status->request = 0;
	status->result = result;
}

int status_on_status(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	struct status *status = &conn->status;
	const Sluice__Status *page = packet->status;
	if (page->request == 0 || !conn_has_requested(conn, page->request))
		return conn_protocol_error(conn, "a status that nobody asked for");
	if (page->request != status->request)
		return 0; /* nobody waits for it any more */
	if (page->next != 0 && page->next <= status->next)
		return conn_protocol_error(conn, "a status that goes on where it was before");
	if (page->n_streams > 0 && status->has_clients)
		return conn_protocol_error(conn, "a status with a stream behind the clients");
	status->has_clients |= page->n_clients > 0;
	status->next = page->next;
	int r = status->fn(status->data, page);
	if (r < 0)
		conn_error(conn, r, SLUICE_ERROR_NONE, "out of memory");
	settle(status, r);
	return 0;
}

bool status_on_refused(
	struct sluice *conn, uint32_t request, enum sluice_error_code code, const char *text)
{
	if (request == 0 || request != conn->status.request)
		return false;
	settle(&conn->status, conn_error(conn, error_number(code), code, "%s",
				      text[0] ? text : sluice_error_name(code)));
	return true;
}

static bool is_settled(const struct sluice *conn, const void *arg)
{
	const unsigned *epoch = arg;
	return conn->status.request == 0 || conn->epoch != *epoch;
}

static int read_page(struct sluice *conn, unsigned epoch)
{
	struct status *status = &conn->status;
	Sluice__StatusRequest ask = SLUICE__STATUS_REQUEST__INIT;
	status->request = ask.request = conn_next_request(conn);
	ask.from = status->next;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STATUS_REQUEST;
	packet.status_request = &ask;
	conn_send(conn, &packet);
	int r = conn_until(conn, is_settled, &epoch);
	bool is_answered = status->request == 0;
	status->request = 0;
	if (r < 0)
		return r;
	if (!is_answered)
		return conn_error(conn, -ECONNRESET, conn->bye.code,
			"the broker went away before it told its status");
	return status->result;
}

int status_read(struct sluice *conn, status_fn fn, void *data)
{
	struct status *status = &conn->status;
	int r = conn_until_up(conn);
	unsigned epoch = conn->epoch;
	*status = (struct status){ .fn = fn, .data = data };
	for (int i = 0; i < STATUS_PAGES_MAX && r == 0; i++) {
		r = read_page(conn, epoch);
		if (status->next == 0)
			return r;
	}
	if (r < 0)
		return r;
	return conn_protocol_error(conn, "a status without an end");
}

int sluice_status_json(struct sluice *conn, char **json_out)
{
	struct status_json *json = status_json_begin();
	if (!json)
		return conn_error(conn, -ENOMEM, SLUICE_ERROR_NONE, "out of memory");
	int r = status_read(conn, status_json_page, json);
	char *text = status_json_end(json);
	if (r == 0 && !text)
		return conn_error(conn, -ENOMEM, SLUICE_ERROR_NONE, "out of memory");
	if (r < 0) {
		free(text);
		return r;
	}
	*json_out = text;
	return 0;
}
