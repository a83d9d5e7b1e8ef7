/*
 * libsluice, the consumer half: read the frames of a stream that sluice-broker lends.
 *
 *	struct sluice *conn = NULL;
 *	struct sluice_view *view;
 *	struct sluice_frame *frame;
 *
 *	if (sluice_connect(&conn, NULL) < 0 || sluice_subscribe(conn, "desktop", NULL, &view) < 0)
 *		errx(1, "%s", sluice_error(conn));
 *	while (sluice_wait(conn, -1) >= 0)
 *		while (sluice_view_next(view, &frame) > 0) {
 *			encode(frame->data[0], frame->stride[0], frame->pts_ns);
 *			sluice_frame_release(frame);
 *		}
 *
 * Ownership words: [borrow] the caller keeps it; [give] the caller must destroy it; [lend] valid
 * until the named call.
 *
 * Results: 0 or positive is success; negative is an errno value with its sign turned, and
 * sluice_error() has the sentence. Outputs are written on success only.
 *
 * Threads: the library makes none, prints nothing and never ends the process. One connection and
 * everything that came from it belongs to one thread at a time; different connections are
 * independent. sluice_frame_valid() may be called from any thread while the frame is held.
 *
 * A broker that is stopped or killed ends the connection (-ECONNRESET), or with SLUICE_RECONNECT
 * the library connects and subscribes again by itself. Frames that are held stay mapped and
 * readable either way, until they are released. GPU work that waits for what the broker can signal
 * no more is let go on by the first call that notices: its frames are not valid then.
 *
 * The protocol is specified in proto/PROTOCOL.md.
 */
#ifndef SLUICE_CONSUMER_H
#define SLUICE_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_API __attribute__((visibility("default")))

#define SLUICE_PLANES_MAX 4
#define SLUICE_DAMAGE_MAX 16

struct sluice;      /* a connection */
struct sluice_view; /* a subscription to one form of a stream's frames */

/* Why the broker refused or ended something: sluice_error_code(). The protocol's numbers. */
enum sluice_error_code {
	SLUICE_ERROR_NONE = 0,
	SLUICE_ERROR_PROTOCOL = 1,   /* one of the two sides has a bug, or versions do not match */
	SLUICE_ERROR_VERSION = 2,    /* no common protocol version */
	SLUICE_ERROR_PERMISSION = 3, /* this user may not do that: ask who runs the broker */
	SLUICE_ERROR_LIMIT = 4,      /* a quota or a limit is reached */
	SLUICE_ERROR_NO_STREAM = 5,  /* no stream of that name: sluice_streams() lists them */
	SLUICE_ERROR_NO_VIEW = 6,    /* the stream cannot be had in that form */
	SLUICE_ERROR_ADMISSION = 7,  /* the pool cannot grant these holds: ask for fewer */
	SLUICE_ERROR_EXISTS = 8,     /* this connection has that view already */
	SLUICE_ERROR_TIMEOUT = 9,    /* a deadline passed: a reserved hold was kept too long */
	SLUICE_ERROR_SLOW = 10,      /* this client does not read its socket */
	SLUICE_ERROR_SHUTDOWN = 11,  /* the broker ends */
	SLUICE_ERROR_STREAM_GONE = 12, /* the stream was removed */
	SLUICE_ERROR_INTERNAL = 13,    /* the broker's own failure: see its log */
};

/* Flags of sluice_options. */
enum {
	SLUICE_RECONNECT = 1 << 0, /* connect and subscribe again when the broker comes back */
};

struct sluice_options {
	/* [borrow] path; NULL: $SLUICE_SOCKET, else $XDG_RUNTIME_DIR/sluice-0 */
	const char *socket;
	/* [borrow] for `sluice ls`; NULL: the program's name. At most 64 bytes */
	const char *name;
	unsigned flags;
	int timeout_ms; /* for connect, list and subscribe; 0: 5,000 */
};

/**
 * Connect to the broker and agree on a version. Blocks for options->timeout_ms at most.
 *
 * conn_out  [give] to sluice_close(); untouched unless 0 is returned
 * options   [borrow] may be NULL
 *
 * 0; -ENOENT or -ECONNREFUSED: no broker listens there; -EACCES: the broker refuses this user;
 * -ENAMETOOLONG: the path does not fit a socket address; -ETIMEDOUT; -EPROTO; -EMFILE; -ENOMEM.
 * The sentence is sluice_error(NULL)'s. With SLUICE_RECONNECT the first connect must succeed too.
 */
SLUICE_API int sluice_connect(struct sluice **conn_out, const struct sluice_options *options);

