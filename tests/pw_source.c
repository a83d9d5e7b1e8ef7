/*
 * A PipeWire producer that plays, on purpose, the quirks that real ones have by accident. Every
 * picture carries its number as a stamp (common/stamp.h); the ground behind it is one grey value
 * that follows from the number: 37 times it, in 8 bits.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pipewire/pipewire.h>
#include <signal.h>
#include <spa/param/video/format-utils.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stamp.h"

enum { STRIDE_NATURAL = INT32_MAX };
enum { BUFFERS = 4, BUFFERS_MAX = 32, LIFE_MAX_S = 120 };

enum memory { MEMFD, MEMFD_UNSEALED, MEMPTR, DMABUF, DMABUF_ONLY, BADFD, PIPE };

static const char *const memory_names[] = {
	[MEMFD] = "memfd",
	[MEMFD_UNSEALED] = "memfd-unsealed",
	[MEMPTR] = "memptr",
	[DMABUF] = "dmabuf",
	[DMABUF_ONLY] = "dmabuf-only",
	[BADFD] = "badfd",
	[PIPE] = "pipe",
};

struct options {
	const char *node;
	struct spa_rectangle size;
	unsigned fps;
	const char *format;
	enum memory memory;
	int stride; /* extra bytes; 0: the chunk says 0; negative: the chunk says so */
	bool no_header, seq_zero;
	const char *pts; /* "ok", "-1", "future" */
	unsigned corrupt, cursor_only;
	struct spa_region crop;
	unsigned damage; /* regions */
	const char *lie; /* "offset", "size", "stride" */
	unsigned resize_after, truncate_after, die_after, frames;
	struct spa_rectangle resize;
};

/* Our side of a buffer's memory. */
struct shared {
	uint8_t *pixels;
	size_t bytes;
	int fd;
};

struct source {
	struct options opt;
	struct pw_main_loop *loop;
	struct pw_stream *stream;
	struct spa_source *timer;
	struct video_format format;
	struct shared shared[BUFFERS_MAX];
	uint32_t number; /* of the last picture */
	bool truncated;
};

static const struct {
	const char *name;
	enum spa_video_format spa;
} formats[] = {
	{ "BGRx", SPA_VIDEO_FORMAT_BGRx }, { "BGRA", SPA_VIDEO_FORMAT_BGRA },
	{ "RGBx", SPA_VIDEO_FORMAT_RGBx }, { "RGBA", SPA_VIDEO_FORMAT_RGBA },
	{ "YUY2", SPA_VIDEO_FORMAT_YUY2 }, { "NV12", SPA_VIDEO_FORMAT_NV12 },
	{ "I420", SPA_VIDEO_FORMAT_I420 }, { "P010", SPA_VIDEO_FORMAT_P010_10LE },
	{ "xRGB_210LE", SPA_VIDEO_FORMAT_xRGB_210LE },
	{ "ARGB_210LE", SPA_VIDEO_FORMAT_ARGB_210LE },
	{ "xBGR_210LE", SPA_VIDEO_FORMAT_xBGR_210LE },
	{ "ABGR_210LE", SPA_VIDEO_FORMAT_ABGR_210LE }, { "RGBA_F16", SPA_VIDEO_FORMAT_RGBA_F16 },
	{ "RGB", SPA_VIDEO_FORMAT_RGB }, /* that nobody takes */
};

static enum spa_video_format spa_format(const char *name)
{
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (strcmp(formats[i].name, name) == 0)
			return formats[i].spa;
	fprintf(stderr, "pw_source: no format %s\n", name);
	exit(2);
}

/* --- the picture --- */

