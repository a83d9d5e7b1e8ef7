#include "consumer/encoder/listen.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

static const char scheme[] = "http://", word[] = "listen=1";

/* Where the word is: behind a '?' or a '&', up to the next '&'. */
static const char *find_word(const char *url)
{
	if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	for (const char *at = strpbrk(url, "?"); at; at = strchr(at, '&')) {
		size_t n = strcspn(++at, "&");
		if (n == sizeof(word) - 1 && strncmp(at, word, n) == 0)
			return at;
	}
	return NULL;
}

bool listen_is_asked(const char *url)
{
	return find_word(url) != NULL;
}

/* With the '&' behind it, or else with what is before it. */
static void cut(char *url, const char *word_in_url)
{
	char *at = url + (word_in_url - url);
	size_t n = sizeof(word) - 1;
	if (at[n] == '&')
		n++;
	else
		at--, n++;
	memmove(at, at + n, strlen(at + n) + 1);
}

int listen_prepare(const char *url, const AVOutputFormat *format, int64_t timeout_us,
	char **url_out, AVDictionary **options_out)
{
	_cleanup_free_ char *copy = strdup(url);
	AVDictionary *options = NULL;
	if (!copy)
		return -ENOMEM;
	const char *at = find_word(copy);
	int r = at ? av_dict_set(&options, "listen", "1", 0) : 0;
	/* of the connection below: HTTP's own would be for its viewer's coming */
	if (at && r >= 0 && timeout_us > 0)
		r = av_dict_set_int(
			&options, "timeout", timeout_us < INT_MAX ? timeout_us : INT_MAX, 0);
	if (at && r >= 0 && format->mime_type)
		r = av_dict_set(&options, "content_type", format->mime_type, 0);
	if (r < 0) {
		av_dict_free(&options);
		return -ENOMEM;
	}
	if (at)
		cut(copy, at);
	*url_out = TAKE_PTR(copy);
	*options_out = options;
	return 0;
}
