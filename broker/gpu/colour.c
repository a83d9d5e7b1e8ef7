/* From the numbers of one format to those of another: one matrix, which the shaders apply. */
#include <drm_fourcc.h>
#include <string.h>

#include "broker/gpu/convert.h"

/* ITU-T H.273 */
enum { MATRIX_UNSPECIFIED = 2, TRANSFER_LINEAR = 8 };

static const struct layout {
	uint32_t fourcc;
	enum convert_kind kind;
	bool is_blue_first; /* from the lowest bit on */
	bool has_alpha;
	unsigned bits; /* 0: floats */
} layouts[] = {
	{ DRM_FORMAT_XRGB8888, KIND_WORD8, true, false, 8 },
	{ DRM_FORMAT_ARGB8888, KIND_WORD8, true, true, 8 },
	{ DRM_FORMAT_XBGR8888, KIND_WORD8, false, false, 8 },
	{ DRM_FORMAT_ABGR8888, KIND_WORD8, false, true, 8 },
	{ DRM_FORMAT_XRGB2101010, KIND_WORD10, true, false, 10 },
	{ DRM_FORMAT_ARGB2101010, KIND_WORD10, true, true, 10 },
	{ DRM_FORMAT_XBGR2101010, KIND_WORD10, false, false, 10 },
	{ DRM_FORMAT_ABGR2101010, KIND_WORD10, false, true, 10 },
	{ DRM_FORMAT_XBGR16161616F, KIND_HALVES, false, false, 0 },
	{ DRM_FORMAT_ABGR16161616F, KIND_HALVES, false, true, 0 },
	{ DRM_FORMAT_NV12, KIND_NV12, false, false, 8 },
	{ DRM_FORMAT_P010, KIND_P010, false, false, 10 },
	{ DRM_FORMAT_YUV420, KIND_I420, false, false, 8 },
};

static const struct layout *layout_of(uint32_t fourcc)
{
	for (unsigned i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		if (layouts[i].fourcc == fourcc)
			return &layouts[i];
	return NULL;
}

static bool is_rgb(const struct layout *l)
{
	return l->kind <= KIND_LIGHT;
}

enum convert_kind convert_kind_of(const struct video_format *format)
{
	const struct layout *l = layout_of(format->fourcc);
	if (l && l->kind == KIND_HALVES && format->colour.transfer == TRANSFER_LINEAR)
		return KIND_LIGHT;
	return l ? l->kind : CONVERT_KINDS;
}

bool convert_is_copy(const struct video_format *from, const struct video_format *to)
{
	if (from->fourcc != to->fourcc || from->width != to->width || from->height != to->height)
		return false;
	if (memcmp(&from->colour, &to->colour, sizeof(to->colour)) == 0)
		return true;
	/* the primaries and most transfers are tags: nobody converts between them */
	return from->colour.full_range == to->colour.full_range &&
	       from->colour.matrix == to->colour.matrix &&
	       convert_kind_of(from) == convert_kind_of(to);
}

/* A sample's number is value × scale + bias, where values go from 0 to 1, of chroma from -0.5 to 0.5. */
struct coding {
	double scale;
	double bias;
};

static struct coding coding_of(const struct video_format *format, bool is_chroma)
{
	const struct layout *l = layout_of(format->fourcc);
	if (l->bits == 0)
		return (struct coding){ 1, 0 };
	double step = 1 << (l->bits - 8), top = (1 << l->bits) - 1;
	if (is_chroma)
		return (struct coding){ format->colour.full_range ? top : 224 * step, 128 * step };
	if (format->colour.full_range)
		return (struct coding){ top, 0 };
	return (struct coding){ 219 * step, 16 * step };
}

/* What red and blue weigh in luma; false: not a matrix of this kind. */
static bool weights_of(uint8_t matrix, double *red_out, double *blue_out)
{
	static const struct {
		uint8_t matrix;
		double red, blue;
	} rows[] = {
		{ 1, 0.2126, 0.0722 }, /* BT.709 */
		{ 4, 0.30, 0.11 },     /* FCC */
		{ 5, 0.299, 0.114 },   /* BT.601, 625 lines */
		{ 6, 0.299, 0.114 },   /* and 525 */
		{ 7, 0.212, 0.087 },   /* SMPTE 240M */
		{ 9, 0.2627, 0.0593 }, /* BT.2020, non-constant luminance */
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].matrix == matrix) {
			*red_out = rows[i].red;
			*blue_out = rows[i].blue;
			return true;
		}
	return false;
}

/* From R, G, B to Y, Cb, Cr. */
static bool matrix_of(uint8_t number, double m[3][3])
{
	double r, b;
	if (!weights_of(number, &r, &b))
		return false;
	double luma[3] = { r, 1 - r - b, b };
	for (unsigned i = 0; i < 3; i++) {
		m[0][i] = luma[i];
		m[1][i] = ((i == 2) - luma[i]) / (2 * (1 - b));
		m[2][i] = ((i == 0) - luma[i]) / (2 * (1 - r));
	}
	return true;
}

static void fill_alpha(
	const struct layout *from, const struct layout *to, struct convert_arguments *a)
{
	static const double tops[] = { [KIND_WORD8] = 255, [KIND_WORD10] = 3, [KIND_HALVES] = 1 };
	if (!is_rgb(from) || !is_rgb(to))
		return;
	bool kept = from->has_alpha && to->has_alpha;
	a->alpha_scale = kept ? (float)(tops[to->kind] / tops[from->kind]) : 0;
	a->alpha_bias = kept ? 0 : (float)tops[to->kind];
}

bool convert_colours(
	const struct video_format *from, const struct video_format *to, struct convert_arguments *a)
{
	const struct layout *lf = layout_of(from->fourcc), *lt = layout_of(to->fourcc);
	double m[3][3] = { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } };
	if (is_rgb(lf) && !is_rgb(lt) && !matrix_of(to->colour.matrix, m))
		return false;
	for (unsigned i = 0; i < 3; i++) {
		struct coding out = coding_of(to, !is_rgb(lt) && i > 0);
		double bias = out.bias;
		/* the lowest bits first */
		unsigned row = is_rgb(lt) && lt->is_blue_first ? 2 - i : i;
		for (unsigned k = 0; k < 3; k++) {
			struct coding in = coding_of(from, !is_rgb(lf) && k > 0);
			unsigned column = is_rgb(lf) && lf->is_blue_first ? 2 - k : k;
			double weight = m[i][k] * out.scale / in.scale;
			a->rows[row][column] = (float)weight;
			bias -= weight * in.bias;
		}
		a->rows[row][3] = (float)bias;
	}
	fill_alpha(lf, lt, a);
	return true;
}
