#include <errno.h>

#include "common/clock.h"
#include "consumer/conn.h"
#include "consumer/view.h"

_Static_assert(SLUICE_PLANES_MAX == FORMAT_PLANES_MAX, "the header's limit is the format's");
_Static_assert(SLUICE_DAMAGE_MAX == WIRE_DAMAGE_MAX, "the header's limit is the protocol's");

void frames_init(struct sluice_view *view)
{
	list_init(&view->waiting);
	list_init(&view->held);
	list_init(&view->unused);
	for (unsigned i = 0; i < VIEW_FRAMES; i++) {
		view->frames[i].view = view;
		view->frames[i].pub.sync_fd = -1;
		list_init(&view->frames[i].link);
		list_insert(&view->unused, &view->frames[i].link);
	}
}

static void send_release(const struct frame *frame)
{
	Sluice__Release release = SLUICE__RELEASE__INIT;
	release.view = frame->view->id;
	release.generation = frame->mapping->id;
	release.slot = frame->slot;
	release.seq = frame->pub.seq;
	release.received_ns = frame->pub.received_ns;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_RELEASE;
	packet.release = &release;
	conn_send(frame->view->conn, &packet);
}

/* It is neither waiting nor held any more. */
static void retire(struct frame *frame)
{
	struct sluice_view *view = frame->view;
	if (!frame->is_orphan) {
		send_release(frame);
		view->n_lent--;
	}
	fd_closep(&frame->pub.sync_fd);
	frame->is_waited_for = false;
	frame->mapping = mapping_unref(frame->mapping);
	list_remove(&frame->link);
	list_insert(&view->unused, &frame->link);
}

static struct frame *oldest_waiting(struct sluice_view *view)
{
	return list_first(&view->waiting, struct frame, link);
}

static void drop_oldest_waiting(struct sluice_view *view)
{
	view->n_waiting--;
	retire(oldest_waiting(view));
}

void frames_drop_waiting(struct sluice_view *view)
{
	struct frame *frame;
	list_for_each(frame, &view->waiting, link)
		frame->is_orphan = true;
	while (view->n_waiting > 0)
		drop_oldest_waiting(view);
}

void frames_orphan(struct sluice_view *view)
{
	for (unsigned i = 0; i < VIEW_FRAMES; i++)
		view->frames[i].is_orphan = true;
	view->n_lent = 0;
}

bool frames_use_generation(const struct sluice_view *view, uint32_t generation)
{
	for (unsigned i = 0; i < VIEW_FRAMES; i++) {
		const struct frame *frame = &view->frames[i];
		if (frame->mapping && !frame->is_orphan && frame->mapping->id == generation)
			return true;
	}
	return false;
}

/* --- What arrives -----------------------------------------------------------------------------*/

