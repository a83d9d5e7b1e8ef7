/* Streams, their views and generations, and what a client can do to the memory it was lent. */
#include "tests/test.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "broker/catalog.h"
#include "common/fd.h"
#include "proto/control.h"
#include "tests/death.h"

/* --- memory ---------------------------------------------------------------------------------- */

enum { SIZE = 3 * 4096 };

static struct memory make_memory(void)
{
	struct memory m;
	CHECK_EQ(memory_init(&m, "sluice-test", SIZE), 0);
	CHECK(m.map != NULL && m.size_bytes == SIZE);
	return m;
}

TEST(memory_is_zeroed_writable_for_the_broker_and_closed_on_exec)
{
	struct memory m = make_memory();
	const char *bytes = m.map;
	for (int i = 0; i < SIZE; i++)
		CHECK_EQ(bytes[i], 0);
	memset(m.map, 7, SIZE);
	CHECK(fcntl(m.fd, F_GETFD) & FD_CLOEXEC);
	memory_finish(&m);
	CHECK(m.fd == -EBADF && m.map == NULL);
	memory_finish(&m);
	struct memory zero = { 0 };
	memory_finish(&zero); /* never had any: descriptor 0 stays open */
	CHECK(fcntl(0, F_GETFD) >= 0);
}

TEST(a_client_cannot_map_it_writable)
{
	struct memory m = make_memory();
	CHECK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0) == MAP_FAILED);
	CHECK_EQ(errno, EPERM);
	CHECK(mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, m.fd, 0) == MAP_FAILED);
	void *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, m.fd, 0);
	CHECK(map != MAP_FAILED);
	CHECK(mprotect(map, SIZE, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
	munmap(map, SIZE);
	memory_finish(&m);
}

TEST(a_client_cannot_write_truncate_grow_or_punch_it)
{
	struct memory m = make_memory();
	CHECK(ftruncate(m.fd, 0) < 0 && errno == EPERM);
	CHECK(ftruncate(m.fd, SIZE - 1) < 0 && errno == EPERM);
	CHECK(ftruncate(m.fd, SIZE + 4096) < 0 && errno == EPERM);
	CHECK(pwrite(m.fd, "x", 1, 0) < 0 && errno == EPERM);
	CHECK(fallocate(m.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
	CHECK(fallocate(m.fd, 0, SIZE, 4096) < 0);
	CHECK(fcntl(m.fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
	CHECK(fcntl(m.fd, F_GET_SEALS) & F_SEAL_SHRINK);
	memory_finish(&m);
}

/*
 * The seals are the file's, not the descriptor's. So a client may open it again for writing through
 * /proc, and has gained nothing: it can still not write, map writable, or change the size. What it
 * may have is a private copy on write, which nobody else sees.
 */
TEST(opening_it_again_for_writing_gains_nothing)
{
	struct memory m = make_memory();
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m.fd);
	_cleanup_fd_ int again = open(path, O_RDWR | O_CLOEXEC);
	CHECK(again >= 0);
	CHECK(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
	CHECK(pwrite(again, "x", 1, 0) < 0 && errno == EPERM);
	CHECK(ftruncate(again, 0) < 0 && errno == EPERM);
	CHECK(open(path, O_RDWR | O_TRUNC | O_CLOEXEC) < 0 && errno == EPERM);
	char *copy = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, again, 0);
	CHECK(copy != MAP_FAILED);
	copy[0] = 'x';
	CHECK_EQ(*(char *)m.map, 0);
	munmap(copy, SIZE);
	memory_finish(&m);
}

TEST(who_has_mapped_it_keeps_it_when_the_broker_lets_go)
{
	struct memory m = make_memory();
	memset(m.map, 'z', SIZE);
	char *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, m.fd, 0);
	CHECK(map != MAP_FAILED);
	memory_finish(&m);
	CHECK(map[0] == 'z' && map[SIZE - 1] == 'z');
	munmap(map, SIZE);
}

/* --- generation ------------------------------------------------------------------------------ */

static struct memory_budget budget;
static struct slot_source host;

static void set_budget(struct memory_budget b)
{
	budget = b;
	host = slots_host(&budget);
}

static struct video_format format_of(uint32_t width, uint32_t height)
{
	struct video_format f;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, width, height, &f), 0);
	return f;
}

static const char *why; /* a generation could not be made */

TEST(a_generation_has_a_page_and_slots_and_charges_for_them)
{
	struct video_format f = format_of(64, 64);
	struct generation *g, *other;
	set_budget((struct memory_budget){ .limit_bytes = 1 << 20 });
	CHECK_EQ(generation_create(&g, &f, 4, &host, &why), 0);
	const struct control_page *page = generation_control(g);
	CHECK(page->magic == CONTROL_MAGIC && page->version == CONTROL_VERSION);
	CHECK(page->n_slots == 4 && page->generation == g->id && g->id > 0);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(g->slot[i].allocation_bytes, f.size_bytes);
		CHECK(generation_pixels(g, &g->pool.slots[i]) == g->slot[i].map);
		CHECK_EQ(atomic_load(&page->slot[i].seq), 0);
	}
	CHECK_EQ(budget.used_bytes, generation_bytes(&f, 4));
	CHECK_EQ(generation_create(&other, &f, 5, &host, &why), 0);
	CHECK(other->id > g->id);
	generation_destroy(g);
	CHECK_EQ(budget.used_bytes, generation_bytes(&f, 5));
	generation_destroy(other);
	CHECK_EQ(budget.used_bytes, 0);
	CHECK(generation_destroy(NULL) == NULL);
}

