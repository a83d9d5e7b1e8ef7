#include "tests/encode_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

enum { ARGS_MAX = 60, TEXT_BYTES = 65536, ANSWER_S = 20 };

const char *in_tmp(const char *name)
{
	static char path[4][256];
	static unsigned i;
	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", test_tmpdir(), name);
	return path[i];
}

/* Each %s and %t filled in. */
static char *fill(const char *line, const char *socket)
{
	static char filled[TEXT_BYTES];
	size_t n = 0;
	for (; *line && n < sizeof(filled) - 256; line++) {
		if (strncmp(line, "%s", 2) == 0 || strncmp(line, "%t", 2) == 0)
			n += (size_t)sprintf(
				filled + n, "%s", *++line == 's' ? socket : test_tmpdir());
		else
			filled[n++] = *line;
	}
	filled[n] = 0;
	return filled;
}

static void become(const struct encode_process *p, char *line)
{
	char program[] = "sluice-encode", *argv[ARGS_MAX + 1] = { program };
	unsigned n = 1;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	for (char *word = strtok(line, " "); word && n < ARGS_MAX; word = strtok(NULL, " "))
		argv[n++] = word;
	int said = open(p->said_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	dup2(said, STDERR_FILENO);
	execv(SLUICE_ENCODE, argv);
	_exit(127);
}

void encode_start(
	struct encode_process *process, const struct broker_process *broker, const char *line)
{
	static unsigned number;
	char *filled = fill(line, broker->socket);
	snprintf(process->said_path, sizeof(process->said_path), "%s/said%u", test_tmpdir(),
		number++);
	close(open(process->said_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	fflush(NULL);
	process->pid = fork();
	CHECK(process->pid >= 0);
	if (process->pid == 0)
		become(process, filled);
}

int encode_await(struct encode_process *process)
{
	int status;
	for (unsigned ms = 0; waitpid(process->pid, &status, WNOHANG) == 0; ms += 5) {
		if (ms > ANSWER_S * 1000 * test_slowness())
			test_fail(__FILE__, __LINE__, "sluice-encode does not end:\n%s",
				encode_said(process));
		sleep_ms(5);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char *read_text(const char *path)
{
	static char text[TEXT_BYTES];
	FILE *file = fopen(path, "re");
	if (!file)
		test_fail(__FILE__, __LINE__, "there is no %s", path);
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	return text;
}

const char *encode_said(const struct encode_process *process)
{
	return read_text(process->said_path);
}

void encode_await_text(const struct encode_process *process, const char *text)
{
	for (unsigned ms = 0; !strstr(encode_said(process), text); ms += 5) {
		if (ms > ANSWER_S * 1000 * test_slowness())
			test_fail(__FILE__, __LINE__, "\"%s\" is not said:\n%s", text,
				encode_said(process));
		sleep_ms(5);
	}
}

static bool is_child(const char *pid, pid_t parent)
{
	char path[64], text[512] = "";
	int its_parent = 0;
	snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	const char *name_end = strrchr(text, ')');
	return name_end && sscanf(name_end, ") %*c %d", &its_parent) == 1 && its_parent == parent;
}

static bool has_argument(const char *pid, const char *argument)
{
	char path[64], text[4096] = "";
	snprintf(path, sizeof(path), "/proc/%.16s/cmdline", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = 0;
	for (size_t at = 0; at < n; at += strlen(text + at) + 1)
		if (strcmp(text + at, argument) == 0)
			return true;
	return false;
}

pid_t encode_child(const struct encode_process *process, const char *argument)
{
	pid_t found = 0;
	DIR *proc = opendir("/proc");
	CHECK(proc);
	for (struct dirent *entry; !found && (entry = readdir(proc));)
		if (atoi(entry->d_name) > 0 && is_child(entry->d_name, process->pid) &&
			has_argument(entry->d_name, argument))
			found = atoi(entry->d_name);
	closedir(proc);
	return found;
}

double encode_stat(const char *name, const char *key)
{
	char quoted[64];
	const char *text = read_text(in_tmp(name));
	snprintf(quoted, sizeof(quoted), "\"%s\": ", key);
	const char *at = strstr(text, quoted);
	if (!at)
		test_fail(__FILE__, __LINE__, "%s has no %s:\n%s", name, key, text);
	return atof(at + strlen(quoted));
}