/* As our format_layout(), but with strides as a producer has them: rounded to 4 bytes, or padded. */
static void lay_out(struct source *s)
{
	struct video_format *f = &s->format;
	const struct format_info *info = format_info_by_name(s->opt.format);
	*f = (struct video_format){ .width = s->opt.size.width, .height = s->opt.size.height };
	if (!info)
		info = format_info_by_name("BGRx"); /* only its size is of interest */
	f->fourcc = info->fourcc;
	f->n_planes = info->n_planes;
	uint32_t stride = (format_row_bytes(f, 0) + 3) / 4 * 4;
	if (s->opt.stride > 0 && s->opt.stride != STRIDE_NATURAL)
		stride += (uint32_t)s->opt.stride;
	for (unsigned p = 0; p < f->n_planes; p++) {
		f->stride[p] = f->n_planes == 3 && p > 0 ? (stride + 1) / 2 : stride;
		f->offset[p] = (uint32_t)f->size_bytes;
		f->size_bytes += (uint64_t)f->stride[p] * format_rows(f, p);
	}
}

/* The same pixels, seen through the crop rectangle; offsets are from the beginning of the whole. */
static struct video_format cropped(const struct source *s)
{
	struct video_format f = s->format;
	const struct format_info *info = format_info(f.fourcc);
	const struct spa_region *crop = &s->opt.crop;
	if (crop->size.width == 0)
		return f;
	for (unsigned p = 0; p < f.n_planes; p++)
		f.offset[p] += ((uint32_t)crop->position.y >> info->sub_y[p]) * f.stride[p] +
			       ((uint32_t)crop->position.x >> info->sub_x[p]) * info->bytes[p];
	f.width = crop->size.width;
	f.height = crop->size.height;
	return f;
}

static void draw(const struct source *s, uint8_t *pixels, uint32_t number)
{
	struct video_format f = cropped(s);
	memset(pixels, (int)(number * 37 & 0xff), s->format.size_bytes);
	/* the stamp takes for granted that the first plane begins at 0 */
	uint32_t first = f.offset[0];
	for (unsigned p = 0; p < f.n_planes; p++)
		f.offset[p] -= first;
	stamp_draw(pixels + first, &f, number);
}

/* --- metadata --- */

static void write_header(struct source *s, const struct spa_buffer *buffer, bool corrupted)
{
	struct spa_meta_header *h = spa_buffer_find_meta_data(buffer, SPA_META_Header, sizeof(*h));
	if (!h)
		return;
	int64_t now = (int64_t)clock_ns();
	*h = (struct spa_meta_header){ .seq = s->opt.seq_zero ? 0 : s->number, .pts = now };
	if (strcmp(s->opt.pts, "-1") == 0)
		h->pts = -1;
	else if (strcmp(s->opt.pts, "future") == 0)
		h->pts = now + (int64_t)NS_PER_S;
	if (corrupted)
		h->flags = SPA_META_HEADER_FLAG_CORRUPTED;
}

static void write_regions(struct source *s, const struct spa_buffer *buffer)
{
	struct spa_meta_region *crop =
		spa_buffer_find_meta_data(buffer, SPA_META_VideoCrop, sizeof(*crop));
	if (crop)
		crop->region = s->opt.crop;
	const struct spa_meta *meta = spa_buffer_find_meta(buffer, SPA_META_VideoDamage);
	struct spa_meta_region *region = meta ? meta->data : NULL;
	for (unsigned i = 0; region && i < meta->size / sizeof(*region); i++)
		region[i].region = i < s->opt.damage
					   ? SPA_REGION((int)i, (int)(s->number % 8), 10, 1 + i)
					   : SPA_REGION(0, 0, 0, 0);
}

static void write_chunk(struct source *s, struct spa_data *data)
{
	uint32_t stride = s->format.stride[0];
	*data->chunk = (struct spa_chunk){
		.size = (uint32_t)s->format.size_bytes,
		.stride = s->opt.stride <= 0 ? s->opt.stride : (int32_t)stride,
	};
	const char *lie = s->opt.lie ? s->opt.lie : "";
	if (strcmp(lie, "offset") == 0)
		data->chunk->offset = UINT32_MAX - 8;
	else if (strcmp(lie, "size") == 0)
		data->chunk->size = UINT32_MAX, data->chunk->stride = INT32_MAX;
	else if (strcmp(lie, "stride") == 0)
		data->chunk->stride = 1;
}

/* --- what goes wrong on time --- */

