#include "broker/quota.h"

#include <assert.h>
#include <stddef.h>

static struct quota_user *find(const struct quota *quota, uid_t uid)
{
	for (unsigned i = 0; i < quota->n_users; i++)
		if (quota->user[i].uid == uid)
			return (struct quota_user *)&quota->user[i];
	return NULL;
}

static struct quota_user *find_or_add(struct quota *quota, uid_t uid)
{
	struct quota_user *user = find(quota, uid);
	if (user || quota->n_users == QUOTA_USERS_MAX)
		return user;
	user = &quota->user[quota->n_users++];
	*user = (struct quota_user){ .uid = uid };
	return user;
}

static void remove_if_idle(struct quota *quota, struct quota_user *user)
{
	for (unsigned i = 0; i < QUOTA_KINDS; i++)
		if (user->used[i] > 0)
			return;
	*user = quota->user[--quota->n_users];
}

bool quota_allows(const struct quota *quota, uid_t uid, enum quota_kind kind, uint64_t amount)
{
	const struct quota_user *user = find(quota, uid);
	uint64_t used = user ? user->used[kind] : 0;
	if (!user && quota->n_users == QUOTA_USERS_MAX)
		return false;
	/* a limit may have been lowered below what is used */
	return used <= quota->limit[kind] && amount <= quota->limit[kind] - used;
}

bool quota_charge(struct quota *quota, uid_t uid, enum quota_kind kind, uint64_t amount)
{
	if (!quota_allows(quota, uid, kind, amount))
		return false;
	struct quota_user *user = find_or_add(quota, uid);
	user->used[kind] += amount;
	remove_if_idle(quota, user);
	return true;
}

void quota_return(struct quota *quota, uid_t uid, enum quota_kind kind, uint64_t amount)
{
	if (amount == 0)
		return;
	struct quota_user *user = find(quota, uid);
	assert(user && user->used[kind] >= amount);
	user->used[kind] -= amount;
	remove_if_idle(quota, user);
}

uint64_t quota_used(const struct quota *quota, uid_t uid, enum quota_kind kind)
{
	const struct quota_user *user = find(quota, uid);
	return user ? user->used[kind] : 0;
}
