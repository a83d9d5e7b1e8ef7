/* An output that waits for its viewer: what is made of its URL. */
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/listen.h"
#include "tests/test.h"

static const struct {
	const char *url, *opened;
	bool listens;
} urls[] = {
	{ "http://127.0.0.1:8080/?listen=1", "http://127.0.0.1:8080/", true },
	{ "http://[::1]:8080/live?listen=1", "http://[::1]:8080/live", true },
	{ "http://h:1/?a=b&listen=1", "http://h:1/?a=b", true },
	{ "http://h:1/?listen=1&a=b", "http://h:1/?a=b", true },
	{ "http://h:1/?a=b&listen=1&c=d", "http://h:1/?a=b&c=d", true },
	{ "http://h:1/?listen=10", "http://h:1/?listen=10", false },
	{ "http://h:1/?listen=0", "http://h:1/?listen=0", false },
	{ "http://h:1/?xlisten=1", "http://h:1/?xlisten=1", false },
	{ "http://h:1/listen=1", "http://h:1/listen=1", false },
	{ "http://h:1/", "http://h:1/", false },
	{ "tcp://h:1?listen=1", "tcp://h:1?listen=1", false },
	{ "what?listen=1", "what?listen=1", false },
	{ "", "", false },
};

TEST(the_word_in_the_url_is_ffmpegs_option)
{
	const AVOutputFormat *mpjpeg = av_guess_format("mpjpeg", NULL, NULL);
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		char *opened = NULL;
		AVDictionary *options = NULL;
		CHECK_ROW(listen_is_asked(urls[i].url) == urls[i].listens, urls[i].url);
		CHECK_EQ(listen_prepare(urls[i].url, mpjpeg, 5000000, &opened, &options), 0);
		CHECK_STR(opened, urls[i].opened);
		CHECK_EQ(av_dict_count(options), urls[i].listens ? 3 : 0);
		if (urls[i].listens) {
			CHECK_STR(av_dict_get(options, "listen", NULL, 0)->value, "1");
			CHECK_STR(av_dict_get(options, "timeout", NULL, 0)->value, "5000000");
			CHECK_STR(av_dict_get(options, "content_type", NULL, 0)->value,
				"multipart/x-mixed-replace;boundary=ffmpeg");
		}
		av_dict_free(&options);
		free(opened);
	}
}
