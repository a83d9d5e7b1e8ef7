/* One opaque pixel of any RGB format, from colours of 8 bits: for pictures that are drawn. */
#pragma once

#include <stdint.h>

/**
 * Write a pixel, as many bytes as the format has.
 *
 * px  [borrow] need not be aligned
 *
 * 0 to 255 become the format's whole range: 0 to 1023, 0.0 to 1.0. Only for RGB formats.
 */
void pixel_put_rgb(uint8_t *px, uint32_t fourcc, uint8_t r, uint8_t g, uint8_t b);

/* A half-precision float of value / 255, rounded to the nearest. */
uint16_t pixel_half(uint8_t value);
