/* Every setting at its limits and one past them, in the file and on the command line. */
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/settings.h"
#include "common/clock.h"

static struct settings settings;
static char error[1024];

/* Settings of a user without a configuration of its own. */
static int load(const char *const *options, unsigned n)
{
	char *argv[96] = { (char *)"sluice-broker" };
	CHECK(n < 95);
	for (unsigned i = 0; i < n; i++)
		argv[i + 1] = (char *)options[i];
	setenv("XDG_CONFIG_HOME", test_tmpdir(), 1);
	setenv("HOME", "/nonexistent", 1);
	error[0] = 0;
	memset(&settings, 0xee, sizeof(settings));
	int r = settings_load(&settings, (int)n + 1, argv, error, sizeof(error));
	CHECK((r < 0) == (error[0] != 0));
	CHECK(r == SETTINGS_OK || *(unsigned char *)&settings == 0xee);
	return r;
}

#define LOAD(...)                                  \
	load((const char *const[]){ __VA_ARGS__ }, \
		sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

static const char *write_file(const char *text)
{
	static char path[128];
	snprintf(path, sizeof(path), "%s/broker.conf", test_tmpdir());
	FILE *f = fopen(path, "we");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
	return path;
}

static int load_text(const char *text)
{
	return LOAD("--config", write_file(text));
}

/* --- numbers --------------------------------------------------------------------------------- */

struct number {
	const char *section, *key, *option; /* option NULL: only in the file */
	size_t offset, size;
	const char *min, *max, *below, *past; /* as one writes them */
	uint64_t min_value, max_value, unset;
};

#define FIELD(member) offsetof(struct settings, member), sizeof(((struct settings *)0)->member)
#define KI            1024ull
#define MI            (1024 * KI)
#define GI            (1024 * MI)

/* clang-format off */
static const struct number numbers[] = {
	{ "broker", "socket-mode", NULL, FIELD(socket_mode), "0600", "0666", "0577", "0667",
		0600, 0666, 0600 },
	{ "broker", "slots", "slots", FIELD(slots), "4", "64", "3", "65", 4, 64, 8 },
	{ "broker", "memory", "memory", FIELD(memory_bytes), "1M", "1024G", "1048575", "1025G",
		MI, 1024 * GI, 4 * GI },
	{ "gpu", "memory", "gpu-memory", FIELD(gpu_memory_bytes), "1024K", "1024G", "1023K", "1025G",
		1 << 20, 1ull << 40, 2ull << 30 },
	{ "gpu", "spin", "gpu-spin", FIELD(gpu_spin_ns), "0", "10ms", "-1", "10001us",
		0, 10000000, 200000 },
	{ "gpu", "validation", "gpu-validation", FIELD(gpu_validation), "0", "1", "-1", "2",
		0, 1, 0 },
	{ "limits", "clients", "max-clients", FIELD(limits.clients), "1", "65536", "0", "65537",
		1, 65536, 512 },
	{ "limits", "clients-per-user", "max-clients-per-user", FIELD(limits.clients_per_user),
		"1", "65536", "0", "65537", 1, 65536, 256 },
	{ "limits", "fds-per-user", NULL, FIELD(limits.fds_per_user), "16", "1048576", "15",
		"1048577", 16, 1048576, 8192 },
	{ "limits", "memory-per-user", NULL, FIELD(limits.bytes_per_user), "1024K", "1048576G",
		"1023K", "1048577G", MI, 1024 * 1024 * GI, 1024 * GI },
	{ "limits", "hello-timeout", NULL, FIELD(limits.hello_timeout_ns), "10ms", "600s", "9ms",
		"601s", 10 * NS_PER_MS, 600 * NS_PER_S, 5 * NS_PER_S },
	{ "limits", "hold-deadline", "hold-deadline", FIELD(limits.hold_deadline_ns), "10", "600000",
		"9", "600001", 10 * NS_PER_MS, 600 * NS_PER_S, 2 * NS_PER_S },
#ifdef SLUICE_FAULTS
	{ "fault", "early-reuse", "fault-early-reuse", FIELD(fault_early_reuse), "0", "1", "-1", "2",
		0, 1, 0 },
	{ "fault", "slow", "fault-slow", FIELD(fault_slow_ms), "0", "10000", "-1", "10001",
		0, 10000, 0 },
	{ "fault", "gpu-early", "fault-gpu-early", FIELD(fault_gpu_early), "0", "1", "-1", "2",
		0, 1, 0 },
#endif
};
/* clang-format on */

enum { N_NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static uint64_t value_of(const struct number *n)
{
	const char *field = (const char *)&settings + n->offset;
	if (n->size == sizeof(uint32_t))
		return *(const uint32_t *)(const void *)field;
	return *(const uint64_t *)(const void *)field;
}

static int set(const struct number *n, const char *value, bool in_file)
{
	char text[256];
	if (in_file) {
		snprintf(text, sizeof(text), "[%s]\n%s = %s\n", n->section, n->key, value);
		return load_text(text);
	}
	snprintf(text, sizeof(text), "--%s=%s", n->option, value);
	return LOAD(text);
}

static void check_number(const struct number *n, bool in_file)
{
	static const char *const nonsense[] = { "many", "1x", "0x10", "1 000", "1.5", "-4", "+4",
		"99999999999999999999", "18446744073709551615G", "1e3", "4 4" };
	CHECK_ROW(set(n, n->min, in_file) == SETTINGS_OK, n->key);
	CHECK_EQ(value_of(n), n->min_value);
	CHECK_ROW(set(n, n->max, in_file) == SETTINGS_OK, n->key);
	CHECK_EQ(value_of(n), n->max_value);
	CHECK_ROW(set(n, n->below, in_file) == -EINVAL, n->key);
	CHECK_ROW(strstr(error, n->key) && strstr(error, "it must be"), error);
	CHECK_ROW(set(n, n->past, in_file) == -EINVAL, n->key);
	CHECK_ROW(strstr(error, n->past), error);
	for (unsigned i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
		CHECK_ROW(set(n, nonsense[i], in_file) == -EINVAL, nonsense[i]);
	if (!in_file)
		CHECK_ROW(set(n, "", in_file) == -EINVAL, n->key);
}

TEST(every_number_has_its_limits_in_the_file_and_on_the_command_line)
{
	for (unsigned i = 0; i < N_NUMBERS; i++) {
		check_number(&numbers[i], true);
		if (numbers[i].option)
			check_number(&numbers[i], false);
	}
}

TEST(what_is_not_set_has_its_default)
{
	CHECK_EQ(load(NULL, 0), SETTINGS_OK);
	for (unsigned i = 0; i < N_NUMBERS; i++)
		CHECK_ROW(value_of(&numbers[i]) == numbers[i].unset, numbers[i].key);
	CHECK(settings.socket[0] == 0 && settings.log_level == LOG_LEVEL_INFO);
	CHECK(settings.n_sources == 0 && settings.access.n_rules == 0);
}

TEST(options_override_the_file)
{
	for (unsigned i = 0; i < N_NUMBERS; i++) {
		const struct number *n = &numbers[i];
		char text[128], option[128];
		if (!n->option)
			continue;
		snprintf(text, sizeof(text), "[%s]\n%s = %s\n", n->section, n->key, n->min);
		snprintf(option, sizeof(option), "--%s=%s", n->option, n->max);
		CHECK_EQ(LOAD(option, "--config", write_file(text)), SETTINGS_OK);
		CHECK_EQ(value_of(n), n->max_value);
	}
}

TEST(sizes_and_times_have_units_and_no_others)
{
	static const struct {
		const char *option;
		int result;
		uint64_t memory, deadline_ns;
	} rows[] = {
		{ "--memory=2097152", 0, 2 * MI, 2 * NS_PER_S },
		{ "--memory=2048K", 0, 2 * MI, 2 * NS_PER_S },
		{ "--memory=2m", 0, 2 * MI, 2 * NS_PER_S },
		{ "--memory=3G", 0, 3 * GI, 2 * NS_PER_S },
		{ "--memory=3T", -EINVAL, 0, 0 },
		{ "--memory=3GB", -EINVAL, 0, 0 },
		{ "--memory=3 G", -EINVAL, 0, 0 },
		{ "--memory=3s", -EINVAL, 0, 0 },
		{ "--memory=G", -EINVAL, 0, 0 },
		{ "--memory=17179869186G", -EINVAL, 0, 0 }, /* 2^64 and 2G */
		{ "--hold-deadline=3s", 0, 4 * GI, 3 * NS_PER_S },
		{ "--hold-deadline=3000ms", 0, 4 * GI, 3 * NS_PER_S },
		{ "--hold-deadline=3000", 0, 4 * GI, 3 * NS_PER_S },
		{ "--hold-deadline=3m", -EINVAL, 0, 0 },
		{ "--hold-deadline=18446744073810ms", -EINVAL, 0, 0 }, /* 2^64 ns and 100 ms */
		{ "--hold-deadline=3G", -EINVAL, 0, 0 },
		{ "--hold-deadline=s", -EINVAL, 0, 0 },
		{ "--slots=8K", -EINVAL, 0, 0 },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_ROW(LOAD(rows[i].option) == rows[i].result, rows[i].option);
		if (rows[i].result < 0)
			continue;
		CHECK_ROW(settings.memory_bytes == rows[i].memory, rows[i].option);
		CHECK_ROW(settings.limits.hold_deadline_ns == rows[i].deadline_ns, rows[i].option);
	}
}

TEST(a_wrong_number_is_explained_with_its_limits)
{
	CHECK_EQ(LOAD("--slots", "100"), -EINVAL);
	CHECK_STR(error, "slots is \"100\": it must be a number, from 4 to 64");
	CHECK_EQ(LOAD("--memory", "lots"), -EINVAL);
	CHECK_STR(
		error, "memory is \"lots\": it must be bytes, as in 512M or 2G, from 1M to 1024G");
	CHECK_EQ(LOAD("--hold-deadline", "1h"), -EINVAL);
	CHECK_STR(error,
		"hold-deadline is \"1h\": it must be a time, as in 500ms or 2s, from 10ms to "
		"600000ms");
	CHECK_EQ(load_text("[broker]\nsocket-mode = 999\n"), -EINVAL);
	CHECK(strstr(error,
		":2: socket-mode is \"999\": it must be octal, as in 0660, from 0600 to "
		"0666"));
}

/* --- texts ----------------------------------------------------------------------------------- */

TEST(levels_and_paths_are_checked)
{
	char longest[sizeof(settings.socket) + 1];
	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[sizeof(longest) - 2] = 0;
	CHECK_EQ(LOAD("--log-level", "debug", "--socket", longest), SETTINGS_OK);
	CHECK_EQ(settings.log_level, LOG_LEVEL_DEBUG);
	CHECK_STR(settings.socket, longest);
	longest[sizeof(longest) - 2] = 'x';
	longest[sizeof(longest) - 1] = 0;
	CHECK_EQ(LOAD("--socket", longest), -EINVAL);
	CHECK(strstr(error, "longer than 255 bytes"));
	CHECK_EQ(LOAD("--socket", ""), -EINVAL);
	CHECK_EQ(LOAD("--log-level", "verbose"), -EINVAL);
	CHECK(strstr(error, "error, warning, info or debug"));
}

TEST(sources_are_named_once_and_the_last_one_of_a_name_counts)
{
	CHECK_EQ(LOAD("--source", "a=pattern:64x64@30", "--source=b=pipewire:x=y", "--source",
			 "a=pattern:32x32@1"),
		SETTINGS_OK);
	CHECK_EQ(settings.n_sources, 2);
	CHECK_STR(settings.source[0].name, "a");
	CHECK_STR(settings.source[0].spec, "pattern:32x32@1");
	CHECK_STR(settings.source[1].spec, "pipewire:x=y");
}

TEST(a_source_that_is_none_is_explained)
{
	static const struct {
		const char *source;
		const char *says;
	} rows[] = {
		{ "pattern:64x64@30", "write NAME=SOURCE" },
		{ "=pattern:64x64@30", "is no name for a stream" },
		{ "a\nb=pattern:64x64@30", "is no name for a stream" },
		{ "12345678901234567890123456789012345678901234567890123456789012345=pattern:x",
			"is no name for a stream" },
		{ "a=", "what comes after the name has 1 to 256 bytes" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_ROW(LOAD("--source", rows[i].source) == -EINVAL, rows[i].source);
		CHECK_ROW(strstr(error, rows[i].says), error);
	}
	char longest[2 + STREAM_SOURCE_MAX + 2] = "a=";
	memset(longest + 2, 'x', STREAM_SOURCE_MAX);
	CHECK_EQ(LOAD("--source", longest), SETTINGS_OK);
	longest[2 + STREAM_SOURCE_MAX] = 'x';
	CHECK_EQ(LOAD("--source", longest), -EINVAL);
}

TEST(there_are_at_most_64_sources)
{
	static char text[8192];
	size_t used = (size_t)snprintf(text, sizeof(text), "[sources]\n");
	for (unsigned i = 0; i < CATALOG_STREAMS_MAX; i++)
		used += (size_t)snprintf(
			text + used, sizeof(text) - used, "s%u = pattern:64x64@30\n", i);
	CHECK_EQ(load_text(text), SETTINGS_OK);
	CHECK_EQ(settings.n_sources, CATALOG_STREAMS_MAX);
	snprintf(text + used, sizeof(text) - used, "more = pattern:64x64@30\n");
	CHECK_EQ(load_text(text), -EINVAL);
	CHECK(strstr(error, ":66: more than 64 sources"));
}

/* --- the file -------------------------------------------------------------------------------- */

TEST(a_file_has_everything)
{
	CHECK_EQ(load_text("# a comment\n"
			   "[broker]\n"
			   "socket = /run/sluice\n"
			   "log-level = warning   ; why not\n"
			   "slots=16\n"
			   "\n"
			   "[limits]\n"
			   "clients = 10\n"
			   "[access]\n"
			   "allow = user:root observe\n"
			   "allow = group:4242 consume\n"
			   "[sources]\n"
			   "desktop = pipewire:gnome-shell\n"
			   "the test = pattern:640x480@30:NV12\n"),
		SETTINGS_OK);
	CHECK_STR(settings.socket, "/run/sluice");
	CHECK_EQ(settings.log_level, LOG_LEVEL_WARNING);
	CHECK_EQ(settings.slots, 16);
	CHECK_EQ(settings.limits.clients, 10);
	CHECK_EQ(settings.access.n_rules, 2);
	CHECK_EQ(settings.access.rule[1].id, 4242);
	CHECK_EQ(settings.n_sources, 2);
	CHECK_STR(settings.source[1].name, "the test");
	CHECK_STR(settings.source[1].spec, "pattern:640x480@30:NV12");
}

TEST(an_error_in_the_file_names_its_line)
{
	static const struct {
		const char *text;
		const char *says;
	} rows[] = {
		{ "[broker]\nslots = 1\nsocket-mode = 1\n", ":2: slots is \"1\"" },
		{ "[broker]\n\n# x\nslotz = 8\n", ":4: [broker] slotz is no setting" },
		{ "[brokers]\nslots = 8\n", ":2: [brokers] slots is no setting" },
		{ "slots = 8\n", ":1: [] slots is no setting" },
		{ "[broker]\nslots\n", ":2: not of the form \"key = value\"" },
		{ "[broker\nslots = 8\n", ":1: not of the form \"key = value\"" },
		{ "[broker]\nslots =\n", ":2: slots is \"\"" },
		{ "[access]\nallow = everybody\n", ":2: \"everybody\" is no access rule" },
		{ "[access]\ndeny = user:root all\n", ":2: [access] deny is no setting" },
		{ "[sources]\na =\n", ":2: source a: what comes after the name" },
		{ "[limits]\nslots = 8\n", ":2: [limits] slots is no setting" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_ROW(load_text(rows[i].text) == -EINVAL, rows[i].text);
		CHECK_ROW(strstr(error, "broker.conf") && strstr(error, rows[i].says), error);
	}
}

/* A line's end that was cut off would be read as a line of its own. */
TEST(a_line_that_is_too_long_is_an_error_and_is_not_cut)
{
	char text[1024] = "[access]\nallow = user:root observe";
	size_t used = strlen(text);
	memset(text + used, ' ', 400);
	snprintf(text + used + 400, sizeof(text) - used - 400, "\nallow = user:1 all\n");
	CHECK_EQ(load_text(text), -EINVAL);
	CHECK(strstr(error, ":2: the line is longer than"));
	/* two settings in what looks like one comment */
	memset(text, '#', 199);
	snprintf(text + 199, sizeof(text) - 199, "\n[broker]\nslots = 9\n");
	CHECK_EQ(load_text(text), -EINVAL);
	CHECK(strstr(error, ":1: the line is longer than"));
	/* the longest that fits, and a last line without an end */
	memset(text, '#', 198);
	snprintf(text + 198, sizeof(text) - 198, "\n[broker]\nslots = 9");
	CHECK_EQ(load_text(text), SETTINGS_OK);
	CHECK_EQ(settings.slots, 9);
}

TEST(a_file_that_cannot_be_read_is_explained)
{
	CHECK_EQ(LOAD("--config", "/nonexistent/sluice.conf"), -ENOENT);
	CHECK_STR(error, "cannot read /nonexistent/sluice.conf: No such file or directory");
	CHECK_EQ(LOAD("--config", "/"), -EISDIR);
	CHECK(strstr(error, "cannot read /"));
}

TEST(the_file_of_the_user_is_found)
{
	char path[256];
	snprintf(path, sizeof(path), "mkdir -p %s/sluice", test_tmpdir());
	CHECK(system(path) == 0);
	snprintf(path, sizeof(path), "%s/sluice/sluice.conf", test_tmpdir());
	FILE *f = fopen(path, "we");
	CHECK(f && fputs("[broker]\nslots = 11\n", f) >= 0 && fclose(f) == 0);
	CHECK_EQ(load(NULL, 0), SETTINGS_OK);
	CHECK_EQ(settings.slots, 11);
	CHECK_EQ(load_text("[broker]\nslots = 12\n"), SETTINGS_OK); /* only the one that is named */
	CHECK_EQ(settings.slots, 12);
	setenv("XDG_CONFIG_HOME", "relative", 1); /* not to be trusted: the next place */
	snprintf(path, sizeof(path), "mkdir -p %s/.config && cp -r %s/sluice %s/.config",
		test_tmpdir(), test_tmpdir(), test_tmpdir());
	CHECK(system(path) == 0);
	setenv("HOME", test_tmpdir(), 1);
	char *argv[] = { (char *)"sluice-broker", NULL };
	CHECK_EQ(settings_load(&settings, 1, argv, error, sizeof(error)), SETTINGS_OK);
	CHECK_EQ(settings.slots, 11);
	/* a second time, as SIGHUP does */
	CHECK_EQ(load_text("[broker]\nslots = 13\n"), SETTINGS_OK);
	CHECK_EQ(settings.slots, 13);
}

/* --- the command line ------------------------------------------------------------------------ */

TEST(what_the_command_line_does_not_know_is_an_error)
{
	CHECK_EQ(LOAD("--slotz", "8"), -EINVAL);
	CHECK(strstr(error, "--help"));
	CHECK_EQ(LOAD("-abc"), -EINVAL);
	CHECK_EQ(LOAD("-x", "--slots", "9"), -EINVAL);
	CHECK_EQ(LOAD("--slots"), -EINVAL);
	CHECK_EQ(LOAD("word"), -EINVAL);
	CHECK_STR(error, "\"word\" is one word too many: see sluice-broker --help");
	CHECK_EQ(LOAD("--slots", "9", "word"), -EINVAL);
	CHECK_EQ(LOAD("--slots", "9"), SETTINGS_OK); /* nothing is left of the errors before */
	CHECK_EQ(settings.slots, 9);
}

TEST(access_is_granted_on_the_command_line_too)
{
	CHECK_EQ(LOAD("--allow", "user:0 observe", "--allow=group:4242 consume", "--config",
			 write_file("[access]\nallow = user:7 all\n")),
		SETTINGS_OK);
	CHECK_EQ(settings.access.n_rules, 3);
	CHECK_EQ(settings.access.rule[0].id, 7);
	CHECK_EQ(settings.access.rule[2].id, 4242);
	CHECK_EQ(LOAD("--allow", "everybody"), -EINVAL);
	CHECK(strstr(error, "write user:NAME ROLES"));
}

/* What a function printed. */
static const char *printed(int (*fn)(void))
{
	static char text[16384];
	char path[128];
	snprintf(path, sizeof(path), "%s/stdout", test_tmpdir());
	fflush(stdout);
	int saved = dup(STDOUT_FILENO);
	CHECK(freopen(path, "we", stdout) != NULL);
	int r = fn();
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	CHECK_EQ(r, SETTINGS_EXIT);
	FILE *f = fopen(path, "re");
	CHECK(f != NULL);
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	return text;
}

static int ask_help(void)
{
	return LOAD("--slots", "nonsense", "--help");
}

static int ask_version(void)
{
	return LOAD("--version");
}

TEST(help_names_every_option_with_its_default)
{
	const char *help = printed(ask_help);
	for (unsigned i = 0; i < N_NUMBERS; i++) {
		char option[64];
		if (!numbers[i].option)
			continue;
		snprintf(option, sizeof(option), "  --%s ", numbers[i].option);
		CHECK_ROW(strstr(help, option), option);
	}
	static const char *const others[] = { "--socket PATH", "--log-level LEVEL", "--config FILE",
		"--source NAME=", "--allow ", "--help", "--version", "Exit status:", "(4G)", "(8)",
		"(2s)", "--gpu WHICH", "--gpu-of NAME=WHICH", "--gpu-spin TIME" };
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK_ROW(strstr(help, others[i]), others[i]);
	CHECK(!strstr(help, "(null)"));
}

TEST(version_is_printed)
{
	CHECK_STR(printed(ask_version), "sluice-broker " SLUICE_VERSION "\n");
}
