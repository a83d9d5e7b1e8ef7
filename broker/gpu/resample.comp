#version 450
// A picture in another format or size: every pair of formats that convert.comp does not know better.
// Each thread makes one word of a row of a plane (of RGBA16F one pixel, two words); the plane is the
// third number of its place.
//
// A sample is a weighted mean of the source's samples around its centre, across and down separately:
//   a side that shrinks   the area that the sample covers, each source sample by its overlap
//   else                  a triangle, of radius 1 or the distance of the target's samples, if larger:
//                         linear interpolation, and for chroma of RGB in the same size 1-2-1 across
//                         and 1-3-3-1 down
// Centres are exact fractions; beyond an edge there is the sample at the edge. Chroma is sited left: on
// every second luma sample across, between two down.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

layout(local_size_x = 32, local_size_y = 4) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };

// There is a pipeline for each: enum convert_kind in convert.h.
layout(constant_id = 0) const uint source = 0;
layout(constant_id = 1) const uint target = 4;
const uint WORD8 = 0, WORD10 = 1, HALVES = 2, LIGHT = 3, NV12 = 4, P010 = 5, I420 = 6;

// struct convert_arguments in convert.c
layout(push_constant) uniform Arguments {
	uvec2 from[3];
	uvec2 to[3];
	uint from_stride[2]; // in words; of the first plane and of the others
	uint to_stride[2];
	uint from_size; // width, and height << 16
	uint to_size;
	float alpha_scale;
	float alpha_bias;
	vec4 rows[3]; // of the matrix from the source's numbers to the target's, and what is added
};

// What of the source is resampled.
const uint RGB = 0, LUMA = 1, CHROMA = 2;

// --- The source's numbers ------------------------------------------------------------------------

// From linear light, as sRGB has it. What is not a number is black.
float encode(float light)
{
	if (!(light > 0.0))
		return 0.0;
	if (light >= 1.0)
		return 1.0;
	return light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1.0 / 2.4) - 0.055;
}

float finite(float v)
{
	return abs(v) <= 65504.0 ? v : v > 0.0 ? 65504.0 : v < 0.0 ? -65504.0 : 0.0;
}

vec4 halves_at(uint at)
{
	const vec4 v = vec4(unpackHalf2x16(Words(from[0]).at[at]),
		unpackHalf2x16(Words(from[0]).at[at + 1]));
	if (source == LIGHT)
		return vec4(encode(v.r), encode(v.g), encode(v.b), finite(v.a));
	return vec4(finite(v.r), finite(v.g), finite(v.b), finite(v.a));
}

vec4 rgb_at(uint x, uint y)
{
	const uint start = y * from_stride[0];
	if (source == HALVES || source == LIGHT)
		return halves_at(start + 2 * x);
	const uint w = Words(from[0]).at[start + x];
	if (source == WORD10)
		return vec4(w & 0x3ff, w >> 10 & 0x3ff, w >> 20 & 0x3ff, w >> 30);
	return vec4(w & 0xff, w >> 8 & 0xff, w >> 16 & 0xff, w >> 24);
}

// The n-th sample of a row that starts at a word.
uint byte_at(uvec2 plane, uint start, uint n)
{
	return Words(plane).at[start + n / 4] >> 8 * (n & 3) & 0xff;
}

uint ten_bits_at(uvec2 plane, uint start, uint n)
{
	return Words(plane).at[start + n / 2] >> (16 * (n & 1) + 6) & 0x3ff;
}

float luma_at(uint x, uint y)
{
	const uint start = y * from_stride[0];
	return float(source == P010 ? ten_bits_at(from[0], start, x) : byte_at(from[0], start, x));
}

vec2 chroma_at(uint x, uint y)
{
	const uint start = y * from_stride[1];
	if (source == P010)
		return vec2(ten_bits_at(from[1], start, 2 * x), ten_bits_at(from[1], start, 2 * x + 1));
	if (source == NV12)
		return vec2(byte_at(from[1], start, 2 * x), byte_at(from[1], start, 2 * x + 1));
	return vec2(byte_at(from[1], start, x), byte_at(from[2], start, x));
}

