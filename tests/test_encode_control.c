/* The control socket of sluice-encode: what clients may say, and what hostile ones cannot do. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/fd.h"
#include "consumer/encoder/control.h"
#include "tests/test.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* What the commands did. */
static struct {
	unsigned keys, stats, quits;
	int64_t bit_rate;
} done;

static int on_command(void *data, enum control_command command, int64_t bit_rate,
	char answer[CONTROL_ANSWER_MAX], struct problem *problem)
{
	done.keys += command == CONTROL_KEY;
	done.stats += command == CONTROL_STATS;
	done.quits += command == CONTROL_QUIT;
	if (command == CONTROL_STATS)
		snprintf(answer, CONTROL_ANSWER_MAX, "{ \"frames\": 7 }");
	if (command == CONTROL_BIT_RATE && bit_rate == 666000)
		return problem_set(problem, -EOPNOTSUPP, "this one cannot");
	if (command == CONTROL_BIT_RATE)
		done.bit_rate = bit_rate;
	return 0;
}

static char *socket_path(void)
{
	static char path[100];
	snprintf(path, sizeof(path), "%s/c", test_tmpdir());
	return path;
}

static struct control *create(void)
{
	struct control *control = NULL;
	struct problem problem;
	if (control_create(&control, socket_path(), on_command, NULL, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	return control;
}

static int join(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path());
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

static void say(int fd, const char *text)
{
	CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Everything that was answered: "" nothing; NULL: closed, without an answer. [lend] */
static const char *heard(int fd)
{
	static char text[8192];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return NULL;
	CHECK(n > 0 || errno == EAGAIN);
	text[n > 0 ? n : 0] = 0;
	return text;
}

static void turns(struct control *control, unsigned n)
{
	while (n-- > 0)
		control_poll(control);
}

static const struct {
	const char *line, *answer;
} rows[] = {
	{ "keyframe\n", "ok\n" },
	{ "keyframe\r\n", "ok\n" },
	{ "bitrate 4M\n", "ok\n" },
	{ "bitrate 666k\n", "error: this one cannot\n" },
	{ "bitrate 0\n", "error: bitrate takes" },
	{ "bitrate nan\n", "error: bitrate takes" },
	{ "bitrate 3G\n", "error: bitrate takes" },
	{ "bitrate\n", "error: no such command" },
	{ "stats\n", "{ \"frames\": 7 }\n" },
	{ "quit\n", "ok\n" },
	{ "help\n", "ok: keyframe, bitrate" },
	{ "\n", "error: no such command" },
	{ "keyframe now\n", "error: no such command" },
	{ "stats\nkeyframe\n", "{ \"frames\": 7 }\nok\n" },
	{ "%n%s\x1b[2J\n", "error: no such command" },
};

TEST(each_command_has_one_line_of_answer)
{
	struct control *control = create();
	int fd = join();
	for (size_t i = 0; i < N(rows); i++) {
		say(fd, rows[i].line);
		turns(control, 2);
		const char *text = heard(fd);
		CHECK_ROW(text && strncmp(text, rows[i].answer, strlen(rows[i].answer)) == 0,
			rows[i].line);
		CHECK_ROW(text[strlen(text) - 1] == '\n', rows[i].line);
	}
	CHECK(done.keys == 3 && done.stats == 2 && done.quits == 1 && done.bit_rate == 4000000);
	close(fd);
	control_destroy(control);
	CHECK(access(socket_path(), F_OK) < 0);
}

TEST(a_line_may_come_byte_by_byte_and_the_last_one_without_an_end)
{
	struct control *control = create();
	int fd = join();
	for (const char *c = "keyframe"; *c; c++) {
		say(fd, (char[]){ *c, 0 });
		turns(control, 2);
		CHECK_STR(heard(fd), "");
	}
	shutdown(fd, SHUT_WR);
	turns(control, 2);
	CHECK_STR(heard(fd), "ok\n");
	CHECK(!heard(fd));
	CHECK_EQ(done.keys, 1);
	close(fd);
	control_destroy(control);
}

TEST(a_turn_has_eight_commands_of_a_client_and_all_have_their_turn)
{
	struct control *control = create();
	int fd = join();
	for (unsigned i = 0; i < 20; i++)
		say(fd, "keyframe\n");
	shutdown(fd, SHUT_WR);
	turns(control, 2); /* the first one accepts */
	CHECK_EQ(done.keys, 8);
	turns(control, 1);
	CHECK_EQ(done.keys, 16);
	turns(control, 4);
	CHECK_EQ(done.keys, 20);
	heard(fd);
	CHECK(!heard(fd));
	close(fd);
	control_destroy(control);
}

TEST(a_line_that_is_too_long_ends_the_connection)
{
	char line[CONTROL_LINE_MAX + 1];
	struct control *control = create();
	memset(line, 'x', sizeof(line));
	line[CONTROL_LINE_MAX - 1] = '\n';
	line[CONTROL_LINE_MAX] = 0;
	int fd = join();
	say(fd, line); /* the longest one */
	turns(control, 2);
	CHECK(strstr(heard(fd), "no such command"));
	line[CONTROL_LINE_MAX - 1] = 'x';
	say(fd, line);
	turns(control, 2);
	CHECK(strstr(heard(fd), "at most 255 bytes"));
	CHECK(!heard(fd));
	close(fd);
	control_destroy(control);
}

TEST(one_that_floods_and_never_reads_is_thrown_out_and_nobody_waits)
{
	struct control *control = create();
	int flood = join(), other;
	const char lines[] = "stats\nstats\nstats\nstats\nstats\nstats\nstats\nstats\n";
	bool is_out = false;
	for (unsigned i = 0; i < 100000 && !is_out; i++) {
		is_out = send(flood, lines, sizeof(lines) - 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN;
		turns(control, 1);
	}
	CHECK(is_out);
	other = join();
	say(other, "keyframe\n");
	turns(control, 2);
	CHECK_STR(heard(other), "ok\n");
	close(flood);
	close(other);
	control_destroy(control);
}

TEST(clients_that_say_nothing_make_room_for_others)
{
	struct control *control = create();
	int idle[3 * CONTROL_CLIENTS_MAX];
	int busy = join();
	turns(control, 1);
	for (size_t i = 0; i < N(idle); i++) {
		idle[i] = join();
		say(busy, "help\n");
		turns(control, 3);
		CHECK(strstr(heard(busy), "ok: keyframe"));
	}
	CHECK(!heard(idle[0]));
	CHECK_STR(heard(idle[N(idle) - 1]), "");
	for (size_t i = 0; i < N(idle); i++)
		close(idle[i]);
	close(busy);
	control_destroy(control);
}

static unsigned inherited_by_children(void)
{
	unsigned n = 0;
	for (int i = 0; i < 64; i++)
		n += fcntl(i, F_GETFD) >= 0 && !(fcntl(i, F_GETFD) & FD_CLOEXEC);
	return n;
}

TEST(the_socket_is_its_owners_and_closed_in_children)
{
	struct stat st;
	unsigned before = inherited_by_children();
	struct control *control = create();
	CHECK(stat(socket_path(), &st) == 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	int fd = join();
	turns(control, 2);
	CHECK_EQ(inherited_by_children(), before);
	close(fd);
	control_destroy(control);
}

TEST(a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_is_not)
{
	struct problem problem;
	struct control *control = create(), *second = NULL;
	CHECK_EQ(control_create(&second, socket_path(), on_command, NULL, &problem), -EADDRINUSE);
	CHECK(strstr(problem.text, "another process"));
	control_poll(control);
	/* as if it had been killed */
	char kept[120];
	snprintf(kept, sizeof(kept), "%s.kept", socket_path());
	CHECK(link(socket_path(), kept) == 0);
	control_destroy(control);
	CHECK(rename(kept, socket_path()) == 0);
	control = create();
	control_destroy(control);
}

TEST(a_place_where_no_socket_can_be_is_an_error)
{
	char path[256];
	struct problem problem;
	struct control *control = NULL;
	snprintf(path, sizeof(path), "%s/no/c", test_tmpdir());
	CHECK_EQ(control_create(&control, path, on_command, NULL, &problem), -ENOENT);
	memset(path, 'p', 200);
	path[200] = 0;
	CHECK_EQ(control_create(&control, path, on_command, NULL, &problem), -ENAMETOOLONG);
	snprintf(path, sizeof(path), "%s/file", test_tmpdir());
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK_EQ(control_create(&control, path, on_command, NULL, &problem), -EEXIST);
	CHECK(access(path, F_OK) == 0);
}

TEST(a_signal_is_a_key_frame)
{
	struct problem problem;
	struct control *control = NULL;
	CHECK_EQ(control_install(), 0);
	CHECK_EQ(control_create(&control, NULL, on_command, NULL, &problem), 0);
	turns(control, 3);
	CHECK_EQ(done.keys, 0);
	raise(SIGUSR1);
	turns(control, 3);
	CHECK_EQ(done.keys, 1);
	control_destroy(control);
}

TEST(telling_is_answered_or_says_why_not)
{
	struct problem problem;
	CHECK_EQ(control_tell(socket_path(), "stats", &problem), -ENOENT);
	CHECK(strstr(problem.text, "no sluice-encode listens"));
	struct control *control = create();
	pid_t pid = fork();
	if (pid == 0) {
		bool ok = control_tell(socket_path(), "stats", &problem) == 0 &&
			  control_tell(socket_path(), "bitrate 666k", &problem) == -EINVAL &&
			  strcmp(problem.text, "this one cannot") == 0;
		_exit(!ok);
	}
	int status;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		turns(control, 1);
		usleep(1000);
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK_EQ(done.stats, 1);
	control_destroy(control);
}
