/* The socket that clients connect to: the lock, stale sockets, and the one that systemd passes. */
#include "tests/test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/socket.h"

static char path[128], error[512];

static const char *in_tmpdir(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

static int init(struct listen_socket *s, const char *where)
{
	error[0] = 0;
	int r = listen_socket_init(s, where, 0600, error, sizeof(error));
	CHECK_ROW((r < 0) == (error[0] != 0), where);
	return r;
}

static int try_connect(const char *where)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", where);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

TEST(a_socket_is_made_and_removed_again)
{
	struct listen_socket s;
	struct stat st;
	CHECK_EQ(init(&s, in_tmpdir("sluice-0")), 0);
	CHECK_EQ(try_connect(path), 0);
	CHECK(lstat(path, &st) == 0 && S_ISSOCK(st.st_mode));
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_STR(s.path, path);
	CHECK(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(s.lock_fd, F_GETFD) & FD_CLOEXEC);
	listen_socket_finish(&s);
	CHECK(lstat(path, &st) < 0 && errno == ENOENT);
	CHECK(s.fd == -EBADF && s.lock_fd == -EBADF);
	listen_socket_finish(&s);
	listen_socket_finish(&(struct listen_socket){ .fd = -EBADF, .lock_fd = -EBADF });
}

TEST(the_mode_is_the_one_that_was_asked_for)
{
	struct listen_socket s;
	struct stat st;
	mode_t before = umask(022);
	CHECK_EQ(listen_socket_init(&s, in_tmpdir("s"), 0666, error, sizeof(error)), 0);
	CHECK(lstat(path, &st) == 0);
	CHECK_EQ(st.st_mode & 0777, 0666);
	CHECK_EQ(umask(before), 022); /* put back */
	listen_socket_finish(&s);
}

TEST(a_second_broker_is_refused_and_the_first_one_stays)
{
	struct listen_socket first, second = { .fd = 42 };
	CHECK_EQ(init(&first, in_tmpdir("sluice-0")), 0);
	CHECK_EQ(init(&second, path), -EADDRINUSE);
	CHECK(strstr(error, "a broker is running on") && strstr(error, "--socket"));
	CHECK_EQ(second.fd, 42);
	CHECK_EQ(try_connect(path), 0);
	listen_socket_finish(&first);
	CHECK_EQ(init(&second, path), 0);
	listen_socket_finish(&second);
}

TEST(the_socket_of_a_dead_broker_is_replaced)
{
	struct listen_socket dead, s;
	CHECK_EQ(init(&dead, in_tmpdir("sluice-0")), 0);
	/* a crash: descriptors are closed, the socket stays */
	close(dead.fd);
	close(dead.lock_fd);
	CHECK_EQ(try_connect(path), -ECONNREFUSED);
	CHECK_EQ(init(&s, path), 0);
	CHECK_EQ(try_connect(path), 0);
	listen_socket_finish(&s);
}

TEST(what_is_no_socket_is_left_alone)
{
	struct listen_socket s;
	char text[16] = "";
	int fd = open(in_tmpdir("sluice-0"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "precious", 8) == 8);
	close(fd);
	CHECK_EQ(init(&s, path), -EEXIST);
	CHECK(strstr(error, "is no socket: it is left alone"));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(read(fd, text, sizeof(text) - 1) == 8);
	CHECK_STR(text, "precious");
	close(fd);
}

TEST(a_symbolic_link_is_not_followed)
{
	struct listen_socket s;
	char target[160];
	snprintf(target, sizeof(target), "%s/elsewhere", test_tmpdir());
	CHECK(symlink(target, in_tmpdir("sluice-0")) == 0);
	CHECK_EQ(init(&s, path), -EEXIST);
	CHECK(unlink(path) == 0);
	/* nor in place of the lock */
	CHECK(unlink(in_tmpdir("sluice-0.lock")) == 0);
	CHECK(symlink(target, in_tmpdir("sluice-0.lock")) == 0);
	CHECK_EQ(init(&s, in_tmpdir("sluice-0")), -ELOOP);
	CHECK(access(target, F_OK) < 0);
}

TEST(a_path_that_is_too_long_is_refused_with_its_limit)
{
	struct listen_socket s;
	char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	snprintf(longest, sizeof(longest), "%s/", test_tmpdir());
	for (size_t n = strlen(longest); n < sizeof(longest) - 1; n++)
		longest[n] = 'x';
	longest[sizeof(longest) - 1] = 0;
	CHECK_EQ(strlen(longest), 108);
	CHECK_EQ(init(&s, longest), -ENAMETOOLONG);
	CHECK(strstr(error, "has 108 bytes, and 107 are the most"));
	longest[107] = 0;
	CHECK_EQ(init(&s, longest), 0);
	CHECK_EQ(try_connect(longest), 0);
	listen_socket_finish(&s);
}

TEST(a_place_where_no_socket_can_be_is_explained)
{
	struct listen_socket s;
	CHECK_EQ(init(&s, in_tmpdir("no/such/directory")), -ENOENT);
	CHECK(strstr(error, "cannot make") && strstr(error, "No such file or directory"));
}

/* --- the default path ------------------------------------------------------------------------ */

TEST(no_path_means_the_one_in_the_runtime_directory)
{
	struct listen_socket s;
	setenv("XDG_RUNTIME_DIR", test_tmpdir(), 1);
	CHECK_EQ(init(&s, ""), 0);
	CHECK_STR(s.path, in_tmpdir("sluice-0"));
	CHECK_EQ(try_connect(path), 0);
	listen_socket_finish(&s);
}

TEST(without_a_runtime_directory_there_is_no_default)
{
	struct listen_socket s;
	char dir[128];
	unsetenv("XDG_RUNTIME_DIR");
	CHECK_EQ(init(&s, ""), -ENOENT);
	CHECK(strstr(error, "XDG_RUNTIME_DIR is not set") && strstr(error, "--socket PATH"));
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	CHECK_EQ(init(&s, ""), -ENOENT);
	snprintf(dir, sizeof(dir), "/%0100d", 0); /* 101 bytes, and "/sluice-0" */
	setenv("XDG_RUNTIME_DIR", dir, 1);
	CHECK_EQ(init(&s, ""), -ENAMETOOLONG);
	CHECK(strstr(error, "too long"));
}

/* --- systemd --------------------------------------------------------------------------------- */

enum { FIRST_PASSED = 3 };

/* As systemd does it: the sockets are descriptors 3 and on, and the environment says so. */
static void pass(int fd, const char *n, pid_t pid)
{
	char pid_text[16];
	CHECK(dup2(fd, FIRST_PASSED) == FIRST_PASSED);
	if (fd != FIRST_PASSED)
		close(fd);
	snprintf(pid_text, sizeof(pid_text), "%d", (int)pid);
	setenv("LISTEN_FDS", n, 1);
	setenv("LISTEN_PID", pid_text, 1);
}

static int listening(int type, const char *where)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", where);
	int fd = socket(AF_UNIX, type, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(fd, 4) == 0);
	return fd;
}

