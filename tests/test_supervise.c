/* The supervisor, with shells for children. Of a shell, $0 is which start it is: 0, 1, … */
#include "consumer/encoder/supervise.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "consumer/encoder/now.h"
#include "tests/test.h"

enum { SAID_MAX = 65536, ANSWER_S = 20, N_MAX = 3 };

static const char *const names[] = { "a", "b", "c" };

struct run {
	pid_t pid;
	char said_path[256];
	char said[SAID_MAX];
	int status;
	double seconds;
};

/* Short ones. */
static struct supervise_times times(void)
{
	return (struct supervise_times){
		.delay_ns = 20 * NS_PER_MS,
		.delay_max_ns = 100 * NS_PER_MS,
		.health_ns = 400 * NS_PER_MS,
		.grace_ns = 300 * NS_PER_MS,
	};
}

static void hear(int signo)
{
	const char *what = signo == SIGUSR1 ? "key\n" : signo == SIGINT ? "stop\n" : "ends\n";
	ssize_t ignored = write(STDERR_FILENO, what, strlen(what));
	(void)ignored;
	if (signo == SIGTERM)
		_exit(0);
}

/* What no shell can be: it may not listen to a signal that was ignored when it began. */
static void be_listener(void)
{
	signal(SIGUSR1, hear);
	signal(SIGTERM, hear);
	signal(SIGINT, hear);
	fprintf(stderr, "there\n");
	for (;;)
		pause();
}

static void execute(void *data, const struct supervise_start *start)
{
	const char *const *scripts = data;
	char number[16];
	snprintf(number, sizeof(number), "%u", start->number);
	if (strcmp(scripts[start->child], "listener") == 0)
		be_listener();
	if (chdir(test_tmpdir()) == 0)
		execl("/bin/sh", "sh", "-c", scripts[start->child], number, NULL);
}

