#include "tests/program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

static void redirect(int fd, const char *path)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0 || dup2(file, fd) < 0)
		_exit(127);
}

static void child(
	const char *const *argv, rlim_t file_limit, const char *out_path, const char *err_path)
{
	struct rlimit limit = { file_limit, file_limit };
	redirect(STDOUT_FILENO, out_path);
	redirect(STDERR_FILENO, err_path);
	if (file_limit > 0) {
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
	}
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

static void read_text(const char *path, char *text)
{
	FILE *file = fopen(path, "re");
	CHECK(file);
	size_t n = fread(text, 1, PROGRAM_OUTPUT_MAX - 1, file);
	text[n] = 0;
	fclose(file);
	unlink(path);
}

void program_run(struct program *program, const char *const *argv, rlim_t file_limit)
{
	char out_path[128], err_path[128];
	int status;
	snprintf(out_path, sizeof(out_path), "%s/stdout", test_tmpdir());
	snprintf(err_path, sizeof(err_path), "%s/stderr", test_tmpdir());
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		child(argv, file_limit, out_path, err_path);
	CHECK(waitpid(pid, &status, 0) == pid);
	program->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	read_text(out_path, program->out);
	read_text(err_path, program->err);
}
