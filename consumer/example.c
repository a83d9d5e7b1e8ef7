#include <err.h>
#include <stdio.h>
#include <sluice_consumer.h>

int main(int argc, char **argv)
{
	struct sluice *conn = NULL;
	struct sluice_view *view;
	struct sluice_frame *frame;

	if (sluice_connect(&conn, NULL) < 0 ||
		sluice_subscribe(conn, argc > 1 ? argv[1] : "test", NULL, &view) < 0)
		errx(1, "%s", sluice_error(conn));
	while (sluice_wait(conn, -1) >= 0)
		while (sluice_view_next(view, &frame) > 0) {
			printf("%lu: %ux%u\n", (unsigned long)frame->seq, frame->width,
				frame->height);
			sluice_frame_release(frame);
		}
	errx(1, "%s", sluice_error(conn));
}
