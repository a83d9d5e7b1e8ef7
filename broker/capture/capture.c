#include "broker/capture/capture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct kind {
	const char *name;
	const char *form; /* for people */
	int (*create)(struct capture **capture_out, const struct capture_place *place,
		const char *rest, char *error, size_t error_size);
};

static const struct kind kinds[] = {
	{ "pattern", "pattern:WIDTHxHEIGHT@FPS[:FORMAT][:gpu]", capture_pattern_create },
#ifdef HAVE_PIPEWIRE
	{ "pipewire", "pipewire:TARGET (a node's name or serial, or id=NODE)",
		capture_pipewire_create },
#endif
};

enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void list_kinds(const char *spec, char *error, size_t size)
{
	size_t used = (size_t)snprintf(error, size, "\"%.64s\" is no source; write", spec);
	for (unsigned i = 0; i < N_KINDS && used < size; i++)
		used += (size_t)snprintf(
			error + used, size - used, "%s %s", i ? " or" : "", kinds[i].form);
}

bool capture_is_gpu(const char *spec)
{
	static const char suffix[] = ":gpu";
	size_t len = strlen(spec);
	return strncmp(spec, "pattern:", 8) == 0 && len > sizeof(suffix) &&
	       strcmp(spec + len + 1 - sizeof(suffix), suffix) == 0;
}

int capture_create(struct capture **capture_out, const struct capture_place *place,
	const char *spec, char *error, size_t error_size)
{
	const char *colon = strchr(spec, ':');
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
	for (unsigned i = 0; i < N_KINDS; i++) {
		const struct kind *kind = &kinds[i];
		if (strlen(kind->name) == len && strncmp(spec, kind->name, len) == 0)
			return kind->create(
				capture_out, place, colon ? colon + 1 : "", error, error_size);
	}
	list_kinds(spec, error, error_size);
	return -EINVAL;
}
