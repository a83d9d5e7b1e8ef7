/* What the caller's CUDA streams do with frames: wait for their pixels, and give them back. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "consumer/conn.h"
#include "consumer/session.h"
#include "consumer/view.h"

static const uint64_t spin_ns = 50 * NS_PER_US;
static const uint64_t nap_ns = 200 * NS_PER_US;

/* A broker that lives has that long to signal what it announced, before we do. */
static const uint64_t grace_ns = NS_PER_S;

/* How long until a signal of ours is repeated, if work still waits. */
static const uint64_t repeat_ns = 10 * NS_PER_MS;

/* --- Frames whose release waits ---------------------------------------------------------------*/

static void collect(struct sluice_view *view)
{
	struct frame *frame, *next;
	list_for_each_safe(frame, next, &view->held, link) {
		if (!frame->ticket || !ticket_is_called(frame->ticket))
			continue;
		frame->ticket = ticket_destroy(frame->ticket);
		view->n_tickets--;
		view->conn->n_tickets--;
		frame_release(frame);
	}
}

void frames_collect(struct sluice *conn)
{
	struct sluice_view *view, *next;
	link_drain_waker(&conn->link);
	if (conn->n_tickets == 0)
		return;
	list_for_each_safe(view, next, &conn->views, link) {
		collect(view);
		view_reap(view);
	}
}

/* Those that nothing will call: the caller destroyed their context. */
static void forget_tickets(struct sluice_view *view)
{
	struct frame *frame;
	list_for_each(frame, &view->held, link) {
		if (!frame->ticket)
			continue;
		frame->ticket = ticket_destroy(frame->ticket);
		view->conn->n_tickets--;
	}
	view->n_tickets = 0;
}

static bool context_is_dead(const struct frame *frame)
{
	const struct importer *importer = frame->mapping->importer;
	struct error ignored;
	return importer->ops->query(frame->mapping->importer, NULL, &ignored) < 0;
}

static const struct frame *find_ticket(const struct sluice_view *view)
{
	const struct frame *frame;
	list_for_each(frame, &view->held, link) {
		if (frame->ticket)
			return frame;
	}
	return NULL;
}

static const struct frame *find_waited_for(const struct sluice_view *view)
{
	const struct frame *frame;
	list_for_each(frame, &view->held, link) {
		if (frame->is_waited_for)
			return frame;
	}
	return NULL;
}

/* Work that was handed over with a frame. */
static void settle_tickets(struct sluice_view *view)
{
	enum { NAP_MS = 10 };
	uint64_t signal_ns = clock_ns() + grace_ns;
	collect(view);
	while (view->n_tickets > 0) {
		bool is_gone = link_nap(&view->conn->link, NAP_MS);
		collect(view);
		if (view->n_tickets == 0)
			return;
		if (is_gone || clock_ns() >= signal_ns) {
			view_free_waits(view);
			signal_ns = clock_ns() + repeat_ns;
		}
		if (context_is_dead(find_ticket(view)))
			forget_tickets(view);
	}
}

void frames_settle(struct sluice_view *view)
{
	if (view->n_tickets > 0)
		settle_tickets(view);
}

void frames_finish(struct sluice_view *view)
{
	frames_settle(view);
	const struct frame *frame = find_waited_for(view);
	if (!frame)
		return;
	view_free_waits(view);
	frame->mapping->importer->ops->finish(frame->mapping->importer);
}

/* --- Calls ------------------------------------------------------------------------------------*/

static int not_cuda(struct sluice *conn)
{
	return conn_error(conn, -EOPNOTSUPP, SLUICE_ERROR_NONE,
		"the frame is not in CUDA memory: sluice_view_memory() says what it is in");
}

int sluice_frame_wait_in(struct sluice_frame *pub, void *stream)
{
	struct frame *frame = container_of(pub, struct frame, pub);
	struct mapping *mapping = frame->mapping;
	struct sluice *conn = frame->view->conn;
	if (pub->memory != SLUICE_MEMORY_CUDA)
		return not_cuda(conn);
	if (pub->sync_fd >= 0)
		return conn_error(conn, -EOPNOTSUPP, SLUICE_ERROR_NONE,
			"a CUDA stream cannot wait for a sync_file: poll frame->sync_fd, or ask for "
			"SLUICE_TIMELINE");
	if (!mapping->has_timeline)
		return 0;
	int r = mapping->importer->ops->wait_in(
		mapping->importer, stream, mapping->timeline, pub->seq, &conn->error);
	frame->is_waited_for |= r == 0;
	return r;
}

