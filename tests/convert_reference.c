#include "tests/convert_reference.h"

#include <drm_fourcc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zimg.h>

#include "tests/test.h"

enum { ALIGN = 64, TRANSFER_LINEAR = 8 };

/* --- Pixels in memory --------------------------------------------------------------------------*/

bool reference_is_yuv(const struct video_format *format)
{
	return format->fourcc == DRM_FORMAT_NV12 || format->fourcc == DRM_FORMAT_P010 ||
	       format->fourcc == DRM_FORMAT_YUV420;
}

static unsigned bits_of(const struct video_format *format)
{
	unsigned bytes = format_info(format->fourcc)->bytes[0];
	if (bytes == 8)
		return 16;
	if (format->fourcc == DRM_FORMAT_P010)
		return 10;
	return strstr(format_info(format->fourcc)->name, "_210LE") ? 10 : 8;
}

/* Is the first of the colours, from the lowest bit on, blue? */
static bool is_blue_first(const struct video_format *format)
{
	return format->fourcc == DRM_FORMAT_XRGB8888 || format->fourcc == DRM_FORMAT_ARGB8888 ||
	       format->fourcc == DRM_FORMAT_XRGB2101010 || format->fourcc == DRM_FORMAT_ARGB2101010;
}

static double of_half(uint16_t half)
{
	int exponent = half >> 10 & 31, fraction = half & 1023;
	double v = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
	CHECK(exponent != 31);
	return half & 0x8000 ? -v : v;
}

static double rgb_component(
	const struct video_format *format, const uint8_t *row, unsigned c, uint32_t x)
{
	unsigned place = c < 3 && is_blue_first(format) ? 2 - c : c;
	uint32_t word;
	uint16_t half;
	switch (bits_of(format)) {
	case 16:
		memcpy(&half, row + 8 * x + 2 * place, sizeof(half));
		return of_half(half);
	case 10:
		memcpy(&word, row + 4 * x, sizeof(word));
		return word >> 10 * place & (c == 3 ? 3 : 1023);
	default:
		return row[4 * x + place];
	}
}

double reference_component(const struct video_format *format, const uint8_t *pixels,
	unsigned component, uint32_t x, uint32_t y)
{
	unsigned plane = component == 0 || !reference_is_yuv(format) ? 0 : 1;
	if (format->fourcc == DRM_FORMAT_YUV420)
		plane = component;
	const uint8_t *row = pixels + format->offset[plane] + (size_t)y * format->stride[plane];
	if (!reference_is_yuv(format))
		return rgb_component(format, row, component, x);
	uint32_t at = plane == 1 && format->n_planes == 2 ? 2 * x + component - 1 : x;
	if (format->fourcc != DRM_FORMAT_P010)
		return row[at];
	CHECK((row[2 * at] & 63) == 0);
	return (row[2 * at] | row[2 * at + 1] << 8) >> 6;
}

/* number = value × scale + bias */
static void coding_of(
	const struct video_format *format, unsigned component, double *scale, double *bias)
{
	bool is_chroma = reference_is_yuv(format) && component > 0;
	unsigned bits = bits_of(format);
	double step = 1 << (bits - 8), top = (1 << bits) - 1;
	if (bits == 16) {
		*scale = 1;
		*bias = 0;
	} else if (format->colour.full_range) {
		*scale = top;
		*bias = is_chroma ? 128 * step : 0;
	} else {
		*scale = (is_chroma ? 224 : 219) * step;
		*bias = (is_chroma ? 128 : 16) * step;
	}
}

static double srgb_of_light(double v)
{
	v = fmin(fmax(v, 0), 1);
	return v <= 0.0031308 ? 12.92 * v : 1.055 * pow(v, 1 / 2.4) - 0.055;
}

static double *new_plane(uint32_t width, uint32_t height)
{
	double *plane = calloc((size_t)width * height, sizeof(*plane));
	CHECK(plane != NULL);
	return plane;
}

