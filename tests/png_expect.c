/*
 * png_expect FILE X,Y=RRGGBB...: are these colours at these places? X and Y are parts of the width
 * and height, 0 to 1. Exit status: 0 yes, 1 no (what is there is printed), 2 no such picture.
 */
#include <png.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"

enum { TOLERANCE = 16 /* of 255: terminals and compositors convert colours, each in its way */ };

static int load(const char *path, png_image *image, uint8_t **pixels_out)
{
	*image = (png_image){ .version = PNG_IMAGE_VERSION };
	if (!png_image_begin_read_from_file(image, path))
		return -1;
	image->format = PNG_FORMAT_RGB;
	_cleanup_free_ uint8_t *pixels = malloc(PNG_IMAGE_SIZE(*image));
	if (!pixels || !png_image_finish_read(image, NULL, pixels, 0, NULL)) {
		png_image_free(image);
		return -1;
	}
	*pixels_out = TAKE_PTR(pixels);
	return 0;
}

static int near(int a, int b)
{
	return abs(a - b) <= TOLERANCE;
}

static int check(const png_image *image, const uint8_t *pixels, const char *expected)
{
	double x, y;
	unsigned r, g, b;
	if (sscanf(expected, "%lf,%lf=%2x%2x%2x", &x, &y, &r, &g, &b) != 5 || x < 0 || x >= 1 ||
		y < 0 || y >= 1) {
		fprintf(stderr, "png_expect: cannot read %s\n", expected);
		return 2;
	}
	const uint8_t *p = pixels + 3 * ((size_t)(y * image->height) * image->width +
						(size_t)(x * image->width));
	if (near(p[0], (int)r) && near(p[1], (int)g) && near(p[2], (int)b))
		return 0;
	printf("%s is not so: %02x%02x%02x\n", expected, p[0], p[1], p[2]);
	return 1;
}

int main(int argc, char **argv)
{
	png_image image;
	_cleanup_free_ uint8_t *pixels = NULL;
	if (argc < 3 || load(argv[1], &image, &pixels) < 0) {
		fprintf(stderr, "png_expect: no picture in %s\n", argc > 1 ? argv[1] : "(nothing)");
		return 2;
	}
	int result = 0;
	for (int i = 2; i < argc && result != 2; i++) {
		int r = check(&image, pixels, argv[i]);
		result = r > result ? r : result;
	}
	return result;
}
