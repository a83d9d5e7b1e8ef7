/* The control page: what the writer says there, and what a reader that races with it may believe. */
#include "tests/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "proto/control.h"

static struct control_page *make_page(unsigned n_slots)
{
	size_t size = control_page_bytes(n_slots);
	struct control_page *page = aligned_alloc(CONTROL_LINE, size);
	CHECK(page != NULL);
	memset(page, 0, size);
	return page;
}

TEST(every_slot_has_a_cache_line_where_the_protocol_says)
{
	_Static_assert(sizeof(struct control_page) == 64, "the first line");
	_Static_assert(sizeof(struct control_slot) == 64, "a line for each slot");
	_Static_assert(offsetof(struct control_page, version) == 4, "as in PROTOCOL.md");
	_Static_assert(offsetof(struct control_page, n_slots) == 8, "as in PROTOCOL.md");
	_Static_assert(offsetof(struct control_page, generation) == 12, "as in PROTOCOL.md");
	CHECK_EQ(control_page_bytes(4), 64 * 5);
	CHECK_EQ(control_page_bytes(64), 64 * 65);
	uint32_t magic = CONTROL_MAGIC;
	CHECK(memcmp(&magic, "SLUC", 4) == 0);
}

TEST(a_slot_holds_its_frame_until_it_is_written_again)
{
	_cleanup_free_ struct control_page *page = make_page(4);
	CHECK(!control_holds(page, 2, 1));
	control_end_write(page, 2, 1);
	CHECK(control_holds(page, 2, 1));
	CHECK(!control_holds(page, 2, 2) && !control_holds(page, 1, 1));
	control_begin_write(page, 2);
	CHECK(!control_holds(page, 2, 1));
	CHECK(control_holds(page, 2, 0)); /* no frame has the number 0 */
	control_end_write(page, 2, UINT64_MAX);
	CHECK(control_holds(page, 2, UINT64_MAX));
}

/* A writer that never stops, and a reader: what the reader calls valid is never torn. */
enum { WORDS = 512, ROUNDS = 100000 };

struct race {
	struct control_page *page;
	_Atomic uint64_t pixels[WORDS]; /* relaxed: as plain memory, but defined */
	_Atomic bool ended;
};

static void *write_frames(void *data)
{
	struct race *race = data;
	for (uint64_t seq = 1; seq <= ROUNDS / test_slowness(); seq++) {
		control_begin_write(race->page, 0);
		for (unsigned i = 0; i < WORDS; i++)
			atomic_store_explicit(&race->pixels[i], seq, memory_order_relaxed);
		control_end_write(race->page, 0, seq);
		if (seq % 8 == 0)
			usleep(1); /* long enough for a reader to find one whole */
	}
	atomic_store(&race->ended, true);
	return NULL;
}

/* 0: not valid; else valid, and whole. */
static bool read_frame(struct race *race)
{
	uint64_t seq = atomic_load_explicit(&race->page->slot[0].seq, memory_order_acquire);
	uint64_t wrong = 0;
	for (unsigned i = 0; i < WORDS; i++)
		wrong |= seq ^ atomic_load_explicit(&race->pixels[i], memory_order_relaxed);
	if (seq == 0 || !control_holds(race->page, 0, seq))
		return false;
	CHECK_EQ(wrong, 0);
	return true;
}

TEST(what_a_reader_calls_valid_is_never_torn)
{
	_cleanup_free_ struct control_page *page = make_page(4);
	_cleanup_free_ struct race *race = calloc(1, sizeof(*race));
	CHECK(race != NULL);
	race->page = page;
	pthread_t writer;
	CHECK(pthread_create(&writer, NULL, write_frames, race) == 0);
	unsigned whole = 0;
	while (!atomic_load(&race->ended))
		whole += read_frame(race);
	pthread_join(writer, NULL);
	CHECK(read_frame(race));
	printf("  %u whole frames were read\n", whole);
}