static struct planes new_planes(bool is_yuv, uint32_t width, uint32_t height)
{
	struct planes p = { .is_yuv = is_yuv };
	for (unsigned i = 0; i < 3; i++) {
		bool half = is_yuv && i > 0;
		p.width[i] = half ? (width + 1) / 2 : width;
		p.height[i] = half ? (height + 1) / 2 : height;
		p.at[i] = new_plane(p.width[i], p.height[i]);
	}
	return p;
}

void planes_finish(struct planes *planes)
{
	for (unsigned i = 0; i < 3; i++)
		free(planes->at[i]);
	*planes = (struct planes){ 0 };
}

struct planes planes_of(const struct video_format *format, const uint8_t *pixels)
{
	struct planes p = new_planes(reference_is_yuv(format), format->width, format->height);
	bool is_light = bits_of(format) == 16 && format->colour.transfer == TRANSFER_LINEAR;
	for (unsigned i = 0; i < 3; i++) {
		double scale, bias;
		coding_of(format, i, &scale, &bias);
		for (uint32_t y = 0; y < p.height[i]; y++)
			for (uint32_t x = 0; x < p.width[i]; x++) {
				double v = reference_component(format, pixels, i, x, y);
				v = (v - bias) / scale;
				p.at[i][(size_t)y * p.width[i] + x] =
					is_light ? srgb_of_light(v) : v;
			}
	}
	return p;
}

struct score reference_score(
	const struct planes *expected, const struct video_format *format, const uint8_t *pixels)
{
	struct score s = { 0 };
	bool is_float = bits_of(format) == 16;
	double top = is_float ? 1 : (1 << bits_of(format)) - 1, sum = 0, n = 0;
	for (unsigned i = 0; i < 3; i++) {
		double scale, bias;
		coding_of(format, i, &scale, &bias);
		for (uint32_t y = 0; y < expected->height[i]; y++)
			for (uint32_t x = 0; x < expected->width[i]; x++) {
				double want = expected->at[i][(size_t)y * expected->width[i] + x];
				want = want * scale + bias;
				if (!is_float)
					want = fmin(fmax(want, 0), top);
				double d = want - reference_component(format, pixels, i, x, y);
				s.worst = fmax(s.worst, fabs(is_float ? d * 1024 : d));
				sum += d * d;
				n++;
			}
	}
	s.psnr = sum > 0 ? 10 * log10(top * top * n / sum) : INFINITY;
	return s;
}

/* --- zimg --------------------------------------------------------------------------------------*/

static zimg_image_format zimg_format(bool is_yuv, uint8_t matrix, uint32_t width, uint32_t height)
{
	zimg_image_format f;
	zimg_image_format_default(&f, ZIMG_API_VERSION);
	f.width = width;
	f.height = height;
	f.pixel_type = ZIMG_PIXEL_FLOAT;
	f.subsample_w = f.subsample_h = is_yuv;
	f.color_family = is_yuv ? ZIMG_COLOR_YUV : ZIMG_COLOR_RGB;
	f.matrix_coefficients = is_yuv ? (zimg_matrix_coefficients_e)matrix : ZIMG_MATRIX_RGB;
	f.pixel_range = is_yuv ? ZIMG_RANGE_LIMITED : ZIMG_RANGE_FULL;
	f.depth = 32;
	f.chroma_location = ZIMG_CHROMA_LEFT;
	return f;
}

struct floats {
	size_t stride_bytes[3];
	float *at[3];
};

