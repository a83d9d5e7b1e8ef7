#include "broker/frame.h"

/* Pixels around one that have part in what is made of it: bilinear, and chroma of two. */
enum { REACH = 2 };

/* Rounded outwards. */
static void scale_side(uint32_t *at, uint32_t *length, uint32_t from, uint32_t to)
{
	uint64_t begin = *at > REACH ? *at - REACH : 0, end = (uint64_t)*at + *length + REACH;
	if (end > from)
		end = from;
	if (begin > end)
		begin = end;
	begin = begin * to / from;
	/* chroma of two pixels is one; sited left, its area reaches half a pixel before them */
	end = (end * to + from - 1) / from + 1;
	begin -= begin % 2;
	end += end % 2;
	if (end > to)
		end = to;
	*at = (uint32_t)begin;
	*length = (uint32_t)(end - begin);
}

void frame_scale_damage(struct frame_info *info, uint32_t from_width, uint32_t from_height,
	uint32_t to_width, uint32_t to_height)
{
	for (unsigned i = 0; i < info->n_damage; i++) {
		struct frame_rect *r = &info->damage[i];
		scale_side(&r->x, &r->width, from_width, to_width);
		scale_side(&r->y, &r->height, from_height, to_height);
	}
}
