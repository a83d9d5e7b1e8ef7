/* Descriptors and who owns them, the list, the clock, the log. */
#include "tests/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/log.h"

/* --- fd.h ------------------------------------------------------------------------------------ */

static int some_fd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

TEST(closing_twice_closes_once)
{
	int fd = some_fd();
	int number = fd;
	fd_closep(&fd);
	CHECK_EQ(fd, -EBADF);
	CHECK(!is_open(number));
	int other = some_fd(); /* the lowest free number: the same */
	CHECK_EQ(other, number);
	fd_closep(&fd);
	CHECK(is_open(other));
	fd_closep(&other);
}

TEST(closing_keeps_errno)
{
	int fd = some_fd();
	close(fd);
	errno = ENOSPC;
	fd_closep(&fd); /* close() fails with EBADF */
	CHECK_EQ(errno, ENOSPC);
}

TEST(a_taken_descriptor_is_not_closed_by_its_cleanup)
{
	int kept;
	{
		_cleanup_fd_ int fd = some_fd();
		_cleanup_fd_ int gone = some_fd();
		(void)gone;
		kept = fd_take(&fd);
		CHECK_EQ(fd, -EBADF);
	}
	CHECK(is_open(kept));
	close(kept);
}

TEST(a_set_closes_what_was_not_stolen)
{
	struct fdset set = { .n = 3, .fd = { some_fd(), some_fd(), some_fd() } };
	int stolen = fdset_steal(&set, 1);
	int first = set.fd[0], last = set.fd[2];
	CHECK_EQ(fdset_steal(&set, 1), -EBADF);
	CHECK_EQ(fdset_steal(&set, 3), -EBADF);
	fdset_close(&set);
	CHECK_EQ(set.n, 0);
	CHECK(!is_open(first) && !is_open(last) && is_open(stolen));
	fdset_close(&set);
	close(stolen);
}

TEST(a_taken_pointer_is_not_freed_by_its_cleanup)
{
	char *kept;
	{
		_cleanup_free_ char *p = strdup("kept");
		_cleanup_free_ char *gone = strdup("gone");
		(void)gone;
		kept = TAKE_PTR(p);
		CHECK(p == NULL);
	}
	CHECK_STR(kept, "kept");
	free(kept);
}

/* --- list.h ---------------------------------------------------------------------------------- */

struct item {
	int n;
	struct list link;
};

static void fill(struct list *head, struct item *items, int n)
{
	list_init(head);
	for (int i = 0; i < n; i++) {
		items[i].n = i;
		list_insert(head, &items[i].link);
	}
}

/* The numbers in the list as digits: 2, 0, 1 is 201. */
static int digits(struct list *head)
{
	int n = 0;
	struct item *item;
	list_for_each(item, head, link)
		n = n * 10 + item->n;
	return n;
}

TEST(a_list_keeps_the_order_of_insertion)
{
	struct list head;
	struct item items[5];
	fill(&head, items, 5);
	CHECK_EQ(digits(&head), 1234);
	CHECK_EQ(list_first(&head, struct item, link)->n, 0);
	CHECK_EQ(list_last(&head, struct item, link)->n, 4);
}

TEST(an_empty_list_has_no_first_and_no_last)
{
	struct list head;
	struct item items[1];
	list_init(&head);
	CHECK(list_empty(&head));
	CHECK(list_first(&head, struct item, link) == NULL);
	CHECK(list_last(&head, struct item, link) == NULL);
	fill(&head, items, 1);
	CHECK(!list_empty(&head));
	list_remove(&items[0].link);
	CHECK(list_empty(&head));
}

TEST(a_second_remove_is_harmless)
{
	struct list head;
	struct item items[3];
	fill(&head, items, 3);
	list_remove(&items[1].link);
	list_remove(&items[1].link);
	CHECK_EQ(digits(&head), 2); /* 0, 2 */
	CHECK(list_empty(&items[1].link));
}