static int check_frame(
	const struct sluice_view *view, const Sluice__Frame *in, const struct fdset *fds)
{
	unsigned n_fds_max = view->readiness == SLUICE_SYNC_FD ? 1 : 0;
	struct sluice *conn = view->conn;
	if (!view->mapping || in->generation != view->mapping->id)
		return conn_protocol_error(conn, "a frame of a generation that is not bound");
	if (in->slot >= view->mapping->n_slots)
		return conn_protocol_error(conn, "a frame in a slot that does not exist");
	if (in->seq <= view->last_seq)
		return conn_protocol_error(conn, "a frame that is not newer than the last");
	if (fds->n > n_fds_max)
		return conn_protocol_error(conn, "%u descriptors with frame", fds->n);
	if (in->n_damage > WIRE_DAMAGE_MAX)
		return conn_protocol_error(conn, "a frame with too much damage");
	if (view->last_seq > 0 && in->paced > in->seq - view->last_seq - 1)
		return conn_protocol_error(conn, "more frames left out than there were");
	if (view->n_lent >= view->max_holds)
		return conn_protocol_error(
			conn, "more frames at once than the %u agreed upon", view->max_holds);
	return 0;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Rectangles outside the picture are cut or left out; none left means that all may have changed. */
static void read_damage(struct sluice_frame *pub, const Sluice__Frame *in)
{
	pub->n_damage = 0;
	for (size_t i = 0; i < in->n_damage; i++) {
		const Sluice__Rect *rect = in->damage[i];
		if (rect->x >= pub->width || rect->y >= pub->height || rect->width == 0 ||
			rect->height == 0)
			continue;
		pub->damage[pub->n_damage++] = (struct sluice_rect){
			.x = rect->x,
			.y = rect->y,
			.width = smaller(rect->width, pub->width - rect->x),
			.height = smaller(rect->height, pub->height - rect->y),
		};
	}
}

/* Where its pixels are, in the terms of its memory. */
static void read_memory(struct frame *frame)
{
	const struct mapping *mapping = frame->mapping;
	const struct slot_memory *slot = &mapping->slot[frame->slot];
	uint64_t begin = mapping->data_offset + mapping->format.offset[0];
	struct sluice_frame *pub = &frame->pub;
	pub->memory = mapping->importer->ops->memory;
	bool is_cuda = pub->memory == SLUICE_MEMORY_CUDA;
	bool is_vulkan = pub->memory == SLUICE_MEMORY_VULKAN;
	bool is_early = mapping->has_timeline && pub->copied_ns == 0;
	for (unsigned p = 0; p < SLUICE_PLANES_MAX; p++)
		pub->data[p] =
			slot->map && p < pub->n_planes ? slot->map + begin + pub->offset[p] : NULL;
	pub->cuda.ptr = is_cuda ? slot->handle + begin : 0;
	pub->cuda.context = is_cuda ? mapping->importer->context : NULL;
	pub->vulkan.buffer = is_vulkan ? slot->handle : 0;
	pub->vulkan.buffer_offset = is_vulkan ? begin : 0;
	pub->vulkan.semaphore = is_vulkan && is_early ? mapping->timeline : 0;
	pub->vulkan.value = pub->vulkan.semaphore ? pub->seq : 0;
}

static void read_layout(struct frame *frame)
{
	const struct mapping *mapping = frame->mapping;
	const struct video_format *format = &mapping->format;
	struct sluice_frame *pub = &frame->pub;
	pub->n_planes = format->n_planes;
	pub->fourcc = format->fourcc;
	pub->width = format->width;
	pub->height = format->height;
	pub->size_bytes = (size_t)(format->size_bytes - format->offset[0]);
	pub->generation = mapping->number;
	pub->primaries = format->colour.primaries;
	pub->transfer = format->colour.transfer;
	pub->matrix = format->colour.matrix;
	pub->full_range = format->colour.full_range;
	for (unsigned p = 0; p < SLUICE_PLANES_MAX; p++) {
		pub->offset[p] = p < format->n_planes ? format->offset[p] - format->offset[0] : 0;
		pub->stride[p] = p < format->n_planes ? format->stride[p] : 0;
	}
}

static void read_frame(struct frame *frame, const Sluice__Frame *in, struct mapping *mapping)
{
	frame->mapping = mapping_ref(mapping);
	if (in->copied_ns == 0)
		mapping->announced = in->seq;
	frame->slot = in->slot;
	frame->is_orphan = false;
	atomic_store(&frame->is_revoked, false);
	frame->pub.seq = in->seq;
	frame->pub.pts_ns = in->pts_ns;
	frame->pub.captured_ns = in->captured_ns;
	frame->pub.copied_ns = in->copied_ns;
	frame->pub.published_ns = in->published_ns;
	frame->pub.received_ns = clock_ns();
	read_layout(frame);
	read_memory(frame);
	read_damage(&frame->pub, in);
}

static uint64_t at_most(uint64_t a, uint64_t limit)
{
	return a < limit ? a : limit;
}

/* What did not come since the frame before, in this subscription or in the one that it goes on from. */
static void count_gap(struct sluice_view *view, const Sluice__Frame *in)
{
	uint64_t before = view->last_seq > 0 ? view->last_seq : view->left_off_seq;
	view->stats.received++;
	view->last_seq = in->seq;
	view->left_off_seq = 0;
	if (before == 0 || in->seq <= before)
		return;
	uint64_t gap = in->seq - before - 1, paced = at_most(in->paced, gap);
	view->stats.missed += gap - paced;
	view->stats.paced += paced;
}

int frame_on_frame(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	const Sluice__Frame *in = packet->frame;
	struct sluice_view *view = NULL;
	int r = view_find(conn, in->view, &view);
	if (r < 0 || !view)
		return r;
	r = check_frame(view, in, fds);
	if (r < 0)
		return r;
	count_gap(view, in);
	if (view->request.delivery == SLUICE_MAILBOX && view->n_waiting > 0) {
		view->stats.missed++;
		drop_oldest_waiting(view);
	}
	struct frame *frame = list_first(&view->unused, struct frame, link);
	if (!frame)
		return conn_protocol_error(
			conn, "more frames than are taken, of one subscription after another");
	read_frame(frame, in, view->mapping);
	frame->pub.sync_fd = fds->n > 0 ? fdset_steal(fds, 0) : -1;
	list_remove(&frame->link);
	list_insert(&view->waiting, &frame->link);
	view->n_waiting++;
	view->n_lent++;
	return 0;
}

static struct frame *find_lent(struct list *list, const Sluice__Revoked *revoked)
{
	struct frame *frame;
	list_for_each(frame, list, link) {
		if (!frame->is_orphan && frame->mapping->id == revoked->generation &&
			frame->slot == revoked->slot && frame->pub.seq == revoked->seq)
			return frame;
	}
	return NULL;
}

/* One that is not found was released while the message was on its way. */
int frame_on_revoked(struct sluice *conn, const Sluice__Packet *packet, struct fdset *fds)
{
	struct sluice_view *view = NULL;
	int r = view_find(conn, packet->revoked->view, &view);
	if (r < 0 || !view)
		return r;
	struct frame *frame = find_lent(&view->held, packet->revoked);
	if (frame && !atomic_exchange(&frame->is_revoked, true))
		view->stats.revoked++;
	frame = find_lent(&view->waiting, packet->revoked);
	if (frame) {
		view->stats.revoked++;
		view->n_waiting--;
		retire(frame);
	}
	return 0;
}

/* --- Calls ------------------------------------------------------------------------------------*/

bool frame_is_gone(const struct frame *frame)
{
	const struct mapping *mapping = frame->mapping;
	bool is_early = frame->pub.copied_ns == 0;
	return (is_early && atomic_load_explicit(&mapping->is_signalled, memory_order_acquire)) ||
	       !control_holds(mapping->control, frame->slot, frame->pub.seq);
}

/*
 * Who registered GPU memory with another library takes that back when he sees a frame of other
 * memory: until he has, and asks for the next frame, the old stays.
 */
static void remember_memory(struct sluice_view *view, struct mapping *mapping)
{
	if (mapping == view->taken || mapping->importer->ops->memory == SLUICE_MEMORY_HOST)
		return;
	view->outgoing = TAKE_PTR(view->taken);
	view->taken = mapping_ref(mapping);
}

int sluice_view_next(struct sluice_view *view, struct sluice_frame **frame_out)
{
	view->outgoing = mapping_unref(view->outgoing);
	while (view->n_waiting > 0 && view->n_held < view->max_holds) {
		struct frame *frame = oldest_waiting(view);
		if (frame_is_gone(frame)) {
			view->stats.revoked++;
			drop_oldest_waiting(view);
			continue;
		}
		view->n_waiting--;
		view->n_held++;
		view->stats.taken++;
		list_remove(&frame->link);
		list_insert(&view->held, &frame->link);
		remember_memory(view, frame->mapping);
		*frame_out = &frame->pub;
		return 1;
	}
	if (view->state != VIEW_ENDED || view->n_waiting > 0)
		return 0;
	view->conn->error = view->error;
	return view->result;
}

bool sluice_frame_valid(const struct sluice_frame *pub)
{
	const struct frame *frame = container_of(pub, const struct frame, pub);
	return !atomic_load_explicit(&frame->is_revoked, memory_order_relaxed) &&
	       !frame_is_gone(frame);
}

void frame_release(struct frame *frame)
{
	struct sluice_view *view = frame->view;
	view->n_held--;
	retire(frame);
	/* the hold that was missing is there: no message will say so */
	if (view->n_waiting > 0 && view->n_held + 1 == view->max_holds)
		conn_wake(view->conn);
}

void sluice_frame_release(struct sluice_frame *pub)
{
	if (!pub)
		return;
	struct frame *frame = container_of(pub, struct frame, pub);
	struct sluice_view *view = frame->view;
	frame_release(frame);
	view_reap(view);
}
