#include "broker/settings.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/wire.h"

enum type {
	TYPE_COUNT,
	TYPE_BYTES,
	TYPE_DURATION,
	TYPE_SPIN,
	TYPE_OCTAL,
	TYPE_LEVEL,
	TYPE_TEXT,  /* a path */
	TYPE_WHICH, /* of several */
};

/* One setting. The number given on the command line or in the file lies between min and max. */
struct key {
	const char *section;
	const char *key;    /* in the file */
	const char *option; /* on the command line */
	enum type type;
	size_t offset;
	size_t size; /* of the field */
	uint64_t min;
	uint64_t max;
	const char *unset; /* the default, for people */
	const char *help;
};

#define FIELD(member) offsetof(struct settings, member), sizeof(((struct settings *)0)->member)

#define GIB ((uint64_t)1 << 30)

/* clang-format off */
static const struct key keys[] = {
	{ "broker", "socket", "socket", TYPE_TEXT, FIELD(socket), 0, 0, "$XDG_RUNTIME_DIR/sluice-0",
		"path of the socket that clients connect to" },
	{ "broker", "socket-mode", "socket-mode", TYPE_OCTAL, FIELD(socket_mode), 0600, 0666, "0600",
		"permissions of the socket; wider ones need [access] rules too" },
	{ "broker", "log-level", "log-level", TYPE_LEVEL, FIELD(log_level), 0, 0, "info",
		"error, warning, info or debug" },
	{ "broker", "slots", "slots", TYPE_COUNT, FIELD(slots), WIRE_SLOTS_MIN, WIRE_SLOTS_MAX, "8",
		"frames in the pool of each stream" },
	{ "broker", "memory", "memory", TYPE_BYTES, FIELD(memory_bytes), 1 << 20, 1024 * GIB, "4G",
		"memory of all pools together" },
	{ "gpu", "device", "gpu", TYPE_WHICH, FIELD(gpu), 0, 0, "auto",
		"the GPU of the streams: auto (a discrete one first), none, an index or a UUID" },
	{ "gpu", "memory", "gpu-memory", TYPE_BYTES, FIELD(gpu_memory_bytes), 1 << 20, 1024 * GIB, "2G",
		"memory of all pools on GPUs together" },
	{ "gpu", "spin", "gpu-spin", TYPE_SPIN, FIELD(gpu_spin_ns), 0, 10 * NS_PER_MS, "200us",
		"how long to spin for the end of a copy before sleeping; 0 never spins" },
	{ "gpu", "validation", "gpu-validation", TYPE_COUNT, FIELD(gpu_validation), 0, 1, "0",
		"check every Vulkan call with the validation layer; a mistake ends the broker (for developers)" },
	{ "limits", "clients", "max-clients", TYPE_COUNT, FIELD(limits.clients), 1, 65536, "512",
		"clients at a time" },
	{ "limits", "clients-per-user", "max-clients-per-user", TYPE_COUNT,
		FIELD(limits.clients_per_user), 1, 65536, "256", "clients of one user at a time" },
	{ "limits", "fds-per-user", "fds-per-user", TYPE_COUNT, FIELD(limits.fds_per_user), 16, 1 << 20, "8192",
		"descriptors open or in flight for one user's clients" },
	{ "limits", "memory-per-user", "memory-per-user", TYPE_BYTES, FIELD(limits.bytes_per_user), 1 << 20,
		1024 * 1024ull * GIB, "1024G", "pool memory that one user's clients may have bound, each counted" },
	{ "limits", "hello-timeout", "hello-timeout", TYPE_DURATION, FIELD(limits.hello_timeout_ns),
		10 * NS_PER_MS, 600 * NS_PER_S, "5s", "a client that connects must say hello within this" },
	{ "limits", "hold-deadline", "hold-deadline", TYPE_DURATION, FIELD(limits.hold_deadline_ns),
		10 * NS_PER_MS, 600 * NS_PER_S, "2s",
		"a client that keeps a reserved frame for longer is disconnected" },
#ifdef SLUICE_FAULTS
	{ "fault", "early-reuse", "fault-early-reuse", TYPE_COUNT, FIELD(fault_early_reuse), 0, 1, "0",
		"(test) write into slots that are held" },
	{ "fault", "slow", "fault-slow", TYPE_COUNT, FIELD(fault_slow_ms), 0, 10000, "0",
		"(test) ms between writing a slot and publishing it" },
	{ "fault", "gpu-early", "fault-gpu-early", TYPE_COUNT, FIELD(fault_gpu_early), 0, 1, "0",
		"(test) publish frames before the GPU has written them" },
	{ "fault", "vulkan", "fault-vulkan", TYPE_TEXT, FIELD(fault_vulkan), 0, 0, "",
		"(test) make Vulkan calls fail: CALL=RESULT@NTH, with + for all after it, as in vkQueueSubmit=-4@9+" },
#endif
};
/* clang-format on */

enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

/* getopt values beyond the table */
enum { OPT_CONFIG = 1000, OPT_SOURCE, OPT_GPU_OF, OPT_ALLOW, OPT_HELP, OPT_VERSION };

static const struct settings defaults = {
	.socket_mode = 0600,
	.log_level = LOG_LEVEL_INFO,
	.slots = 8,
	.memory_bytes = 4 * GIB,
	.gpu = "auto",
	.gpu_memory_bytes = 2 * GIB,
	.gpu_spin_ns = 200 * NS_PER_US,
	.limits = {
		.clients = 512,
		.clients_per_user = 256,
		.fds_per_user = 8192,
		.bytes_per_user = 1024 * GIB,
		.hello_timeout_ns = 5 * NS_PER_S,
		.hold_deadline_ns = 2 * NS_PER_S,
	},
};

/* --- values ---------------------------------------------------------------------------------- */

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };
static const struct unit byte_units[] = { { "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 },
	{ "G", 1 << 30 }, { NULL, 0 } };
static const struct unit time_units[] = { { "ms", NS_PER_MS }, { "s", NS_PER_S }, { "", NS_PER_MS },
	{ NULL, 0 } };

static const struct unit spin_units[] = { { "us", NS_PER_US }, { "ms", NS_PER_MS },
	{ "", NS_PER_US }, { NULL, 0 } };

static const char *const type_form[] = {
	[TYPE_COUNT] = "a number",
	[TYPE_BYTES] = "bytes, as in 512M or 2G",
	[TYPE_DURATION] = "a time, as in 500ms or 2s",
	[TYPE_SPIN] = "a time, as in 200us or 1ms",
	[TYPE_OCTAL] = "octal, as in 0660",
};

static bool parse_number(const char *text, int base, const struct unit *units, uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, base);
	if (errno || end == text || text[0] == '-' || text[0] == '+' || text[0] == ' ')
		return false;
	for (; units->name; units++)
		if (strcasecmp(end, units->name) == 0 && n <= UINT64_MAX / units->factor) {
			*out = n * units->factor;
			return true;
		}
	return false;
}

static bool parse_typed(const struct key *key, const char *text, uint64_t *out)
{
	switch (key->type) {
	case TYPE_BYTES:
		return parse_number(text, 10, byte_units, out);
	case TYPE_DURATION:
		return parse_number(text, 10, time_units, out);
	case TYPE_SPIN:
		return parse_number(text, 10, spin_units, out);
	case TYPE_OCTAL:
		return parse_number(text, 8, no_units, out);
	default:
		return parse_number(text, 10, no_units, out);
	}
}