static int release_after(struct frame *frame, void *stream)
{
	struct sluice *conn = frame->view->conn;
	struct importer *importer = frame->mapping->importer;
	struct waker *waker;
	int r = link_waker(&conn->link, &waker);
	if (r < 0)
		return conn_error(conn, r, SLUICE_ERROR_NONE,
			"cannot make a descriptor to be woken by: %s", strerror(-r));
	struct ticket *ticket = ticket_create(waker);
	if (!ticket)
		return conn_error(conn, -ENOMEM, SLUICE_ERROR_NONE, "out of memory");
	r = importer->ops->call_after(importer, stream, ticket_call, ticket, &conn->error);
	if (r < 0) {
		ticket_destroy(ticket); /* the driver's reference */
		ticket_destroy(ticket);
		return r;
	}
	frame->ticket = ticket;
	frame->view->n_tickets++;
	conn->n_tickets++;
	return 0;
}

int sluice_frame_release_after(struct sluice_frame *pub, void *stream)
{
	struct frame *frame = container_of(pub, struct frame, pub);
	if (pub->memory != SLUICE_MEMORY_CUDA)
		return not_cuda(frame->view->conn);
	return frame->ticket ? 0 : release_after(frame, stream);
}

/* --- Waiting for a stream ---------------------------------------------------------------------*/

struct sync {
	struct sluice_view *view;
	struct sluice *conn;
	void *stream;
	unsigned epoch;     /* of the session that it began in */
	uint64_t signal_ns; /* when our signal is due again; 0: it was not given */
};

static int query(const struct sync *sync)
{
	struct importer *importer = sync->view->importer;
	return importer->ops->query(importer, sync->stream, &sync->conn->error);
}

static bool is_lost(const struct sync *sync)
{
	return sync->conn->epoch != sync->epoch || sync->conn->state == CONN_DEAD ||
	       sync->view->state == VIEW_ENDED;
}

/* Most work ends soon. */
static int spin(const struct sync *sync)
{
	uint64_t until = clock_ns() + spin_ns;
	int r = query(sync);
	while (r == 0 && clock_ns() < until)
		r = query(sync);
	return r;
}

/* Whoever lost the session has signalled once. A signal of the broker's that was under way may have
 * come behind ours. */
static void signal_again(struct sync *sync)
{
	uint64_t now = clock_ns();
	if (sync->signal_ns > 0 && now >= sync->signal_ns)
		view_free_waits(sync->view);
	if (sync->signal_ns == 0 || now >= sync->signal_ns)
		sync->signal_ns = now + repeat_ns;
}

static void nap(const struct sync *sync)
{
	struct timespec pause = clock_timespec(nap_ns);
	if (sync->conn->state == CONN_DEAD)
		nanosleep(&pause, NULL); /* its descriptor stays readable */
	else
		link_sleep(&sync->conn->link, clock_ns() + nap_ns);
}

static int wait_for_stream(struct sync *sync, uint64_t deadline)
{
	int r = spin(sync);
	while (r == 0 && clock_ns() < deadline) {
		session_process(sync->conn, NULL, NULL);
		if (is_lost(sync))
			signal_again(sync);
		nap(sync);
		r = query(sync);
	}
	conn_keep_news(sync->conn);
	return r;
}

int sluice_view_sync(struct sluice_view *view, void *stream, int timeout_ms)
{
	struct sluice *conn = view->conn;
	struct sync sync = { view, conn, stream, conn->epoch, 0 };
	if (!view->importer->ops->query)
		return not_cuda(conn);
	int r = wait_for_stream(&sync, conn_deadline(timeout_ms));
	if (r < 0)
		return r;
	if (r == 0)
		return conn_error(conn, -ETIMEDOUT, SLUICE_ERROR_NONE,
			"the work in the CUDA stream did not end within %d ms", timeout_ms);
	if (is_lost(&sync))
		return conn_error(conn, -ECONNRESET, view->error.code,
			"the broker or the view ended: what the stream has read may be no whole frame");
	return 0;
}