/* Ends all views and returns all frames; a frame that is still held is not valid memory any more,
 * so the caller's GPU work on it must have ended. Never blocks, but for two kinds of GPU work:
 * what frames were handed over with (sluice_frame_release_after()), for which the broker has a
 * second to signal what it waits for, and after that it is let go on from here; and all work of the
 * CUDA context if a frame is still held that a stream was made to wait for
 * (sluice_frame_wait_in()), which is let go on at once. Takes NULL. Returns NULL. */
SLUICE_API struct sluice *sluice_close(struct sluice *conn);

/* The sentence for the last failure on this connection, or with NULL for the last failed
 * sluice_connect() of this thread. [lend] until the next call on it. Never NULL. */
SLUICE_API const char *sluice_error(const struct sluice *conn);

/* The broker's reason for the last failure; SLUICE_ERROR_NONE if it gave none. conn as above. */
SLUICE_API enum sluice_error_code sluice_error_code(const struct sluice *conn);

/* Readable when sluice_dispatch() has something to do. The same number for the life of the
 * connection, across reconnects. [lend] until sluice_close(): poll it, nothing else. Frames that
 * wait already do not make it readable: take all with sluice_view_next() before polling. */
SLUICE_API int sluice_fd(const struct sluice *conn);

/**
 * Read what the broker sent. Never blocks.
 *
 * The number of frames that wait in all views (0 if none), or negative: -ECONNRESET when the broker
 * is gone (without SLUICE_RECONNECT); -EPROTO; -EMFILE: this process may not open the descriptors
 * of a view's memory. The connection can then only be closed.
 */
SLUICE_API int sluice_dispatch(struct sluice *conn);

/**
 * Wait until a frame waits in any view, any view ended, a stream changed, or the time is over; then
 * as sluice_dispatch().
 *
 * timeout_ms  -1 waits for ever, 0 does not wait
 *
 * -EINTR when a signal came. A still desktop sends nothing for minutes: silence is no failure.
 */
SLUICE_API int sluice_wait(struct sluice *conn, int timeout_ms);

/* A number that changes with each start of the broker; 0 while not connected. */
SLUICE_API uint64_t sluice_session(const struct sluice *conn);

/* --- Streams ----------------------------------------------------------------------------------*/

enum sluice_stream_state {
	SLUICE_STREAM_WAITING = 0, /* its source is not there (yet, or no more) */
	SLUICE_STREAM_LIVE = 1,
	SLUICE_STREAM_REMOVED = 2, /* only seen by a watcher */
};

struct sluice_stream_info {
	char name[65];
	char text[513];   /* why it waits; empty if live */
	char source[257]; /* "pattern:640x480@30" */
	enum sluice_stream_state state;
	uint32_t fourcc; /* DRM format code; 0 while not known */
	uint32_t width;  /* pixels */
	uint32_t height; /* pixels */
	bool has_device; /* it can be had in GPU memory, on this device */
	uint8_t device_uuid[16];
	uint8_t driver_uuid[16]; /* Vulkan's */
	char device_name[129];
};

/**
 * List the streams. Blocks for the connection's timeout at most; frames that arrive meanwhile wait.
 *
 * infos_out  [give] to free(); an array of n entries
 *
 * n, or negative.
 */
SLUICE_API int sluice_streams(struct sluice *conn, struct sluice_stream_info **infos_out);

/* Called from sluice_dispatch() and sluice_wait() for each change of a stream. It may call any
 * function but sluice_close(), sluice_dispatch() and sluice_wait(). */
typedef void (*sluice_stream_fn)(void *data, const struct sluice_stream_info *info);

/* Be told of streams that come, go and change, beginning with all that exist. fn NULL: no more.
 * Never blocks. 0 or negative. */
SLUICE_API int sluice_watch(struct sluice *conn, sluice_stream_fn fn, void *data);

/* --- Views ------------------------------------------------------------------------------------*/

enum sluice_memory {
	SLUICE_MEMORY_HOST = 0,   /* plain memory, mapped read-only: frame->data */
	SLUICE_MEMORY_CUDA = 1,   /* imported into CUDA: frame->cuda */
	SLUICE_MEMORY_VULKAN = 2, /* imported into a VkDevice of the caller: frame->vulkan */
};

/*
 * When a frame of GPU memory is handed over. Host memory is always complete.
 *
 * SLUICE_COMPLETE is the fastest as soon as there are several consumers: a wait on the GPU makes the
 * driver switch between processes. The others save the wait where the caller's work is queued on
 * the GPU anyway. What the broker or the driver cannot do becomes SLUICE_COMPLETE:
 * sluice_view_readiness() says what it is, sluice_view_note() why.
 */
