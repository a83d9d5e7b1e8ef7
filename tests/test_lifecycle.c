/*
 * The broker's own life as its users meet it: start, reload, end, kill, start again.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/e2e.h"
#include "tests/test.h"

static const char *const options[] = { "--source", "test=pattern:320x240@30", "--slots", "12",
	NULL };

/* Run a broker that is expected to refuse to start: its exit status, its first line in `said`. */
static int run_to_its_end(const char *const *argv, char *said, size_t size)
{
	int out[2];
	CHECK(pipe2(out, O_CLOEXEC) == 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(10); /* it must end by itself */
		dup2(out[1], STDERR_FILENO);
		execv(e2e_broker_path(), (char *const *)argv);
		_exit(127);
	}
	close(out[1]);
	FILE *f = fdopen(out[0], "r");
	if (!fgets(said, (int)size, f))
		said[0] = 0;
	fclose(f);
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_second_broker_on_the_same_socket_says_so_and_ends)
{
	struct broker_process b;
	char said[512];
	broker_start(&b, options);
	const char *const argv[] = { "sluice-broker", "--socket", b.socket, NULL };
	CHECK_EQ(run_to_its_end(argv, said, sizeof(said)), 1);
	CHECK(strstr(said, "a broker is running on"));
	CHECK(strstr(said, "--socket"));
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_socket_left_by_a_killed_broker_is_replaced)
{
	struct broker_process b;
	struct healthy h;
	struct stat st;
	broker_start(&b, options);
	broker_kill(&b);
	CHECK(stat(b.socket, &st) == 0); /* it is still there */
	broker_restart(&b, options);
	healthy_start(&h, &b, &healthy_default);
	sleep_ms(700);
	CHECK(healthy_finish(&h).frames > 5);
	CHECK_EQ(broker_stop(&b), 0);
	CHECK(stat(b.socket, &st) < 0); /* a broker that ends takes it away */
}

TEST(what_is_wrong_with_the_socket_is_said)
{
	char said[512], too_long[256], missing[200], file[200];
	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[0] = '/';
	too_long[sizeof(too_long) - 1] = 0;
	snprintf(missing, sizeof(missing), "%s/no/such/dir/s", test_tmpdir());
	snprintf(file, sizeof(file), "%s/file", test_tmpdir());
	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	const struct {
		const char *path;
		const char *expected;
	} rows[] = {
		{ too_long, "bytes" },
		{ missing, "No such file or directory" },
		{ file, "is no socket" },
	};
	for (int i = 0; i < 3; i++) {
		const char *const argv[] = { "sluice-broker", "--socket", rows[i].path, NULL };
		CHECK_ROW(run_to_its_end(argv, said, sizeof(said)) > 0, rows[i].path);
		CHECK_ROW(strstr(said, rows[i].expected), said);
	}
}

TEST(clients_are_told_that_the_broker_ends)
{
	struct broker_process b;
	struct healthy h;
	struct raw raw;
	broker_start(&b, options);
	healthy_start(&h, &b, &healthy_default);
	raw_connect(&raw, &b);
	raw_hello(&raw);
	sleep_ms(700);
	CHECK_EQ(broker_stop(&b), 0);
	raw_expect_bye(&raw, SLUICE__ERROR_CODE__ERROR_SHUTDOWN);
	raw_close(&raw);
	struct healthy_report r = healthy_await(&h);
	CHECK_EQ(r.error_code, SLUICE_ERROR_SHUTDOWN);
	CHECK_EQ(r.result, -ECONNRESET);
	CHECK_EQ(r.bad, 0);
	CHECK(r.frames > 5);
}

