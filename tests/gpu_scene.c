#include "tests/gpu_scene.h"

#include "broker/gpu/device.h"

void scene_open(struct scene *s, uint64_t spin_ns)
{
#ifdef SLUICE_FAULTS
	ending_test_spin = true;
#endif
	*s = (struct scene){ .f.options.spin_ns = spin_ns };
	fixture_open(&s->f);
	s->format = fixture_format("BGRx", 640, 360);
	s->drawn = fixture_buffer(&s->f, GPU_EXPORTED, s->format.size_bytes);
	s->host = fixture_buffer(&s->f, GPU_STAGING, s->format.size_bytes);
	s->draw.to = gpu_picture_of(s->drawn, &s->format);
	s->copy.from = s->draw.to;
	s->copy.to = gpu_picture_of(s->host, &s->format);
	s->work = (struct gpu_work){ .format = &s->format,
		.draw = &s->draw,
		.copy = &s->copy,
		.done = fixture_done,
		.data = &s->f };
}

void scene_close(struct scene *s)
{
	gpu_buffer_destroy(s->drawn);
	gpu_buffer_destroy(s->host);
	fixture_close(&s->f);
}

int scene_submit(struct scene *s, uint32_t number, gpu_job *job)
{
	s->draw.number = number;
	return gpu_submit(s->f.gpu, &s->work, job, NULL);
}

enum stamp_result scene_read_stamp(struct scene *s, uint32_t *number)
{
	return stamp_read(gpu_buffer_map(s->host), &s->format, number);
}

void scene_check_stamp(struct scene *s, uint32_t expected)
{
	uint32_t number = 0;
	CHECK_EQ(scene_read_stamp(s, &number), STAMP_OK);
	CHECK_EQ(number, expected);
}