/* "16", "512M", "2s", "0600": a limit as people would write it. */
static void print_value(const struct key *key, uint64_t value, char *buf, size_t size)
{
	static const char *const binary[] = { "", "K", "M", "G" };
	unsigned i = 0;
	switch (key->type) {
	case TYPE_BYTES:
		for (; i < 3 && value >= 1024 && value % 1024 == 0; i++)
			value /= 1024;
		snprintf(buf, size, "%llu%s", (unsigned long long)value, binary[i]);
		break;
	case TYPE_DURATION:
		snprintf(buf, size, "%llums", (unsigned long long)(value / NS_PER_MS));
		break;
	case TYPE_SPIN:
		snprintf(buf, size, "%lluus", (unsigned long long)(value / NS_PER_US));
		break;
	case TYPE_OCTAL:
		snprintf(buf, size, "0%llo", (unsigned long long)value);
		break;
	default:
		snprintf(buf, size, "%llu", (unsigned long long)value);
	}
}

static int set_number(struct settings *settings, const struct key *key, const char *text,
	char *error, size_t error_size)
{
	uint64_t value;
	if (!parse_typed(key, text, &value) || value < key->min || value > key->max) {
		char min[32], max[32];
		print_value(key, key->min, min, sizeof(min));
		print_value(key, key->max, max, sizeof(max));
		snprintf(error, error_size, "%s is \"%.64s\": it must be %s, from %s to %s",
			key->key, text, type_form[key->type], min, max);
		return -EINVAL;
	}
	char *field = (char *)settings + key->offset;
	uint32_t small = (uint32_t)value;
	memcpy(field, key->size == sizeof(small) ? (void *)&small : (void *)&value, key->size);
	return 0;
}

static int set_level(struct settings *settings, const char *text, char *error, size_t error_size)
{
	enum log_level level = log_level_from_string(text);
	if (level == LOG_LEVEL_INVALID) {
		snprintf(error, error_size,
			"log-level is \"%.64s\": it must be error, warning, info or debug", text);
		return -EINVAL;
	}
	settings->log_level = level;
	return 0;
}

static int set_text(struct settings *settings, const struct key *key, const char *text, char *error,
	size_t error_size)
{
	if (text[0] == 0 || strlen(text) >= key->size) {
		snprintf(error, error_size, "%s is empty or longer than %zu bytes", key->key,
			key->size - 1);
		return -EINVAL;
	}
	snprintf((char *)settings + key->offset, key->size, "%s", text);
	return 0;
}

static int set_value(struct settings *settings, const struct key *key, const char *text,
	char *error, size_t error_size)
{
	if (key->type == TYPE_LEVEL)
		return set_level(settings, text, error, error_size);
	if (key->type == TYPE_TEXT || key->type == TYPE_WHICH)
		return set_text(settings, key, text, error, error_size);
	return set_number(settings, key, text, error, error_size);
}

/* A source of a name that is there already takes its place. */
static int set_source(struct settings *settings, const char *name, const char *spec, char *error,
	size_t error_size)
{
	if (wire_name_check(name) < 0) {
		snprintf(error, error_size,
			"\"%.80s\" is no name for a stream: 1 to %d bytes without control characters",
			name, STREAM_NAME_MAX);
		return -EINVAL;
	}
	if (spec[0] == 0 || strlen(spec) > STREAM_SOURCE_MAX) {
		snprintf(error, error_size,
			"source %s: what comes after the name has 1 to %d bytes", name,
			STREAM_SOURCE_MAX);
		return -EINVAL;
	}
	unsigned i = 0;
	while (i < settings->n_sources && strcmp(settings->source[i].name, name) != 0)
		i++;
	if (i == CATALOG_STREAMS_MAX) {
		snprintf(error, error_size, "more than %d sources", CATALOG_STREAMS_MAX);
		return -EINVAL;
	}
	if (i == settings->n_sources)
		settings->n_sources++;
	snprintf(settings->source[i].name, sizeof(settings->source[i].name), "%s", name);
	snprintf(settings->source[i].spec, sizeof(settings->source[i].spec), "%s", spec);
	return 0;
}

