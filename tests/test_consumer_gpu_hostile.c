/* libsluice against a broker that lies about GPU memory: each row ends the connection. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "tests/cuda_session.h"
#include "tests/fake_timeline.h"

static struct fake_memory memory;

struct lie {
	const char *name;
	const struct sluice_view_request *request; /* NULL: host */
	void (*tell)(struct fake *fake);
	const char *sentence; /* part of the error */
};

/* --- What is granted --------------------------------------------------------------------------*/

static struct fake_grant grant_of_gpu(void)
{
	return (struct fake_grant){
		.max_holds = 2,
		.memory = SLUICE__MEMORY__MEMORY_OPAQUE_FD,
		.device = &gpu.device,
	};
}

static void tell_gpu_for_host(struct fake *fake)
{
	struct fake_grant grant = grant_of_gpu();
	fake_grant(fake, &grant);
}

static void tell_host_for_gpu(struct fake *fake)
{
	fake_subscribed(fake, 2);
}

static void tell_dma_buf(struct fake *fake)
{
	struct fake_grant grant = grant_of_gpu();
	grant.memory = SLUICE__MEMORY__MEMORY_DMA_BUF;
	fake_grant(fake, &grant);
}

static void tell_no_device(struct fake *fake)
{
	struct fake_grant grant = grant_of_gpu();
	grant.device = NULL;
	fake_grant(fake, &grant);
}

static void tell_device(struct fake *fake, size_t uuid_len, size_t driver_uuid_len)
{
	static uint8_t bytes[32];
	struct fake_grant grant = grant_of_gpu();
	Sluice__Device device = gpu.device;
	device.uuid = (ProtobufCBinaryData){ uuid_len, bytes };
	device.driver_uuid = (ProtobufCBinaryData){ driver_uuid_len, bytes };
	grant.device = &device;
	fake_grant(fake, &grant);
}

static void tell_no_uuid(struct fake *fake)
{
	tell_device(fake, 0, 16);
}

static void tell_short_uuid(struct fake *fake)
{
	tell_device(fake, 15, 16);
}

static void tell_long_uuid(struct fake *fake)
{
	tell_device(fake, 17, 16);
}

static void tell_short_driver_uuid(struct fake *fake)
{
	tell_device(fake, 16, 15);
}

static void tell_timeline_unasked(struct fake *fake)
{
	struct fake_grant grant = grant_of_gpu();
	grant.readiness = timeline;
	fake_grant(fake, &grant);
}

static void tell_sync_file_for_timeline(struct fake *fake)
{
	struct fake_grant grant = grant_of_gpu();
	grant.readiness = sync_file;
	fake_grant(fake, &grant);
}

static void tell_readiness_99(struct fake *fake)
{
	struct fake_grant grant = grant_of_gpu();
	grant.readiness = (Sluice__Readiness)99;
	fake_grant(fake, &grant);
}

/* --- Generations ------------------------------------------------------------------------------*/

static void grant(struct fake *fake)
{
	fake_gpu_granted(fake, &gpu, 2, memory.readiness);
}

static void tell_small_allocation(struct fake *fake)
{
	grant(fake);
	memory.allocation_bytes = memory.format.size_bytes - 1;
	fake_offer(fake, &memory);
}

static void tell_no_allocation(struct fake *fake)
{
	grant(fake);
	memory.allocation_bytes = 0;
	fake_offer(fake, &memory);
}

static void tell_great_allocation(struct fake *fake)
{
	grant(fake);
	memory.allocation_bytes = UINT64_MAX;
	fake_offer(fake, &memory);
}

static void tell_memory_type_32(struct fake *fake)
{
	grant(fake);
	memory.memory_type = 32;
	fake_offer(fake, &memory);
}

static void tell_host_memory(struct fake *fake)
{
	grant(fake);
	memory.memory = SLUICE__MEMORY__MEMORY_HOST;
	fake_offer(fake, &memory);
}

static void tell_other_readiness(struct fake *fake)
{
	grant(fake);
	memory.readiness = sync_file;
	fake_offer(fake, &memory);
}

static void tell_with_fds(struct fake *fake, const struct fdset *fds_in)
{
	Sluice__Generation generation;
	uint32_t offset[4], stride[4];
	struct fdset fds = *fds_in;
	fake_describe(&memory, &generation, offset, stride);
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &generation;
	grant(fake);
	fake_send(fake, &packet, &fds);
}

static void tell_no_timeline(struct fake *fake)
{
	struct fdset fds = fake_memory_fds(&memory);
	fd_closep(&fds.fd[--fds.n]);
	tell_with_fds(fake, &fds);
}

static void tell_two_timelines(struct fake *fake)
{
	struct fdset fds = fake_memory_fds(&memory);
	fds.fd[fds.n++] = fake_timeline_create(0);
	tell_with_fds(fake, &fds);
}

static void tell_slot_past_the_allocation(struct fake *fake)
{
	Sluice__Generation generation;
	uint32_t offset[4], stride[4];
	fake_describe(&memory, &generation, offset, stride);
	generation.data_offset = memory.allocation_bytes - memory.format.size_bytes + 1;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_GENERATION;
	packet.generation = &generation;
	struct fdset fds = fake_memory_fds(&memory);
	grant(fake);
	fake_send(fake, &packet, &fds);
}

static void tell_frame_with(struct fake *fake, unsigned n)
{
	struct fdset fds = { .n = n };
	for (unsigned i = 0; i < n; i++)
		fds.fd[i] = eventfd(0, EFD_CLOEXEC);
	grant(fake);
	fake_bind(fake, &memory);
	fake_announce_with(fake, &memory, 0, 1, &fds);
}

