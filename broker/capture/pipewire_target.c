/* What the user wrote behind "pipewire:". */
#include "broker/capture/pipewire.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REMOTE ",remote-fd="

enum { DIGITS_MAX = 18 /* so that a number always fits */ };

static bool parse_number(const char *text, uint64_t max, uint64_t *number_out)
{
	size_t len = strlen(text);
	if (len == 0 || len > DIGITS_MAX || strspn(text, "0123456789") != len)
		return false;
	uint64_t number = strtoull(text, NULL, 10);
	if (number > max)
		return false;
	*number_out = number;
	return true;
}

static int bad(const char *rest, char *error, size_t error_size)
{
	snprintf(error, error_size,
		"\"%.64s\" is no target of pipewire; write the name of a node "
		"(pipewire:NAME, up to %d bytes), its object.serial (pipewire:SERIAL), or "
		"pipewire:id=ID as a portal gives it; \"pw-cli ls Node\" shows them",
		rest, PIPEWIRE_TARGET_MAX);
	return -EINVAL;
}

static bool is_name(const char *name)
{
	for (const char *c = name; *c; c++)
		if (iscntrl((unsigned char)*c))
			return false;
	return *name != 0;
}

static int parse_node(struct pipewire_target *t)
{
	if (strncmp(t->name, "id=", 3) == 0) {
		t->kind = PIPEWIRE_BY_ID;
		return parse_number(t->name + 3, SPA_ID_INVALID - 1, &t->number) ? 0 : -EINVAL;
	}
	if (parse_number(t->name, UINT64_MAX, &t->number)) {
		t->kind = PIPEWIRE_BY_SERIAL;
		return t->number > 0 ? 0 : -EINVAL;
	}
	t->kind = PIPEWIRE_BY_NAME;
	return is_name(t->name) ? 0 : -EINVAL;
}

/* The descriptor becomes ours, and is not for our children. */
static int take_remote(
	struct pipewire_target *t, const char *number, char *error, size_t error_size)
{
	uint64_t fd;
	struct stat st;
	if (!parse_number(number, INT32_MAX, &fd) || fd <= STDERR_FILENO ||
		fstat((int)fd, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		snprintf(error, error_size,
			"remote-fd=%.16s is no open socket; give the number of the descriptor that "
			"the portal's OpenPipeWireRemote returned, inherited by this program",
			number);
		return -EINVAL;
	}
	if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	t->has_remote = true;
	t->remote_fd = (int)fd;
	return 0;
}

int pipewire_target_parse(
	struct pipewire_target *target_out, const char *rest, char *error, size_t error_size)
{
	struct pipewire_target t = { .remote_fd = -EBADF };
	const char *remote = strstr(rest, REMOTE);
	size_t len = remote ? (size_t)(remote - rest) : strlen(rest);
	if (len > PIPEWIRE_TARGET_MAX)
		return bad(rest, error, error_size);
	memcpy(t.name, rest, len);
	if (parse_node(&t) < 0)
		return bad(rest, error, error_size);
	int r = remote ? take_remote(&t, remote + strlen(REMOTE), error, error_size) : 0;
	if (r < 0)
		return r;
	*target_out = t;
	return 0;
}

const char *pipewire_target_describe(const struct pipewire_target *target, char *buf, size_t size)
{
	switch (target->kind) {
	case PIPEWIRE_BY_NAME:
		snprintf(buf, size, "node %s", target->name);
		break;
	case PIPEWIRE_BY_SERIAL:
		snprintf(buf, size, "object.serial %llu", (unsigned long long)target->number);
		break;
	case PIPEWIRE_BY_ID:
		snprintf(buf, size, "node id %llu", (unsigned long long)target->number);
		break;
	}
	return buf;
}
