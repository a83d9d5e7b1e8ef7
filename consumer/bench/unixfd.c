/*
 * GStreamer's unixfdsink and unixfdsrc as what is measured: a pipeline that makes the pictures that
 * the broker's pattern source makes, in shared memory, and consumers that read the frame's number.
 *
 * As in the broker a thread of its own draws (its time is counted apart); it hands the buffer to
 * appsrc, whose thread pushes it into unixfdsink. The frame's number and the time just before
 * unixfdsink gets it travel in the buffer's offset and offset-end.
 */
#include <drm_fourcc.h>
#include <errno.h>
#include <gst/allocators/gstshmallocator.h>
#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <pthread.h>
#include <string.h>
#include <sys/timerfd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stamp.h"
#include "consumer/bench/cpu.h"
#include "consumer/bench/subject.h"

enum { SLOTS = 8, /* buffers, as many as the broker has */ BYTES_PER_PIXEL = 4 };

/* --- the process ------------------------------------------------------------------------------ */

struct sender {
	struct scene scene;
	GstAppSrc *source;
	GstBufferPool *pool;
	int timer_fd;
};

/* One row is filled, the others are copied from it, as the broker's pattern is drawn. */
static void draw(uint8_t *pixels, const struct scene *scene, uint32_t number)
{
	struct video_format format = {
		.fourcc = DRM_FORMAT_XRGB8888,
		.width = scene->width,
		.height = scene->height,
		.n_planes = 1,
		.stride = { scene->width * BYTES_PER_PIXEL },
	};
	memset(pixels, (int)number, format.stride[0]);
	for (uint32_t y = 1; y < scene->height; y++)
		memcpy(pixels + (size_t)y * format.stride[0], pixels, format.stride[0]);
	stamp_draw(pixels, &format, number);
}

static GstBuffer *make_frame(const struct sender *s, uint64_t seq)
{
	GstBuffer *buffer;
	GstMapInfo map;
	if (gst_buffer_pool_acquire_buffer(s->pool, &buffer, NULL) != GST_FLOW_OK)
		return NULL;
	if (!gst_buffer_map(buffer, &map, GST_MAP_WRITE)) {
		gst_buffer_unref(buffer);
		return NULL;
	}
	draw(map.data, &s->scene, (uint32_t)seq);
	gst_buffer_unmap(buffer, &map);
	GST_BUFFER_OFFSET(buffer) = seq;
	return buffer;
}

/* A tick that comes while a frame is made is left out, as the broker does. */
static void *make_frames(void *data)
{
	const struct sender *s = data;
	uint64_t ticks, seq = 0;
	GstBuffer *buffer;
	while (read(s->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks) &&
		(buffer = make_frame(s, ++seq)) &&
		gst_app_src_push_buffer(s->source, buffer) == GST_FLOW_OK)
		;
	progress("GStreamer's pipeline has ended");
	_exit(1);
}

static GstPadProbeReturn on_buffer(GstPad *pad, GstPadProbeInfo *info, void *data)
{
	(void)pad;
	(void)data;
	GstBuffer *buffer = gst_buffer_make_writable(GST_PAD_PROBE_INFO_BUFFER(info));
	GST_BUFFER_OFFSET_END(buffer) = clock_ns();
	GST_PAD_PROBE_INFO_DATA(info) = buffer;
	return GST_PAD_PROBE_OK;
}

static GstBufferPool *make_pool(GstCaps *caps, const struct scene *scene)
{
	gst_shm_allocator_init_once();
	GstAllocator *allocator = gst_shm_allocator_get();
	GstBufferPool *pool = gst_buffer_pool_new();
	GstStructure *config = gst_buffer_pool_get_config(pool);
	gst_buffer_pool_config_set_params(
		config, caps, scene->width * scene->height * BYTES_PER_PIXEL, SLOTS, SLOTS);
	gst_buffer_pool_config_set_allocator(config, allocator, NULL);
	gst_object_unref(allocator);
	if (!gst_buffer_pool_set_config(pool, config) || !gst_buffer_pool_set_active(pool, TRUE))
		return NULL;
	return pool;
}

static GstElement *make_pipeline(struct sender *s, const char *path)
{
	GstElement *pipeline = gst_parse_launch("appsrc name=source format=time max-buffers=1 "
						"block=true ! unixfdsink name=sink sync=false",
		NULL);
	if (!pipeline)
		return NULL;
	GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
	GstPad *pad = gst_element_get_static_pad(sink, "sink");
	g_object_set(sink, "socket-path", path, NULL);
	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, on_buffer, NULL, NULL);
	s->source = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(pipeline), "source"));
	GstCaps *caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "BGRx", "width",
		G_TYPE_INT, (int)s->scene.width, "height", G_TYPE_INT, (int)s->scene.height,
		"framerate", GST_TYPE_FRACTION, (int)s->scene.fps, 1, NULL);
	gst_app_src_set_caps(s->source, caps);
	s->pool = make_pool(caps, &s->scene);
	return pipeline;
}

