#include "tests/nvjpeg_fixture.h"

#include <drm_fourcc.h>
#include <ffnvcodec/dynlink_loader.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/stamp.h"
#include "tests/video.h"

static CudaFunctions *cu;
static CUcontext context;
unsigned n_released;
bool is_whole = true;

/* --- libsluice ------------------------------------------------------------------------------ */

bool sluice_frame_valid(const struct sluice_frame *frame)
{
	return is_whole;
}

/* Whoever reads it afterwards reads rubbish. */
void sluice_frame_release(struct sluice_frame *frame)
{
	union {
		uint64_t address;
		uint8_t *pixels;
	} as = { .address = frame->cuda.ptr };
	CHECK(as.pixels);
	memset(as.pixels, 0x55, frame->size_bytes);
	frame->cuda.ptr = 0;
	n_released++;
}

char *sluice_fourcc_name(uint32_t fourcc, char buf[8])
{
	memcpy(buf, &fourcc, 4);
	buf[4] = 0;
	return buf;
}

/* --- The doubles ---------------------------------------------------------------------------- */

static const char *log_path(const char *name)
{
	static char path[2][256];
	static unsigned i;
	i = 1 - i;
	snprintf(path[i], sizeof(path[i]), "%s/%s.log", test_tmpdir(), name);
	return path[i];
}

static void run_body(void (*body)(void))
{
	CHECK_EQ(cuda_load_functions(&cu, NULL), 0);
	CHECK_EQ(cu->cuInit(0), CUDA_SUCCESS);
	CHECK_EQ(cu->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	unsigned before = test_count_fds();
	body();
	CHECK_EQ(test_count_fds(), before);
	CHECK_EQ(cu->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	cuda_free_functions(&cu);
}

/* Of "summary … handles=2 …". -1: there is none. */
static long count(const char *line, const char *name)
{
	char key[64];
	snprintf(key, sizeof(key), " %s=", name);
	const char *found = strstr(line, key);
	return found ? strtol(found + strlen(key), NULL, 10) : -1;
}

static void check_summary(const char *line)
{
	static const char *const pairs[][2] = {
		{ "handles", "handles_destroyed" },
		{ "states", "states_destroyed" },
		{ "params", "params_destroyed" },
		{ "streams", "streams_destroyed" },
		{ "allocs", "frees" },
		{ "contexts", "contexts_destroyed" },
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (count(line, pairs[i][0]) != count(line, pairs[i][1]))
			test_fail(__FILE__, __LINE__, "not as many %s as %s: %s", pairs[i][0],
				pairs[i][1], line);
	CHECK_EQ(count(line, "misuses"), 0);
}

static void check_log(const char *path)
{
	char line[1024];
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "misuse", 6) == 0)
			test_fail(__FILE__, __LINE__, "%s", line);
		if (strncmp(line, "summary", 7) == 0)
			check_summary(line);
	}
	if (file)
		fclose(file);
}

void with_doubles(void (*body)(void), const struct faults *faults)
{
	CHECK(setenv("FAKE_CUDA_LOG", log_path("cuda"), 1) == 0);
	CHECK(setenv("FAKE_NVJPEG_LOG", log_path("nvjpeg"), 1) == 0);
	if (faults && faults->cuda)
		CHECK(setenv("FAKE_CUDA_FAIL", faults->cuda, 1) == 0);
	if (faults && faults->nvjpeg)
		CHECK(setenv("FAKE_NVJPEG_FAIL", faults->nvjpeg, 1) == 0);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* the time limit is the runner's */
		run_body(body);
		exit(0); /* the summaries are written, leaks are looked for */
	}
	int status = 0;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	check_log(log_path("cuda"));
	check_log(log_path("nvjpeg"));
	unsetenv("FAKE_CUDA_FAIL");
	unsetenv("FAKE_NVJPEG_FAIL");
}

unsigned count_of_addresses(void)
{
	char line[1024];
	unsigned n = 0;
	FILE *file = fopen(log_path("nvjpeg"), "re");
	CHECK(file);
	while (fgets(line, sizeof(line), file))
		n += strncmp(line, "picture", 7) == 0;
	fclose(file);
	return n;
}

bool was_encoded_from(uint64_t address)
{
	char line[1024], want[32];
	bool was = false;
	snprintf(want, sizeof(want), " 0x%" PRIx64 "\n", address);
	FILE *file = fopen(log_path("nvjpeg"), "re");
	CHECK(file);
	while (fgets(line, sizeof(line), file))
		was |= strncmp(line, "picture", 7) == 0 && strstr(line, want);
	fclose(file);
	return was;
}

/* --- Frames --------------------------------------------------------------------------------- */

void slots_init(struct slots *slots, uint32_t width, uint32_t height, unsigned n)
{
	CUcontext popped;
	*slots = (struct slots){ .context = context, .n = n };
	CHECK_EQ(format_layout(DRM_FORMAT_YUV420, width, height, &slots->format), 0);
	slots->format.colour = (struct format_colour){ 1, 13, 6, true };
	CHECK_EQ(cu->cuCtxPushCurrent(context), CUDA_SUCCESS);
	for (unsigned i = 0; i < n; i++) {
		CUdeviceptr ptr;
		CHECK_EQ(cu->cuMemAlloc(&ptr, slots->format.size_bytes), CUDA_SUCCESS);
		slots->slot[i] = ptr;
	}
	CHECK_EQ(cu->cuCtxPopCurrent(&popped), CUDA_SUCCESS);
}

