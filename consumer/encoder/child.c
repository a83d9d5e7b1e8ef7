#include "consumer/encoder/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "consumer/encoder/now.h"

enum {
	FD_ABOVE = 10, /* whatever was closed when we were started, pipes are not a child's fds */
	EXIT_CANNOT = 127, /* as a shell's, when a program cannot be run */
};

struct ends {
	int ours, theirs;
};

static void close_ends(struct ends *ends)
{
	fd_closep(&ends->ours);
	fd_closep(&ends->theirs);
}

static int move_up(int *fd)
{
	int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FD_ABOVE);
	int r = moved < 0 ? -errno : 0;
	fd_closep(fd);
	*fd = moved;
	return r;
}

/* Neither end ever makes its owner wait: not us, and not an encoder that we do not listen to. */
static int open_ends(struct ends *ends)
{
	int fd[2];
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*ends = (struct ends){ fd[0], fd[1] };
	int r = move_up(&ends->ours);
	if (r == 0)
		r = move_up(&ends->theirs);
	if (r < 0)
		close_ends(ends);
	return r;
}

void child_init(struct child *child)
{
	*child = (struct child){ .error_fd = -EBADF, .ready_fd = -EBADF };
}

static void reset_signals(const sigset_t *mask)
{
	signal(SIGPIPE, SIG_DFL);
	signal(SIGUSR1, SIG_IGN); /* until it listens to it, the signal would end it */
	signal(SIGTTOU, SIG_IGN); /* it writes to the terminal from behind */
	sigprocmask(SIG_SETMASK, mask, NULL);
}

int child_start(struct child *child, const sigset_t *mask, bool takes_error,
	child_execute_fn execute, void *data)
{
	_cleanup_(close_ends) struct ends error = { -EBADF, -EBADF }, ready = { -EBADF, -EBADF };
	int r = open_ends(&ready);
	if (r == 0 && takes_error)
		r = open_ends(&error);
	if (r < 0)
		return r;
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(EXIT_CANNOT);
		setpgid(0, 0);
		if (takes_error)
			dup2(error.theirs, STDERR_FILENO);
		dup2(ready.theirs, CHILD_READY_FD);
		reset_signals(mask);
		execute(data);
		_exit(EXIT_CANNOT);
	}
	*child = (struct child){
		.pid = pid,
		.error_fd = fd_take(&error.ours),
		.ready_fd = fd_take(&ready.ours),
		.started_ns = now_ns(),
	};
	return 0;
}

size_t child_read(struct child *child, char *data, size_t size)
{
	if (child->error_fd < 0)
		return 0;
	ssize_t n = read(child->error_fd, data, size);
	if (n > 0)
		return (size_t)n;
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		fd_closep(&child->error_fd);
	return 0;
}

bool child_look_ready(struct child *child)
{
	char byte;
	if (child->ready_fd < 0)
		return child->is_ready;
	ssize_t n = read(child->ready_fd, &byte, 1);
	if (n > 0)
		child->is_ready = true;
	if (n >= 0 || (errno != EAGAIN && errno != EINTR))
		fd_closep(&child->ready_fd);
	return child->is_ready;
}

bool child_has_ended(struct child *child, int *status_out)
{
	if (waitpid(child->pid, status_out, WNOHANG) != child->pid)
		return false;
	child->pid = 0;
	return true;
}

void child_forget(struct child *child)
{
	fd_closep(&child->error_fd);
	fd_closep(&child->ready_fd);
}

void child_tell_ready(void)
{
	static bool is_told;
	if (is_told)
		return;
	is_told = true;
	ssize_t ignored = write(CHILD_READY_FD, "", 1);
	(void)ignored;
	close(CHILD_READY_FD);
}