static bool start(struct sender *s, const char *path)
{
	struct timespec period = clock_timespec(NS_PER_S / s->scene.fps);
	struct itimerspec timer = { .it_interval = period, .it_value = period };
	pthread_t thread;
	GstElement *pipeline = make_pipeline(s, path);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (!pipeline || !s->pool || s->timer_fd < 0 ||
		timerfd_settime(s->timer_fd, 0, &timer, NULL) < 0 ||
		gst_element_set_state(pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE ||
		pthread_create(&thread, NULL, make_frames, s) != 0)
		return false;
	pthread_setname_np(thread, CPU_COPY_THREAD);
	return true;
}

static void unixfd_main(const struct subject *subject, const void *data)
{
	struct sender s = { .scene = *(const struct scene *)data };
	gst_init(NULL, NULL);
	if (start(&s, subject->socket))
		for (;;)
			pause();
	progress("GStreamer cannot start appsrc ! unixfdsink: it takes version 1.24 and its "
		 "\"bad\" plugins");
	_exit(1);
}

static int unixfd_start(struct subject **subject_out, struct place *place,
	const struct scene *scene, struct failure *failure)
{
	return subject_start(subject_out, place, "unixfd", unixfd_main, scene, failure);
}

/* --- its consumers ---------------------------------------------------------------------------- */

struct receiver {
	struct seat *seat;
	_Atomic bool is_wrong; /* a frame had another frame's pixels */
};

static bool has_number(GstBuffer *buffer, GstCaps *caps, uint32_t expected)
{
	GstStructure *s = gst_caps_get_structure(caps, 0);
	GstMapInfo map;
	uint32_t number;
	int width = 0, height = 0;
	gst_structure_get_int(s, "width", &width);
	gst_structure_get_int(s, "height", &height);
	if (!gst_buffer_map(buffer, &map, GST_MAP_READ))
		return false;
	uint32_t stride = (uint32_t)width * BYTES_PER_PIXEL;
	bool ok = stamp_read_luma(map.data, stride, BYTES_PER_PIXEL, (uint32_t)width,
			  (uint32_t)height, &number) == STAMP_OK &&
		  number == expected;
	gst_buffer_unmap(buffer, &map);
	return ok;
}

/* On the thread that reads the socket. */
static GstFlowReturn on_sample(GstAppSink *sink, void *data)
{
	struct receiver *r = data;
	GstSample *sample = gst_app_sink_pull_sample(sink);
	if (!sample)
		return GST_FLOW_EOS;
	GstBuffer *buffer = gst_sample_get_buffer(sample);
	struct sighting s = {
		.seq = GST_BUFFER_OFFSET(buffer),
		.published_ns = GST_BUFFER_OFFSET_END(buffer),
		.received_ns = clock_ns(),
		.is_whole = true,
	};
	if (!seat_is_timed(r->seat) &&
		!has_number(buffer, gst_sample_get_caps(sample), (uint32_t)s.seq))
		r->is_wrong = true;
	gst_sample_unref(sample);
	seat_note(r->seat, &s);
	return GST_FLOW_OK;
}

/* The pipeline's error, if there is one. */
static int check(GstElement *pipeline, const struct receiver *r, struct failure *failure)
{
	if (r->is_wrong)
		return fail(failure, -EBADMSG, "a frame of GStreamer's has wrong pixels");
	GstBus *bus = gst_element_get_bus(pipeline);
	GstMessage *message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR | GST_MESSAGE_EOS);
	gst_object_unref(bus);
	if (!message)
		return 0;
	GError *error = NULL;
	if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
		gst_message_parse_error(message, &error, NULL);
	int result = fail(failure, -ECONNRESET, "GStreamer's unixfdsrc has stopped: %s",
		error ? error->message : "end of stream");
	g_clear_error(&error);
	gst_message_unref(message);
	return result;
}

static int unixfd_consume(struct seat *seat, const char *path, struct failure *failure)
{
	static const GstAppSinkCallbacks callbacks = { .new_sample = on_sample };
	struct receiver receiver = { .seat = seat };
	gst_init(NULL, NULL);
	GstElement *pipeline = gst_parse_launch(
		"unixfdsrc name=source ! appsink name=sink sync=false max-buffers=1", NULL);
	if (!pipeline)
		return fail(failure, -ENOENT, "GStreamer has no unixfdsrc");
	GstElement *source = gst_bin_get_by_name(GST_BIN(pipeline), "source");
	GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
	g_object_set(source, "socket-path", path, NULL);
	gst_app_sink_set_callbacks(
		GST_APP_SINK(sink), (GstAppSinkCallbacks *)&callbacks, &receiver, NULL);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	int r = 0;
	while (r == 0 && !seat_is_over(seat)) {
		usleep(SEAT_LOOK_MS * 1000);
		r = check(pipeline, &receiver, failure);
	}
	gst_element_set_state(pipeline, GST_STATE_NULL);
	return r;
}

const struct subject_kind subject_unixfd = {
	.name = "unixfd",
	.start = unixfd_start,
	.consume = unixfd_consume,
};
