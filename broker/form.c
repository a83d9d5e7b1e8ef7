#include "broker/form.h"

#include <stddef.h>

/* H.273 */
enum { MATRIX_RGB = 0, BT709 = 1, UNSPECIFIED = 2, BT601 = 6, BT2020 = 9 };

static bool is_rgb(uint32_t fourcc)
{
	const struct format_info *info = format_info(fourcc);
	return info && info->n_planes == 1 && info->sub_x[0] == 0;
}

bool form_is_sound(const struct form *form, const char **why_out)
{
	bool is_known = form->matrix == 0 || form->matrix == BT709 || form->matrix == BT601 ||
			form->matrix == BT2020;
	*why_out = NULL;
	if (form->fourcc && !format_info(form->fourcc))
		*why_out = "its format is not known here";
	else if (form->width > FORMAT_SIDE_MAX || form->height > FORMAT_SIDE_MAX)
		*why_out = "a picture has 1 to 16384 pixels a side";
	else if (!is_known)
		*why_out = "the matrix is 1 (BT.709), 6 (BT.601) or 9 (BT.2020)";
	else if ((unsigned)form->range > FORM_RANGE_FULL)
		*why_out = "the range is the usual one, limited or full";
	else if (form->range == FORM_RANGE_LIMITED && is_rgb(form->fourcc))
		*why_out = "RGB has the full range always";
	return !*why_out;
}

bool form_is_any(const struct form *form)
{
	return !form->fourcc && !form->width && !form->height && !form->matrix && !form->range;
}

bool form_equal(const struct form *a, const struct form *b)
{
	bool is_colourless = is_rgb(a->fourcc); /* whatever matrix and range were named */
	return a->fourcc == b->fourcc && a->width == b->width && a->height == b->height &&
	       (is_colourless || (a->matrix == b->matrix && a->range == b->range));
}

bool form_is_own(const struct form *form, const struct video_format *own)
{
	struct video_format made;
	if (form_resolve(form, own, &made) < 0)
		return false;
	return made.fourcc == own->fourcc && made.width == own->width &&
	       made.height == own->height && made.colour.matrix == own->colour.matrix &&
	       made.colour.full_range == own->colour.full_range;
}

/* Where chroma is subsampled encoders want an even number. */
static uint32_t round_side(double side, unsigned log2)
{
	uint32_t step = 1u << log2;
	uint32_t rounded = (uint32_t)(side / step + 0.5) * step;
	if (rounded < step)
		return step;
	return rounded > FORMAT_SIDE_MAX ? FORMAT_SIDE_MAX : rounded;
}

static void resolve_size(const struct form *form, const struct video_format *own,
	const struct format_info *info, uint32_t *width_out, uint32_t *height_out)
{
	unsigned last = info->n_planes - 1;
	*width_out = form->width ? form->width : own->width;
	*height_out = form->height ? form->height : own->height;
	if (form->width && !form->height && form->width != own->width)
		*height_out = round_side(
			(double)own->height * form->width / own->width, info->sub_y[last]);
	if (form->height && !form->width && form->height != own->height)
		*width_out = round_side(
			(double)own->width * form->height / own->height, info->sub_x[last]);
}

/* RGB in the full range, of which only the primaries and the transfer are the stream's. */
static void resolve_rgb(const struct video_format *own, struct format_colour *colour)
{
	if (own->colour.primaries != UNSPECIFIED)
		colour->primaries = own->colour.primaries;
	if (own->colour.transfer != UNSPECIFIED)
		colour->transfer = own->colour.transfer;
	colour->matrix = MATRIX_RGB;
	colour->full_range = true;
}

static void resolve_yuv(
	const struct form *form, const struct video_format *own, struct format_colour *colour)
{
	bool from_rgb = is_rgb(own->fourcc);
	*colour = own->colour;
	if (form->matrix)
		colour->matrix = form->matrix;
	else if (from_rgb)
		colour->matrix = BT709;
	if (form->range)
		colour->full_range = form->range == FORM_RANGE_FULL;
	else if (from_rgb)
		colour->full_range = false;
}

int form_resolve(
	const struct form *form, const struct video_format *own, struct video_format *format_out)
{
	uint32_t fourcc = form->fourcc ? form->fourcc : own->fourcc, width, height;
	const struct format_info *info = format_info(fourcc);
	struct video_format made;
	if (info)
		resolve_size(form, own, info, &width, &height);
	int r = format_layout(fourcc, info ? width : 1, info ? height : 1, &made);
	if (r < 0)
		return r;
	if (!is_rgb(fourcc))
		resolve_yuv(form, own, &made.colour);
	else if (fourcc != own->fourcc)
		resolve_rgb(own, &made.colour);
	else
		made.colour = own->colour;
	*format_out = made;
	return 0;
}

void form_settle(struct form *form, const struct video_format *own)
{
	struct video_format made;
	bool is_chosen = is_rgb(own->fourcc) && form->fourcc && !is_rgb(form->fourcc);
	if (!is_chosen || form_resolve(form, own, &made) < 0)
		return;
	form->matrix = made.colour.matrix;
	form->range = made.colour.full_range ? FORM_RANGE_FULL : FORM_RANGE_LIMITED;
}