/* Which GPU a stream is on. A stream that has one already gets this one. */
static int set_gpu_of(struct settings *settings, const char *name, const char *which, char *error,
	size_t error_size)
{
	unsigned i = 0;
	if (wire_name_check(name) < 0 || which[0] == 0 || strlen(which) >= SETTINGS_GPU_MAX) {
		snprintf(error, error_size,
			"gpu-of \"%.64s=%.64s\": write STREAM=WHICH, an index, a UUID, auto or none",
			name, which);
		return -EINVAL;
	}
	while (i < settings->n_gpus && strcmp(settings->gpu_of[i].stream, name) != 0)
		i++;
	if (i == CATALOG_STREAMS_MAX) {
		snprintf(error, error_size, "more than %d streams", CATALOG_STREAMS_MAX);
		return -EINVAL;
	}
	if (i == settings->n_gpus)
		settings->n_gpus++;
	snprintf(settings->gpu_of[i].stream, sizeof(settings->gpu_of[i].stream), "%s", name);
	snprintf(settings->gpu_of[i].which, sizeof(settings->gpu_of[i].which), "%s", which);
	return 0;
}

const char *settings_gpu_of(const struct settings *settings, const char *stream)
{
	for (unsigned i = 0; i < settings->n_gpus; i++)
		if (strcmp(settings->gpu_of[i].stream, stream) == 0)
			return settings->gpu_of[i].which;
	return settings->gpu;
}

/* --- the file -------------------------------------------------------------------------------- */

struct file {
	struct settings *settings;
	FILE *stream;
	int line; /* that was read last */
	char *error;
	size_t error_size;
	int result;
	int error_line; /* 0: the file as a whole */
};

static int set_from_file(
	struct file *file, const char *section, const char *name, const char *value)
{
	struct settings *s = file->settings;
	for (unsigned i = 0; i < N_KEYS; i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].key, name) == 0)
			return set_value(s, &keys[i], value, file->error, file->error_size);
	if (strcmp(section, "sources") == 0)
		return set_source(s, name, value, file->error, file->error_size);
	if (strcmp(section, "gpus") == 0)
		return set_gpu_of(s, name, value, file->error, file->error_size);
	if (strcmp(section, "access") == 0 && strcmp(name, "allow") == 0)
		return access_add(&s->access, value, file->error, file->error_size);
	snprintf(file->error, file->error_size,
		"[%.32s] %.32s is no setting: man sluice.conf lists them", section, name);
	return -EINVAL;
}

/* The first error is the one that is told. */
static int fail(struct file *file, int result)
{
	file->result = result;
	file->error_line = file->line;
	return result;
}

/* inih wants 0 for an error. */
static int on_entry(void *data, const char *section, const char *name, const char *value)
{
	struct file *file = data;
	int r = set_from_file(file, section, name, value ? value : "");
	if (r < 0)
		fail(file, r);
	return r == 0;
}

/* inih would take the end of a line that does not fit its buffer for a line of its own. */
static char *read_line(char *line, int size, void *data)
{
	struct file *file = data;
	if (file->result < 0)
		return NULL;
	if (!fgets(line, size, file->stream)) {
		if (ferror(file->stream)) {
			file->line = 0;
			fail(file, -errno);
			snprintf(file->error, file->error_size, "%s", strerror(-file->result));
		}
		return NULL;
	}
	file->line++;
	int next = strchr(line, '\n') ? EOF : fgetc(file->stream);
	if (next == EOF)
		return line;
	fail(file, -EINVAL);
	snprintf(file->error, file->error_size, "the line is longer than %d bytes, or has a 0 byte",
		size - 2);
	return NULL;
}

