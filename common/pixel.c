#include "common/pixel.h"

#include <drm_fourcc.h>
#include <string.h>

enum {
	HALF_ONE = 0x3c00,
	HALF_BIAS = 15,
	HALF_BITS = 10, /* of the fraction */
	OPAQUE = 255,
};

uint16_t pixel_half(uint8_t value)
{
	/* value / 255 is fraction × 2^-shift, with the fraction from 1 up to 2 */
	unsigned shift = 0;
	while (value != 0 && value << shift < OPAQUE)
		shift++;
	if (value == 0)
		return 0;
	unsigned numerator = ((unsigned)value << shift) - OPAQUE;
	unsigned fraction = (2 * (numerator << HALF_BITS) + OPAQUE) / (2 * OPAQUE);
	return (uint16_t)(((HALF_BIAS - shift) << HALF_BITS) + fraction);
}

static uint32_t ten_bits(uint8_t value)
{
	return (uint32_t)value << 2 | value >> 6;
}

void pixel_put_rgb(uint8_t *px, uint32_t fourcc, uint8_t r, uint8_t g, uint8_t b)
{
	uint16_t halves[4] = { pixel_half(r), pixel_half(g), pixel_half(b), HALF_ONE };
	uint32_t word;
	switch (fourcc) {
	case DRM_FORMAT_XRGB8888:
	case DRM_FORMAT_ARGB8888:
		memcpy(px, (uint8_t[4]){ b, g, r, OPAQUE }, 4);
		break;
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ARGB2101010:
		word = 3u << 30 | ten_bits(r) << 20 | ten_bits(g) << 10 | ten_bits(b);
		memcpy(px, &word, sizeof(word));
		break;
	case DRM_FORMAT_XBGR2101010:
	case DRM_FORMAT_ABGR2101010:
		word = 3u << 30 | ten_bits(b) << 20 | ten_bits(g) << 10 | ten_bits(r);
		memcpy(px, &word, sizeof(word));
		break;
	case DRM_FORMAT_XBGR16161616F:
	case DRM_FORMAT_ABGR16161616F:
		memcpy(px, halves, sizeof(halves));
		break;
	default:
		memcpy(px, (uint8_t[4]){ r, g, b, OPAQUE }, 4);
	}
}