vec4 source_at(uint what, uint x, uint y)
{
	if (what == RGB)
		return rgb_at(x, y);
	if (what == LUMA)
		return vec4(luma_at(x, y), 0, 0, 0);
	return vec4(0, chroma_at(x, y), 0);
}

// --- The filter ----------------------------------------------------------------------------------

// One side of it: source samples first + base to last + base, clamped to the source's.
struct Axis {
	int base;
	float centre; // from base on: 0 to 1
	float radius;
	bool is_area;
	int first;
	int last;
	int end; // the source's last
};

// The centre is number / of, in source samples.
Axis axis_of(uint number, uint of, float radius, bool is_area, uint size)
{
	Axis a;
	a.base = int(number / of);
	a.centre = float(number % of) / float(of);
	a.radius = radius;
	a.is_area = is_area;
	const float edge = is_area ? radius : radius + 0.5;
	a.first = int(floor(a.centre - edge)) + (is_area ? 0 : 1);
	a.last = int(ceil(a.centre + edge)) - (is_area ? 1 : 2);
	a.end = int(size) - 1;
	return a;
}

float weight_of(const Axis a, int i)
{
	if (a.is_area)
		return max(min(i + 1, a.centre + a.radius) - max(i, a.centre - a.radius), 0.0);
	return max(1.0 - abs(i + 0.5 - a.centre) / a.radius, 0.0);
}

vec4 resample(uint what, const Axis across, const Axis down)
{
	vec4 sum = vec4(0);
	float total = 0.0;
	for (int j = down.first; j <= down.last; j++) {
		const uint y = uint(clamp(down.base + j, 0, down.end));
		const float weight = weight_of(down, j);
		vec4 row = vec4(0);
		float row_total = 0.0;
		for (int i = across.first; i <= across.last; i++) {
			const uint x = uint(clamp(across.base + i, 0, across.end));
			const float w = weight_of(across, i);
			row += w * source_at(what, x, y);
			row_total += w;
		}
		sum += weight * row;
		total += weight * row_total;
	}
	return sum / total;
}

// --- The target's numbers ------------------------------------------------------------------------

// Luma, or a pixel of RGB.
vec4 full_at(uint what, uint x, uint y)
{
	const uvec2 f = uvec2(from_size & 0xffff, from_size >> 16);
	const uvec2 t = uvec2(to_size & 0xffff, to_size >> 16);
	const bvec2 shrinks = lessThan(t, f);
	const vec2 radius = mix(vec2(1), vec2(f) / vec2(2 * t), shrinks);
	return resample(what, axis_of((2 * x + 1) * f.x, 2 * t.x, radius.x, shrinks.x, f.x),
		axis_of((2 * y + 1) * f.y, 2 * t.y, radius.y, shrinks.y, f.y));
}

// Chroma from RGB: of an area of two by two pixels of the target.
vec4 chroma_of_rgb(uint x, uint y)
{
	const uvec2 f = uvec2(from_size & 0xffff, from_size >> 16);
	const uvec2 t = uvec2(to_size & 0xffff, to_size >> 16);
	const bvec2 shrinks = lessThan(t, f);
	const vec2 ratio = vec2(f) / vec2(t);
	const vec2 radius = mix(max(vec2(1), 2 * ratio), ratio, shrinks);
	return resample(RGB, axis_of((4 * x + 1) * f.x, 2 * t.x, radius.x, shrinks.x, f.x),
		axis_of((4 * y + 2) * f.y, 2 * t.y, radius.y, shrinks.y, f.y));
}

// Chroma from chroma: that of the source is sited left as well.
vec4 chroma_of_chroma(uint x, uint y)
{
	const uvec2 f = uvec2(from_size & 0xffff, from_size >> 16);
	const uvec2 t = uvec2(to_size & 0xffff, to_size >> 16);
	const bvec2 shrinks = lessThan(t, f);
	const vec2 radius = mix(vec2(1), vec2(f) / vec2(2 * t), shrinks);
	const uvec2 size = (f + 1) / 2;
	return resample(CHROMA,
		axis_of((4 * x + 1) * f.x + t.x, 4 * t.x, radius.x, shrinks.x, size.x),
		axis_of((2 * y + 1) * f.y, 2 * t.y, radius.y, shrinks.y, size.y));
}