enum sluice_readiness {
	SLUICE_COMPLETE = 0, /* its pixels are there: read at once */
	SLUICE_TIMELINE = 1, /* sluice_frame_wait_in(), or wait for frame->vulkan.semaphore */
	SLUICE_SYNC_FD = 2,  /* frame->sync_fd is readable when its pixels are there */
};

enum sluice_delivery {
	SLUICE_MAILBOX = 0, /* only the newest frame waits: lowest latency. What a display wants */
	SLUICE_FIFO = 1,    /* every frame waits, up to fifo_depth. What a recorder wants */
};

/*
 * The caller's device that SLUICE_MEMORY_VULKAN imports into: the one whose deviceUUID is that of
 * sluice_stream_info.device_uuid, made with VK_KHR_external_memory_fd and, for SLUICE_TIMELINE,
 * VK_KHR_external_semaphore_fd and timelineSemaphore. Vulkan's own handles. [borrow] until the view
 * is unsubscribed and its last frame is released. The library calls functions of the device that
 * need no external synchronisation beyond the rules of this header.
 */
struct sluice_vulkan {
	void *instance;        /* VkInstance */
	void *physical_device; /* VkPhysicalDevice */
	void *device;          /* VkDevice */
	/* PFN_vkGetInstanceProcAddr; NULL: the one of libvulkan.so.1 */
	void (*(*get_instance_proc_addr)(void *instance, const char *name))(void);
};

/* Which numbers stand for black and white. */
enum sluice_range {
	SLUICE_RANGE_USUAL = 0,   /* limited for YUV that is made from RGB, else the stream's own */
	SLUICE_RANGE_LIMITED = 1, /* 16 to 235 of 8 bits */
	SLUICE_RANGE_FULL = 2,
};

/* Flags of sluice_view_request. */
enum {
	/* where GPU memory cannot be had (no driver, another GPU, refused, or lost later): host memory
	 * instead, until the view is unsubscribed. sluice_view_memory() says which it is,
	 * sluice_view_note() why */
	SLUICE_HOST_FALLBACK = 1 << 0,
};

struct sluice_view_request {
	enum sluice_memory memory;
	enum sluice_readiness readiness;
	unsigned flags;
	enum sluice_delivery delivery;
	uint32_t fifo_depth;     /* SLUICE_FIFO: 1 to 32; 0: 4 */
	uint32_t max_holds;      /* frames held at once, 1 to 16; 0: 2 */
	uint32_t reserved_holds; /* so many holds are never revoked; 0: holds are shared. Then
				    max_holds is the same number. Keep one for more than 2 s (the
				    broker's setting) and the connection is ended */
	/*
	 * The form of its frames. Another form than the stream's own is made by the broker, once for all
	 * who ask for the same: on the stream's GPU in one pass, else by the CPU. What cannot be made is
	 * refused (SLUICE_ERROR_NO_VIEW) with a sentence that says what can.
	 */
	uint32_t fourcc; /* DRM format code; 0: the stream's own */
	uint32_t width;  /* pixels; 0: the stream's own, or with the other side given what keeps the
			    picture's proportions; as is height */
	uint32_t height;
	uint8_t matrix; /* YUV from RGB: ITU-T H.273's 1 (BT.709), 6 (BT.601) or 9 (BT.2020); 0: BT.709 */
	enum sluice_range range;
	/* at least so long between frames, evenly spaced; the newest picture comes in any case, later. 0: every
	 * frame */
	uint64_t min_interval_ns;
	/* SLUICE_MEMORY_CUDA: a CUcontext on the stream's device, [borrow] until the view is
	 * unsubscribed and its last frame is released; NULL: the primary context of that device, which
	 * the library finds by UUID and retains for as long */
	void *cuda_context;
	const struct sluice_vulkan *vulkan; /* SLUICE_MEMORY_VULKAN: [borrow] for the call */
};

/**
 * Subscribe to a stream. Blocks for the connection's timeout at most, until the broker has agreed;
 * the first frame comes later, from sluice_view_next(). The newest frame is sent at once, so a
 * still picture has one too.
 *
 * stream    [borrow] its name
 * request   [borrow] may be NULL: mailbox, host memory, 2 shared holds
 * view_out  [give] to sluice_unsubscribe()
 *
 * Memory is imported when it comes, which may be later and again: where that fails, the view becomes
 * host memory (SLUICE_HOST_FALLBACK), or is asked for again, after 1 s and after 2 s more, and ends with
 * the reason when that failed three times in all. frame->memory says of each frame what it is in.
 *
 * 0; -ENOENT: no such stream; -EOPNOTSUPP: not in that form, or the GPU or its driver is not here;
 * -ENODEV: the context or device given is another GPU (-EOPNOTSUPP where the broker says so first);
 * -EIO: the driver refused; -EBUSY: the pool cannot grant the holds; -EEXIST: subscribed already;
 * -EACCES; -EDQUOT: a limit; -EINVAL; -ETIMEDOUT; -ECONNRESET.
 */
