#include "consumer/encoder/nvjpeg_settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/nvjpeg_api.h"

enum { QUALITY_USUAL = 85 };

/*
 * FFmpeg scales MPEG's tables by qp/8, libjpeg scales JPEG's own by a percentage that depends on the
 * quality. A step of the first is about 8 percent of the second.
 */
int nvjpeg_quality_of_qp(int qp)
{
	int percent = 8 * qp;
	return percent <= 100 ? 100 - percent / 2 : 5000 / percent;
}

static bool is_none(const char *name)
{
	return !name || strcmp(name, "none") == 0;
}

static int refuse_foreign(const struct encoder_settings *s, struct problem *problem)
{
	static const char quality[] =
		"nvjpeg has no %s: its quality is constant, give -qp 2 (best) to 31, or "
		"-o quality=100 (best) to 1";
	if (s->bit_rate > 0)
		return problem_set(problem, -EINVAL, quality, "-b");
	if (s->crf >= 0)
		return problem_set(problem, -EINVAL, quality, "-crf");
	if (!is_none(s->preset) || !is_none(s->tune))
		return problem_set(problem, -EINVAL, "nvjpeg has no presets and no tunes");
	if (s->max_bit_rate > 0 || s->buffer_bits > 0)
		return problem_set(problem, -EINVAL, quality, "-maxrate and no -bufsize");
	if (s->profile || s->b_frames > 0)
		return problem_set(problem, -EINVAL, "nvjpeg has no profiles and no B-frames");
	if (s->pix_fmt && strcmp(s->pix_fmt, "yuvj420p") != 0 && strcmp(s->pix_fmt, "yuv420p") != 0)
		return problem_set(problem, -EINVAL,
			"nvjpeg does not take pixel format %s: it encodes yuvj420p", s->pix_fmt);
	return 0;
}

static int read_number(
	const char *text, const char *value, int min, int max, int *out, struct problem *problem)
{
	char *end;
	long n = strtol(value, &end, 10);
	if (end == value || *end || n < min || n > max)
		return problem_set(problem, -EINVAL, "-o %s: it takes a whole number from %d to %d",
			text, min, max);
	*out = (int)n;
	return 0;
}

/* text: "key=value" */
static int read_option(struct nvjpeg_settings *out, const char *text, struct problem *problem)
{
	static const char quality[] = "quality=", huffman[] = "optimized_huffman=";
	int r, number = 0;
	if (strncmp(text, quality, sizeof(quality) - 1) == 0)
		return read_number(text, text + sizeof(quality) - 1, 1, NVJPEG_QUALITY_MAX,
			&out->quality, problem);
	if (strncmp(text, huffman, sizeof(huffman) - 1) != 0)
		return problem_set(problem, -EINVAL,
			"nvjpeg has no option -o %s: it has quality=1 to 100 and "
			"optimized_huffman=0 or 1",
			text);
	r = read_number(text, text + sizeof(huffman) - 1, 0, 1, &number, problem);
	if (r == 0)
		out->optimized_huffman = number;
	return r;
}

int nvjpeg_settings_read(struct nvjpeg_settings *settings_out,
	const struct encoder_settings *settings, struct problem *problem)
{
	struct nvjpeg_settings out = { .quality = 0 };
	int r = refuse_foreign(settings, problem);
	for (int64_t i = 0; r == 0 && i < settings->n_options; i++)
		r = read_option(&out, settings->option[i], problem);
	if (r < 0)
		return r;
	if (settings->qp >= 0 && out.quality > 0)
		return problem_set(problem, -EINVAL, "-qp and -o quality: choose one");
	if (settings->qp >= 0 && (settings->qp < NVJPEG_QP_MIN || settings->qp > NVJPEG_QP_MAX))
		return problem_set(problem, -EINVAL, "-qp %d: nvjpeg takes %d (best) to %d",
			(int)settings->qp, NVJPEG_QP_MIN, NVJPEG_QP_MAX);
	if (settings->qp >= 0)
		out.quality = nvjpeg_quality_of_qp((int)settings->qp);
	else if (out.quality == 0)
		out.quality = QUALITY_USUAL;
	*settings_out = out;
	return 0;
}
