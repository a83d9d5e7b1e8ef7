/* Who may do what: rules on the peer's credentials. Decides only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum access_role {
	ROLE_CONSUME = 1 << 0, /* subscribe to streams */
	ROLE_PRODUCE = 1 << 1, /* publish streams */
	ROLE_OBSERVE = 1 << 2, /* see the status of all clients */
	/* have views in GPU memory, which the driver lets every holder write: who has this role can spoil
	 * the frames of others */
	ROLE_GPU = 1 << 3,
	ROLE_ALL = ROLE_CONSUME | ROLE_PRODUCE | ROLE_OBSERVE | ROLE_GPU,
};

enum { ACCESS_RULES_MAX = 32, ACCESS_GROUPS_MAX = 64 };

struct access_rule {
	bool is_group;
	unsigned id; /* uid or gid */
	unsigned roles;
};

struct access {
	unsigned n_rules;
	struct access_rule rule[ACCESS_RULES_MAX];
};

struct access_peer {
	pid_t pid;
	uid_t uid;
	unsigned n_groups;
	gid_t group[ACCESS_GROUPS_MAX]; /* primary and supplementary */
};

/**
 * The credentials of the process that connected (SO_PEERCRED, SO_PEERGROUPS). 0 or negative errno.
 */
int access_peer_of_socket(struct access_peer *peer_out, int sock);

/* Roles of a peer: all for own_uid, else those of every rule that matches; 0: refused. */
unsigned access_roles(const struct access *access, const struct access_peer *peer, uid_t own_uid);

/**
 * Add "user:NAME ROLES" or "group:NAME ROLES" (names or numbers; roles consume, produce, observe,
 * gpu, all, separated by commas). 0, or -EINVAL with a sentence.
 */
int access_add(struct access *access, const char *text, char *error, size_t error_size);