TEST(the_budget_is_a_limit_and_one_byte_less_is_too_little)
{
	struct video_format f = format_of(64, 64);
	struct generation *g = NULL, *other = NULL;
	set_budget((struct memory_budget){ .limit_bytes = 2 * generation_bytes(&f, 4) - 1 });
	CHECK_EQ(generation_create(&g, &f, 4, &host, &why), 0);
	CHECK_EQ(generation_create(&other, &f, 4, &host, &why), -EDQUOT);
	CHECK(other == NULL);
	CHECK_EQ(budget.used_bytes, generation_bytes(&f, 4));
	budget.limit_bytes++;
	CHECK_EQ(generation_create(&other, &f, 4, &host, &why), 0);
	generation_destroy(g);
	generation_destroy(other);
}

TEST(the_greatest_generation_does_not_overflow)
{
	struct video_format f = format_of(FORMAT_SIDE_MAX, FORMAT_SIDE_MAX);
	struct generation *g;
	CHECK_EQ(generation_bytes(&f, POOL_SLOTS_MAX),
		(1ull << 30) * POOL_SLOTS_MAX + control_page_bytes(POOL_SLOTS_MAX));
	set_budget((struct memory_budget){ .limit_bytes = 1ull << 30 });
	CHECK_EQ(generation_create(&g, &f, POOL_SLOTS_MAX, &host, &why), -EDQUOT);
}

TEST(a_generation_without_enough_descriptors_gives_all_back)
{
	struct video_format f = format_of(64, 64);
	struct generation *g = NULL;
	struct rlimit old, limit;
	if (test_under_valgrind())
		test_not_for_here("valgrind makes the descriptors all the same");
	set_budget((struct memory_budget){ .limit_bytes = 1 << 20 });
	unsigned before = test_count_fds();
	int next = fcntl(0, F_DUPFD_CLOEXEC, 0);
	CHECK(next >= 0);
	close(next);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	for (unsigned more = 0; more < 5; more++) {
		limit = old;
		limit.rlim_cur = (rlim_t)next + more; /* one for the page, and some slots */
		CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		CHECK_EQ(generation_create(&g, &f, 5, &host, &why), -EMFILE);
		CHECK(g == NULL && budget.used_bytes == 0);
	}
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	CHECK_EQ(test_count_fds(), before);
}

/* --- stream ---------------------------------------------------------------------------------- */

struct told {
	unsigned changed;
	unsigned rebound;
};

static void on_changed(void *data, struct stream *stream)
{
	(void)stream;
	((struct told *)data)->changed++;
}

/* As the session does when the client has answered at once. */
static void on_rebind(void *data, struct view *view, struct subscriber *s)
{
	((struct told *)data)->rebound++;
	CHECK(s->pool == NULL);
	view_bound(view, s, view->generation->id);
}

static const struct stream_listener listener = { on_changed, on_rebind, NULL };

struct reader {
	struct subscriber s;
	uint64_t last;
	unsigned n;
};

static int on_send(struct subscriber *s, const struct lease *lease, const struct frame_info *info)
{
	struct reader *r = container_of(s, struct reader, s);
	CHECK(info->published_ns >= info->copied_ns);
	r->last = lease->seq;
	r->n++;
	return FANOUT_OK;
}

static void on_revoked(struct subscriber *s, const struct lease *lease)
{
	(void)s;
	(void)lease;
}

static const struct subscriber_ops ops = { on_send, on_revoked, NULL };

static struct stream stream;
static struct told told;