static struct floats new_floats(const zimg_image_format *format)
{
	struct floats f;
	for (unsigned i = 0; i < 3; i++) {
		uint32_t width = i ? format->width >> format->subsample_w : format->width;
		uint32_t height = i ? format->height >> format->subsample_h : format->height;
		f.stride_bytes[i] = (width * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
		f.at[i] = aligned_alloc(ALIGN, f.stride_bytes[i] * height);
		CHECK(f.at[i] != NULL);
	}
	return f;
}

static float *float_at(const struct floats *f, unsigned plane, uint32_t x, uint32_t y)
{
	return f->at[plane] + y * (f->stride_bytes[plane] / sizeof(float)) + x;
}

static void free_floats(struct floats *f)
{
	for (unsigned i = 0; i < 3; i++)
		free(f->at[i]);
}

static void run_zimg(const zimg_image_format *from_format, const struct floats *from,
	const zimg_image_format *to_format, const struct floats *to)
{
	zimg_graph_builder_params params;
	zimg_image_buffer_const in = { .version = ZIMG_API_VERSION };
	zimg_image_buffer out = { .version = ZIMG_API_VERSION };
	size_t size = 0;
	zimg_graph_builder_params_default(&params, ZIMG_API_VERSION);
	params.resample_filter = params.resample_filter_uv = ZIMG_RESIZE_BILINEAR;
	params.dither_type = ZIMG_DITHER_NONE;
	zimg_filter_graph *graph = zimg_filter_graph_build(from_format, to_format, &params);
	CHECK(graph != NULL);
	CHECK(zimg_filter_graph_get_tmp_size(graph, &size) == ZIMG_ERROR_SUCCESS);
	void *tmp = aligned_alloc(ALIGN, (size + ALIGN) / ALIGN * ALIGN);
	CHECK(tmp != NULL);
	for (unsigned i = 0; i < 3; i++) {
		in.plane[i].data = from->at[i];
		in.plane[i].stride = (ptrdiff_t)from->stride_bytes[i];
		out.plane[i].data = to->at[i];
		out.plane[i].stride = (ptrdiff_t)to->stride_bytes[i];
		in.plane[i].mask = out.plane[i].mask = ZIMG_BUFFER_MAX;
	}
	CHECK(zimg_filter_graph_process(graph, &in, &out, tmp, NULL, NULL, NULL, NULL) ==
		ZIMG_ERROR_SUCCESS);
	free(tmp);
	zimg_filter_graph_free(graph);
}

static uint32_t even(uint32_t n)
{
	return (n + 1) & ~1u;
}

/* zimg takes no odd sizes of 4:2:0: then the last row and column are there twice. */
static struct planes by_zimg(const struct planes *from, const struct video_format *to)
{
	uint8_t matrix = to->colour.matrix;
	bool to_yuv = reference_is_yuv(to);
	zimg_image_format in =
		zimg_format(from->is_yuv, matrix, even(from->width[0]), even(from->height[0]));
	zimg_image_format out = zimg_format(to_yuv, matrix, even(to->width), even(to->height));
	struct floats source = new_floats(&in), target = new_floats(&out);
	struct planes result = new_planes(to_yuv, to->width, to->height);
	for (unsigned i = 0; i < 3; i++)
		for (uint32_t y = 0; y < (in.height >> (i ? in.subsample_h : 0)); y++)
			for (uint32_t x = 0; x < (in.width >> (i ? in.subsample_w : 0)); x++) {
				uint32_t sx = x < from->width[i] ? x : from->width[i] - 1;
				uint32_t sy = y < from->height[i] ? y : from->height[i] - 1;
				*float_at(&source, i, x, y) =
					(float)from->at[i][(size_t)sy * from->width[i] + sx];
			}
	run_zimg(&in, &source, &out, &target);
	for (unsigned i = 0; i < 3; i++)
		for (uint32_t y = 0; y < result.height[i]; y++)
			for (uint32_t x = 0; x < result.width[i]; x++)
				result.at[i][(size_t)y * result.width[i] + x] =
					*float_at(&target, i, x, y);
	free_floats(&source);
	free_floats(&target);
	return result;
}

/* --- Plainly -----------------------------------------------------------------------------------*/

/* One side: where the centre of a sample is in the source, and how far it reaches. */
struct side {
	double step, first; /* of centres, in source samples */
	double radius;
	bool is_area;
};

static double weight_at(const struct side *s, double centre, long x)
{
	if (!s->is_area)
		return fmax(0, 1 - fabs((double)x + 0.5 - centre) / s->radius);
	double low = fmax((double)x, centre - s->radius);
	double high = fmin((double)x + 1, centre + s->radius);
	return fmax(0, high - low);
}

static double sample_at(const double *plane, uint32_t width, uint32_t height, const struct side *sx,
	const struct side *sy, uint32_t x, uint32_t y)
{
	double cx = sx->first + sx->step * x, cy = sy->first + sy->step * y, sum = 0, total = 0;
	for (long j = (long)floor(cy - sy->radius - 1); (double)j <= cy + sy->radius + 1; j++)
		for (long i = (long)floor(cx - sx->radius - 1); (double)i <= cx + sx->radius + 1;
			i++) {
			double w = weight_at(sx, cx, i) * weight_at(sy, cy, j);
			long px = i < 0 ? 0 : i >= (long)width ? (long)width - 1 : i;
			long py = j < 0 ? 0 : j >= (long)height ? (long)height - 1 : j;
			sum += w * plane[(size_t)py * width + (size_t)px];
			total += w;
		}
	return sum / total;
}

/* Samples of the target lie `every` pixels of it apart, the first at its pixel `first`; those of the
 * source likewise. */
static struct side side_of(uint32_t from, uint32_t to, double every, double first,
	double from_every, double from_first)
{
	double ratio = (double)from / to, reach = every * ratio / from_every;
	struct side s = { .step = reach, .is_area = to < from };
	s.first = (first * ratio - from_first) / from_every + 0.5;
	s.radius = s.is_area ? reach / 2 : fmax(1, reach);
	return s;
}

static void matrix_of(uint8_t matrix, double *red, double *blue)
{
	*red = matrix == 1 ? 0.2126 : matrix == 9 ? 0.2627 : 0.299;
	*blue = matrix == 1 ? 0.0722 : matrix == 9 ? 0.0593 : 0.114;
}

/* R, G, B in place. */
static void to_yuv(struct planes *p, uint8_t matrix)
{
	double red, blue;
	matrix_of(matrix, &red, &blue);
	for (size_t i = 0; i < (size_t)p->width[0] * p->height[0]; i++) {
		double r = p->at[0][i], b = p->at[2][i];
		double y = red * r + (1 - red - blue) * p->at[1][i] + blue * b;
		p->at[0][i] = y;
		p->at[1][i] = (b - y) / (2 - 2 * blue);
		p->at[2][i] = (r - y) / (2 - 2 * red);
	}
}

static struct planes copy_of(const struct planes *from)
{
	struct planes p = *from;
	for (unsigned i = 0; i < 3; i++) {
		p.at[i] = new_plane(p.width[i], p.height[i]);
		memcpy(p.at[i], from->at[i], (size_t)p.width[i] * p.height[i] * sizeof(double));
	}
	return p;
}

static struct planes plainly(const struct planes *from, const struct video_format *to)
{
	struct planes source = copy_of(from);
	struct planes result = new_planes(reference_is_yuv(to), to->width, to->height);
	if (result.is_yuv && !from->is_yuv)
		to_yuv(&source, to->colour.matrix);
	for (unsigned i = 0; i < 3; i++) {
		double every = result.is_yuv && i > 0 ? 2 : 1;
		double from_every = from->is_yuv && i > 0 ? 2 : 1;
		struct side x = side_of(from->width[0], to->width, every, 0.5, from_every, 0.5);
		struct side y = side_of(
			from->height[0], to->height, every, every / 2, from_every, from_every / 2);
		for (uint32_t row = 0; row < result.height[i]; row++)
			for (uint32_t column = 0; column < result.width[i]; column++)
				result.at[i][(size_t)row * result.width[i] + column] =
					sample_at(source.at[i], source.width[i], source.height[i],
						&x, &y, column, row);
	}
	planes_finish(&source);
	return result;
}

struct planes reference_convert(const struct planes *from, const struct video_format *to)
{
	bool same = from->width[0] == to->width && from->height[0] == to->height;
	bool shrinks = to->width < from->width[0] || to->height < from->height[0];
	bool odd = (from->width[0] | from->height[0] | to->width | to->height) & 1;
	return same || (!shrinks && !odd) ? by_zimg(from, to) : plainly(from, to);
}
