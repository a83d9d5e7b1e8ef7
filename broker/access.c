#include "broker/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int access_peer_of_socket(struct access_peer *peer_out, int sock)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	struct access_peer peer = { .pid = cred.pid, .uid = cred.uid, .n_groups = 1 };
	peer.group[0] = cred.gid;
	len = sizeof(gid_t) * (ACCESS_GROUPS_MAX - 1);
	/* more groups than fit: only the primary one counts */
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, peer.group + 1, &len) == 0)
		peer.n_groups += len / sizeof(gid_t);
	*peer_out = peer;
	return 0;
}

static bool in_group(const struct access_peer *peer, unsigned gid)
{
	for (unsigned i = 0; i < peer->n_groups; i++)
		if (peer->group[i] == gid)
			return true;
	return false;
}

unsigned access_roles(const struct access *access, const struct access_peer *peer, uid_t own_uid)
{
	unsigned roles = peer->uid == own_uid ? ROLE_ALL : 0;
	for (unsigned i = 0; i < access->n_rules; i++) {
		const struct access_rule *rule = &access->rule[i];
		if (rule->is_group ? in_group(peer, rule->id) : rule->id == peer->uid)
			roles |= rule->roles;
	}
	return roles;
}

static bool parse_number(const char *text, unsigned *id_out)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || n > 0xfffffffeul)
		return false;
	*id_out = (unsigned)n;
	return true;
}

static bool find_id(const char *name, bool is_group, unsigned *id_out)
{
	if (parse_number(name, id_out))
		return true;
	const struct group *group = is_group ? getgrnam(name) : NULL;
	const struct passwd *user = is_group ? NULL : getpwnam(name);
	if (group)
		*id_out = group->gr_gid;
	if (user)
		*id_out = user->pw_uid;
	return group || user;
}

static unsigned role_by_name(const char *name)
{
	if (strcmp(name, "consume") == 0)
		return ROLE_CONSUME;
	if (strcmp(name, "produce") == 0)
		return ROLE_PRODUCE;
	if (strcmp(name, "observe") == 0)
		return ROLE_OBSERVE;
	if (strcmp(name, "gpu") == 0)
		return ROLE_GPU;
	return strcmp(name, "all") == 0 ? ROLE_ALL : 0;
}

/* 0 if one of them is no role. */
static unsigned parse_roles(char *text)
{
	unsigned roles = 0;
	char *rest = NULL;
	for (char *name = strtok_r(text, ", \t", &rest); name;
		name = strtok_r(NULL, ", \t", &rest)) {
		unsigned role = role_by_name(name);
		if (!role)
			return 0;
		roles |= role;
	}
	return roles;
}

int access_add(struct access *access, const char *text, char *error, size_t error_size)
{
	char kind[8], name[64], space[2], roles_text[64];
	struct access_rule rule = { 0 };
	int end = 0;
	if (access->n_rules == ACCESS_RULES_MAX) {
		snprintf(error, error_size, "more than %d access rules", ACCESS_RULES_MAX);
		return -EINVAL;
	}
	/* a part that is too long must not be cut to one that is a rule */
	if (sscanf(text, "%7[a-z]:%63s%1[ \t]%63[^\n]%n", kind, name, space, roles_text, &end) !=
			4 ||
		text[end] != 0 || (strcmp(kind, "user") != 0 && strcmp(kind, "group") != 0)) {
		snprintf(error, error_size,
			"\"%.64s\" is no access rule; write user:NAME ROLES or group:NAME ROLES",
			text);
		return -EINVAL;
	}
	rule.is_group = kind[0] == 'g';
	if (!find_id(name, rule.is_group, &rule.id)) {
		snprintf(error, error_size, "there is no %s \"%s\" on this machine", kind, name);
		return -EINVAL;
	}
	rule.roles = parse_roles(roles_text);
	if (!rule.roles) {
		snprintf(error, error_size,
			"\"%s %.64s\": roles are consume, gpu, produce, observe or all, with commas between",
			name, text + strlen(kind) + 1 + strlen(name));
		return -EINVAL;
	}
	access->rule[access->n_rules++] = rule;
	return 0;
}