static void begin(unsigned n_slots)
{
	set_budget((struct memory_budget){ .limit_bytes = 64 << 20 });
	told = (struct told){ 0 };
	stream_init(&stream, "test", "pattern:64x64@30", n_slots, &budget);
	stream_set_listener(&stream, &listener, &told);
}

static void configure(uint32_t width, uint32_t height)
{
	struct video_format f = format_of(width, height);
	CHECK_EQ(view_configure(&stream.native, &f), 0);
}

static uint64_t publish(void)
{
	struct slot *slot;
	CHECK_EQ(view_begin(&stream.native, &slot), POOL_OK);
	uint64_t seq = stream_take_seq(&stream);
	struct control_page *page = generation_control(stream.native.generation);
	CHECK(control_holds(page, slot->index, 0)); /* its readers find it gone */
	struct frame_info info = { .captured_ns = 1, .copied_ns = 2 };
	view_publish(&stream.native, slot, seq, &info);
	CHECK(control_holds(page, slot->index, seq));
	return seq;
}

static int join(struct reader *r, struct subscriber_options options, char *text, size_t size)
{
	memset(r, 0, sizeof(*r));
	subscriber_init(&r->s, &options, &ops);
	return view_join(&stream.native, &r->s, text, size);
}

static const struct subscriber_options mailbox = { .delivery = FANOUT_MAILBOX, .max_holds = 2 };

TEST(a_stream_waits_until_it_is_live_and_tells_of_changes_only)
{
	begin(4);
	CHECK(stream.state == STREAM_WAITING && stream.text[0] != 0);
	stream_set_state(&stream, STREAM_LIVE, "");
	stream_set_state(&stream, STREAM_LIVE, "");
	CHECK_EQ(told.changed, 1);
	stream_set_state(&stream, STREAM_WAITING, "the camera is unplugged");
	stream_set_state(&stream, STREAM_WAITING, "the camera is unplugged");
	CHECK_EQ(told.changed, 2);
	stream_set_state(&stream, STREAM_WAITING, "nobody is there");
	CHECK_EQ(told.changed, 3);
	CHECK_STR(stream.text, "nobody is there");
	stream_finish(&stream);
}

TEST(names_and_sources_are_cut_at_their_limits)
{
	char longer[1000];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	stream_init(&stream, longer, longer, 4, &budget);
	CHECK_EQ(strlen(stream.name), STREAM_NAME_MAX);
	CHECK_EQ(strlen(stream.source), STREAM_SOURCE_MAX);
	stream_set_state(&stream, STREAM_WAITING, longer);
	CHECK_EQ(strlen(stream.text), STREAM_TEXT_MAX);
	stream_finish(&stream);
}

static unsigned n_returned;

static int on_wanted(void *data, struct view *view)
{
	return 0;
}

static void on_view(void *data, struct view *view)
{
}

static void on_returned(void *data, struct view *view)
{
	n_returned++;
}

static const struct stream_supply supply = {
	.wanted = on_wanted,
	.unwanted = on_view,
	.attached = on_view,
	.returned = on_returned,
};

static void give_back(struct reader *r, const struct slot *slot)
{
	uint64_t published;
	CHECK_EQ(subscriber_release(
			 &r->s, stream.native.generation->id, slot->index, r->last, &published),
		FANOUT_OK);
	view_returned(&stream.native);
}

/* Sources that go by it would wait for ever. */
TEST(a_frame_that_was_given_back_before_it_was_complete_is_told_of_when_it_is)
{
	char text[256];
	struct reader r;
	struct slot *slot;
	int no_sync_fd = -EBADF;
	begin(8);
	configure(64, 64);
	stream_set_supply(&stream, &supply, NULL);
	CHECK_EQ(join(&r, mailbox, text, sizeof(text)), 0);
	r.s.early = true;
	view_bound(&stream.native, &r.s, stream.native.generation->id);
	n_returned = 0;
	for (unsigned i = 0; i < 2; i++) {
		bool is_late = i == 1;
		struct frame_info info = { .captured_ns = 1 };
		CHECK_EQ(view_begin(&stream.native, &slot), POOL_OK);
		uint64_t seq = stream_take_seq(&stream);
		view_submit(&stream.native, slot, seq, &info, &no_sync_fd);
		CHECK_EQ(r.last, seq);
		if (!is_late)
			give_back(&r, slot);
		CHECK_EQ(n_returned, i);
		info.copied_ns = 2;
		view_publish(&stream.native, slot, seq, &info);
		view_settled(&stream.native);
		CHECK_EQ(n_returned, 1);
		if (is_late)
			give_back(&r, slot);
		view_settled(&stream.native);
		CHECK_EQ(n_returned, i + 1);
	}
	stream_set_supply(&stream, NULL, NULL);
	view_leave(&stream.native, &r.s);
	stream_finish(&stream);
}