static int load_file(struct settings *settings, const char *path, char *error, size_t error_size)
{
	char reason[512];
	struct file file = {
		.settings = settings,
		.error = reason,
		.error_size = sizeof(reason),
		.stream = fopen(path, "re"),
	};
	if (!file.stream) {
		int r = -errno;
		snprintf(error, error_size, "cannot read %s: %s", path, strerror(-r));
		return r;
	}
	int line = ini_parse_stream(read_line, &file, on_entry, &file);
	fclose(file.stream);
	bool is_malformed = line > 0 && (file.result == 0 || line < file.error_line);
	if (is_malformed) {
		snprintf(error, error_size,
			"%s:%d: not of the form \"key = value\" or \"[section]\"", path, line);
		return -EINVAL;
	}
	if (file.result < 0 && file.error_line == 0)
		snprintf(error, error_size, "cannot read %s: %s", path, reason);
	else if (file.result < 0)
		snprintf(error, error_size, "%s:%d: %s", path, file.error_line, reason);
	return file.result;
}

static bool default_file(char *path, size_t size)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	const char *dirs[3] = { config, home, "/etc" };
	static const char *const below[3] = { "", "/.config", "" };
	for (int i = 0; i < 3; i++) {
		if (!dirs[i] || dirs[i][0] != '/')
			continue;
		int n = snprintf(path, size, "%s%s/sluice/sluice.conf", dirs[i], below[i]);
		if (n > 0 && (size_t)n < size && access(path, R_OK) == 0)
			return true;
	}
	return false;
}

/* --- the command line ------------------------------------------------------------------------ */

static const char help_head[] =
	"usage: sluice-broker [options] --source NAME=SOURCE ...\n"
	"\n"
	"Captures frames and lends them to any number of other processes over a Unix socket.\n"
	"\n"
	"  --source NAME=pipewire:TARGET      a PipeWire node, by name or serial: a camera, a screen\n"
	"  --source NAME=pipewire:id=NODE     by node id, as a screen cast portal gives it; with\n"
	"                                     ,remote-fd=N over a PipeWire socket inherited as fd N\n"
	"  --source NAME=pattern:WxH@FPS[:FORMAT][:gpu]\n"
	"                                     a moving test picture with frame numbers in it, in host\n"
	"                                     or in GPU memory;\n"
	"                                     FORMAT is BGRx, BGRA, RGBx, RGBA, YUY2, NV12 or I420\n"
	"  --config FILE                      settings and sources, see sluice.conf(5)\n"
	"  --gpu-of NAME=WHICH                the GPU of one stream, as --gpu\n"
	"  --allow \"user:NAME ROLES\"          let another user in, or \"group:NAME ROLES\"; ROLES are\n"
	"                                     consume, gpu, observe, produce or all, with commas\n";

static const char help_tail[] =
	"  --help, --version\n"
	"\n"
	"Examples:\n"
	"  sluice-broker --source test=pattern:1280x720@60\n"
	"  sluice-snap --stream test out.png          (in another terminal)\n"
	"  sluice-encode --stream test -t 10 out.mp4  (in a third)\n"
	"  sluice ls                                  who gets what, and how well\n"
	"\n"
	"SIGTERM and SIGINT tell the clients and end; SIGHUP reads the configuration again.\n"
	"Exit status: 0 ended as told, 1 failed, 2 wrong options or configuration.\n";

static const char *const type_placeholder[] = {
	[TYPE_COUNT] = "N",
	[TYPE_BYTES] = "BYTES",
	[TYPE_DURATION] = "TIME",
	[TYPE_SPIN] = "TIME",
	[TYPE_WHICH] = "WHICH",
	[TYPE_OCTAL] = "MODE",
	[TYPE_LEVEL] = "LEVEL",
	[TYPE_TEXT] = "PATH",
};

static void print_help(void)
{
	fputs(help_head, stdout);
	for (unsigned i = 0; i < N_KEYS; i++) {
		char left[48];
		snprintf(left, sizeof(left), "--%s %s", keys[i].option,
			type_placeholder[keys[i].type]);
		printf("  %-34s %s (%s)\n", left, keys[i].help, keys[i].unset);
	}
	fputs(help_tail, stdout);
}

