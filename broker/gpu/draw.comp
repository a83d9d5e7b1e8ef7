#version 450
// The picture of broker/capture/pattern.c, byte for byte: slanted colour stripes that wander to the
// left, and the stamp of common/stamp.c in them. One dispatch for each plane; each thread makes the
// four bytes of one word of a row.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

layout(local_size_x = 64) in;

layout(buffer_reference, std430, buffer_reference_align = 4) writeonly buffer Words { uint at[]; };

// What a row of a plane is made of: enum row_kind in device.h. There is a pipeline for each.
layout(constant_id = 0) const uint kind = 0;
const uint BGRX = 0, RGBX = 1, YUYV = 2, LUMA = 3, CBCR = 4, CB = 5, CR = 6, XRGB10 = 7, XBGR10 = 8,
	HALVES = 9, LUMA10 = 10, CBCR10 = 11;

// struct draw_arguments in draw.c
layout(push_constant) uniform Arguments {
	uvec2 to;
	uint stride; // in words
	uint row_bytes;
	uint stripe; // pixels
	uint shift;  // pixels
	uint number;
	uint check;
	uint block; // pixels; 0: no stamp
	uint pitch; // pixels
	uint bands;
	uint rows;
};

const uint BLACK = 16, WHITE = 235, GREY = 128, BITS = 40;
const uint ROWS = 16; // of each thread: ROWS_OF_THREAD in draw.c

// Eight bytes, one for each colour.
uint pick(uvec2 bytes, uint colour)
{
	return (colour < 4 ? bytes.x : bytes.y) >> 8 * (colour & 3) & 255;
}

uint luma_of(uint colour)
{
	return pick(uvec2(0x7083a2b4, 0x10234154), colour);
}

uint cb_of(uint colour)
{
	return pick(uvec2(0x489c2c80, 0x80d464b8), colour);
}

uint cr_of(uint colour)
{
	return pick(uvec2(0x3a2c8e80, 0x8072d4c6), colour);
}

uint colour_at(uint x)
{
	return (x + shift) / stripe % 8;
}

// The stamp's brightness at a pixel of a band.
uint stamp_at(uint x)
{
	const uint i = x / block;
	const uint bit = i < 32 ? number >> (31 - i) : check >> (39 - i);
	return (bit & 1) != 0 ? WHITE : BLACK;
}

// Of eight bits each.
uvec3 colours_at(uint x, bool band)
{
	if (band && x < BITS * block)
		return uvec3(stamp_at(x));
	const uint c = colour_at(x);
	return uvec3((c & 1) != 0 ? 40 : 200, (c & 2) != 0 ? 60 : 180, (c & 4) != 0 ? 80 : 220);
}

uint rgb_at(uint x, bool band)
{
	const uvec3 c = colours_at(x, band);
	return 0xff000000 | c.g << 8 | (kind == BGRX ? c.r << 16 | c.b : c.b << 16 | c.r);
}

uint rgb10_at(uint x, bool band)
{
	const uvec3 c8 = colours_at(x, band);
	const uvec3 c = c8 << 2 | c8 >> 6;
	return 0xc0000000 | c.g << 10 | (kind == XRGB10 ? c.r << 20 | c.b : c.b << 20 | c.r);
}

// pixel_half() of common/pixel.c, whose rounding is exact: packHalf2x16() need not be.
uint half_of(uint value)
{
	const int shift = 8 - findMSB(value) - (value << (7 - findMSB(value)) >= 255 ? 1 : 0);
	const uint fraction = (2 * (((value << shift) - 255) << 10) + 255) / 510;
	return uint(15 - shift) * 1024 + fraction;
}

// Two words for each pixel.
uint halves_at(uint word, bool band)
{
	const uvec3 c = colours_at(word / 2, band);
	return (word & 1) == 0 ? half_of(c.r) | half_of(c.g) << 16 : half_of(c.b) | 0x3c000000;
}

uint luma_at(uint x, bool band)
{
	return band && x < BITS * block ? stamp_at(x) : luma_of(colour_at(x));
}

uint yuyv_at(uint byte, bool band)
{
	const uint x = byte / 2;
	if ((byte & 1) == 0)
		return luma_at(x, band);
	if (band && x < BITS * block)
		return GREY;
	return (x & 1) != 0 ? cr_of(colour_at(x)) : cb_of(colour_at(x));
}

// Two bytes for two pixels: the byte's number is the pixel's.
uint cbcr_at(uint byte, bool band)
{
	if (band && byte < BITS * block)
		return GREY;
	return (byte & 1) != 0 ? cr_of(colour_at(byte)) : cb_of(colour_at(byte));
}

uint chroma_at(uint byte, bool band)
{
	if (band && byte < (BITS * block + 1) / 2)
		return GREY;
	const uint c = colour_at(2 * byte);
	return kind == CB ? cb_of(c) : cr_of(c);
}

uint byte_at(uint byte, bool band)
{
	if (byte >= row_bytes)
		return 0;
	switch (kind) {
	case YUYV:
		return yuyv_at(byte, band);
	case LUMA:
		return luma_at(byte, band);
	case CBCR:
		return cbcr_at(byte, band);
	default:
		return chroma_at(byte, band);
	}
}

// Samples of 16 bits, in which the eight are the upper ones.
uint sample_at(uint sample_, bool band)
{
	if (2 * sample_ >= row_bytes)
		return 0;
	return kind == LUMA10 ? luma_at(sample_, band) : cbcr_at(sample_, band);
}

uint word_at(uint word, bool band)
{
	if (kind <= RGBX)
		return rgb_at(word, band);
	if (kind == XRGB10 || kind == XBGR10)
		return rgb10_at(word, band);
	if (kind == HALVES)
		return halves_at(word, band);
	if (kind == LUMA10 || kind == CBCR10)
		return sample_at(2 * word, band) << 8 | sample_at(2 * word + 1, band) << 24;
	return byte_at(4 * word, band) | byte_at(4 * word + 1, band) << 8 |
		byte_at(4 * word + 2, band) << 16 | byte_at(4 * word + 3, band) << 24;
}

// Rows differ only in whether they are in a band of the stamp: a column's word is found once for
// each, and written into the thread's rows. Divisions are dear, so the place in the band is counted.
void main()
{
	const uint word = gl_GlobalInvocationID.x;
	const uint first = gl_GlobalInvocationID.y * ROWS;
	if (word * 4 >= row_bytes || first >= rows)
		return;
	const uint plain = word_at(word, false);
	const uint banded = block == 0 ? plain : word_at(word, true);
	const bool is_chroma = (kind >= CBCR && kind <= CR) || kind == CBCR10;
	const uint step = is_chroma ? 2 : 1; // a row of chroma lies under two of luma
	const uint end = bands * pitch;
	uint y = first * step;
	uint within = y % pitch;
	for (uint row = first; row < min(first + ROWS, rows); row++) {
		bool band = within < block && y < end;
		for (uint i = 0; i < step; i++) {
			band = band || (within < block && y < end);
			y++;
			within = within + 1 == pitch ? 0 : within + 1;
		}
		Words(to).at[row * stride + word] = band ? banded : plain;
	}
}
