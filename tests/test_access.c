/* Who may do what. */
#include "tests/test.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/access.h"

static int add(struct access *access, const char *text, char *error)
{
	error[0] = 0;
	int r = access_add(access, text, error, 256);
	CHECK_ROW((r < 0) == (error[0] != 0), text);
	return r;
}

TEST(rules_name_users_groups_and_roles)
{
	static const struct {
		const char *text;
		bool is_group;
		unsigned id;
		unsigned roles;
	} rows[] = {
		{ "user:1000 consume", false, 1000, ROLE_CONSUME },
		{ "user:0 all", false, 0, ROLE_ALL },
		{ "user:root observe", false, 0, ROLE_OBSERVE },
		{ "group:4242 produce", true, 4242, ROLE_PRODUCE },
		{ "group:root consume,observe", true, 0, ROLE_CONSUME | ROLE_OBSERVE },
		{ "user:1000   consume , produce", false, 1000, ROLE_CONSUME | ROLE_PRODUCE },
		{ "user:1000\tconsume observe produce gpu", false, 1000, ROLE_ALL },
		{ "user:1000 consume,gpu", false, 1000, ROLE_CONSUME | ROLE_GPU },
		{ "user:4294967294 all", false, 4294967294u, ROLE_ALL },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct access access = { 0 };
		char error[256];
		CHECK_ROW(add(&access, rows[i].text, error) == 0, rows[i].text);
		CHECK_EQ(access.n_rules, 1);
		CHECK_ROW(access.rule[0].is_group == rows[i].is_group, rows[i].text);
		CHECK_ROW(access.rule[0].id == rows[i].id, rows[i].text);
		CHECK_ROW(access.rule[0].roles == rows[i].roles, rows[i].text);
	}
}

TEST(what_is_no_rule_is_explained)
{
	static const struct {
		const char *text;
		const char *says;
	} rows[] = {
		{ "", "write user:NAME ROLES or group:NAME ROLES" },
		{ "root all", "write user:NAME ROLES" },
		{ "user:root", "write user:NAME ROLES" },
		{ "user: all", "write user:NAME ROLES" },
		{ "host:root all", "write user:NAME ROLES" },
		{ "User:root all", "write user:NAME ROLES" },
		{ "userx:root all", "write user:NAME ROLES" },
		{ "user:no-such-user-here all", "there is no user \"no-such-user-here\"" },
		{ "group:no-such-group-here all", "there is no group \"no-such-group-here\"" },
		{ "user:4294967295 all", "there is no user" }, /* -1: nobody, and everybody */
		{ "user:-1 all", "there is no user" },
		{ "user:99999999999999999999 all", "there is no user" },
		{ "user:10x all", "there is no user \"10x\"" },
		{ "user:root everything", "roles are consume, gpu, produce, observe or all" },
		{ "user:root consume,everything",
			"roles are consume, gpu, produce, observe or all" },
		{ "user:root ,", "roles are consume, gpu, produce, observe or all" },
		/* a part that is too long is not cut to one that is a rule */
		{ "user:000000000000000000000000000000000000000000000000000000000000000all",
			"write user:NAME ROLES" },
		{ "user:root consume, consume, consume, consume, consume, consume, consume, nonsense",
			"write user:NAME ROLES" },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct access access = { 0 };
		char error[256];
		CHECK_ROW(add(&access, rows[i].text, error) == -EINVAL, rows[i].text);
		CHECK_ROW(strstr(error, rows[i].says), error);
		CHECK_EQ(access.n_rules, 0);
	}
}

TEST(rules_have_a_limit)
{
	struct access access = { 0 };
	char error[256];
	for (unsigned i = 0; i < ACCESS_RULES_MAX; i++)
		CHECK_EQ(add(&access, "user:1000 consume", error), 0);
	CHECK_EQ(add(&access, "user:1000 consume", error), -EINVAL);
	CHECK_STR(error, "more than 32 access rules");
	CHECK_EQ(access.n_rules, ACCESS_RULES_MAX);
}

TEST(a_peer_has_the_roles_of_every_rule_that_matches)
{
	enum { OWN = 1000 };
	struct access access = { 0 };
	char error[256];
	CHECK_EQ(add(&access, "user:1001 consume", error), 0);
	CHECK_EQ(add(&access, "group:50 observe", error), 0);
	CHECK_EQ(add(&access, "group:1001 produce", error), 0); /* a gid, not the uid 1001 */
	static const struct {
		const char *row;
		struct access_peer peer;
		unsigned roles;
	} rows[] = {
		{ "the broker's own user", { .uid = OWN }, ROLE_ALL },
		{ "root is nobody special", { .uid = 0, .n_groups = 1 }, 0 },
		{ "a stranger", { .uid = 1002, .n_groups = 1, .group = { 1002 } }, 0 },
		{ "by user", { .uid = 1001, .n_groups = 1, .group = { 1002 } }, ROLE_CONSUME },
		{ "by primary group", { .uid = 1002, .n_groups = 1, .group = { 50 } },
			ROLE_OBSERVE },
		{ "by another group", { .uid = 1002, .n_groups = 3, .group = { 1, 2, 50 } },
			ROLE_OBSERVE },
		{ "past its groups", { .uid = 1002, .n_groups = 2, .group = { 1, 2, 50 } }, 0 },
		{ "by all three", { .uid = 1001, .n_groups = 2, .group = { 50, 1001 } },
			ROLE_CONSUME | ROLE_OBSERVE | ROLE_PRODUCE },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_ROW(access_roles(&access, &rows[i].peer, OWN) == rows[i].roles, rows[i].row);
}

TEST(the_kernel_says_who_is_there)
{
	struct access_peer peer = { 0 };
	int pair[2];
	gid_t groups[ACCESS_GROUPS_MAX];
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK_EQ(access_peer_of_socket(&peer, pair[0]), 0);
	CHECK_EQ(peer.pid, getpid());
	CHECK_EQ(peer.uid, getuid());
	CHECK_EQ(peer.group[0], getgid());
	int n = getgroups(ACCESS_GROUPS_MAX - 1, groups);
	CHECK(n >= 0 && peer.n_groups == 1 + (unsigned)n);
	close(pair[0]);
	close(pair[1]);
}

TEST(what_is_no_socket_is_an_error_and_writes_nothing)
{
	struct access_peer peer = { .uid = 42 };
	int fd = eventfd(0, EFD_CLOEXEC);
	CHECK_EQ(access_peer_of_socket(&peer, fd), -ENOTSOCK);
	CHECK_EQ(peer.uid, 42);
	close(fd);
}
