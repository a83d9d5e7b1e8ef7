/* sluice: what a broker is doing, for people. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/cli/ls.h"

enum { EXIT_USAGE = 2 };

static const struct command {
	const char *name;
	const char *what;
	int (*main)(int argc, char **argv);
} commands[] = {
	{ "ls", "show streams, views and clients: who holds what, who lost what, and why",
		ls_main },
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
	fputs("usage: sluice COMMAND [OPTION]...\n"
	      "       sluice --version\n"
	      "\n"
	      "Look into a running sluice-broker, which lends the frames of a capture to many\n"
	      "programs. The commands:\n"
	      "\n",
		out);
	for (unsigned i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-6s %s\n", commands[i].name, commands[i].what);
	fputs("\n"
	      "sluice COMMAND --help tells more. To get at the pictures themselves, see\n"
	      "sluice-snap(1) for one, and sluice-encode(1) for a film of them.\n"
	      "\n"
	      "exit status: 0 done, 1 failed, 2 wrong usage\n",
		out);
}

static int run(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	if (!name) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		print_help(stdout);
		return EXIT_SUCCESS;
	}
	if (strcmp(name, "--version") == 0) {
		puts("sluice " SLUICE_VERSION);
		return EXIT_SUCCESS;
	}
	for (unsigned i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].main(argc - 1, argv + 1);
	errx(EXIT_USAGE, "there is no command %s: try sluice --help", name);
}

int main(int argc, char **argv)
{
	int status = run(argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout))
		err(EXIT_FAILURE, "cannot write to the standard output");
	return status;
}