/* A supervisor in a process of its own. error_fd -1: what it says is read at its end. */
static void begin_with(
	struct run *run, const char *const *scripts, struct supervise_times t, int error_fd)
{
	struct supervise_plan plan = {
		.program = "test",
		.name = names,
		.execute = execute,
		.data = (void *)scripts,
		.times = t,
	};
	while (scripts[plan.n])
		plan.n++;
	snprintf(run->said_path, sizeof(run->said_path), "%s/said", test_tmpdir());
	fflush(NULL);
	run->pid = fork();
	CHECK(run->pid >= 0);
	if (run->pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (error_fd < 0)
		error_fd = open(run->said_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	dup2(error_fd, STDERR_FILENO);
	_exit(supervise(&plan));
}

static void begin(struct run *run, const char *const *scripts)
{
	begin_with(run, scripts, times(), -1);
}

static const char *read_said(struct run *run)
{
	FILE *file = fopen(run->said_path, "re");
	CHECK(file);
	run->said[fread(run->said, 1, sizeof(run->said) - 1, file)] = 0;
	fclose(file);
	return run->said;
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
	nanosleep(&t, NULL);
}

static void await_text(struct run *run, const char *text)
{
	for (unsigned ms = 0; access(run->said_path, F_OK) < 0 || !strstr(read_said(run), text);
		ms += 5) {
		if (ms > ANSWER_S * 1000 * test_slowness())
			test_fail(__FILE__, __LINE__, "\"%s\" is not said:\n%s", text, run->said);
		sleep_ms(5);
	}
}

static int await_end(struct run *run)
{
	int status;
	for (unsigned ms = 0; waitpid(run->pid, &status, WNOHANG) == 0; ms += 5) {
		if (ms > ANSWER_S * 1000 * test_slowness())
			test_fail(__FILE__, __LINE__, "the supervisor does not end");
		sleep_ms(5);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void run_to_end(struct run *run, const char *const *scripts)
{
	uint64_t begin_ns = now_ns();
	begin(run, scripts);
	run->status = await_end(run);
	run->seconds = (double)(now_ns() - begin_ns) / NS_PER_S;
	read_said(run);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;
	for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

static void expect(const struct run *run, int status, const char *says)
{
	if (run->status != status || !strstr(run->said, says))
		test_fail(__FILE__, __LINE__, "exit status %d, not %d; \"%s\" not in:\n%s",
			run->status, status, says, run->said);
}

TEST(a_child_that_exits_with_0_is_complete)
{
	struct run run;
	run_to_end(&run, (const char *const[]){ "echo begins >&2", "exit 0", NULL });
	expect(&run, SUPERVISE_COMPLETE, "a: begins\n");
	CHECK_EQ(count(run.said, "begins"), 1);
}

TEST(a_child_that_dies_of_a_signal_is_started_again)
{
	struct run run;
	run_to_end(&run,
		(const char *const[]){
			"echo begins >&2; echo >&3; [ $0 -lt 3 ] || exit 0; kill -9 $$", NULL });
	expect(&run, SUPERVISE_COMPLETE, "test: a died of signal 9 (Killed)");
	CHECK_EQ(count(run.said, "begins"), 4);
}

TEST(the_delay_doubles_up_to_its_most)
{
	struct run run;
	run_to_end(&run, (const char *const[]){ "echo >&3; [ $0 -ge 5 ]", NULL });
	expect(&run, SUPERVISE_COMPLETE, "test: a ended with exit status 1");
	CHECK_EQ(count(run.said, "in 0.02 s"), 1);
	CHECK_EQ(count(run.said, "in 0.04 s"), 1);
	CHECK_EQ(count(run.said, "in 0.08 s"), 1);
	CHECK_EQ(count(run.said, "in 0.10 s"), 2);
	CHECK(run.seconds >= 0.34); /* and it was kept */
}

TEST(after_a_time_at_work_the_delay_is_the_first_again)
{
	struct run run;
	run_to_end(&run,
		(const char *const[]){ "echo >&3; [ $0 -ne 2 ] || sleep 0.5; [ $0 -ge 4 ]", NULL });
	CHECK_EQ(run.status, SUPERVISE_COMPLETE);
	CHECK_EQ(count(run.said, "in 0.02 s"), 2);
	CHECK_EQ(count(run.said, "in 0.04 s"), 2);
}

TEST(a_long_life_without_work_does_not_shorten_the_delay)
{
	struct run run;
	run_to_end(&run, (const char *const[]){ "[ $0 -ne 1 ] || sleep 0.5; [ $0 -ge 3 ]", NULL });
	CHECK_EQ(run.status, SUPERVISE_COMPLETE);
	CHECK_EQ(count(run.said, "in 0.02 s"), 1);
	CHECK_EQ(count(run.said, "in 0.08 s"), 1);
}

TEST(a_wrong_command_line_ends_all_at_once)
{
	struct run run;
	run_to_end(&run,
		(const char *const[]){ "echo what is that >&2; exit 2",
			"trap 'echo in good order >&2; exit 0' TERM; while :; do sleep 0.02; done",
			"trap '' TERM; while :; do sleep 0.02; done", NULL });
	expect(&run, SUPERVISE_USAGE, "a: what is that\n");
	CHECK(strstr(run.said, "again") == NULL && strstr(run.said, "failed") == NULL);
}

TEST(one_that_cannot_go_on_is_not_started_again_and_the_others_go_on)
{
	struct run run;
	run_to_end(&run,
		(const char *const[]){ "echo begins >&2; echo >&3; exit 3",
			"echo >&3; until grep -q 'a cannot' said; do sleep 0.02; done", NULL });
	expect(&run, SUPERVISE_FAILED, "test: a cannot go on: it is not started again\n");
	CHECK_EQ(count(run.said, "begins"), 1);
	CHECK(strstr(run.said, "test: a has failed\n") && !strstr(run.said, "b has failed"));
}

TEST(one_that_never_begins_is_given_up_and_the_others_go_on)
{
	struct run run;
	run_to_end(&run,
		(const char *const[]){ "echo begins >&2; exit 1",
			"echo >&3; while ! [ -e given-up ]; do sleep 0.02; done; echo went on >&2",
			"echo >&3; until grep -q 'given up' said; do sleep 0.02; done; "
			"touch given-up",
			NULL });
	expect(&run, SUPERVISE_FAILED, "at each of its 5 starts: it is given up\n");
	CHECK_EQ(count(run.said, "begins"), SUPERVISE_STARTS);
	CHECK(strstr(run.said, "b: went on\n"));
	CHECK(strstr(run.said, "test: a has failed\n") && !strstr(run.said, "b has failed"));
}

TEST(one_that_has_begun_once_is_never_given_up)
{
	struct run run;
	run_to_end(&run, (const char *const[]){ "[ $0 -gt 0 ] || echo >&3; [ $0 -ge 8 ]", NULL });
	CHECK_EQ(run.status, SUPERVISE_COMPLETE);
	CHECK_EQ(count(run.said, "again"), 8);
}

#define UNTIL_TERM(what) \
	"trap '" what "' TERM; echo >&3; echo there >&2; while :; do sleep 0.02; done"

TEST(signals_are_passed_on_and_an_end_in_good_order_is_complete)
{
	struct run run;
	begin(&run, (const char *const[]){ "listener", "listener", NULL });
	await_text(&run, "a: there");
	await_text(&run, "b: there");
	kill(run.pid, SIGUSR1);
	await_text(&run, "a: key");
	await_text(&run, "b: key");
	kill(run.pid, SIGTERM);
	CHECK_EQ(await_end(&run), SUPERVISE_COMPLETE);
	CHECK_EQ(count(read_said(&run), "ends"), 2);
}

TEST(a_key_signal_does_not_end_one_that_does_not_listen_yet)
{
	struct run run;
	begin(&run, (const char *const[]){
			    "echo there >&2; while ! [ -e go ]; do sleep 0.02; done", NULL });
	await_text(&run, "a: there");
	kill(run.pid, SIGUSR1);
	sleep_ms(50);
	char path[256];
	snprintf(path, sizeof(path), "%s/go", test_tmpdir());
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK_EQ(await_end(&run), SUPERVISE_COMPLETE);
}

/* A terminal sends its Ctrl-C to all of a process group. */
TEST(a_ctrl_c_reaches_a_child_once)
{
	struct run run;
	begin(&run, (const char *const[]){ "listener", NULL });
	await_text(&run, "a: there");
	kill(-run.pid, SIGINT);
	await_text(&run, "a: stop");
	sleep_ms(100); /* for the other one */
	kill(run.pid, SIGTERM);
	CHECK_EQ(await_end(&run), SUPERVISE_COMPLETE);
	CHECK_EQ(count(read_said(&run), "stop"), 1);
}

TEST(under_nohup_what_dies_after_a_hangup_is_started_again)
{
	struct run run;
	signal(SIGHUP, SIG_IGN);
	begin(&run, (const char *const[]){ "echo >&3; echo there >&2; [ $0 -gt 0 ] && exit 0; "
					   "while ! [ -e die ]; do sleep 0.02; done; exit 1",
			    NULL });
	await_text(&run, "a: there");
	kill(run.pid, SIGHUP);
	char path[256];
	snprintf(path, sizeof(path), "%s/die", test_tmpdir());
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK_EQ(await_end(&run), SUPERVISE_COMPLETE);
	signal(SIGHUP, SIG_DFL);
}

TEST(a_death_while_all_end_is_told_and_not_mended)
{
	struct run run;
	begin(&run, (const char *const[]){ UNTIL_TERM("exit 1"), UNTIL_TERM("exit 0"), NULL });
	await_text(&run, "a: there");
	await_text(&run, "b: there");
	kill(run.pid, SIGTERM);
	run.status = await_end(&run);
	read_said(&run);
	expect(&run, SUPERVISE_FAILED, "test: a ended with exit status 1\n");
	CHECK(!strstr(run.said, "again") && !strstr(run.said, "b has failed"));
}

TEST(one_that_was_not_running_at_the_end_has_failed)
{
	struct run run;
	struct supervise_times long_delay = times();
	long_delay.delay_ns = long_delay.delay_max_ns = 60 * NS_PER_S;
	begin_with(&run, (const char *const[]){ "exit 1", NULL }, long_delay, -1);
	await_text(&run, "again in 60.00 s");
	kill(run.pid, SIGINT);
	run.status = await_end(&run);
	read_said(&run);
	expect(&run, SUPERVISE_FAILED, "a was not running at the end");
}

#define DEAF "trap '' TERM INT; echo there >&2; while :; do sleep 0.02; done"

TEST(one_that_does_not_end_is_killed_some_time_after_the_second_signal)
{
	struct run run;
	begin(&run, (const char *const[]){ DEAF, NULL });
	await_text(&run, "a: there");
	kill(run.pid, SIGTERM);
	sleep_ms(400); /* longer than the grace */
	CHECK(waitpid(run.pid, NULL, WNOHANG) == 0);
	kill(run.pid, SIGTERM);
	run.status = await_end(&run);
	read_said(&run);
	expect(&run, SUPERVISE_FAILED, "a died of signal 9 (Killed)");
}

TEST(a_third_signal_kills_at_once)
{
	struct run run;
	struct supervise_times patient = times();
	patient.grace_ns = 3600 * NS_PER_S;
	begin_with(&run, (const char *const[]){ DEAF, NULL }, patient, -1);
	await_text(&run, "a: there");
	for (unsigned i = 0; i < 3; i++) {
		kill(run.pid, SIGTERM);
		sleep_ms(100); /* two at once would be one */
	}
	CHECK_EQ(await_end(&run), SUPERVISE_FAILED);
}

/* The pid that a script wrote into a file. */
static pid_t pid_in(const char *name)
{
	char path[256];
	int pid = 0;
	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	FILE *file = fopen(path, "re");
	CHECK(file && fscanf(file, "%d", &pid) == 1);
	fclose(file);
	return pid;
}

TEST(children_do_not_outlive_a_supervisor_that_is_killed)
{
	struct run run;
	int status;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	begin(&run, (const char *const[]){ "echo $$ >pid; " UNTIL_TERM("exit 7"), NULL });
	await_text(&run, "a: there");
	pid_t child = pid_in("pid");
	kill(run.pid, SIGKILL);
	CHECK_EQ(await_end(&run), -SIGKILL);
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	while (waitpid(-1, NULL, 0) > 0) /* the last sleep of the shell */
		;
}

TEST(one_that_floods_stderr_keeps_nobody_from_being_heard)
{
	struct run run;
	begin(&run, (const char *const[]){ "trap 'exit 0' TERM; while :; do echo noise >&2; done",
			    "sleep 0.2; echo I am here >&2", NULL });
	for (unsigned ms = 0; ms < ANSWER_S * 1000 * test_slowness(); ms += 20) {
		char command[512];
		snprintf(command, sizeof(command), "grep -q '^b: I am here' %s", run.said_path);
		if (system(command) == 0)
			break;
		sleep_ms(20);
	}
	kill(run.pid, SIGTERM);
	CHECK_EQ(await_end(&run), SUPERVISE_COMPLETE);
	CHECK(strncmp(read_said(&run), "a: noise\na: noise\n", 18) == 0);
}

TEST(a_reader_that_does_not_read_stops_nobody)
{
	int fds[2];
	struct run run;
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	begin_with(&run,
		(const char *const[]){ "i=0; while [ $i -lt 20000 ]; do echo much noise >&2; "
				       "i=$((i + 1)); done; exit 0",
			NULL },
		times(), fds[1]);
	CHECK_EQ(await_end(&run), SUPERVISE_COMPLETE);
	close(fds[0]);
	close(fds[1]);
}

static void execute_nothing(void *data, const struct supervise_start *start)
{
	execl("/nowhere/no-program", "no-program", NULL);
}

TEST(a_program_that_cannot_be_run_is_given_up)
{
	struct supervise_plan plan = { .program = "test",
		.n = 1,
		.name = names,
		.execute = execute_nothing,
		.times = times() };
	CHECK_EQ(supervise(&plan), SUPERVISE_FAILED);
}

static void execute_silently(void *data, const struct supervise_start *start)
{
	execl("/bin/sh", "sh", "-c", "[ $0 -gt 0 ]", start->number ? "1" : "0", NULL);
}

TEST(one_child_alone_needs_no_name)
{
	struct supervise_plan plan = {
		.program = "test", .n = 1, .execute = execute_silently, .times = times()
	};
	CHECK_EQ(supervise(&plan), SUPERVISE_COMPLETE);
}
