/* What each user has taken of the broker, and how much of it one user may have. Decides only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum quota_kind {
	QUOTA_CLIENTS, /* connections */
	QUOTA_FDS,     /* descriptors open or in flight for its clients */
	QUOTA_BYTES,   /* memory of the broker that its clients have bound */
	QUOTA_KINDS,
};

enum { QUOTA_USERS_MAX = 64 };

struct quota_user {
	uid_t uid;
	uint64_t used[QUOTA_KINDS];
};

struct quota {
	uint64_t limit[QUOTA_KINDS]; /* for each user */
	unsigned n_users;
	struct quota_user user[QUOTA_USERS_MAX]; /* those that have anything */
};

/* Would quota_charge() take it? */
bool quota_allows(const struct quota *quota, uid_t uid, enum quota_kind kind, uint64_t amount);

/* Take `amount` for a user; false, and nothing is taken, if it is over the limit or there are
 * QUOTA_USERS_MAX other users. */
bool quota_charge(struct quota *quota, uid_t uid, enum quota_kind kind, uint64_t amount);

/* Give back; asserts that it was taken. */
void quota_return(struct quota *quota, uid_t uid, enum quota_kind kind, uint64_t amount);

uint64_t quota_used(const struct quota *quota, uid_t uid, enum quota_kind kind);
