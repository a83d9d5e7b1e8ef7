#include "consumer/snap/png_file.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"

static int fail(char *error, int r, const char *path)
{
	snprintf(error, PNG_FILE_TEXT_SIZE, "cannot write %s: %s", path, strerror(-r));
	return r;
}

/* libpng tells of a write that failed in words only; errno still has the number. */
static int write_png(FILE *file, const struct rgb *rgb)
{
	png_image image = {
		.version = PNG_IMAGE_VERSION,
		.width = rgb->width,
		.height = rgb->height,
		.format = rgb->has_alpha ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB,
	};
	errno = 0;
	bool is_written = png_image_write_to_stdio(&image, file, 0, rgb->bytes, 0, NULL) != 0;
	int r = is_written ? 0 : -(errno ? errno : EIO);
	png_image_free(&image);
	return r;
}

/* Writes, and closes the descriptor. A full disk may be noticed by fclose() only. */
static int write_and_close(int *fd_in, const struct rgb *rgb, bool must_sync)
{
	_cleanup_fd_ int fd = fd_take(fd_in);
	FILE *file = fdopen(fd, "wb");
	if (!file)
		return -errno;
	fd_take(&fd);
	int r = write_png(file, rgb);
	if (r == 0 && (fflush(file) != 0 || (must_sync && fsync(fileno(file)) < 0)))
		r = -errno;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	return r;
}

static int write_into(const char *path, const struct rgb *rgb, char *error)
{
	bool is_stdout = strcmp(path, "-") == 0;
	_cleanup_fd_ int fd = is_stdout ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
					: open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : write_and_close(&fd, rgb, false);
	return r < 0 ? fail(error, r, is_stdout ? "standard output" : path) : 0;
}

/* mkostemp() makes files for the owner alone: give this one the mode that any other file has. */
static void set_usual_mode(int fd)
{
	mode_t mask = umask(0);
	umask(mask);
	fchmod(fd, 0666 & ~mask);
}

static int write_beside(const char *path, const struct rgb *rgb, char *error)
{
	char temporary[PATH_MAX];
	int n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	if (n < 0 || (size_t)n >= sizeof(temporary))
		return fail(error, -ENAMETOOLONG, path);
	_cleanup_fd_ int fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return fail(error, -errno, path);
	set_usual_mode(fd);
	int r = write_and_close(&fd, rgb, true);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	unlink(temporary);
	return fail(error, r, path);
}

int png_file_write(const char *path, const struct rgb *rgb, char *error)
{
	struct stat st;
	if (strcmp(path, "-") == 0)
		return write_into(path, rgb, error);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return fail(error, -EISDIR, path);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return write_into(path, rgb, error);
	/* a link stays one: what it leads to is replaced */
	char target[PATH_MAX];
	return write_beside(realpath(path, target) ? target : path, rgb, error);
}
