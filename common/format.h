/*
 * Pixel formats and the layout of a frame in memory.
 *
 * A format is named by its DRM fourcc (drm_fourcc.h), in little-endian order as there:
 * DRM_FORMAT_XRGB8888 is B, G, R, X in memory (PipeWire's BGRx). Those of 2:10:10:10 are words of 32
 * bits, named from the highest bit down as PipeWire does; P010's samples are 16 bits, of which the
 * upper ten count.
 *
 * The planes of a frame share one stride and follow each other without a gap: plane 1 begins at
 * stride × height. The planes of YUV420 (I420) are the exception: its chroma stride is half.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FORMAT_PLANES_MAX = 4,
	FORMAT_SIDE_MAX = 16384,   /* pixels, width and height each */
	FORMAT_STRIDE_ALIGN = 256, /* bytes: what CUDA and NVENC ask of a pitch */
	FORMAT_NAME_MAX = 16,      /* bytes, with the NUL */
	FORMAT_NAMES_MAX = 256,    /* bytes of all names in a sentence, with the NUL */
};

struct format_info {
	uint32_t fourcc;
	const char *name; /* as PipeWire users know it: "BGRx", "NV12", "xRGB_210LE" */
	unsigned n_planes;
	unsigned bytes
		[FORMAT_PLANES_MAX]; /* per sample of the plane: 4 for BGRx, 2 for NV12's plane 1 */
	unsigned sub_x[FORMAT_PLANES_MAX]; /* log2 of horizontal subsampling */
	unsigned sub_y[FORMAT_PLANES_MAX]; /* log2 of vertical subsampling */
};

/* How colours are to be read: the numbers of ITU-T H.273, 2 where not known. */
struct format_colour {
	uint8_t primaries;
	uint8_t transfer;
	uint8_t matrix;
	bool full_range;
};

struct video_format {
	uint32_t fourcc;
	uint32_t width;  /* pixels */
	uint32_t height; /* pixels */
	unsigned n_planes;
	uint32_t offset[FORMAT_PLANES_MAX]; /* bytes from the beginning of the slot */
	uint32_t stride[FORMAT_PLANES_MAX]; /* bytes from row to row */
	uint64_t size_bytes;                /* of the whole frame */
	struct format_colour colour;
};

/* NULL if the format is not supported. Lives for ever. */
const struct format_info *format_info(uint32_t fourcc);

/* Its name or the letters of its fourcc ("XR30"); case does not matter. NULL: no such format. */
const struct format_info *format_info_by_name(const char *name);

/* The i-th supported format, NULL past the last. */
const struct format_info *format_info_at(unsigned i);

/* "BGRx, BGRA, ... or RGBA_F16", for sentences. FORMAT_NAMES_MAX is enough. Returns buf. */
char *format_names(char *buf, size_t size);

/* "BGRx 1920x1080"; an unknown fourcc is printed as its letters. Returns buf. */
char *format_describe(const struct video_format *format, char *buf, size_t size);

/**
 * Lay out a frame: strides a multiple of FORMAT_STRIDE_ALIGN, planes one after the other.
 *
 * format_out  untouched unless 0 is returned; colour is set to what is usual for the format
 *
 * 0, -EOPNOTSUPP for an unknown fourcc, -ERANGE for a side of 0 or over FORMAT_SIDE_MAX.
 */
int format_layout(
	uint32_t fourcc, uint32_t width, uint32_t height, struct video_format *format_out);

/* Bytes of one row of a plane, without padding. */
uint32_t format_row_bytes(const struct video_format *format, unsigned plane);

/* Rows of a plane. */
uint32_t format_rows(const struct video_format *format, unsigned plane);

/**
 * Is this layout, which a peer sent, sound? Every plane must lie within size_bytes, and each stride
 * must hold a row. 0, or what format_layout() returns, or -EPROTO.
 */
int format_check(const struct video_format *format);

/* Same pixels in the same places. */
bool format_equal(const struct video_format *a, const struct video_format *b);
