#include "tests/nvenc_fixture.h"

#include <dlfcn.h>
#include <ffnvcodec/dynlink_loader.h>
#include <libavcodec/avcodec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "consumer/encoder/avlog.h"
#include "tests/test.h"

enum { LOG_BYTES = 65536 };

struct problem problem;

/* --- What a broker lends ----------------------------------------------------------------------*/

static CudaFunctions *cu;
CUcontext context;
unsigned n_held, n_held_most;
bool is_revoked;

bool sluice_frame_valid(const struct sluice_frame *frame)
{
	return !is_revoked;
}

void sluice_frame_release(struct sluice_frame *frame)
{
	struct slot *slot = (struct slot *)((char *)frame - offsetof(struct slot, frame));
	CHECK(slot->is_held);
	slot->is_held = false;
	n_held--;
}

char *sluice_fourcc_name(uint32_t fourcc, char buf[8])
{
	memcpy(buf, &fourcc, 4);
	buf[4] = 0;
	return buf;
}

void open_gpu(void)
{
	/* known under these names from here on, to FFmpeg's loader too */
	CHECK(dlopen(FAKE_CUDA, RTLD_NOW) && dlopen(FAKE_NVENC, RTLD_NOW));
	avlog_install(false);
	CHECK_EQ(cuda_load_functions(&cu, NULL), 0);
	CHECK_EQ(cu->cuInit(0), 0);
	CHECK_EQ(cu->cuCtxCreate(&context, 0, 0), 0);
}

void close_gpu(void)
{
	CHECK_EQ(n_held, 0);
	CHECK_EQ(cu->cuCtxDestroy(context), 0);
	cuda_free_functions(&cu);
}

void fill_pool(struct pool *pool, const struct video_format *format, uint64_t generation)
{
	*pool = (struct pool){ .format = *format, .generation = generation };
	for (unsigned i = 0; i < SLOTS; i++)
		CHECK_EQ(cu->cuMemAlloc(&pool->slot[i].ptr, format->size_bytes), 0);
}

struct pool open_pool(uint32_t fourcc, uint64_t generation)
{
	struct pool pool;
	struct video_format format;
	CHECK_EQ(format_layout(fourcc, WIDTH, HEIGHT, &format), 0);
	fill_pool(&pool, &format, generation);
	return pool;
}

void close_pool(struct pool *pool)
{
	for (unsigned i = 0; i < SLOTS; i++)
		CHECK_EQ(cu->cuMemFree(pool->slot[i].ptr), 0);
}

/* Each picture is of one grey, which says which it is. */
static int grey_of(unsigned number)
{
	return 20 + (int)(number * 37 % 200);
}

struct sluice_frame *lend(struct pool *pool, unsigned number)
{
	static uint8_t pixels[1 << 16];
	const struct video_format *format = &pool->format;
	struct slot *slot = &pool->slot[pool->next++ % SLOTS];
	CHECK(!slot->is_held && format->size_bytes <= sizeof(pixels));
	bool is_yuv = format->n_planes > 1;
	memset(pixels, is_yuv ? 128 : grey_of(number), sizeof(pixels));
	if (is_yuv)
		memset(pixels, grey_of(number), (size_t)format->stride[0] * format->height);
	CHECK_EQ(cu->cuMemcpyHtoD(slot->ptr, pixels, format->size_bytes), 0);
	slot->frame = (struct sluice_frame){
		.n_planes = format->n_planes,
		.fourcc = format->fourcc,
		.width = format->width,
		.height = format->height,
		.size_bytes = format->size_bytes,
		.generation = pool->generation,
		.seq = number,
		.memory = SLUICE_MEMORY_CUDA,
		.cuda = { slot->ptr, context },
	};
	for (unsigned p = 0; p < format->n_planes; p++) {
		slot->frame.stride[p] = format->stride[p];
		slot->frame.offset[p] = format->offset[p];
	}
	slot->is_held = true;
	n_held++;
	n_held_most = n_held > n_held_most ? n_held : n_held_most;
	return &slot->frame;
}

/* --- What comes out ---------------------------------------------------------------------------*/

static struct {
	AVCodecContext *decoder;
	AVPacket *packet;
	AVFrame *frame;
	bool is_rgb;
	unsigned n;
} out;

