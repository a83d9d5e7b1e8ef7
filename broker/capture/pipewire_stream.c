/* One pw_stream to one node: negotiation, buffers coming and going, pictures out of them. */
#include "broker/capture/pipewire.h"

#include <errno.h>
#include <pipewire/pipewire.h>
#include <spa/buffer/meta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"

/* One buffer that we share with the producer. */
struct pipewire_buffer {
	struct capture_buffer base;
	struct list link;
	struct pipewire_stream *stream;
	struct pw_buffer *pw; /* NULL: PipeWire has taken it back */
	unsigned n_memories;
	struct pipewire_memory memory[FORMAT_PLANES_MAX];

	/* of the picture that is in it now */
	struct video_format format; /* of the crop */
	struct frame_rect crop;
	struct pipewire_plane plane[FORMAT_PLANES_MAX];
	struct capture_mapping mapping; /* the same for a GPU; base.mapping: it can be had */
	struct pipewire_damage damage;  /* once delivered: with what was lost before */
	bool lent;                      /* the listener has it */
	atomic_bool delivered;          /* read to the end; set by the worker */
};

struct pipewire_stream {
	struct pw_stream *pw;
	struct spa_hook hook;
	struct capture *capture;
	struct video_format *announced;
	char name[PIPEWIRE_TEXT_MAX];
	enum pipewire_stream_state state;
	char error[PIPEWIRE_TEXT_MAX];
	struct video_format whole; /* as negotiated; fourcc 0: nothing yet */
	struct frame_rect crop;    /* of the last picture */
	struct list buffers;
	struct pipewire_damage lost; /* damage of pictures that nobody got */
	uint64_t last_seq;           /* the producer's number of the last picture, 0: none */
	bool warned_transform;
};

static void refuse(struct pipewire_stream *s, const char *why)
{
	s->capture->listener->refused(s->capture->listener_data, why);
}

/* --- the worker's part --- */

static int buffer_read(struct capture_buffer *base, uint8_t *pixels,
	const struct video_format *format, uint64_t seq)
{
	struct pipewire_buffer *b = container_of(base, struct pipewire_buffer, base);
	(void)seq;
	if (!format_equal(format, &b->format))
		return -ESTALE;
	for (unsigned p = 0; p < format->n_planes; p++) {
		const struct pipewire_plane *plane = &b->plane[p];
		struct pipewire_block block = {
			.memory = &b->memory[plane->memory],
			.offset = plane->offset,
			.stride = plane->stride,
			.rows = format_rows(format, p),
			.row_bytes = format_row_bytes(format, p),
		};
		int r = pipewire_memory_copy(pixels + format->offset[p], format->stride[p], &block);
		if (r < 0)
			return r;
	}
	atomic_store(&b->delivered, true);
	return 0;
}

/* --- buffers --- */

static void buffer_free(struct pipewire_buffer *b)
{
	for (unsigned i = 0; i < b->n_memories; i++)
		pipewire_memory_detach(&b->memory[i]);
	list_remove(&b->link);
	free(b);
}

static void on_add_buffer(void *data, struct pw_buffer *pw)
{
	struct pipewire_stream *s = data;
	struct pipewire_buffer *b = calloc(1, sizeof(*b));
	pw->user_data = b;
	if (s->state == PIPEWIRE_CONNECTING)
		s->state = PIPEWIRE_NEGOTIATED;
	if (!b)
		return; /* its pictures are refused */
	b->base.read = buffer_read;
	b->stream = s;
	b->pw = pw;
	b->n_memories =
		pw->buffer->n_datas < FORMAT_PLANES_MAX ? pw->buffer->n_datas : FORMAT_PLANES_MAX;
	for (unsigned i = 0; i < b->n_memories; i++)
		pipewire_memory_attach(&b->memory[i], &pw->buffer->datas[i]);
	list_insert(&s->buffers, &b->link);
}

/* The listener may have read it and not used it: what it changed is lost. One that it does not have may
 * still be known to a GPU. */
static void revoke_buffer(struct pipewire_stream *s, struct pipewire_buffer *b)
{
	if (b->lent)
		s->lost.all = true;
	else if (!b->base.mapping)
		return;
	s->capture->listener->revoke(s->capture->listener_data, &b->base);
}

static void on_remove_buffer(void *data, struct pw_buffer *pw)
{
	struct pipewire_buffer *b = pw->user_data;
	pw->user_data = NULL;
	if (!b)
		return;
	b->pw = NULL; /* nothing to queue when the listener gives it back */
	revoke_buffer(data, b);
	buffer_free(b);
}

