#include "consumer/encoder/values.h"

#include <ctype.h>
#include <errno.h>
#include <libavutil/parseutils.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/format.h"
#include "consumer/encoder/convert.h"

bool value_whole(const char *text, int64_t min, int64_t max, int64_t *out)
{
	char *end;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (end == text || *end || errno || n < min || n > max)
		return false;
	*out = n;
	return true;
}

bool value_real(const char *text, double min, double max, double *out)
{
	char *end;
	double x = strtod(text, &end);
	if (end == text || *end || !isfinite(x) || x < min || x > max)
		return false;
	*out = x;
	return true;
}

bool value_bits(const char *text, int64_t min, int64_t max, int64_t *out)
{
	static const struct {
		const char *suffix;
		double factor;
	} units[] = { { "", 1 }, { "k", 1e3 }, { "K", 1e3 }, { "M", 1e6 }, { "G", 1e9 } };
	char *end;
	double x = strtod(text, &end);
	if (end == text || !isfinite(x))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].suffix) != 0)
			continue;
		x *= units[i].factor;
		if (x < (double)min || x > (double)max)
			return false;
		*out = (int64_t)x;
		return true;
	}
	return false;
}

bool value_rate(const char *text, int64_t max, AVRational *out)
{
	AVRational rate;
	if (av_parse_video_rate(&rate, text) < 0 || av_cmp_q(rate, (AVRational){ (int)max, 1 }) > 0)
		return false;
	*out = rate;
	return true;
}

bool value_duration(const char *text, int64_t max_s, int64_t *us_out)
{
	int64_t us;
	if (av_parse_time(&us, text, 1) < 0 || us <= 0 || us > max_s * 1000000)
		return false;
	*us_out = us;
	return true;
}

/* One of the two sides, ended by `end`: digits, or "-1" or nothing for one that is not given. */
static bool parse_side(const char *text, char end, int64_t max, uint32_t *out)
{
	char digits[8];
	int64_t n = 0;
	size_t length = strcspn(text, (char[]){ end, 0 });
	if (text[length] != end || length >= sizeof(digits))
		return false;
	memcpy(digits, text, length);
	digits[length] = 0;
	if (length > 0 && strcmp(digits, "-1") != 0 && !value_whole(digits, 1, max, &n))
		return false;
	*out = (uint32_t)n;
	return true;
}

bool value_size(const char *text, int64_t max, uint32_t *width_out, uint32_t *height_out)
{
	uint32_t width = 0, height = 0;
	int named_width, named_height;
	const char *x = strchr(text, 'x'), *end = text + strlen(text) - 1;
	if (*text && *end == 'p' && parse_side(text, 'p', max, &height) && height > 0) {
		width = 0;
	} else if (x && parse_side(text, 'x', max, &width) && parse_side(x + 1, 0, max, &height)) {
		if (width == 0 && height == 0)
			return false;
	} else if ((isalpha((unsigned char)*text) || (*text && text[1] == 'k')) &&
		   av_parse_video_size(&named_width, &named_height, text) == 0) {
		width = (uint32_t)named_width;
		height = (uint32_t)named_height;
	} else {
		return false;
	}
	*width_out = width;
	*height_out = height;
	return true;
}

bool value_format(const char *text, uint32_t *fourcc_out)
{
	const struct format_info *info = format_info_by_name(text);
	uint32_t fourcc = info ? info->fourcc : pixel_format_fourcc(av_get_pix_fmt(text));
	if (!fourcc)
		return false;
	*fourcc_out = fourcc;
	return true;
}