TEST(every_frame_has_the_next_number_through_every_resize)
{
	begin(4);
	uint64_t seq = 0;
	for (uint32_t side = 64; side < 74; side++) {
		configure(side, side);
		for (int i = 0; i < 7; i++)
			CHECK_EQ(publish(), ++seq);
	}
	CHECK_EQ(stream.native.counts.published, 70);
	CHECK_EQ(stream.native.copy.count, 70);
	stream_finish(&stream);
	CHECK_EQ(budget.used_bytes, 0);
}

TEST(the_same_format_again_keeps_the_generation)
{
	begin(4);
	configure(64, 64);
	uint32_t id = stream.native.generation->id;
	unsigned changed = told.changed;
	configure(64, 64);
	CHECK(stream.native.generation->id == id && told.changed == changed);
	configure(64, 65);
	CHECK(stream.native.generation->id > id && told.changed == changed + 1);
	stream_finish(&stream);
}

TEST(who_has_bound_the_generation_gets_the_newest_and_what_follows)
{
	struct reader r;
	char text[128];
	begin(4);
	configure(64, 64);
	publish();
	publish();
	CHECK_EQ(join(&r, mailbox, text, sizeof(text)), 0);
	CHECK_EQ(r.n, 0);
	publish(); /* not bound: not offered */
	CHECK_EQ(r.n, 0);
	view_bound(&stream.native, &r.s, stream.native.generation->id - 1); /* stale */
	CHECK_EQ(r.n, 0);
	view_bound(&stream.native, &r.s, stream.native.generation->id);
	CHECK(r.n == 1 && r.last == 3);
	view_bound(&stream.native, &r.s, stream.native.generation->id); /* again: nothing */
	CHECK_EQ(r.n, 1);
	publish();
	CHECK(r.n == 2 && r.last == 4);
	view_leave(&stream.native, &r.s);
	publish();
	CHECK_EQ(r.n, 2);
	stream_finish(&stream);
}

TEST(a_forgotten_frame_is_not_for_newcomers)
{
	struct reader r;
	char text[128];
	begin(4);
	view_forget_newest(&stream.native); /* no generation yet */
	configure(64, 64);
	publish();
	view_forget_newest(&stream.native);
	CHECK_EQ(join(&r, mailbox, text, sizeof(text)), 0);
	view_bound(&stream.native, &r.s, stream.native.generation->id);
	CHECK_EQ(r.n, 0);
	publish();
	CHECK_EQ(r.last, 2);
	view_leave(&stream.native, &r.s);
	stream_finish(&stream);
}

TEST(a_resize_rebinds_every_subscriber)
{
	struct reader r[3];
	char text[128];
	begin(8);
	configure(64, 64);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(join(&r[i], mailbox, text, sizeof(text)), 0);
		view_bound(&stream.native, &r[i].s, stream.native.generation->id);
	}
	publish();
	configure(128, 64);
	CHECK_EQ(told.rebound, 3);
	publish();
	for (int i = 0; i < 3; i++) {
		CHECK(r[i].n == 2 && r[i].last == 2 && r[i].s.n_lent == 2);
		view_leave(&stream.native, &r[i].s);
	}
	stream_finish(&stream);
}

TEST(a_format_that_there_is_no_memory_for_is_explained)
{
	struct reader r;
	char text[128];
	begin(4);
	configure(64, 64);
	publish();
	CHECK_EQ(join(&r, mailbox, text, sizeof(text)), 0);
	view_bound(&stream.native, &r.s, stream.native.generation->id);
	struct video_format big = format_of(4096, 4096);
	CHECK_EQ(view_configure(&stream.native, &big), -EDQUOT);
	CHECK(stream.native.generation == NULL && r.s.pool == NULL);
	CHECK(strstr(stream.native.reason, "BGRx 4096x4096"));
	CHECK(strstr(stream.native.reason, "4 slots take 256 MiB, and 0 of 64 MiB are used"));
	view_bound(&stream.native, &r.s, 1); /* no generation: nothing */
	configure(64, 64);
	CHECK_EQ(stream.native.reason[0], 0);
	CHECK_EQ(publish(), 2);
	view_leave(&stream.native, &r.s);
	stream_finish(&stream);
}