void pipewire_stream_give_back(struct capture_buffer *base)
{
	struct pipewire_buffer *b = container_of(base, struct pipewire_buffer, base);
	struct pipewire_stream *s = b->stream;
	b->lent = false;
	/* a GPU reads without the worker */
	if (!atomic_load(&b->delivered) && !base->published)
		pipewire_damage_add(&s->lost, &b->damage);
	if (b->pw)
		pw_stream_queue_buffer(s->pw, b->pw);
}

/* --- pictures --- */

static void warn_transform(struct pipewire_stream *s, const struct spa_buffer *buffer)
{
	const struct spa_meta_videotransform *meta =
		spa_buffer_find_meta_data(buffer, SPA_META_VideoTransform, sizeof(*meta));
	if (s->warned_transform || !meta || meta->transform == SPA_META_TRANSFORMATION_None)
		return;
	s->warned_transform = true;
	log_warning("stream=%s the producer sends its picture rotated or mirrored (transform %u); "
		    "it is passed on as it is",
		s->name, meta->transform);
}

/* Every block of it is empty: a message about the cursor, and no picture. */
static bool is_empty(const struct spa_buffer *buffer)
{
	for (unsigned i = 0; i < buffer->n_datas; i++)
		if (buffer->datas[i].chunk->size > 0)
			return false;
	return true;
}

static bool is_corrupted(const struct spa_buffer *buffer, const struct spa_meta_header *header)
{
	for (unsigned i = 0; i < buffer->n_datas; i++)
		if (buffer->datas[i].chunk->flags & SPA_CHUNK_FLAG_CORRUPTED)
			return true;
	return header && header->flags & SPA_META_HEADER_FLAG_CORRUPTED;
}

/* All planes in one mapping: a GPU may be able to read them there. */
static void locate_mapping(struct pipewire_buffer *b)
{
	const struct pipewire_memory *memory = &b->memory[0];
	const struct video_format *whole = &b->stream->whole;
	bool is_mapped = b->n_memories == 1 && memory->map;
	b->base.mapping = is_mapped ? &b->mapping : NULL;
	if (!is_mapped)
		return;
	uint64_t lead = (uint64_t)(memory->data - (const uint8_t *)memory->map);
	b->mapping.map = memory->map;
	b->mapping.size_bytes = memory->map_bytes;
	for (unsigned p = 0; p < whole->n_planes; p++) {
		b->mapping.offset[p] = lead + b->plane[p].offset;
		b->mapping.stride[p] = b->plane[p].stride;
	}
}

/* NULL, or why the planes of the picture cannot be read. */
static const char *locate(struct pipewire_buffer *b, const struct spa_buffer *buffer)
{
	struct pipewire_chunk chunks[FORMAT_PLANES_MAX];
	for (unsigned i = 0; i < b->n_memories; i++) {
		const volatile struct spa_chunk *chunk = buffer->datas[i].chunk;
		if (b->memory[i].problem)
			return b->memory[i].problem;
		chunks[i] = (struct pipewire_chunk){
			.limit = b->memory[i].limit,
			.offset = chunk->offset,
			.size = chunk->size,
			.stride = chunk->stride,
		};
	}
	return pipewire_locate(&b->stream->whole, &b->crop, chunks, b->n_memories, b->plane);
}

/* Pictures that were lost before they came here show as a jump; many producers do not count. */
static void note_sequence(struct pipewire_stream *s, const struct spa_meta_header *header)
{
	if (!header || header->seq == 0)
		return;
	if (s->last_seq && header->seq != s->last_seq + 1)
		s->lost.all = true;
	s->last_seq = header->seq;
}

/* Look at what is in a buffer. NULL if it is a picture to be used; "" if it is none. */
static const char *examine(struct pipewire_stream *s, struct pw_buffer *pw)
{
	struct pipewire_buffer *b = pw->user_data;
	const struct spa_buffer *buffer = pw->buffer;
	const struct spa_meta_header *header =
		spa_buffer_find_meta_data(buffer, SPA_META_Header, sizeof(*header));
	note_sequence(s, header);
	if (!b || s->whole.fourcc == 0)
		return "there is no memory or no format for it";
	if (buffer->n_datas == 0 || buffer->n_datas > FORMAT_PLANES_MAX)
		return "the buffer has no memory, or too many blocks of it";
	/* memory that cannot be read is often empty too, and that is the better reason */
	if (is_empty(buffer))
		return b->memory[0].problem ? b->memory[0].problem : "";
	if (is_corrupted(buffer, header))
		return "the producer says that the picture is corrupted";
	if (!pipewire_crop(buffer, &s->whole, &b->crop))
		return "the producer's crop rectangle lies outside the picture";
	const char *why = locate(b, buffer);
	if (why)
		return why;
	locate_mapping(b);
	warn_transform(s, buffer);
	pipewire_damage_read(&b->damage, buffer, &b->crop);
	uint64_t now = clock_ns();
	b->base.info = (struct frame_info){ .captured_ns = now,
		.pts_ns = pipewire_pts(header ? header->pts : -1, now) };
	return NULL;
}

