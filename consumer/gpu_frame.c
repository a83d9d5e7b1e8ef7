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

static void release_with_ticket(struct frame *frame)
{
	frame->ticket = ticket_destroy(frame->ticket);
	frame->view->n_tickets--;
	frame->view->conn->n_tickets--;
	frame_release(frame);
}

static void collect(struct sluice_view *view)
{
	struct frame *frame, *next;
	list_for_each_safe(frame, next, &view->held, link) {
		if (frame->ticket && ticket_is_called(frame->ticket))
			release_with_ticket(frame);
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
static void release_dead(struct sluice_view *view)
{
	struct frame *frame, *next;
	list_for_each_safe(frame, next, &view->held, link) {
		const struct importer *importer = frame->mapping->importer;
		if (frame->ticket && importer->ops->is_dead(importer))
			release_with_ticket(frame);
	}
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

/* Work that was handed over with a frame. It may wait for frames of other views, too. */
static void settle_tickets(struct sluice_view *view)
{
	enum { NAP_MS = 10 };
	struct sluice *conn = view->conn;
	uint64_t signal_ns = clock_ns() + grace_ns;
	collect(view);
	while (view->n_tickets > 0) {
		bool is_gone = link_nap(&conn->link, NAP_MS);
		link_drain_waker(&conn->link);
		collect(view);
		if (view->n_tickets > 0 && (is_gone || clock_ns() >= signal_ns)) {
			views_free_waits(conn);
			signal_ns = clock_ns() + repeat_ns;
		}
		release_dead(view);
	}
	/* what told of other views' tickets is drained */
	if (conn->n_tickets > 0)
		conn_wake(conn);
}

void frames_settle(struct sluice_view *view)
{
	if (view->n_tickets > 0)
		settle_tickets(view);
}

/* Work that waits may wait for frames of several views, and the driver for all of it. */
static void free_held(struct sluice *conn)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link) {
		if (find_waited_for(view))
			view_free_waits(view);
	}
}

/* A signal of the broker's that was under way may have come behind ours. */
static void finish(struct sluice *conn, struct importer *importer)
{
	struct timespec pause = clock_timespec(nap_ns);
	uint64_t signal_ns = clock_ns() + repeat_ns;
	while (importer->ops->is_waiting(importer)) {
		nanosleep(&pause, NULL);
		if (clock_ns() < signal_ns)
			continue;
		free_held(conn);
		signal_ns = clock_ns() + repeat_ns;
	}
	importer->ops->finish(importer);
}

void frames_finish(struct sluice *conn)
{
	struct sluice_view *view;
	list_for_each(view, &conn->views, link)
		frames_settle(view);
	free_held(conn);
	list_for_each(view, &conn->views, link) {
		const struct frame *frame = find_waited_for(view);
		if (frame)
			finish(conn, frame->mapping->importer);
	}
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
	if (!mapping->has_timeline || pub->copied_ns != 0)
		return 0;
	frame->is_waited_for = true; /* perhaps also where that fails */
	return mapping->importer->ops->wait_in(
		mapping->importer, stream, mapping->timeline, pub->seq, &conn->error);
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
	struct importer *importer; /* of the stream: the view may get another meanwhile */
	void *stream;
	unsigned epoch;     /* of the view when it began */
	uint64_t signal_ns; /* when signals of ours are due again; 0: not yet looked */
};

/* Frames that are held may be of another device than the view's by now. NULL: none has streams. */
static struct importer *find_importer(const struct sluice_view *view)
{
	struct importer *found = view->importer;
	const struct frame *frame;
	list_for_each(frame, &view->held, link) {
		if (frame->mapping->importer->ops->query)
			found = frame->mapping->importer;
	}
	return found->ops->query && found->is_attached ? found : NULL;
}

static int query(const struct sync *sync)
{
	return sync->importer->ops->query(sync->importer, sync->stream, &sync->conn->error);
}

static bool is_lost(const struct sync *sync)
{
	return sync->view->epoch != sync->epoch || sync->view->state != VIEW_ACTIVE;
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

/* Whoever lost a subscription has signalled once. A signal of the broker's that was under way may
 * have come behind ours. */
static void signal_again(struct sync *sync)
{
	uint64_t now = clock_ns();
	if (now < sync->signal_ns)
		return;
	if (sync->signal_ns > 0)
		views_repeat_signals(sync->conn);
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
	struct importer *importer = find_importer(view);
	if (!importer)
		return not_cuda(conn);
	struct sync sync = { view, conn, importer_ref(importer), stream, view->epoch, 0 };
	int r = wait_for_stream(&sync, conn_deadline(timeout_ms));
	importer_unref(importer);
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