SLUICE_API int sluice_subscribe(struct sluice *conn, const char *stream,
	const struct sluice_view_request *request, struct sluice_view **view_out);

/* Ends the view; frames of it that are held stay readable until they are released, but nothing
 * keeps them from being written again: sluice_frame_valid() tells. Never blocks, but for work that
 * frames were handed over with, as sluice_close(). Takes NULL. Returns NULL. */
SLUICE_API struct sluice_view *sluice_unsubscribe(struct sluice_view *view);

/* A rectangle in pixels. */
struct sluice_rect {
	uint32_t x, y, width, height;
};

/* One frame: read its fields, never its memory beyond them. Times are CLOCK_MONOTONIC. */
struct sluice_frame {
	/* host memory: pixels of each plane; NULL past n_planes, and for GPU memory */
	const uint8_t *data[SLUICE_PLANES_MAX];
	uint32_t stride[SLUICE_PLANES_MAX]; /* bytes from row to row */
	unsigned n_planes;
	uint32_t fourcc;                    /* DRM format code */
	uint32_t width;                     /* pixels */
	uint32_t height;                    /* pixels */
	size_t size_bytes;                  /* of all planes, from the first */
	uint32_t offset[SLUICE_PLANES_MAX]; /* bytes from the first plane to each */

	uint64_t seq; /* counts up by one; a jump means frames that this view did not get */
	uint64_t
		generation; /* changes with size, format or layout, and when the broker restarted */
	uint64_t pts_ns;    /* when the picture is of */
	uint64_t captured_ns, copied_ns, published_ns; /* its stages in the broker; copied_ns 0: the
							  pixels were not there yet when it was sent */
	uint64_t received_ns;                          /* when this process read the announcement */

	unsigned n_damage; /* 0: all may have changed since the frame with seq - 1 */
	struct sluice_rect damage[SLUICE_DAMAGE_MAX];

	uint8_t primaries, transfer, matrix; /* ITU-T H.273; 2: not known */
	bool full_range;

	enum sluice_memory memory; /* which of data, cuda and vulkan is set */

	/* SLUICE_MEMORY_CUDA. The same few pointers come back: register each once with NVENC. Reading
	 * only: writing is not refused by the driver and spoils the frame for everybody. */
	struct {
		uint64_t
			ptr; /* CUdeviceptr of plane 0; plane p is ptr + offset[p], pitch stride[p] */
		void *context; /* CUcontext it is valid in */
	} cuda;

	/* SLUICE_MEMORY_VULKAN. To copy from, or as a storage buffer, for reading only. Of one queue
	 * family at a time: the broker releases it to VK_QUEUE_FAMILY_EXTERNAL. */
	struct {
		uint64_t buffer; /* VkBuffer; plane p begins at buffer_offset + offset[p] */
		uint64_t buffer_offset;
		uint64_t semaphore; /* SLUICE_TIMELINE: VkSemaphore to wait for; 0: no need to */
		uint64_t value;     /* of the semaphore when the pixels are there */
	} vulkan;

	int sync_fd; /* SLUICE_SYNC_FD: a sync_file, [lend] until release; -1: the pixels are there */
};

/**
 * Take the next frame. Never blocks, reads no socket: sluice_wait() or sluice_dispatch() does.
 *
 * frame_out  [lend] until sluice_frame_release()
 *
 * 1, or 0: none waits (or max_holds are held: release one first), or negative: the view has ended,
 * -ENODEV: its stream was removed, -ECONNRESET: the connection is gone.
 */
SLUICE_API int sluice_view_next(struct sluice_view *view, struct sluice_frame **frame_out);

/**
 * Is the frame still whole? A shared hold may be revoked, and its memory written again, at any
 * time. Ask after the pixels were read: true means that what was read is this frame's, false that
 * it must be thrown away. Reserved holds are not revoked: of them it is false only if the broker or
 * the view ended before a frame of SLUICE_TIMELINE was there for certain. Thread-safe; costs a few
 * loads.
 */
SLUICE_API bool sluice_frame_valid(const struct sluice_frame *frame);

/* Give the frame back; it must not be used any more. For GPU memory: the caller's work on it is
 * done. Never blocks: CUDA memory that nobody needs any more is freed by a later call if a stream
 * of its context waits for a frame now. Takes NULL. */