TEST(reserved_holds_and_queues_are_admitted_up_to_what_the_pool_has)
{
	enum { SLOTS = 8, ROOM = SLOTS - POOL_UNRESERVED_MIN };
	static const struct {
		const char *row;
		struct subscriber_options options;
		int result;
		const char *says;
	} rows[] = {
		{ "fifo that fits", { FANOUT_FIFO, ROOM, 1, false, 0 }, 0, "" },
		{ "fifo one past", { FANOUT_FIFO, ROOM + 1, 1, false, 0 }, -EBUSY, "--slots 9" },
		{ "all shared holds", { FANOUT_MAILBOX, 0, 16, false, 0 }, 0, "" },
		{ "3 reserved", { FANOUT_MAILBOX, 0, 3, true, 0 }, 0, "" },
		{ "3 more", { FANOUT_MAILBOX, 0, 3, true, 0 }, -EBUSY,
			"5 may be reserved and 3 are" },
		{ "2 more", { FANOUT_MAILBOX, 0, 2, true, 0 }, 0, "" },
		{ "1 more", { FANOUT_MAILBOX, 0, 1, true, 0 }, -EBUSY, "--slots 9" },
	};
	enum { N = sizeof(rows) / sizeof(rows[0]) };
	struct reader r[N], again;
	char text[256];
	begin(SLOTS);
	for (unsigned i = 0; i < N; i++) {
		text[0] = 0;
		int result = join(&r[i], rows[i].options, text, sizeof(text));
		CHECK_ROW(result == rows[i].result, rows[i].row);
		CHECK_ROW(strstr(text, rows[i].says), rows[i].row);
	}
	CHECK_EQ(stream.native.n_subscribers, 4);
	view_leave(&stream.native, &r[3].s); /* gives back its 3 */
	CHECK_EQ(stream.native.reserved, 2);
	CHECK_EQ(join(&again, rows[3].options, text, sizeof(text)), 0);
	view_leave(&stream.native, &again.s);
	view_leave(&stream.native, &r[0].s);
	view_leave(&stream.native, &r[2].s);
	view_leave(&stream.native, &r[5].s);
	CHECK(stream.native.n_subscribers == 0 && stream.native.reserved == 0);
	stream_finish(&stream);
}

TEST(a_frame_without_a_slot_is_counted)
{
	struct slot *slot[4], *more = NULL;
	begin(4);
	configure(64, 64);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(view_begin(&stream.native, &slot[i]), POOL_OK);
	CHECK_EQ(view_begin(&stream.native, &more), POOL_FULL);
	CHECK(more == NULL);
	CHECK_EQ(stream.native.counts.no_slot, 1);
	for (int i = 0; i < 4; i++)
		view_abandon(&stream.native, slot[i]);
	CHECK_EQ(publish(), 1); /* what was abandoned used no number */
	stream_finish(&stream);
}

static void finish_with_a_subscriber(void)
{
	struct reader r;
	char text[128];
	begin(4);
	join(&r, mailbox, text, sizeof(text));
	stream_finish(&stream);
}

TEST(finishing_a_stream_that_has_subscribers_is_a_mistake)
{
	CHECK(dies(finish_with_a_subscriber));
}

/* --- catalog --------------------------------------------------------------------------------- */

TEST(a_catalog_finds_by_name_and_keeps_the_order)
{
	static struct stream streams[CATALOG_STREAMS_MAX + 1];
	struct catalog catalog = { 0 };
	char name[16], names[64];
	CHECK_STR(catalog_names(&catalog, names, sizeof(names)), "none");
	for (unsigned i = 0; i <= CATALOG_STREAMS_MAX; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		stream_init(&streams[i], name, "x", 4, &catalog.budget);
		CHECK_EQ(catalog_add(&catalog, &streams[i]), i < CATALOG_STREAMS_MAX ? 0 : -EDQUOT);
	}
	CHECK_EQ(catalog_add(&catalog, &streams[7]), -EEXIST);
	CHECK(catalog_find(&catalog, "s63") == &streams[63]);
	CHECK(catalog_find(&catalog, "s64") == NULL && catalog_find(&catalog, "") == NULL);
	catalog_remove(&catalog, &streams[1]);
	catalog_remove(&catalog, &streams[1]);
	CHECK_EQ(catalog.n_streams, CATALOG_STREAMS_MAX - 1);
	CHECK(catalog_find(&catalog, "s1") == NULL);
	catalog_names(&catalog, names, sizeof(names));
	CHECK(strncmp(names, "s0, s2, s3, ", 12) == 0);
	CHECK_EQ(strlen(names), sizeof(names) - 1); /* cut */
	catalog.n_streams = 2;
	CHECK_STR(catalog_names(&catalog, names, sizeof(names)), "s0, s2");
}
