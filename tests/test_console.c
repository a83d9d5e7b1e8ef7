/* What several children say on one stderr. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/fd.h"
#include "consumer/encoder/console.h"
#include "tests/test.h"

enum { HEARD_MAX = 65536 };

static const char *const names[] = { "720p", "360p" };

static void feed(struct console *c, unsigned i, const char *text)
{
	console_feed(c, i, text, strlen(text));
}

/* All that waits on a descriptor. */
static const char *heard(int fd)
{
	static char text[HEARD_MAX];
	ssize_t n = 0, more;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((more = read(fd, text + n, sizeof(text) - 1 - (size_t)n)) > 0)
		n += more;
	text[n] = 0;
	return text;
}

TEST(each_line_begins_with_the_name_of_who_said_it)
{
	int fds[2];
	struct console c;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	console_init(&c, fds[1], 2, names);
	feed(&c, 0, "one\ntw");
	feed(&c, 1, "three\r\n\n");
	feed(&c, 0, "o\nunfinished");
	console_end(&c, 0);
	console_say(&c, "%d are there", 2);
	CHECK_STR(heard(fds[0]),
		"720p: one\n360p: three\n720p: two\n720p: unfinished\n2 are there\n");
	close(fds[0]);
	close(fds[1]);
}

TEST(a_line_without_end_becomes_several)
{
	int fds[2];
	struct console c;
	char flood[2 * CONSOLE_LINE_MAX + 10];
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	console_init(&c, fds[1], 2, names);
	memset(flood, 'x', sizeof(flood));
	console_feed(&c, 0, flood, sizeof(flood));
	console_end(&c, 0);
	CHECK_EQ(strlen(heard(fds[0])), sizeof(flood) + 3 * strlen("720p: \n"));
	close(fds[0]);
	close(fds[1]);
}

TEST(what_would_move_the_cursor_is_left_out)
{
	int fds[2];
	struct console c;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	console_init(&c, fds[1], 2, names);
	feed(&c, 0, "\r\033[K\033[31mred\033[0m \a\033]0;title\n\033[");
	console_end(&c, 0);
	CHECK_STR(heard(fds[0]), "720p: red ??]0;title\n");
	close(fds[0]);
	close(fds[1]);
}

TEST(a_reader_that_does_not_read_loses_lines_and_is_told)
{
	int fds[2];
	struct console c;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	console_init(&c, fds[1], 2, names);
	for (unsigned i = 0; i < 100000; i++)
		feed(&c, 0, "one of very many lines\n");
	CHECK(c.lost > 0);
	CHECK(strncmp(heard(fds[0]), "720p: one of", 12) == 0);
	unsigned lost = c.lost;
	char note[64];
	snprintf(note, sizeof(note), "360p: room\n(%u lines were lost here)\n", lost);
	feed(&c, 1, "room\n");
	CHECK_STR(heard(fds[0]), note);
	close(fds[0]);
	close(fds[1]);
}

TEST(off_a_terminal_a_status_is_not_shown)
{
	int fds[2];
	struct console c;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	console_init(&c, fds[1], 2, names);
	feed(&c, 0, "\r\033[Kframe 1");
	console_draw(&c);
	feed(&c, 0, "\r\033[Kdone\n");
	CHECK_STR(heard(fds[0]), "720p: done\n");
	close(fds[0]);
	close(fds[1]);
}

static void open_terminal(int *master, int *terminal)
{
	struct termios mode;
	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(*master >= 0 && grantpt(*master) == 0 && unlockpt(*master) == 0);
	*terminal = open(ptsname(*master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(*terminal >= 0 && tcgetattr(*terminal, &mode) == 0);
	cfmakeraw(&mode);
	CHECK(tcsetattr(*terminal, TCSANOW, &mode) == 0);
}

TEST(on_a_terminal_each_has_a_row_below_the_lines)
{
	int master, terminal;
	struct console c;
	open_terminal(&master, &terminal);
	console_init(&c, terminal, 2, names);
	feed(&c, 0, "\r\033[Kframe 1");
	feed(&c, 1, "frame 2\r");
	console_draw(&c);
	CHECK_STR(heard(master), "\r\033[J720p: frame 1\n360p: frame 2\n\033[2A");
	console_draw(&c);
	CHECK_STR(heard(master), "");
	feed(&c, 0, "\r\033[Kframe 3");
	console_say(&c, "a line");
	console_draw(&c);
	CHECK_STR(heard(master), "\r\033[Ja line\n\r\033[J720p: frame 3\n360p: frame 2\n\033[2A");
	feed(&c, 0, "\r\033[Kdone\n");
	console_end(&c, 1);
	console_draw(&c);
	CHECK_STR(heard(master), "\r\033[J720p: done\n\r\033[J");
	close(terminal);
	close(master);
}

TEST(a_row_is_no_wider_than_the_terminal)
{
	int master, terminal;
	struct console c;
	open_terminal(&master, &terminal);
	console_init(&c, terminal, 2, names);
	feed(&c, 0, "\r");
	for (unsigned i = 0; i < 200; i++)
		feed(&c, 0, "ä");
	console_draw(&c);
	CHECK_EQ(strlen(heard(master)), strlen("\r\033[J720p: \n\033[1A") + (79 - 6) * strlen("ä"));
	close(terminal);
	close(master);
}
