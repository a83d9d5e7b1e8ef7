/* What each user has taken, and how much one may have. */
#include "tests/test.h"

#include <string.h>

#include "broker/quota.h"
#include "tests/death.h"

static struct quota make_quota(void)
{
	struct quota q = {
		.limit = { [QUOTA_CLIENTS] = 3, [QUOTA_FDS] = 100, [QUOTA_BYTES] = 1ull << 40 }
	};
	return q;
}

TEST(a_user_may_have_up_to_the_limit_and_not_one_more)
{
	struct quota q = make_quota();
	for (int i = 0; i < 3; i++)
		CHECK(quota_charge(&q, 1000, QUOTA_CLIENTS, 1));
	CHECK(!quota_charge(&q, 1000, QUOTA_CLIENTS, 1));
	CHECK_EQ(quota_used(&q, 1000, QUOTA_CLIENTS), 3);
	CHECK(quota_charge(&q, 1001, QUOTA_CLIENTS, 1)); /* another user */
	CHECK(quota_charge(&q, 1000, QUOTA_FDS, 100));   /* another kind */
	CHECK(!quota_charge(&q, 1000, QUOTA_FDS, 1));
	quota_return(&q, 1000, QUOTA_CLIENTS, 1);
	CHECK(quota_charge(&q, 1000, QUOTA_CLIENTS, 1));
}

TEST(great_amounts_do_not_wrap)
{
	struct quota q = make_quota();
	q.limit[QUOTA_BYTES] = UINT64_MAX;
	CHECK(quota_charge(&q, 0, QUOTA_BYTES, UINT64_MAX));
	CHECK(!quota_charge(&q, 0, QUOTA_BYTES, 1));
	CHECK(!quota_charge(&q, 0, QUOTA_BYTES, UINT64_MAX));
	CHECK_EQ(quota_used(&q, 0, QUOTA_BYTES), UINT64_MAX);
}

TEST(a_limit_that_was_lowered_takes_nothing_away_and_gives_nothing_more)
{
	struct quota q = make_quota();
	CHECK(quota_charge(&q, 1000, QUOTA_FDS, 80));
	q.limit[QUOTA_FDS] = 50;
	CHECK(!quota_charge(&q, 1000, QUOTA_FDS, 1));
	CHECK_EQ(quota_used(&q, 1000, QUOTA_FDS), 80);
	quota_return(&q, 1000, QUOTA_FDS, 40);
	CHECK(quota_charge(&q, 1000, QUOTA_FDS, 10));
	CHECK(!quota_charge(&q, 1000, QUOTA_FDS, 1));
}

TEST(users_are_forgotten_when_they_have_nothing)
{
	struct quota q = make_quota();
	for (uid_t uid = 0; uid < QUOTA_USERS_MAX; uid++)
		CHECK(quota_charge(&q, uid, QUOTA_CLIENTS, 1));
	CHECK(!quota_charge(&q, 5000, QUOTA_CLIENTS, 1)); /* one user too many */
	CHECK(quota_charge(&q, 7, QUOTA_FDS, 2));
	quota_return(&q, 7, QUOTA_CLIENTS, 1);
	CHECK(!quota_charge(&q, 5000, QUOTA_CLIENTS, 1)); /* 7 still has descriptors */
	quota_return(&q, 7, QUOTA_FDS, 2);
	CHECK_EQ(q.n_users, QUOTA_USERS_MAX - 1);
	CHECK(quota_charge(&q, 5000, QUOTA_CLIENTS, 1));
	for (uid_t uid = 0; uid < QUOTA_USERS_MAX; uid++)
		CHECK_EQ(quota_used(&q, uid, QUOTA_CLIENTS), uid != 7);
}

TEST(nothing_is_kept_of_a_charge_that_was_refused)
{
	struct quota q = make_quota();
	CHECK(!quota_charge(&q, 1000, QUOTA_CLIENTS, 4));
	CHECK_EQ(q.n_users, 0);
	CHECK(quota_charge(&q, 1000, QUOTA_CLIENTS, 0));
	quota_return(&q, 1000, QUOTA_CLIENTS, 0);
	CHECK_EQ(q.n_users, 0);
}

static void return_more_than_was_taken(void)
{
	struct quota q = make_quota();
	quota_charge(&q, 1000, QUOTA_CLIENTS, 1);
	quota_return(&q, 1000, QUOTA_CLIENTS, 2);
}

static void return_for_a_stranger(void)
{
	struct quota q = make_quota();
	quota_return(&q, 1000, QUOTA_CLIENTS, 1);
}

TEST(returning_what_was_not_taken_is_a_mistake)
{
	CHECK(dies(return_more_than_was_taken));
	CHECK(dies(return_for_a_stranger));
}
