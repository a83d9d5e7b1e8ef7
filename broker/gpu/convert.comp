#version 450
// RGB of integers to 4:2:0 in the same size, which is what encoders ask for: one pass that reads each
// pixel from memory once and writes whole words. Everything else is resample.comp's.
//
// A thread makes blocks of 4 × 4 pixels; their chroma needs one pixel to the left, one row above and
// one below, which its neighbours in the workgroup read too: they come from the cache. Chroma is
// filtered by 1-2-1 across (sited left) and 1-3-3-1 down (sited between two rows), in exact integers.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_control_flow_attributes : require

layout(local_size_x = 32, local_size_y = 8) in;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Quads { uvec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 8) writeonly buffer Pairs { uvec2 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };

// There is a pipeline for each: enum convert_kind in convert.h.
layout(constant_id = 0) const uint source = 0;
layout(constant_id = 1) const uint target = 4;
layout(constant_id = 2) const bool wide = true; // rows lie at multiples of 16 bytes
const uint WORD8 = 0, WORD10 = 1, NV12 = 4, P010 = 5, I420 = 6;

// struct convert_arguments in convert.c
layout(push_constant) uniform Arguments {
	uvec2 from[3];
	uvec2 to[3];
	uint from_stride[2]; // in words
	uint to_stride[2];
	uint from_size; // width, and height << 16
	uint to_size;
	float alpha_scale;
	float alpha_bias;
	vec4 luma; // of the three colours, in the order of their bits, and what is added: with a half for rounding
	vec4 cb;   // of their sums by the filter
	vec4 cr;
};

const uint SIDE = 4, ROWS = 6, COLUMNS = 5; // of a block, and with what is around it
const float TOP = target == P010 ? 1023.5 : 255.5;

// Two samples beside each other in one register, with room for their sums.
struct Packed {
	uint low_high;
	uint middle;
};

Packed pack(uint pixel)
{
	if (source == WORD8)
		return Packed(pixel & 0x00ff00ff, pixel >> 8 & 0xff);
	return Packed((pixel & 0x3ff) | (pixel >> 4 & 0x03ff0000), pixel >> 10 & 0x3ff);
}

vec3 colours(uint pixel)
{
	if (source == WORD8)
		return vec3(pixel & 0xff, pixel >> 8 & 0xff, pixel >> 16 & 0xff);
	return vec3(pixel & 0x3ff, pixel >> 10 & 0x3ff, pixel >> 20 & 0x3ff);
}

// Beyond the edge there is the pixel at the edge.
void read_row(uint x, uint row, uint width, out uint pixels[COLUMNS])
{
	const uint start = row * from_stride[0];
	pixels[0] = Words(from[0]).at[start + max(x, 1) - 1];
	if (x + SIDE > width) {
		[[unroll]] for (uint i = 0; i < SIDE; i++)
			pixels[1 + i] = Words(from[0]).at[start + min(x + i, width - 1)];
	} else if (wide) {
		const uvec4 four = Quads(from[0]).at[(start + x) / 4];
		pixels[1] = four.x;
		pixels[2] = four.y;
		pixels[3] = four.z;
		pixels[4] = four.w;
	} else {
		[[unroll]] for (uint i = 0; i < SIDE; i++)
			pixels[1 + i] = Words(from[0]).at[start + x + i];
	}
}

// Write the first bytes of a word; the others are nobody's, and stay.
void put(uvec2 plane, uint at, uint word, uint bytes)
{
	if (bytes >= 4) {
		Words(plane).at[at] = word;
		return;
	}
	const uint mask = (1u << 8 * bytes) - 1;
	Words(plane).at[at] = (Words(plane).at[at] & ~mask) | (word & mask);
}

// Two words from 8-byte places on, of which so many bytes count.
void put_two(uvec2 plane, uint at, uvec2 words, uint bytes)
{
	if (wide && bytes >= 8) {
		Pairs(plane).at[at / 2] = words;
		return;
	}
	put(plane, at, words.x, bytes);
	if (bytes > 4)
		put(plane, at + 1, words.y, bytes - 4);
}

uint luma_of(uint pixel)
{
	return uint(dot(luma.xyz, colours(pixel)) + luma.w);
}