void open_decoder(bool is_rgb)
{
	out.decoder = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_H264));
	out.packet = av_packet_alloc();
	out.frame = av_frame_alloc();
	out.is_rgb = is_rgb;
	out.n = 0;
	CHECK(out.decoder && out.packet && out.frame);
	out.decoder->flags |= AV_CODEC_FLAG_LOW_DELAY;
	out.decoder->thread_count = 1;
	CHECK_EQ(avcodec_open2(out.decoder, NULL, NULL), 0);
}

static void check_decoded(void)
{
	while (avcodec_receive_frame(out.decoder, out.frame) == 0) {
		int grey = grey_of((unsigned)out.frame->pts);
		int luma = out.is_rgb ? 16 + grey * 219 / 255 : grey;
		int seen = out.frame->data[0][(HEIGHT / 2) * out.frame->linesize[0] + WIDTH / 2];
		if (abs(seen - luma) > 4)
			test_fail(__FILE__, __LINE__, "picture %d has luma %d, not %d",
				(int)out.frame->pts, seen, luma);
		CHECK(abs(out.frame->data[1][0] - 128) <= 2 &&
			abs(out.frame->data[2][0] - 128) <= 2);
		out.n++;
	}
}

void decode_ready(struct encoder *encoder)
{
	int r;
	while ((r = encoder_receive(encoder, out.packet, &problem)) == 1) {
		CHECK_EQ(avcodec_send_packet(out.decoder, out.packet), 0);
		check_decoded();
		av_packet_unref(out.packet);
	}
	CHECK_EQ(r, 0);
}

void close_decoder(unsigned n)
{
	avcodec_send_packet(out.decoder, NULL);
	check_decoded();
	CHECK_EQ(out.n, n);
	avcodec_free_context(&out.decoder);
	av_packet_free(&out.packet);
	av_frame_free(&out.frame);
}

const struct encoder_settings usual = {
	.codec = "h264_nvenc", .crf = -1, .qp = -1, .gop = -1, .holds = 2
};

struct encoder *open_encoder(const struct pool *pool, const struct encoder_settings *settings)
{
	struct encoder *encoder = NULL;
	const struct picture_format format = {
		.fourcc = pool->format.fourcc,
		.width = pool->format.width,
		.height = pool->format.height,
		.primaries = 1,
		.transfer = 13,
		.memory = SLUICE_MEMORY_CUDA,
		.cuda_context = context,
	};
	if (encoder_open(&encoder, settings, &format, 0, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	open_decoder(pool->format.n_planes == 1);
	return encoder;
}

void encode(struct encoder *encoder, struct pool *pool, unsigned number)
{
	if (encoder_load(encoder, lend(pool, number), &problem) < 0 ||
		encoder_encode(encoder, number, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	decode_ready(encoder);
}

void finish(struct encoder *encoder, unsigned n)
{
	CHECK_EQ(encoder_drain(encoder, &problem), 0);
	decode_ready(encoder);
	encoder_destroy(encoder);
	CHECK_EQ(n_held, 0);
	close_decoder(n);
}

/* --- What both doubles wrote ------------------------------------------------------------------*/

static char *read_file(const char *path, char *text)
{
	FILE *file = fopen(path, "re");
	size_t n = file ? fread(text, 1, LOG_BYTES - 1, file) : 0;
	text[n] = 0;
	if (file)
		fclose(file);
	return text;
}

/* fn in a process of its own. [lend] NVENC's log */
const char *log_of(void (*fn)(void), const char *fail)
{
	static char text[LOG_BYTES], cuda_text[LOG_BYTES];
	char nvenc[128], cuda[128];
	snprintf(nvenc, sizeof(nvenc), "%s/nvenc.log", test_tmpdir());
	snprintf(cuda, sizeof(cuda), "%s/cuda.log", test_tmpdir());
	unlink(nvenc);
	unlink(cuda);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		setenv("FAKE_NVENC_LOG", nvenc, 1);
		setenv("FAKE_CUDA_LOG", cuda, 1);
		setenv("FAKE_NVENC_FAIL", fail, 1);
		fn();
		exit(0);
	}
	int status = -1;
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	if (!strstr(read_file(cuda, cuda_text), " misuses=0\n"))
		test_fail(__FILE__, __LINE__, "CUDA: %s", cuda_text);
	return read_file(nvenc, text);
}

void expect(const char *log, const char *text)
{
	if (!strstr(log, text))
		test_fail(__FILE__, __LINE__, "\"%s\" is not in:\n%s", text, log);
}