/* The listener hears of a new format before the first picture of it. */
static void announce(struct pipewire_stream *s, struct pipewire_buffer *b)
{
	b->format = s->whole;
	format_layout(s->whole.fourcc, b->crop.width, b->crop.height, &b->format);
	b->format.colour = s->whole.colour;
	/* a crop that has moved shows other pixels at the same place */
	if (memcmp(&s->crop, &b->crop, sizeof(s->crop)) != 0)
		s->lost.all = true;
	s->crop = b->crop;
	if (format_equal(&b->format, s->announced))
		return;
	s->lost.all = true;
	s->capture->listener->revoke(s->capture->listener_data, NULL);
	*s->announced = b->format;
	s->capture->listener->format(s->capture->listener_data, s->announced);
}

/*
 * Damage is told against the picture before. Of those that were given back unread it is added to
 * this one's; also of those that wait to be read, since they may yet be given back.
 */
static void tell_damage(struct pipewire_stream *s, struct pipewire_buffer *b)
{
	struct pipewire_damage sum = b->damage;
	const struct pipewire_buffer *other;
	pipewire_damage_add(&sum, &s->lost);
	s->lost = (struct pipewire_damage){ 0 };
	list_for_each(other, &s->buffers, link)
		if (other->lent && !atomic_load(&other->delivered))
			pipewire_damage_add(&sum, &other->damage);
	b->damage = sum; /* of three that are skipped in a row the first is in the second's */
	b->base.info.n_damage = sum.all ? 0 : sum.n;
	memcpy(b->base.info.damage, sum.rect, sizeof(sum.rect));
}

static void deliver(struct pipewire_stream *s, struct pipewire_buffer *b)
{
	announce(s, b);
	tell_damage(s, b);
	atomic_store(&b->delivered, false);
	b->base.published = false;
	b->lent = true;
	s->capture->listener->buffer(s->capture->listener_data, &b->base);
}

static void supersede(struct pipewire_stream *s, struct pw_buffer *pw)
{
	struct pipewire_buffer *b = pw->user_data;
	pipewire_damage_add(&s->lost, &b->damage);
	pw_stream_queue_buffer(s->pw, pw);
	s->capture->listener->superseded(s->capture->listener_data, 1);
}

/* Give one back that cannot be used; what it would have changed is not known. */
static void reject(struct pipewire_stream *s, struct pw_buffer *pw, const char *why)
{
	pw_stream_queue_buffer(s->pw, pw);
	if (!*why)
		return;
	s->lost.all = true;
	refuse(s, why);
}

static void on_process(void *data)
{
	struct pipewire_stream *s = data;
	struct pw_buffer *newest = NULL, *pw;
	while ((pw = pw_stream_dequeue_buffer(s->pw))) {
		const char *why = examine(s, pw);
		if (why) {
			reject(s, pw, why);
			continue;
		}
		if (newest)
			supersede(s, newest);
		newest = pw;
	}
	if (newest)
		deliver(s, newest->user_data);
}

/* --- negotiation --- */

static void on_param_changed(void *data, uint32_t id, const struct spa_pod *param)
{
	struct pipewire_stream *s = data;
	uint8_t room[PIPEWIRE_PODS_BYTES];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(room, sizeof(room));
	const struct spa_pod *params[PIPEWIRE_PARAMS_MAX];
	char what[64];
	if (id != SPA_PARAM_Format)
		return;
	s->whole.fourcc = 0;
	if (!param)
		return;
	int r = pipewire_parse_format(param, &s->whole);
	if (r < 0) {
		pw_stream_set_error(s->pw, r, "a format or size that was not offered");
		return;
	}
	log_debug(
		"stream=%s negotiated %s", s->name, format_describe(&s->whole, what, sizeof(what)));
	unsigned n = pipewire_build_buffers(&builder, params);
	pw_stream_update_params(s->pw, params, n);
}