static void tell_frame_with_one(struct fake *fake)
{
	tell_frame_with(fake, 1);
}

static void tell_frame_with_two(struct fake *fake)
{
	memory.readiness = sync_file;
	tell_frame_with(fake, 2);
}

/* ----------------------------------------------------------------------------------------------*/

static const struct sluice_view_request cuda_sync_fd = {
	.memory = SLUICE_MEMORY_CUDA,
	.readiness = SLUICE_SYNC_FD,
};

static const char not_asked[] = "not asked for";
static const char uuids[] = "without proper UUIDs";

/* clang-format off */
static const struct lie lies[] = {
	{ "GPU memory for host memory", NULL, tell_gpu_for_host, not_asked },
	{ "host memory for GPU memory", &cuda, tell_host_for_gpu, not_asked },
	{ "a DMA-BUF", &cuda, tell_dma_buf, not_asked },
	{ "no device", &cuda, tell_no_device, "did not name" },
	{ "no UUID", &cuda, tell_no_uuid, uuids },
	{ "a short UUID", &cuda, tell_short_uuid, uuids },
	{ "a long UUID", &cuda, tell_long_uuid, uuids },
	{ "a short driver UUID", &cuda, tell_short_driver_uuid, uuids },
	{ "a timeline unasked", &cuda, tell_timeline_unasked, not_asked },
	{ "sync files for a timeline", &cuda_timeline, tell_sync_file_for_timeline, not_asked },
	{ "readiness 99", &cuda, tell_readiness_99, not_asked },
	{ "an allocation one byte short", &cuda, tell_small_allocation, "smaller than what is in it" },
	{ "no allocation", &cuda, tell_no_allocation, "smaller than what is in it" },
	{ "a great allocation", &cuda, tell_great_allocation, "larger than any picture" },
	{ "memory type 32", &cuda, tell_memory_type_32, "no device has" },
	{ "a generation of host memory", &cuda, tell_host_memory, not_asked },
	{ "a generation of other readiness", &cuda, tell_other_readiness, not_asked },
	{ "a slot past the allocation", &cuda, tell_slot_past_the_allocation, "smaller than what is in it" },
	{ "no timeline", &cuda_timeline, tell_no_timeline, "number of descriptors" },
	{ "two timelines", &cuda_timeline, tell_two_timelines, "number of descriptors" },
	{ "a sync file unasked", &cuda, tell_frame_with_one, "1 descriptors with frame" },
	{ "a sync file with a timeline", &cuda_timeline, tell_frame_with_one, "1 descriptors with frame" },
	{ "two sync files", &cuda_sync_fd, tell_frame_with_two, "2 descriptors with frame" },
};
/* clang-format on */

static void script(struct fake *fake)
{
	const struct lie *lie = fake->row;
	bool has_timeline = lie->request == &cuda_timeline;
	fake_gpu_memory_init(&memory, &gpu, 1, 0, has_timeline ? timeline : complete);
	fake_welcome(fake, 1);
	lie->tell(fake);
	fake_expect_end(fake);
	fake_gpu_memory_finish(&memory);
}

static void tell(const struct lie *lie)
{
	struct session s;
	unsigned before = test_count_fds();
	fake_start(&s.fake, script, lie);
	struct sluice_options options = { .socket = s.fake.address.sun_path };
	CHECK_EQ(sluice_connect(&s.conn, &options), 0);
	int r = sluice_subscribe(s.conn, "desktop", lie->request, &s.view);
	if (r == 0)
		r = wait_for_end(s.conn);
	if (r != -EPROTO || !has_text(sluice_error(s.conn), lie->sentence))
		test_fail(__FILE__, __LINE__, "row \"%s\": %d, %s", lie->name, r,
			sluice_error(s.conn));
	CHECK_ROW(sluice_error_code(s.conn) == SLUICE_ERROR_PROTOCOL, lie->name);
	end(&s);
	CHECK_ROW(test_count_fds() == before, lie->name);
}

CUDA_TEST(each_lie_about_a_gpu_ends_the_connection)
{
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		tell(&lies[i]);
}

static void script_stream(struct fake *fake)
{
	Sluice__Device device = gpu.device;
	device.uuid.len = 8;
	Sluice__StreamInfo info = SLUICE__STREAM_INFO__INIT;
	info.name = (char *)"desktop";
	info.device = &device;
	Sluice__StreamInfo *list[] = { &info };
	Sluice__Streams streams = SLUICE__STREAMS__INIT;
	streams.n_streams = 1;
	streams.streams = list;
	Sluice__Packet packet = SLUICE__PACKET__INIT;
	packet.body_case = SLUICE__PACKET__BODY_STREAMS;
	packet.streams = &streams;
	fake_welcome(fake, 1);
	fake_expect(fake, SLUICE__PACKET__BODY_LIST_STREAMS);
	fake_send(fake, &packet, NULL);
	fake_expect_end(fake);
}

CUDA_TEST(a_stream_on_a_device_without_a_uuid_is_a_lie)
{
	struct fake fake;
	struct sluice *conn;
	struct sluice_stream_info *infos;
	fake_start(&fake, script_stream, NULL);
	struct sluice_options options = { .socket = fake.address.sun_path };
	CHECK_EQ(sluice_connect(&conn, &options), 0);
	CHECK_EQ(sluice_streams(conn, &infos), -EPROTO);
	CHECK(has_text(sluice_error(conn), uuids));
	sluice_close(conn);
	fake_stop(&fake);
}
