/*
 * Inside broker/gpu: what a gpu consists of, and how its parts call each other. A buffer or timeline
 * that its owner has destroyed lives until the work that uses it has ended.
 */
#pragma once

#include "broker/gpu/gpu.h"
#include "broker/gpu/vk.h"
#include "common/list.h"
#include "common/worker.h"

/* What every buffer may be used for. An importer need not say the same. */
enum {
	BUFFER_USAGE = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
		       VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
		       VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT,
};

/* Where our work is done, and how it touches memory. */
enum {
	WORK_STAGES = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
	WORK_WRITES = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
	WORK_READS = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT,
};

/* A compute shader; its arguments are push constants. */
struct shader {
	VkPipeline pipeline;
	VkPipelineLayout layout;
};

/* What a row of a plane is made of: draw.comp has the same numbers. */
enum row_kind {
	ROW_BGRX,
	ROW_RGBX,
	ROW_YUYV,
	ROW_LUMA,
	ROW_CBCR,
	ROW_CB,
	ROW_CR,
	ROW_XRGB10,
	ROW_XBGR10,
	ROW_HALVES,
	ROW_LUMA10,
	ROW_CBCR10,
	ROW_KINDS,
};

/* How the samples of a format lie: the shaders have the same numbers. */
enum convert_kind {
	KIND_WORD8,  /* four of 8 bits in a word */
	KIND_WORD10, /* three of 10 bits and one of 2 */
	KIND_HALVES, /* four floats of 16 bits */
	KIND_LIGHT,  /* the same, and light is linear: only of a source */
	KIND_NV12,
	KIND_P010,
	KIND_I420,
	CONVERT_KINDS,
};

/* What submitted work may still use. The first member of its object. */
struct used {
	struct list link;  /* in gpu.dying */
	uint64_t last_use; /* the point of the gpu's timeline after which it is free */
	void (*free)(struct gpu *gpu, struct used *used);
};

/* A submission that has not ended. */
struct job {
	uint64_t point; /* of the gpu's timeline: its end */
	uint64_t submitted_ns;
	gpu_done_fn done; /* NULL: nobody wants to hear, or has heard already */
	void *data;
	VkCommandBuffer commands;
	VkSemaphore sync; /* only where info.can_sync_fd; exported and so reset for each job */
};

/* How the end of the work in flight is heard. */
struct ending {
	uint64_t spin_ns;
	uint64_t usual_ns;    /* moving average of how long work takes; 0: not known yet */
	uint64_t give_up_ns;  /* when the spin that runs now has used up its time */
	uint64_t last_end_ns; /* when the loop heard of the last end */
	unsigned n_declined;  /* spins that were not begun, one after the other */
	unsigned n_spins;     /* that were begun */
	bool busy;            /* it spins, or the thread blocks */
	struct loop_spin spin;
	struct worker *waiter;
	struct waiting *waiting; /* what the waiter was told */
	int kick_fd;             /* eventfd: the device was lost; or a test's early end */
	struct watch *kick;
};

struct gpu {
	struct vk vk;
	struct loop *loop;
	struct gpu_info info;
	char error[GPU_TEXT_MAX];
	bool lost;
	void (*on_lost)(void *data); /* NULL: nobody wants to hear, or has heard */
	void *on_lost_data;
	VkDebugUtilsMessengerEXT messenger;

	uint32_t family; /* of the one queue */
	VkQueue queue;
	VkPhysicalDeviceMemoryProperties memory;
	VkDeviceSize allocation_max; /* bytes */
	bool has_budget;             /* VK_EXT_memory_budget */
	unsigned n_objects;          /* buffers and timelines that were not destroyed */

	VkSemaphore timeline; /* never exported: who waits for it waits for our own work */
	uint64_t submitted;   /* its last point */
	uint64_t ended;       /* the last one that we know of */
	struct list dying;    /* struct used */

	VkCommandPool pool;
	struct job jobs[GPU_JOBS_MAX]; /* a ring, in the order of submission */
	unsigned first_job;
	unsigned n_jobs;
	struct ending ending;

	struct shader copy_wide; /* 16 bytes a step */
	struct shader copy_word; /* 4 */
	/* made when one is used first */
	struct shader draw[ROW_KINDS];
	struct shader convert[CONVERT_KINDS][CONVERT_KINDS]; /* resample.comp, from and to */
	struct shader convert_quick[2][CONVERT_KINDS]
				   [CONVERT_KINDS]; /* convert.comp: wide or not */
};

struct gpu_buffer {
	struct used used;
	struct gpu *gpu;
	enum gpu_memory_kind kind;
	bool is_host; /* memory of the CPU: staging, or an imported mapping */
	bool is_lent; /* its queue family ownership was released to other processes */
	uint64_t size_bytes;
	uint64_t allocation_bytes;
	uint32_t memory_type;
	VkBuffer buffer;
	VkDeviceMemory memory;
	VkDeviceAddress address;
	void *map;
	VkCommandBuffer clear; /* fills it with zeros, once */
	uint64_t clear_point;
};