TEST(the_broker_ends_within_two_seconds_though_a_client_stays)
{
	struct broker_process b;
	struct raw raw;
	broker_start(&b, options);
	raw_connect(&raw, &b);
	raw_hello(&raw);
	kill(b.pid, SIGTERM);
	int status = 0;
	for (unsigned waited = 0; waited < 2000 * test_slowness(); waited += 20) {
		if (waitpid(b.pid, &status, WNOHANG) == b.pid)
			break;
		sleep_ms(20);
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	raw_close(&raw);
}

TEST(a_client_of_a_killed_broker_gets_an_error)
{
	struct broker_process b;
	struct healthy h;
	broker_start(&b, options);
	healthy_start(&h, &b, &healthy_default);
	sleep_ms(700);
	broker_kill(&b);
	struct healthy_report r = healthy_await(&h);
	CHECK_EQ(r.result, -ECONNRESET);
	CHECK_EQ(r.bad, 0);
	CHECK(r.frames > 5);
}

TEST(a_client_that_reconnects_goes_on_with_the_next_broker)
{
	struct broker_process b;
	struct healthy h;
	struct healthy_options reconnect = healthy_default;
	reconnect.flags = SLUICE_RECONNECT;
	broker_start(&b, options);
	healthy_start(&h, &b, &reconnect);
	sleep_ms(700);
	broker_kill(&b);
	sleep_ms(300);
	broker_restart(&b, options);
	sleep_ms(2500);
	struct healthy_report r = healthy_finish(&h);
	CHECK_EQ(r.result, 0);
	CHECK_EQ(r.bad, 0);
	CHECK(r.frames > 40); /* some 20 before, some 60 after */
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(the_session_changes_with_each_start)
{
	struct broker_process b;
	uint64_t session[2];
	for (int i = 0; i < 2; i++) {
		struct raw raw;
		broker_start(&b, options);
		raw_connect(&raw, &b);
		raw_hello(&raw);
		session[i] = raw.packet->welcome->session;
		raw_close(&raw);
		CHECK_EQ(broker_stop(&b), 0);
	}
	CHECK(session[0] != session[1]);
}

/* --- reload ----------------------------------------------------------------------------------- */

static void write_config(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	CHECK(f && fputs(text, f) >= 0);
	fclose(f);
}

static void reload(const struct broker_process *b, unsigned times, const char *answer)
{
	kill(b->pid, SIGHUP);
	for (unsigned waited = 0; waited < 5000 * test_slowness(); waited += 10) {
		if (broker_log_count(b, answer) >= times)
			return;
		sleep_ms(10);
	}
	test_fail(__FILE__, __LINE__, "the broker does not say \"%s\"", answer);
}

TEST(a_reload_adds_and_removes_sources_and_leaves_the_others_alone)
{
	struct broker_process b;
	struct healthy h;
	struct raw raw, converted;
	char path[200];
	snprintf(path, sizeof(path), "%s/conf", test_tmpdir());
	write_config(path, "[broker]\nslots = 12\n[sources]\ntest = pattern:320x240@30\n"
			   "old = pattern:64x64@10\n");
	const char *const with_config[] = { "--config", path, NULL };
	broker_start(&b, with_config);
	healthy_start(&h, &b, &healthy_default);

	Sluice__Subscribe request = SLUICE__SUBSCRIBE__INIT;
	raw_connect(&raw, &b);
	raw_hello(&raw);
	request.stream = (char *)"old";
	raw_subscribe_with(&raw, &request);
	raw_expect(&raw, SLUICE__PACKET__BODY_GENERATION);
	request.width = 32;
	raw_connect(&converted, &b);
	raw_hello(&converted);
	raw_subscribe_with(&converted, &request);
	raw_expect(&converted, SLUICE__PACKET__BODY_GENERATION);
	request.width = 0;
	sleep_ms(500);

	write_config(path, "[broker]\nslots = 12\n[sources]\ntest = pattern:320x240@30\n"
			   "new = pattern:64x64@10\n");
	reload(&b, 1, "configuration read again");
	raw_expect(&raw, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(raw.packet->ended->code, SLUICE__ERROR_CODE__ERROR_STREAM_GONE);
	raw_expect(&converted, SLUICE__PACKET__BODY_ENDED);
	CHECK_EQ(converted.packet->ended->code, SLUICE__ERROR_CODE__ERROR_STREAM_GONE);
	raw_close(&converted);
	request.stream = (char *)"new";
	raw_subscribe_with(&raw, &request);
	raw_expect(&raw, SLUICE__PACKET__BODY_GENERATION);
	raw_close(&raw);

	/* nonsense changes nothing */
	write_config(path, "[broker]\nslots = many\n");
	reload(&b, 1, "configuration not read again");
	sleep_ms(500);
	struct healthy_report r = healthy_finish(&h);
	CHECK_EQ(r.result, 0);
	CHECK_EQ(r.gaps, 0);
	CHECK_EQ(r.bad, 0);
	CHECK(r.frames > 15);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_reload_takes_new_limits_slots_and_memory)
{
	struct broker_process b;
	struct raw raw, second;
	char path[200];
	snprintf(path, sizeof(path), "%s/conf", test_tmpdir());
	write_config(path, "[broker]\nmemory = 1M\n[sources]\ntest = pattern:640x480@10\n");
	const char *const with_config[] = { "--config", path, NULL };
	broker_start(&b, with_config);
	CHECK_EQ(broker_log_count(&b, "no memory for BGRx 640x480"), 1);

	write_config(path, "[broker]\nmemory = 64M\nslots = 5\n[limits]\nclients = 1\n"
			   "[sources]\nnew = pattern:640x480@10\n");
	reload(&b, 1, "configuration read again");
	Sluice__Subscribe request = SLUICE__SUBSCRIBE__INIT;
	request.stream = (char *)"new";
	raw_connect(&raw, &b);
	raw_hello(&raw);
	raw_subscribe_with(&raw, &request);
	raw_expect(&raw, SLUICE__PACKET__BODY_GENERATION);
	CHECK_EQ(raw.packet->generation->slots, 5);
	raw_connect(&second, &b);
	raw_expect_bye(&second, SLUICE__ERROR_CODE__ERROR_LIMIT);
	raw_close(&second);

	/* less than is used: what runs stays, a new one is refused */
	write_config(path, "[broker]\nmemory = 1M\nslots = 5\n[sources]\n"
			   "new = pattern:640x480@10\nmore = pattern:320x240@10\n");
	reload(&b, 2, "configuration read again");
	CHECK_EQ(broker_log_count(&b, "no memory for BGRx 320x240"), 1);
	raw_close(&raw);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_configuration_that_cannot_be_used_is_said_with_its_line)
{
	char said[512], path[200];
	snprintf(path, sizeof(path), "%s/conf", test_tmpdir());
	write_config(path, "[limits]\nclients = 12\nhold-deadline = soon\n");
	const char *const argv[] = { "sluice-broker", "--config", path, NULL };
	CHECK_EQ(run_to_its_end(argv, said, sizeof(said)), 2);
	CHECK(strstr(said, ":3: hold-deadline is \"soon\""));
}

#ifdef HAVE_PIPEWIRE
TEST(a_broker_without_pipewire_lives_on_and_says_what_it_waits_for)
{
	struct broker_process b;
	struct raw raw;
	static const char *const with_desktop[] = { "--source", "test=pattern:320x240@30",
		"--source", "desktop=pipewire:nobody", NULL };
	setenv("XDG_RUNTIME_DIR", test_tmpdir(), 1);
	broker_start(&b, with_desktop);
	Sluice__ListStreams list = SLUICE__LIST_STREAMS__INIT;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	raw_connect(&raw, &b);
	raw_hello(&raw);
	sleep_ms(300);
	packet.body_case = SLUICE__PACKET__BODY_LIST_STREAMS;
	packet.list_streams = &list;
	CHECK_EQ(raw_send(&raw, &packet), 0);
	raw_expect(&raw, SLUICE__PACKET__BODY_STREAMS);
	CHECK_EQ(raw.packet->streams->n_streams, 2);
	const Sluice__StreamInfo *desktop = raw.packet->streams->streams[1];
	CHECK_STR(desktop->name, "desktop");
	CHECK_EQ(desktop->state, SLUICE__STREAM_STATE__STREAM_WAITING);
	CHECK(strstr(desktop->text, "PipeWire"));
	CHECK_EQ(raw.packet->streams->streams[0]->state, SLUICE__STREAM_STATE__STREAM_LIVE);
	raw_close(&raw);
	CHECK_EQ(broker_stop(&b), 0);
}
#endif