/* Whatever is descriptor 3 here (a pipe of ctest's, perhaps) is put back. */
static int saved;

static void save_3(void)
{
	saved = fcntl(FIRST_PASSED, F_DUPFD_CLOEXEC, 10);
}

static void restore_3(void)
{
	close(FIRST_PASSED);
	if (saved >= 0) {
		dup2(saved, FIRST_PASSED);
		close(saved);
	}
}

TEST(a_socket_that_systemd_passes_is_taken)
{
	struct listen_socket s;
	save_3();
	pass(listening(SOCK_SEQPACKET, in_tmpdir("s")), "1", getpid());
	CHECK_EQ(init(&s, "/no/such/place"), 0);
	CHECK(s.fd == FIRST_PASSED && s.lock_fd == -EBADF && s.path[0] == 0);
	CHECK(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
	CHECK(getenv("LISTEN_FDS") == NULL); /* not for our children */
	listen_socket_finish(&s);
	CHECK(access(path, F_OK) == 0); /* systemd's to remove */
	restore_3();
}

TEST(sockets_that_are_for_another_process_are_not_ours)
{
	struct listen_socket s;
	struct stat st;
	save_3();
	pass(listening(SOCK_SEQPACKET, in_tmpdir("theirs")), "1", getppid());
	CHECK_EQ(init(&s, in_tmpdir("ours")), 0);
	CHECK(s.fd != FIRST_PASSED && lstat(path, &st) == 0);
	listen_socket_finish(&s);
	/* and no path still means the default, not a socket without a name */
	setenv("XDG_RUNTIME_DIR", test_tmpdir(), 1);
	CHECK_EQ(init(&s, ""), 0);
	CHECK_STR(s.path, in_tmpdir("sluice-0"));
	listen_socket_finish(&s);
	restore_3();
}

TEST(what_systemd_passes_must_be_one_listening_seqpacket_socket)
{
	struct listen_socket s;
	save_3();
	pass(listening(SOCK_STREAM, in_tmpdir("stream")), "1", getpid());
	CHECK_EQ(init(&s, in_tmpdir("s")), -EINVAL);
	CHECK(strstr(error, "ListenSequentialPacket="));
	close(FIRST_PASSED);
	pass(socket(AF_UNIX, SOCK_SEQPACKET, 0), "1", getpid()); /* does not listen */
	CHECK_EQ(init(&s, in_tmpdir("s")), -EINVAL);
	close(FIRST_PASSED);
	pass(open("/dev/null", O_RDONLY), "1", getpid());
	CHECK_EQ(init(&s, in_tmpdir("s")), -EINVAL);
	restore_3();
}
