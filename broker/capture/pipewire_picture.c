/*
 * What a buffer says about itself. The producer shares this memory and may change it at any time, so
 * everything is copied once and only the copy is looked at.
 */
#include "broker/capture/pipewire.h"

#include <string.h>
#include <spa/buffer/meta.h>

#include "common/clock.h"

/* Older than this, a time stamp is taken from another clock. */
#define PTS_AGE_MAX_NS (10 * NS_PER_S)

uint64_t pipewire_pts(int64_t pts, uint64_t now)
{
	uint64_t ns = pts > 0 ? (uint64_t)pts : 0;
	return ns <= now && now - ns <= PTS_AGE_MAX_NS ? ns : now;
}

/* Producers that leave the stride open (GStreamer) round rows up to four bytes. */
static uint32_t stride_of(const struct video_format *whole, unsigned plane, int32_t stride)
{
	return stride > 0 ? (uint32_t)stride : (format_row_bytes(whole, plane) + 3) / 4 * 4;
}

/* One block of memory holds all planes, one after the other: only the first stride is told. */
static void spread(const struct video_format *whole, const struct pipewire_chunk *chunk,
	struct pipewire_plane planes[FORMAT_PLANES_MAX])
{
	uint32_t stride = stride_of(whole, 0, chunk->stride);
	uint64_t offset = chunk->offset;
	for (unsigned p = 0; p < whole->n_planes; p++) {
		uint32_t own = whole->n_planes == 3 && p > 0 ? (stride + 1) / 2 : stride;
		planes[p] = (struct pipewire_plane){ .offset = offset, .stride = own };
		offset += (uint64_t)own * format_rows(whole, p);
	}
}

static const char *check_plane(const struct video_format *whole, unsigned p,
	const struct pipewire_plane *plane, const struct pipewire_chunk *chunk)
{
	uint32_t row = format_row_bytes(whole, p);
	uint64_t end = plane->offset + (uint64_t)(format_rows(whole, p) - 1) * plane->stride + row;
	if (plane->stride < row)
		return "the producer's stride is shorter than a row";
	if (end > (uint64_t)chunk->offset + chunk->size)
		return "the picture is larger than the producer says it filled";
	if (end > chunk->limit)
		return "the picture does not fit into its memory";
	return NULL;
}

static uint64_t crop_offset(const struct video_format *whole, unsigned p,
	const struct frame_rect *crop, uint32_t stride)
{
	const struct format_info *info = format_info(whole->fourcc);
	return (uint64_t)(crop->y >> info->sub_y[p]) * stride +
	       (uint64_t)(crop->x >> info->sub_x[p]) * info->bytes[p];
}

const char *pipewire_locate(const struct video_format *whole, const struct frame_rect *crop,
	const struct pipewire_chunk *chunks, unsigned n_chunks,
	struct pipewire_plane planes[FORMAT_PLANES_MAX])
{
	struct pipewire_plane found[FORMAT_PLANES_MAX] = { 0 };
	if (n_chunks != 1 && n_chunks != whole->n_planes)
		return "the buffer has not as many blocks of memory as the format has planes";
	for (unsigned i = 0; i < n_chunks; i++)
		if (chunks[i].stride < 0)
			return "the producer's stride is negative";
	if (n_chunks == 1)
		spread(whole, &chunks[0], found);
	for (unsigned p = 0; p < n_chunks && n_chunks > 1; p++)
		found[p] = (struct pipewire_plane){ .memory = p,
			.offset = chunks[p].offset,
			.stride = stride_of(whole, p, chunks[p].stride) };
	for (unsigned p = 0; p < whole->n_planes; p++) {
		const char *why = check_plane(whole, p, &found[p], &chunks[found[p].memory]);
		if (why)
			return why;
	}
	for (unsigned p = 0; p < whole->n_planes; p++) {
		found[p].offset += crop_offset(whole, p, crop, found[p].stride);
		planes[p] = found[p];
	}
	return NULL;
}