static const struct spa_pod *build_format(
	struct source *s, struct spa_pod_builder *builder, struct spa_rectangle size);

static void resize(struct source *s)
{
	uint8_t room[1024];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(room, sizeof(room));
	const struct spa_pod *params[] = { build_format(s, &builder, s->opt.resize) };
	pw_stream_update_params(s->stream, params, 1);
}

static void truncate_all(struct source *s)
{
	s->truncated = true; /* our own mapping is as deadly now: nothing is drawn any more */
	for (unsigned i = 0; i < BUFFERS_MAX; i++)
		if (s->shared[i].fd >= 0 && ftruncate(s->shared[i].fd, 0) < 0)
			perror("pw_source: ftruncate");
}

static void misbehave(struct source *s)
{
	const struct options *o = &s->opt;
	if (o->die_after && s->number == o->die_after)
		raise(SIGKILL);
	if (o->truncate_after && s->number == o->truncate_after)
		truncate_all(s);
	if (o->resize_after && s->number == o->resize_after)
		resize(s);
	if (o->frames && s->number == o->frames)
		pw_main_loop_quit(s->loop);
}

static bool every(unsigned n, uint32_t number)
{
	return n && number % n == 0;
}

/* A picture, or one of the things that look like one. */
static void fill(struct source *s, struct pw_buffer *pw)
{
	struct spa_data *data = &pw->buffer->datas[0];
	struct shared *shared = pw->user_data;
	bool corrupt = every(s->opt.corrupt, s->number);
	/* flagged now here, now there; its stamp is one that never comes otherwise */
	bool in_header = corrupt && s->number / s->opt.corrupt % 2 == 0;
	uint8_t *pixels = shared ? shared->pixels : data->data;
	if (pixels && !s->truncated)
		draw(s, pixels, corrupt ? s->number | 1u << 31 : s->number);
	write_header(s, pw->buffer, in_header);
	write_regions(s, pw->buffer);
	write_chunk(s, data);
	if (corrupt && !in_header)
		data->chunk->flags = SPA_CHUNK_FLAG_CORRUPTED;
	if (every(s->opt.cursor_only, s->number)) {
		data->chunk->size = 0;
		data->chunk->flags = SPA_CHUNK_FLAG_CORRUPTED;
	}
	if (s->opt.memory == BADFD)
		data->chunk->size = 0;
}

static void on_timer(void *data, uint64_t expirations)
{
	struct source *s = data;
	(void)expirations;
	struct pw_buffer *pw = pw_stream_dequeue_buffer(s->stream);
	if (!pw)
		return;
	s->number++;
	fill(s, pw);
	pw_stream_queue_buffer(s->stream, pw);
	misbehave(s);
}

/* --- the stream --- */

static void on_state(
	void *data, enum pw_stream_state old, enum pw_stream_state state, const char *error)
{
	struct source *s = data;
	(void)old;
	if (error)
		fprintf(stderr, "pw_source: %s\n", error);
	struct timespec first = { 0, 1 };
	struct timespec period = clock_timespec(NS_PER_S / s->opt.fps);
	bool on = state == PW_STREAM_STATE_STREAMING;
	pw_loop_update_timer(pw_main_loop_get_loop(s->loop), s->timer, on ? &first : NULL,
		on ? &period : NULL, false);
}

static const struct spa_pod *build_format(
	struct source *s, struct spa_pod_builder *builder, struct spa_rectangle size)
{
	struct spa_fraction rate = SPA_FRACTION(0, 1);
	return spa_pod_builder_add_object(builder, SPA_TYPE_OBJECT_Format, SPA_PARAM_EnumFormat,
		SPA_FORMAT_mediaType, SPA_POD_Id(SPA_MEDIA_TYPE_video), SPA_FORMAT_mediaSubtype,
		SPA_POD_Id(SPA_MEDIA_SUBTYPE_raw), SPA_FORMAT_VIDEO_format,
		SPA_POD_Id(spa_format(s->opt.format)), SPA_FORMAT_VIDEO_size,
		SPA_POD_Rectangle(&size), SPA_FORMAT_VIDEO_framerate, SPA_POD_Fraction(&rate),
		SPA_FORMAT_VIDEO_colorMatrix, SPA_POD_Id(SPA_VIDEO_COLOR_MATRIX_BT709));
}