SLUICE_API void sluice_frame_release(struct sluice_frame *frame);

/* --- CUDA -------------------------------------------------------------------------------------*/

/**
 * Make a CUDA stream wait until the frame's pixels are there. Nothing for SLUICE_COMPLETE. Never
 * blocks the caller. What is queued in the stream after it would wait for ever if the broker died:
 * sluice_dispatch() and sluice_view_sync() see to that, whichever runs.
 *
 * cuda_stream  [borrow] CUstream of the context in frame->cuda; NULL is CUDA's default stream
 *
 * 0; -EOPNOTSUPP if the frame is not in CUDA memory, or has a sync_file, for which no stream can
 * wait; -EIO: the driver refused, the sentence says with what.
 */
SLUICE_API int sluice_frame_wait_in(struct sluice_frame *frame, void *cuda_stream);

/**
 * Give the frame back when the work that is in a CUDA stream now has ended. The caller must not use
 * the frame any more, but for that work. Never blocks; the release is sent by the first
 * sluice_dispatch() or sluice_wait() after that end, for which sluice_fd() becomes readable. Until
 * then the frame counts as held. Frames of one view come back in the order of these calls, of all
 * streams together.
 *
 * cuda_stream  as above
 *
 * 0; -EOPNOTSUPP or -EIO as above: then the frame is still the caller's.
 */
SLUICE_API int sluice_frame_release_after(struct sluice_frame *frame, void *cuda_stream);

/**
 * Block until the work in a CUDA stream has ended: cuStreamSynchronize() that a dead broker cannot
 * hold up. If the connection or the view ends meanwhile, the values that the stream waits for are
 * signalled from here. A broker that hangs but lives is waited for, and signals do not end it: who
 * wants to be told of them gives a time, and calls again.
 *
 * Reads what the broker sends meanwhile, as sluice_dispatch() does; watchers are called later.
 *
 * cuda_stream  as above, of the context of the frame that was taken last of those that are held; of
 *              the view's if none is
 * timeout_ms   -1 waits for ever
 *
 * 0; -ETIMEDOUT; -ECONNRESET: the broker went away, or the view ended or was interrupted, since the
 * call or before and not back yet: the work has ended too, but what it read may be no whole frame;
 * -EOPNOTSUPP: neither a frame that is held nor the view is in CUDA memory; -EIO.
 */
SLUICE_API int sluice_view_sync(struct sluice_view *view, void *cuda_stream, int timeout_ms);

struct sluice_view_stats {
	uint64_t received; /* frames announced to this view */
	uint64_t taken;    /* by sluice_view_next() */
	uint64_t missed;   /* seq jumped: skipped or dropped on the way */
	uint64_t revoked;  /* lost while they waited here or were held */
	uint64_t reconnects;
	uint64_t import_ns; /* that mapping or importing its memory took, all of it together */
	uint64_t paced;     /* left out by the broker for the sake of min_interval_ns: not missed */
};

/* stats_out is filled. Never blocks. */
SLUICE_API void sluice_view_get_stats(
	const struct sluice_view *view, struct sluice_view_stats *stats_out);

/* The stream's name. [lend] until sluice_unsubscribe(). */
SLUICE_API const char *sluice_view_stream(const struct sluice_view *view);

/* What was granted, which may be less than was asked for; never blocks. */
SLUICE_API enum sluice_memory sluice_view_memory(const struct sluice_view *view);
SLUICE_API enum sluice_readiness sluice_view_readiness(const struct sluice_view *view);

/* Why it is less, as a sentence; "" if it is not. [lend] until the next call on the connection. */
SLUICE_API const char *sluice_view_note(const struct sluice_view *view);

/* --- For people -------------------------------------------------------------------------------*/

/* "BGRx", "NV12", or the four letters of a code that the library does not know.
 * buf [borrow] 8 bytes. Returns buf. Thread-safe. */
SLUICE_API char *sluice_fourcc_name(uint32_t fourcc, char buf[8]);

/* "no-stream": a stable name of the code. Lives for ever. Thread-safe. */
SLUICE_API const char *sluice_error_name(enum sluice_error_code code);

/**
 * What the broker knows of itself, its streams and its clients, as one JSON document (docs/sluice.1
 * describes it). Blocks for the connection's timeout at most.
 *
 * json_out  [give] to free()
 *
 * 0; -EACCES: this user may not observe; or negative as above.
 */
SLUICE_API int sluice_status_json(struct sluice *conn, char **json_out);

#ifdef __cplusplus
}
#endif
#endif