/* From begin on, so many, but only what lies within 0 to size. False if nothing does. */
static bool clip(
	int32_t begin, uint32_t count, uint32_t size, uint32_t *begin_out, uint32_t *count_out)
{
	int64_t from = begin > 0 ? begin : 0;
	int64_t to = (int64_t)begin + count;
	if (to > size)
		to = size;
	if (to <= from)
		return false;
	*begin_out = (uint32_t)from;
	*count_out = (uint32_t)(to - from);
	return true;
}

bool pipewire_clip(const struct spa_region *region, uint32_t width, uint32_t height,
	struct frame_rect *rect_out)
{
	struct frame_rect rect;
	if (!clip(region->position.x, region->size.width, width, &rect.x, &rect.width) ||
		!clip(region->position.y, region->size.height, height, &rect.y, &rect.height))
		return false;
	*rect_out = rect;
	return true;
}

bool pipewire_crop(const struct spa_buffer *buffer, const struct video_format *whole,
	struct frame_rect *crop_out)
{
	*crop_out = (struct frame_rect){ 0, 0, whole->width, whole->height };
	const struct spa_meta_region *meta =
		spa_buffer_find_meta_data(buffer, SPA_META_VideoCrop, sizeof(*meta));
	if (!meta)
		return true;
	struct spa_meta_region copy = *(const volatile struct spa_meta_region *)meta;
	if (!spa_meta_region_is_valid(&copy))
		return true;
	if (!pipewire_clip(&copy.region, whole->width, whole->height, crop_out))
		return false;
	/* a crop that begins between two samples of chroma cannot be cut out without computing */
	const struct format_info *info = format_info(whole->fourcc);
	for (unsigned p = 0; p < info->n_planes; p++) {
		crop_out->x = crop_out->x >> info->sub_x[p] << info->sub_x[p];
		crop_out->y = crop_out->y >> info->sub_y[p] << info->sub_y[p];
	}
	return true;
}

static void damage_all(struct pipewire_damage *damage)
{
	*damage = (struct pipewire_damage){ .all = true };
}

static void damage_add_rect(struct pipewire_damage *damage, const struct frame_rect *rect)
{
	if (damage->all)
		return;
	for (unsigned i = 0; i < damage->n; i++)
		if (memcmp(&damage->rect[i], rect, sizeof(*rect)) == 0)
			return;
	if (damage->n == FRAME_DAMAGE_MAX)
		damage_all(damage);
	else
		damage->rect[damage->n++] = *rect;
}

void pipewire_damage_add(struct pipewire_damage *damage, const struct pipewire_damage *more)
{
	if (more->all)
		damage_all(damage);
	for (unsigned i = 0; i < more->n; i++)
		damage_add_rect(damage, &more->rect[i]);
}

void pipewire_damage_read(struct pipewire_damage *damage, const struct spa_buffer *buffer,
	const struct frame_rect *crop)
{
	*damage = (struct pipewire_damage){ 0 };
	const struct spa_meta *meta = spa_buffer_find_meta(buffer, SPA_META_VideoDamage);
	unsigned n = meta && meta->data ? meta->size / sizeof(struct spa_meta_region) : 0;
	unsigned told = 0;
	for (; told < n; told++) {
		struct spa_meta_region r =
			((const volatile struct spa_meta_region *)meta->data)[told];
		struct frame_rect rect;
		if (!spa_meta_region_is_valid(&r))
			break;
		int64_t x = (int64_t)r.region.position.x - crop->x;
		int64_t y = (int64_t)r.region.position.y - crop->y;
		if (x < INT32_MIN || y < INT32_MIN)
			continue;
		r.region.position = SPA_POINT((int32_t)x, (int32_t)y);
		if (pipewire_clip(&r.region, crop->width, crop->height, &rect))
			damage_add_rect(damage, &rect);
	}
	if (told == 0)
		damage_all(damage);
}