void write_luma(uint x, uint row, uint width, const uint pixels[COLUMNS])
{
	const uint start = row * to_stride[0];
	const uvec4 v = uvec4(luma_of(pixels[1]), luma_of(pixels[2]), luma_of(pixels[3]),
		luma_of(pixels[4]));
	if (target == P010)
		put_two(to[0], start + x / 2, uvec2(v.x << 6 | v.y << 22, v.z << 6 | v.w << 22),
			2 * (width - x));
	else
		put(to[0], start + x / 4, v.x | v.y << 8 | v.z << 16 | v.w << 24, width - x);
}

uint chroma_of(vec4 row, vec3 sums)
{
	return uint(clamp(dot(row.xyz, sums) + row.w, 0.0, TOP));
}

// Cb and Cr << 16 at a pixel, from columns that were filtered downwards.
uint chroma_at(const Packed columns[COLUMNS], uint x)
{
	const uint lh = columns[x - 1].low_high + 2 * columns[x].low_high + columns[x + 1].low_high;
	const uint m = columns[x - 1].middle + 2 * columns[x].middle + columns[x + 1].middle;
	const vec3 sums = vec3(lh & 0xffff, m, lh >> 16);
	return chroma_of(cb, sums) | chroma_of(cr, sums) << 16;
}

// Two chroma samples of a row.
uvec2 chroma_row(const uint pixels[ROWS][COLUMNS], uint first)
{
	Packed columns[COLUMNS];
	[[unroll]] for (uint x = 0; x < COLUMNS; x++) {
		const Packed a = pack(pixels[first][x]), b = pack(pixels[first + 1][x]),
			     c = pack(pixels[first + 2][x]), d = pack(pixels[first + 3][x]);
		columns[x].low_high = a.low_high + d.low_high + 3 * (b.low_high + c.low_high);
		columns[x].middle = a.middle + d.middle + 3 * (b.middle + c.middle);
	}
	return uvec2(chroma_at(columns, 1), chroma_at(columns, 3));
}

// NV12 and P010: x is that of the first pixel.
void write_pairs(uint x, uint row, uint chroma_width, uvec2 c)
{
	const uint start = row * to_stride[1], pairs = chroma_width - x / 2;
	if (target == P010)
		put_two(to[1], start + x / 2, c << 6, 4 * pairs);
	else
		put(to[1], start + x / 4,
			(c.x & 0xff) | (c.x >> 8 & 0xff00) | (c.y & 0xff) << 16 | (c.y & 0xff0000) << 8,
			2 * pairs);
}

// I420: from two blocks beside each other.
void write_planes(uint x, uint row, uint chroma_width, uvec2 c, uvec2 d)
{
	const uint at = row * to_stride[1] + x / 8, samples = chroma_width - x / 2;
	put(to[1], at, (c.x & 0xff) | (c.y & 0xff) << 8 | (d.x & 0xff) << 16 | d.y << 24, samples);
	put(to[2], at, c.x >> 16 | c.y >> 16 << 8 | d.x >> 16 << 16 | d.y >> 16 << 24, samples);
}

// Its luma is written, its two rows of chroma are returned.
void make_block(uint x, uint y, uint width, uint height, out uvec2 chroma[2])
{
	uint pixels[ROWS][COLUMNS];
	[[unroll]] for (uint i = 0; i < ROWS; i++)
		read_row(x, min(max(y + i, 1) - 1, height - 1), width, pixels[i]);
	[[unroll]] for (uint i = 0; i < SIDE; i++)
		if (y + i < height)
			write_luma(x, y + i, width, pixels[1 + i]);
	chroma[0] = chroma_row(pixels, 0);
	chroma[1] = chroma_row(pixels, 2);
}

void main()
{
	const uint width = from_size & 0xffff, height = from_size >> 16;
	const uint chroma_width = (width + 1) / 2, chroma_height = (height + 1) / 2;
	const uint x = gl_GlobalInvocationID.x * SIDE * (target == I420 ? 2 : 1);
	const uint y = gl_GlobalInvocationID.y * SIDE;
	if (x >= width || y >= height)
		return;
	uvec2 first[2], second[2] = { uvec2(0), uvec2(0) };
	make_block(x, y, width, height, first);
	if (target == I420 && x + SIDE < width)
		make_block(x + SIDE, y, width, height, second);
	[[unroll]] for (uint i = 0; i < 2; i++) {
		if (y / 2 + i >= chroma_height)
			break;
		if (target == I420)
			write_planes(x, y / 2 + i, chroma_width, first[i], second[i]);
		else
			write_pairs(x, y / 2 + i, chroma_width, first[i]);
	}
}