static const struct spa_pod *build_meta(struct spa_pod_builder *b, uint32_t type, size_t size)
{
	return spa_pod_builder_add_object(b, SPA_TYPE_OBJECT_ParamMeta, SPA_PARAM_Meta,
		SPA_PARAM_META_type, SPA_POD_Id(type), SPA_PARAM_META_size, SPA_POD_Int((int)size));
}

/* PipeWire looks at this alone; what we put into the buffers afterwards may be anything. */
static int offered_data_type(enum memory memory)
{
	if (memory == MEMPTR)
		return 1 << SPA_DATA_MemPtr;
	return memory == DMABUF_ONLY ? 1 << SPA_DATA_DmaBuf : 1 << SPA_DATA_MemFd;
}

static void on_param(void *data, uint32_t id, const struct spa_pod *param)
{
	struct source *s = data;
	uint8_t room[2048];
	struct spa_pod_builder b = SPA_POD_BUILDER_INIT(room, sizeof(room));
	const struct spa_pod *params[4];
	struct spa_video_info_raw info = { 0 };
	unsigned n = 0;
	if (id != SPA_PARAM_Format || !param || spa_format_video_raw_parse(param, &info) < 0)
		return;
	s->opt.size = info.size;
	lay_out(s);
	params[n++] = spa_pod_builder_add_object(&b, SPA_TYPE_OBJECT_ParamBuffers,
		SPA_PARAM_Buffers, SPA_PARAM_BUFFERS_buffers,
		SPA_POD_CHOICE_RANGE_Int(BUFFERS, 2, BUFFERS_MAX), SPA_PARAM_BUFFERS_blocks,
		SPA_POD_Int(1), SPA_PARAM_BUFFERS_size, SPA_POD_Int((int)s->format.size_bytes),
		SPA_PARAM_BUFFERS_stride, SPA_POD_Int((int)s->format.stride[0]),
		SPA_PARAM_BUFFERS_dataType,
		SPA_POD_CHOICE_FLAGS_Int(offered_data_type(s->opt.memory)));
	if (!s->opt.no_header)
		params[n++] = build_meta(&b, SPA_META_Header, sizeof(struct spa_meta_header));
	if (s->opt.crop.size.width)
		params[n++] = build_meta(&b, SPA_META_VideoCrop, sizeof(struct spa_meta_region));
	if (s->opt.damage)
		params[n++] = build_meta(
			&b, SPA_META_VideoDamage, s->opt.damage * sizeof(struct spa_meta_region));
	pw_stream_update_params(s->stream, params, n);
}

static int make_memfd(const struct source *s, struct shared *shared)
{
	_cleanup_fd_ int fd = memfd_create("pw_source", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t bytes = s->format.size_bytes;
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	if (s->opt.memory != MEMFD_UNSEALED)
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	*shared = (struct shared){ map, bytes, fd_take(&fd) };
	return 0;
}

static int make_pipe(struct shared *shared)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*shared = (struct shared){ .fd = ends[0] }; /* the other end stays open: a read blocks */
	return 0;
}

static void on_add_buffer(void *data, struct pw_buffer *pw)
{
	struct source *s = data;
	struct spa_data *d = &pw->buffer->datas[0];
	struct shared *shared = s->shared;
	if (s->opt.memory == MEMPTR)
		return; /* PipeWire's own, mapped by it */
	while (shared->fd >= 0)
		shared++;
	int r = s->opt.memory == PIPE ? make_pipe(shared) : make_memfd(s, shared);
	if (r < 0) {
		fprintf(stderr, "pw_source: no memory: %s\n", strerror(-r));
		exit(1);
	}
	pw->user_data = shared;
	d->type = s->opt.memory == DMABUF || s->opt.memory == DMABUF_ONLY ? SPA_DATA_DmaBuf
									  : SPA_DATA_MemFd;
	d->flags = SPA_DATA_FLAG_READWRITE;
	d->fd = s->opt.memory == BADFD ? -1 : shared->fd;
	d->mapoffset = 0;
	d->maxsize = s->opt.memory == BADFD ? 0 : (uint32_t)s->format.size_bytes;
	d->data = NULL;
}