static void fill_options(struct option *options)
{
	unsigned n = 0;
	for (unsigned i = 0; i < N_KEYS; i++)
		options[n++] = (struct option){ keys[i].option, required_argument, NULL, (int)i };
	options[n++] = (struct option){ "config", required_argument, NULL, OPT_CONFIG };
	options[n++] = (struct option){ "source", required_argument, NULL, OPT_SOURCE };
	options[n++] = (struct option){ "gpu-of", required_argument, NULL, OPT_GPU_OF };
	options[n++] = (struct option){ "allow", required_argument, NULL, OPT_ALLOW };
	options[n++] = (struct option){ "help", no_argument, NULL, OPT_HELP };
	options[n++] = (struct option){ "version", no_argument, NULL, OPT_VERSION };
	options[n] = (struct option){ 0 };
}

static int set_gpu_option(
	struct settings *settings, const char *text, char *error, size_t error_size)
{
	char name[STREAM_NAME_MAX + 2];
	const char *equals = strchr(text, '=');
	snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - text) : 0, text);
	return set_gpu_of(settings, name, equals ? equals + 1 : "", error, error_size);
}

static int set_source_option(
	struct settings *settings, const char *text, char *error, size_t error_size)
{
	char name[STREAM_NAME_MAX + 2];
	const char *equals = strchr(text, '=');
	if (!equals) {
		snprintf(error, error_size,
			"--source \"%.80s\": write NAME=SOURCE, as in test=pattern:640x480@30",
			text);
		return -EINVAL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
	return set_source(settings, name, equals + 1, error, error_size);
}

/* What the options are to be applied to: nothing yet (only --config, --help are looked for), or settings. */
struct command_line {
	struct settings *settings; /* NULL in the first pass */
	const char *config;
};

static int apply_option(
	struct command_line *cl, int option, const char *arg, char *error, size_t error_size)
{
	switch (option) {
	case OPT_HELP:
		print_help();
		return SETTINGS_EXIT;
	case OPT_VERSION:
		puts("sluice-broker " SLUICE_VERSION);
		return SETTINGS_EXIT;
	case OPT_CONFIG:
		cl->config = arg;
		return 0;
	case OPT_SOURCE:
		return cl->settings ? set_source_option(cl->settings, arg, error, error_size) : 0;
	case OPT_GPU_OF:
		return cl->settings ? set_gpu_option(cl->settings, arg, error, error_size) : 0;
	case OPT_ALLOW:
		return cl->settings ? access_add(&cl->settings->access, arg, error, error_size) : 0;
	case '?':
	case ':':
		snprintf(error, error_size, "see sluice-broker --help");
		return -EINVAL;
	default:
		return cl->settings ? set_value(cl->settings, &keys[option], arg, error, error_size)
				    : 0;
	}
}

static int parse_options(
	struct command_line *cl, int argc, char **argv, char *error, size_t error_size)
{
	struct option options[N_KEYS + 7];
	fill_options(options);
	optind = 0;                    /* not 1: forget what is left of a word that was given up */
	opterr = cl->settings == NULL; /* getopt says what it does not know once */
	int option, r = 0;
	while (r == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		r = apply_option(cl, option, optarg ? optarg : "", error, error_size);
	if (r == 0 && optind < argc) {
		snprintf(error, error_size,
			"\"%.80s\" is one word too many: see sluice-broker --help", argv[optind]);
		return -EINVAL;
	}
	return r;
}

int settings_load(
	struct settings *settings_out, int argc, char **argv, char *error, size_t error_size)
{
	char path[512];
	_cleanup_free_ struct settings *s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = defaults;
	struct command_line cl = { NULL, NULL };
	int r = parse_options(&cl, argc, argv, error, error_size);
	if (r != 0)
		return r;
	if (!cl.config && default_file(path, sizeof(path)))
		cl.config = path;
	if (cl.config)
		r = load_file(s, cl.config, error, error_size);
	if (r < 0)
		return r;
	cl.settings = s;
	r = parse_options(&cl, argc, argv, error, error_size);
	if (r != 0)
		return r;
	*settings_out = *s;
	return SETTINGS_OK;
}
