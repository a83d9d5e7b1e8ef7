/*
 * What the broker is told: defaults, a configuration file (INI), and options that override it. One
 * table names every setting once, with its limits; the file, the command line and --help use it.
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "broker/server.h"
#include "common/log.h"

struct settings_source {
	char name[STREAM_NAME_MAX + 1];
	char spec[STREAM_SOURCE_MAX + 1];
};

enum { SETTINGS_GPU_MAX = 64 };

/* The GPU of one stream. */
struct settings_gpu {
	char stream[STREAM_NAME_MAX + 1];
	char which[SETTINGS_GPU_MAX];
};

struct settings {
	char socket[256]; /* empty: the default */
	mode_t socket_mode;
	enum log_level log_level;
	unsigned slots;        /* of each generation */
	uint64_t memory_bytes; /* of all pools together */
	struct server_limits limits;
	struct access access;
	unsigned n_sources;
	struct settings_source source[CATALOG_STREAMS_MAX];
	char gpu[SETTINGS_GPU_MAX]; /* "auto", "none", an index or a UUID */
	uint64_t gpu_memory_bytes;  /* of all pools on GPUs together */
	uint64_t gpu_spin_ns;
	unsigned gpu_validation;
	unsigned n_gpus;
	struct settings_gpu gpu_of[CATALOG_STREAMS_MAX];
#ifdef SLUICE_FAULTS
	unsigned fault_early_reuse;
	unsigned fault_slow_ms;
	unsigned fault_gpu_early;
	char fault_vulkan[128]; /* "vkAllocateMemory=-2@3+,..." */
#endif
};

enum settings_result {
	SETTINGS_OK = 0,
	SETTINGS_EXIT = 1, /* --help or --version was printed */
};

/**
 * Defaults, then the file that --config names (or the first that exists of
 * $XDG_CONFIG_HOME/sluice/sluice.conf, ~/.config/sluice/sluice.conf and /etc/sluice/sluice.conf),
 * then the options.
 *
 * argv          [borrow] may be parsed again, to read the file anew
 * settings_out  written only with SETTINGS_OK
 *
 * SETTINGS_OK, SETTINGS_EXIT, -EINVAL (what was written is wrong) or another negative errno (the
 * file cannot be read), with a sentence.
 */
int settings_load(
	struct settings *settings_out, int argc, char **argv, char *error, size_t error_size);

/* Which GPU a stream is on: its own setting, or that of all. [lend] as long as settings */
const char *settings_gpu_of(const struct settings *settings, const char *stream);