static void on_remove_buffer(void *data, struct pw_buffer *pw)
{
	struct shared *shared = pw->user_data;
	(void)data;
	if (!shared)
		return;
	if (shared->pixels)
		munmap(shared->pixels, shared->bytes);
	close(shared->fd);
	*shared = (struct shared){ .fd = -EBADF };
}

static const struct pw_stream_events stream_events = {
	PW_VERSION_STREAM_EVENTS,
	.state_changed = on_state,
	.param_changed = on_param,
	.add_buffer = on_add_buffer,
	.remove_buffer = on_remove_buffer,
};

static int run(struct source *s)
{
	uint8_t room[1024];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(room, sizeof(room));
	struct pw_loop *loop = pw_main_loop_get_loop(s->loop);
	s->timer = pw_loop_add_timer(loop, on_timer, s);
	s->stream = pw_stream_new_simple(loop, s->opt.node,
		pw_properties_new(
			PW_KEY_MEDIA_CLASS, "Video/Source", PW_KEY_NODE_NAME, s->opt.node, NULL),
		&stream_events, s);
	if (!s->stream)
		return -errno;
	const struct spa_pod *params[] = { build_format(s, &builder, s->opt.size) };
	enum pw_stream_flags flags =
		PW_STREAM_FLAG_DRIVER | (s->opt.memory == MEMPTR ? PW_STREAM_FLAG_MAP_BUFFERS
								 : PW_STREAM_FLAG_ALLOC_BUFFERS);
	int r = pw_stream_connect(s->stream, PW_DIRECTION_OUTPUT, PW_ID_ANY, flags, params, 1);
	if (r < 0)
		return r;
	pw_main_loop_run(s->loop);
	pw_stream_destroy(s->stream);
	return 0;
}

/* --- options --- */

static const char usage[] =
	"pw_source: a PipeWire producer that misbehaves on purpose\n"
	"  --node NAME           of its node (default pw_source)\n"
	"  --size WxH --fps N    (default 320x240, 30)\n"
	"  --format F            BGRx BGRA RGBx RGBA YUY2 NV12 I420, or RGB that nobody takes\n"
	"  --memory KIND         memfd, memfd-unsealed, memptr, dmabuf (a memfd said to be one),\n"
	"                        dmabuf-only (offers nothing else), badfd (-1), pipe\n"
	"  --stride BYTES        of padding; 0: says 0; negative: says so\n"
	"  --lie WHAT            an impossible offset, size or stride in the chunk\n"
	"  --no-header --seq-zero --pts ok|-1|future\n"
	"  --corrupt N --cursor-only N    every N-th buffer is one\n"
	"  --crop X,Y,W,H        --damage REGIONS\n"
	"  --resize-after N --resize WxH  --truncate-after N  --die-after N  --frames N\n"
	"It ends by itself after two minutes.\n";

enum kind { FLAG, TEXT, NUMBER, SIGNED, SIZE, REGION, MEMORY };

#define AT(member) offsetof(struct options, member)

static const struct {
	const char *name;
	enum kind kind;
	size_t at;
} known[] = {
	{ "node", TEXT, AT(node) },
	{ "size", SIZE, AT(size) },
	{ "fps", NUMBER, AT(fps) },
	{ "format", TEXT, AT(format) },
	{ "memory", MEMORY, AT(memory) },
	{ "stride", SIGNED, AT(stride) },
	{ "lie", TEXT, AT(lie) },
	{ "no-header", FLAG, AT(no_header) },
	{ "seq-zero", FLAG, AT(seq_zero) },
	{ "pts", TEXT, AT(pts) },
	{ "corrupt", NUMBER, AT(corrupt) },
	{ "cursor-only", NUMBER, AT(cursor_only) },
	{ "crop", REGION, AT(crop) },
	{ "damage", NUMBER, AT(damage) },
	{ "resize-after", NUMBER, AT(resize_after) },
	{ "resize", SIZE, AT(resize) },
	{ "truncate-after", NUMBER, AT(truncate_after) },
	{ "die-after", NUMBER, AT(die_after) },
	{ "frames", NUMBER, AT(frames) },
};