// Rounded to the nearest; what is not a number is 0.
uint whole(float v, float top)
{
	return v > 0.0 ? uint(min(v + 0.5, top)) : 0;
}

float row_of(uint row, vec4 v)
{
	return dot(rows[row].xyz, v.xyz) + rows[row].w;
}

uint yuv_sample(uint row, vec4 v)
{
	return whole(row_of(row, v), target == P010 ? 1023 : 255);
}

uint luma_sample(uint x, uint y)
{
	return yuv_sample(0, full_at(source <= LIGHT ? RGB : LUMA, x, y));
}

vec4 chroma_sample(uint x, uint y)
{
	return source <= LIGHT ? chroma_of_rgb(x, y) : chroma_of_chroma(x, y);
}

// --- Words ---------------------------------------------------------------------------------------

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

void make_rgb(uint x, uint y)
{
	const vec4 v = full_at(RGB, x, y);
	const vec4 c = vec4(row_of(0, v), row_of(1, v), row_of(2, v), alpha_scale * v.a + alpha_bias);
	const uint at = y * to_stride[0] + x;
	if (target == WORD8)
		put(to[0], at, whole(c.r, 255) | whole(c.g, 255) << 8 | whole(c.b, 255) << 16 |
			whole(c.a, 255) << 24, 4);
	else if (target == WORD10)
		put(to[0], at, whole(c.r, 1023) | whole(c.g, 1023) << 10 | whole(c.b, 1023) << 20 |
			whole(c.a, 3) << 30, 4);
	else {
		put(to[0], at + x, packHalf2x16(c.rg), 4);
		put(to[0], at + x + 1, packHalf2x16(c.ba), 4);
	}
}

void make_luma(uint word, uint y, uint width)
{
	const uint samples = target == P010 ? 2 : 4, bits = 32 / samples;
	const uint first = word * samples, n = min(samples, width - first);
	uint w = 0;
	for (uint i = 0; i < n; i++)
		w |= luma_sample(first + i, y) << (bits * i + (target == P010 ? 6 : 0));
	put(to[0], y * to_stride[0] + word, w, n * bits / 8);
}

// NV12 and P010.
void make_pairs(uint word, uint y, uint width)
{
	const uint samples = target == P010 ? 1 : 2, bits = 16 / samples;
	const uint first = word * samples, n = min(samples, width - first);
	uint w = 0;
	for (uint i = 0; i < n; i++) {
		const vec4 v = chroma_sample(first + i, y);
		w |= (yuv_sample(1, v) | yuv_sample(2, v) << bits) << (2 * bits * i);
	}
	put(to[1], y * to_stride[1] + word, target == P010 ? w << 6 : w, n * bits / 4);
}

// I420
void make_chroma(uint plane, uint word, uint y, uint width)
{
	const uint first = word * 4, n = min(4, width - first);
	uint w = 0;
	for (uint i = 0; i < n; i++)
		w |= yuv_sample(plane, chroma_sample(first + i, y)) << 8 * i;
	put(to[plane], y * to_stride[1] + word, w, n);
}

void main()
{
	const uvec3 at = gl_GlobalInvocationID;
	const uint width = to_size & 0xffff, height = to_size >> 16;
	const uint chroma_width = (width + 1) / 2, chroma_height = (height + 1) / 2;
	if (at.z == 0 ? at.y >= height : at.y >= chroma_height)
		return;
	if (target <= LIGHT) {
		if (at.x < width)
			make_rgb(at.x, at.y);
	} else if (at.z == 0) {
		if (at.x * (target == P010 ? 2 : 4) < width)
			make_luma(at.x, at.y, width);
	} else if (target == I420) {
		if (at.x * 4 < chroma_width)
			make_chroma(at.z, at.x, at.y, chroma_width);
	} else if (at.x * (target == P010 ? 1 : 2) < chroma_width)
		make_pairs(at.x, at.y, chroma_width);
}