void slots_finish(struct slots *slots)
{
	CUcontext popped;
	CHECK_EQ(cu->cuCtxPushCurrent(context), CUDA_SUCCESS);
	for (unsigned i = 0; i < slots->n; i++)
		CHECK_EQ(cu->cuMemFree(slots->slot[i]), CUDA_SUCCESS);
	CHECK_EQ(cu->cuCtxPopCurrent(&popped), CUDA_SUCCESS);
}

uint8_t *slots_pixels(const struct slots *slots, unsigned i)
{
	union {
		uint64_t address;
		uint8_t *pixels;
	} as = { .address = slots->slot[i] };
	return as.pixels;
}

struct sluice_frame slots_draw(const struct slots *slots, unsigned i, uint32_t number)
{
	const struct video_format *f = &slots->format;
	uint8_t *pixels = slots_pixels(slots, i);
	for (unsigned p = 0; p < f->n_planes; p++)
		for (uint32_t y = 0; y < format_rows(f, p); y++)
			for (uint32_t x = 0; x < format_row_bytes(f, p); x++)
				pixels[f->offset[p] + (size_t)y * f->stride[p] + x] =
					(uint8_t)(40 + 60 * p + (x + 2 * y + number) / 8 % 50);
	if (stamp_fits(f))
		stamp_draw(pixels, f, number);
	struct sluice_frame frame = {
		.n_planes = f->n_planes,
		.fourcc = f->fourcc,
		.width = f->width,
		.height = f->height,
		.size_bytes = f->size_bytes,
		.primaries = f->colour.primaries,
		.transfer = f->colour.transfer,
		.matrix = f->colour.matrix,
		.full_range = f->colour.full_range,
		.memory = SLUICE_MEMORY_CUDA,
		.cuda = { slots->slot[i], slots->context },
	};
	memcpy(frame.offset, f->offset, sizeof(frame.offset));
	memcpy(frame.stride, f->stride, sizeof(frame.stride));
	return frame;
}

struct picture_format slots_format(const struct slots *slots)
{
	const struct sluice_frame frame = slots_draw(slots, 0, 0);
	return picture_format_of(&frame);
}

/* --- Encoding and decoding ------------------------------------------------------------------ */

struct encoder *open_encoder(const struct slots *slots, const struct encoder_settings *settings)
{
	struct problem problem = { "" };
	struct encoder *encoder = NULL;
	const struct picture_format format = slots_format(slots);
	if (encoder_open(&encoder, settings, &format, 0, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	return encoder;
}

AVPacket *encode_frame(struct encoder *encoder, struct sluice_frame *frame, int64_t ticks)
{
	struct problem problem = { "" };
	unsigned before = n_released;
	AVPacket *packet = av_packet_alloc(), *second = av_packet_alloc();
	CHECK(packet && second);
	if (encoder_load(encoder, frame, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	CHECK_EQ(n_released, before + 1);
	CHECK_EQ(encoder_encode(encoder, ticks, &problem), 0);
	CHECK_EQ(encoder_receive(encoder, packet, &problem), 1);
	CHECK_EQ(encoder_receive(encoder, second, &problem), 0);
	av_packet_free(&second);
	return packet;
}

/* [give] NULL: it is no JPEG. */
static AVFrame *decode(const AVPacket *packet)
{
	AVCodecContext *ctx = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_MJPEG));
	AVFrame *frame = av_frame_alloc();
	CHECK(ctx && frame);
	ctx->thread_count = 1;
	CHECK_EQ(avcodec_open2(ctx, ctx->codec, NULL), 0);
	if (avcodec_send_packet(ctx, packet) < 0 || avcodec_send_packet(ctx, NULL) < 0 ||
		avcodec_receive_frame(ctx, frame) < 0)
		av_frame_free(&frame);
	avcodec_free_context(&ctx);
	return frame;
}

static double psnr_of_plane(
	const AVFrame *frame, const struct video_format *f, const uint8_t *pixels, unsigned p)
{
	double sum = 0;
	uint32_t rows = format_rows(f, p), bytes = format_row_bytes(f, p);
	for (uint32_t y = 0; y < rows; y++)
		for (uint32_t x = 0; x < bytes; x++) {
			int d = frame->data[p][y * (size_t)frame->linesize[p] + x] -
				pixels[f->offset[p] + (size_t)y * f->stride[p] + x];
			sum += d * d;
		}
	return 10 * log10(255.0 * 255.0 * rows * bytes / (sum > 0 ? sum : 1));
}

double psnr_of(const AVPacket *packet, const struct slots *slots, unsigned i)
{
	const struct video_format *f = &slots->format;
	double worst = INFINITY;
	AVFrame *frame = decode(packet);
	if (!frame || frame->format != AV_PIX_FMT_YUVJ420P || frame->width != (int)f->width ||
		frame->height != (int)f->height)
		worst = NAN;
	for (unsigned p = 0; !isnan(worst) && p < f->n_planes; p++)
		worst = fmin(worst, psnr_of_plane(frame, f, slots_pixels(slots, i), p));
	av_frame_free(&frame);
	return worst;
}

uint32_t number_of(const AVPacket *packet)
{
	uint32_t number = UINT32_MAX;
	AVFrame *frame = decode(packet);
	if (frame)
		video_stamp(frame, &number);
	av_frame_free(&frame);
	return number;
}