enum { N_KNOWN = sizeof(known) / sizeof(known[0]), HELP = N_KNOWN };

static _Noreturn void bad_option(const char *arg)
{
	fprintf(stderr, "pw_source: cannot read \"%s\"\n%s", arg, usage);
	exit(2);
}

static unsigned number(const char *arg)
{
	char *end;
	unsigned long n = strtoul(arg, &end, 10);
	if (*end || end == arg || n > 1000000)
		bad_option(arg);
	return (unsigned)n;
}

static struct spa_rectangle size(const char *arg)
{
	struct spa_rectangle r;
	if (sscanf(arg, "%5ux%5u", &r.width, &r.height) != 2)
		bad_option(arg);
	return r;
}

static struct spa_region region(const char *arg)
{
	int x, y;
	unsigned w, h;
	if (sscanf(arg, "%d,%d,%u,%u", &x, &y, &w, &h) != 4)
		bad_option(arg);
	return SPA_REGION(x, y, w, h);
}

static enum memory memory(const char *arg)
{
	for (unsigned i = 0; i < sizeof(memory_names) / sizeof(memory_names[0]); i++)
		if (strcmp(memory_names[i], arg) == 0)
			return (enum memory)i;
	bad_option(arg);
}

static void set(struct options *o, int key, const char *arg)
{
	void *at = (char *)o + known[key].at;
	switch (known[key].kind) {
	case FLAG:
		*(bool *)at = true;
		break;
	case TEXT:
		*(const char **)at = arg;
		break;
	case NUMBER:
		*(unsigned *)at = number(arg);
		break;
	case SIGNED:
		*(int *)at = atoi(arg);
		break;
	case SIZE:
		*(struct spa_rectangle *)at = size(arg);
		break;
	case REGION:
		*(struct spa_region *)at = region(arg);
		break;
	case MEMORY:
		*(enum memory *)at = memory(arg);
		break;
	}
}

static void parse(struct options *o, int argc, char **argv)
{
	struct option list[N_KNOWN + 2] = { [N_KNOWN] = { "help", no_argument, NULL, HELP } };
	for (int i = 0; i < N_KNOWN; i++)
		list[i] = (struct option){ known[i].name,
			known[i].kind == FLAG ? no_argument : required_argument, NULL, i };
	int key;
	while ((key = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (key == HELP) {
			fputs(usage, stdout);
			exit(0);
		}
		if (key < 0 || key >= N_KNOWN)
			bad_option(argv[optind - 1]);
		set(o, key, optarg);
	}
	if (optind < argc || o->fps == 0)
		bad_option(optind < argc ? argv[optind] : "--fps 0");
}

int main(int argc, char **argv)
{
	static struct source s = {
		.opt = {
			.node = "pw_source",
			.size = { 320, 240 },
			.fps = 30,
			.format = "BGRx",
			.stride = STRIDE_NATURAL,
			.pts = "ok",
		},
	};
	parse(&s.opt, argc, argv);
	for (unsigned i = 0; i < BUFFERS_MAX; i++)
		s.shared[i].fd = -EBADF;
	lay_out(&s);
	alarm(LIFE_MAX_S);
	pw_init(NULL, NULL);
	s.loop = pw_main_loop_new(NULL);
	int r = s.loop ? run(&s) : -errno;
	if (r < 0)
		fprintf(stderr, "pw_source: PipeWire: %s\n", strerror(-r));
	if (s.loop)
		pw_main_loop_destroy(s.loop);
	pw_deinit();
	return r < 0;
}