struct gpu_timeline {
	struct used used;
	struct gpu *gpu;
	VkSemaphore semaphore;
};

/* Call a function that returns a VkResult. 0 or negative errno; a failure is noted, see below. */
#define VK(gpu, name, ...) gpu_result((gpu), "vk" #name, VK_RAW(&(gpu)->vk, name, __VA_ARGS__))

/* Note what a call returned: the sentence of gpu_error(), and whether the device is lost. */
int gpu_result(struct gpu *gpu, const char *call, VkResult result);

/* Note a failure of another kind. Returns `error`, negative errno. */
int gpu_fail(struct gpu *gpu, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The device is lost, or as good as that: its counter cannot be read any more. */
void gpu_lose(struct gpu *gpu);

/* -ENODEV if the device is lost, else 0. */
int gpu_check(struct gpu *gpu);

/* --- instance.c: 0 or negative errno; gpu_error() says why -------------------------------------*/
int instance_open(struct gpu *gpu, bool validation);
void instance_close(struct gpu *gpu);

/* --- pick.c: sets vk.physical and what info says of it ------------------------------------------*/
int pick_device(struct gpu *gpu, const char *which);

/* Has it this extension? */
bool device_has(struct gpu *gpu, VkPhysicalDevice physical, const char *extension);

/* --- shader.c -----------------------------------------------------------------------------------*/
int shader_create(struct gpu *gpu, struct shader *shader, const uint32_t *code, size_t code_bytes,
	uint32_t arguments_bytes, const VkSpecializationInfo *constants);
void shader_destroy(struct gpu *gpu, struct shader *shader);

/* Begin to use it: its arguments are copied. */
void shader_bind(struct gpu *gpu, VkCommandBuffer commands, const struct shader *shader,
	const void *arguments, uint32_t arguments_bytes);

/* --- memory.c -----------------------------------------------------------------------------------*/
/* How a buffer's ownership moves between our queue family and other processes. */
VkBufferMemoryBarrier buffer_release(const struct gpu *gpu, const struct gpu_buffer *buffer);
VkBufferMemoryBarrier buffer_acquire(const struct gpu *gpu, const struct gpu_buffer *buffer);

/* --- copy.c, draw.c: record work; the pictures were checked -------------------------------------*/
void copy_record(struct gpu *gpu, VkCommandBuffer commands, const struct video_format *format,
	const struct gpu_copy *copy);
void draw_record(struct gpu *gpu, VkCommandBuffer commands, const struct video_format *format,
	const struct gpu_draw *draw);
bool draw_fits(const struct video_format *format, const struct gpu_picture *picture);
int copy_create(struct gpu *gpu);

/* convert.c: the formats can be converted. Prepare compiles, the first time for a pair of kinds. */
int convert_prepare(struct gpu *gpu, const struct gpu_convert *convert);
bool convert_fits(const struct gpu_convert *convert);
void convert_record(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_convert *convert);
void convert_destroy(struct gpu *gpu);
int draw_prepare(struct gpu *gpu, const struct video_format *format);

/* --- measure.c: which way to copy is faster; sets info ------------------------------------------*/
int measure_copies(struct gpu *gpu);

/* --- queue.c ------------------------------------------------------------------------------------*/
int queue_create(struct gpu *gpu);
void queue_destroy(struct gpu *gpu); /* nothing may be in flight */

/* Submit commands that are no job (NULL: none). Their end is *point_out. */
int queue_run(struct gpu *gpu, VkCommandBuffer commands, uint64_t *point_out);

/*
 * What was written before is there, and what was read is not overwritten too early. `take` is read
 * next and was lent to other processes; NULL: nothing was.
 */
void queue_barrier(struct gpu *gpu, VkCommandBuffer commands, const struct gpu_buffer *take);

/* Block until a point is reached. 0 or negative errno. */
int queue_wait(struct gpu *gpu, uint64_t point);

/* Read the counter, free what has died. False if it cannot be read: the device is lost. */
bool queue_poll(struct gpu *gpu);

/* Has a point that somebody wants to hear of been reached? Then call all that have ended. */
void queue_complete(struct gpu *gpu);
void queue_fail_all(struct gpu *gpu);
#ifdef SLUICE_FAULTS
void queue_end_early(struct gpu *gpu); /* see gpu_fault_early */
#endif

/* The earliest point that somebody waits for, 0: none. */
uint64_t queue_next_point(const struct gpu *gpu);

/* Free it now, or when its last use has ended. */
void queue_retire(struct gpu *gpu, struct used *used);

/* --- ending.c -----------------------------------------------------------------------------------*/
int ending_create(struct gpu *gpu, uint64_t spin_ns);
void ending_destroy(struct gpu *gpu); /* nothing may be in flight */

/* Work was submitted, or something waits for it now: see to it that its end is heard. */
void ending_expect(struct gpu *gpu);

/* The device was lost: the loop is told. */
void ending_kick(struct gpu *gpu);

#ifdef SLUICE_FAULTS
/* Test: spin for a CPU device too, which would only keep it from its work. */
extern bool ending_test_spin;
#endif