TEST(insert_puts_in_front_of_any_place)
{
	struct list head;
	struct item items[4];
	fill(&head, items, 3);
	items[3].n = 9;
	list_insert(&items[1].link, &items[3].link);
	CHECK_EQ(digits(&head), 912); /* 0, 9, 1, 2 */
}

TEST(the_entry_of_a_round_may_be_removed)
{
	struct list head;
	struct item items[6], *item, *next;
	fill(&head, items, 6);
	list_for_each_safe(item, next, &head, link)
		if (item->n % 2 == 0)
			list_remove(&item->link);
	CHECK_EQ(digits(&head), 135);
	list_for_each_safe(item, next, &head, link)
		list_remove(&item->link);
	CHECK(list_empty(&head));
}

/* --- clock.h --------------------------------------------------------------------------------- */

TEST(the_clock_does_not_go_back)
{
	uint64_t before = clock_ns();
	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_ns();
		CHECK(now >= before);
		before = now;
	}
}

TEST(nanoseconds_become_a_timespec)
{
	struct timespec t = clock_timespec(3 * NS_PER_S + 7);
	CHECK_EQ(t.tv_sec, 3);
	CHECK_EQ(t.tv_nsec, 7);
}

/* --- log.h ----------------------------------------------------------------------------------- */

/* What stderr got since log_begin(). */
static char logged[4096];
static int log_pipe[2];
static int real_stderr;

static void log_begin(void)
{
	CHECK(pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK) == 0);
	real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	CHECK(dup2(log_pipe[1], STDERR_FILENO) >= 0);
	unsetenv("JOURNAL_STREAM");
}

static const char *log_end(void)
{
	CHECK(dup2(real_stderr, STDERR_FILENO) >= 0);
	close(real_stderr);
	close(log_pipe[1]);
	ssize_t n = read(log_pipe[0], logged, sizeof(logged) - 1);
	logged[n > 0 ? n : 0] = 0;
	close(log_pipe[0]);
	return logged;
}

TEST(levels_above_the_chosen_one_are_silent)
{
	log_set_level(LOG_LEVEL_WARNING);
	CHECK_EQ(log_get_level(), LOG_LEVEL_WARNING);
	log_begin();
	log_error("an error");
	log_warning("a warning");
	log_info("an info");
	log_debug("a debug");
	const char *text = log_end();
	CHECK(strstr(text, "error   an error\n") && strstr(text, "warning a warning\n"));
	CHECK(!strstr(text, "info") && !strstr(text, "debug"));
}

TEST(a_line_of_the_log_is_one_line)
{
	log_begin();
	log_info("name=%s", "a\nclient=7 \033[31mred\x7f");
	const char *text = log_end();
	CHECK(strstr(text, "name=a?client=7 ?[31mred?\n"));
	CHECK(strchr(text, '\n') == text + strlen(text) - 1);
}

TEST(a_line_that_is_too_long_is_cut)
{
	char name[3000];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	log_begin();
	log_info("%s", name);
	const char *text = log_end();
	CHECK(strlen(text) > 1000 && strlen(text) < 1024);
	CHECK(text[strlen(text) - 1] == '\n');
}

TEST(logging_keeps_errno)
{
	log_begin();
	errno = ENOSPC;
	log_error("something");
	int after = errno;
	log_end();
	CHECK_EQ(after, ENOSPC);
}

TEST(the_journal_gets_its_prefix)
{
	log_begin();
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_warning("a warning");
	CHECK_STR(log_end(), "<4>a warning\n");
	unsetenv("JOURNAL_STREAM");
}

TEST(levels_have_names)
{
	CHECK_EQ(log_level_from_string("error"), LOG_LEVEL_ERROR);
	CHECK_EQ(log_level_from_string("warning"), LOG_LEVEL_WARNING);
	CHECK_EQ(log_level_from_string("info"), LOG_LEVEL_INFO);
	CHECK_EQ(log_level_from_string("debug"), LOG_LEVEL_DEBUG);
	CHECK_EQ(log_level_from_string("Info"), LOG_LEVEL_INVALID);
	CHECK_EQ(log_level_from_string(""), LOG_LEVEL_INVALID);
}