static void on_state_changed(
	void *data, enum pw_stream_state old, enum pw_stream_state state, const char *error)
{
	struct pipewire_stream *s = data;
	log_debug("stream=%s pipewire %s -> %s %s", s->name, pw_stream_state_as_string(old),
		pw_stream_state_as_string(state), error ? error : "");
	if (error)
		snprintf(s->error, sizeof(s->error), "%s", error);
	if (state == PW_STREAM_STATE_ERROR || state == PW_STREAM_STATE_UNCONNECTED)
		s->state = PIPEWIRE_OVER;
	else if (state == PW_STREAM_STATE_STREAMING && s->state < PIPEWIRE_STREAMING)
		s->state = PIPEWIRE_STREAMING;
}

static const struct pw_stream_events stream_events = {
	PW_VERSION_STREAM_EVENTS,
	.state_changed = on_state_changed,
	.param_changed = on_param_changed,
	.add_buffer = on_add_buffer,
	.remove_buffer = on_remove_buffer,
	.process = on_process,
};

/*
 * The session manager links us to this node and to no other, ever: a camera that takes the place of
 * a window that was closed would be shown to people who were not meant to see it.
 */
static struct pw_properties *stream_properties(const struct pipewire_node *node, const char *name)
{
	struct pw_properties *props =
		pw_properties_new(PW_KEY_MEDIA_TYPE, "Video", PW_KEY_MEDIA_CATEGORY, "Capture",
			PW_KEY_MEDIA_ROLE, "Screen", PW_KEY_NODE_DONT_RECONNECT, "true",
			"node.dont-fallback", "true", "node.dont-move", "true", NULL);
	if (!props)
		return NULL;
	pw_properties_setf(props, PW_KEY_NODE_NAME, "sluice-%s", name);
	if (node->serial)
		pw_properties_setf(
			props, PW_KEY_TARGET_OBJECT, "%llu", (unsigned long long)node->serial);
	return props;
}

static int connect_stream(struct pipewire_stream *s, const struct pipewire_node *node)
{
	uint8_t room[PIPEWIRE_PODS_BYTES];
	struct spa_pod_builder builder = SPA_POD_BUILDER_INIT(room, sizeof(room));
	const struct spa_pod *formats = pipewire_build_formats(&builder);
	/* an id goes here and never into target.object; a serial is the other way round */
	return pw_stream_connect(s->pw, PW_DIRECTION_INPUT, node->serial ? PW_ID_ANY : node->id,
		PW_STREAM_FLAG_AUTOCONNECT | PW_STREAM_FLAG_DONT_RECONNECT, &formats, 1);
}

int pipewire_stream_open(struct pipewire_stream **stream_out, struct pw_core *core,
	const struct pipewire_node *node, struct capture *capture, struct video_format *announced,
	const char *name)
{
	_cleanup_(pipewire_stream_destroyp) struct pipewire_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct pipewire_stream){ .capture = capture, .announced = announced };
	list_init(&s->buffers);
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->pw = pw_stream_new(core, name, stream_properties(node, name));
	if (!s->pw)
		return -errno;
	pw_stream_add_listener(s->pw, &s->hook, &stream_events, s);
	int r = connect_stream(s, node);
	if (r < 0)
		return r;
	*stream_out = TAKE_PTR(s);
	return 0;
}

struct pipewire_stream *pipewire_stream_destroy(struct pipewire_stream *s)
{
	if (!s)
		return NULL;
	struct pipewire_buffer *b, *next;
	list_for_each(b, &s->buffers, link)
		b->pw = NULL; /* what the listener gives back now goes nowhere */
	list_for_each(b, &s->buffers, link)
		revoke_buffer(s, b);
	if (s->pw) {
		/* a stream whose connection broke does not tell which buffers it drops */
		spa_hook_remove(&s->hook);
		list_for_each_safe(b, next, &s->buffers, link)
			buffer_free(b);
		pw_stream_destroy(s->pw);
	}
	free(s);
	return NULL;
}

enum pipewire_stream_state pipewire_stream_state(const struct pipewire_stream *s)
{
	return s->state;
}

const char *pipewire_stream_error(const struct pipewire_stream *s)
{
	return s->error;
}

uint32_t pipewire_stream_node_id(const struct pipewire_stream *s)
{
	return pw_stream_get_node_id(s->pw);
}
