#include "consumer/encoder/ladder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/format.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/values.h"

enum { RUNG_MAX = 128 /* bytes of its text */ };

#define PLACE "%r"

/* text is written to. */
static bool parse_rung(char *text, struct rung *rung)
{
	const char *size = strsep(&text, ":"), *rate = strsep(&text, ":");
	const char *codec = text ? text : "";
	*rung = (struct rung){ 0 };
	if (!rate || !value_size(size, FORMAT_SIDE_MAX, &rung->width, &rung->height) ||
		!value_bits(rate, OPTIONS_BIT_RATE_MIN, OPTIONS_BIT_RATE_MAX, &rung->bit_rate))
		return false;
	if ((text && !*text) || strlen(codec) > LADDER_CODEC_MAX || strpbrk(codec, ":/%"))
		return false;
	snprintf(rung->codec, sizeof(rung->codec), "%s", codec);
	snprintf(rung->name, sizeof(rung->name), "%s%s%s", size, *codec ? "-" : "", codec);
	return true;
}

const struct rung *ladder_find(const struct ladder *ladder, const char *name)
{
	for (unsigned i = 0; i < ladder->n; i++)
		if (strcmp(ladder->rung[i].name, name) == 0)
			return &ladder->rung[i];
	return NULL;
}

bool ladder_parse(const char *text, struct ladder *ladder_out)
{
	char copy[LADDER_MAX * RUNG_MAX], *rest = copy;
	struct ladder ladder = { 0 };
	if (strlen(text) >= sizeof(copy))
		return false;
	snprintf(copy, sizeof(copy), "%s", text);
	while (rest) {
		struct rung rung;
		if (ladder.n == LADDER_MAX || !parse_rung(strsep(&rest, ","), &rung))
			return false;
		if (ladder_find(&ladder, rung.name))
			return false;
		ladder.rung[ladder.n++] = rung;
	}
	*ladder_out = ladder;
	return true;
}

/* `path` with `insert` in it, `at` bytes from its beginning, instead of `skip` bytes. */
static int insert_at(const char *path, size_t at, size_t skip, const char *insert, char **path_out)
{
	char *result;
	if (asprintf(&result, "%.*s%s%s", (int)at, path, insert, path + at + skip) < 0)
		return -ENOMEM;
	*path_out = result;
	return 0;
}

static int fill_places(const char *path, const char *rung, char **path_out)
{
	_cleanup_free_ char *filled = strdup(path);
	const char *place;
	size_t from = 0;
	while (filled && (place = strstr(filled + from, PLACE))) {
		char *next;
		from = (size_t)(place - filled);
		if (insert_at(filled, from, strlen(PLACE), rung, &next) < 0)
			return -ENOMEM;
		from += strlen(rung);
		free(filled);
		filled = next;
	}
	if (!filled)
		return -ENOMEM;
	*path_out = TAKE_PTR(filled);
	return 0;
}

/* Bytes in front of a file's ending. */
static size_t ending_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
	return dot && dot != name ? (size_t)(dot - path) : strlen(path);
}

/* Bytes in front of an URL's query; 0: it has no path. */
static size_t path_end_of(const char *url)
{
	const char *host = strstr(url, "://");
	size_t end = strcspn(url, "?#");
	const char *path = host ? strchr(host + strlen("://"), '/') : NULL;
	return path && (size_t)(path - url) + 1 < end ? end : 0;
}

int ladder_path(const char *path, const char *rung, char **path_out, struct problem *problem)
{
	char insert[sizeof(((struct rung *)NULL)->name) + 1];
	bool is_url = strstr(path, "://") != NULL;
	size_t at = is_url ? path_end_of(path) : ending_of(path);
	if (strstr(path, PLACE))
		return fill_places(path, rung, path_out);
	if (at == 0)
		return problem_set(problem, -EINVAL,
			"%.200s is one output for all rungs: write %s where the name of each "
			"belongs",
			path, PLACE);
	snprintf(insert, sizeof(insert), "%c%s", is_url ? '_' : '-', rung);
	return insert_at(path, at, 0, insert, path_out);
}
