/* Faults that tests plant: a call that fails, an end that is announced too early. */
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>

#include "broker/gpu/gpu.h"
#include "broker/gpu/vk.h"

bool gpu_fault_early;
void (*gpu_test_instance_hook)(struct vk *vk);
void (*gpu_test_hook)(struct vk *vk);

/* A thread of the gpu calls too: `nth` is written last and read first. */
static struct fault {
	VkResult result;
	bool for_ever;
	atomic_uint nth; /* 0: none */
	atomic_uint calls;
} faults[VK_FN_MAX];

bool gpu_fault(const char *function, int vk_result, unsigned nth, bool for_ever)
{
	static const char *const names[] = {
#define NAME(name) "vk" #name,
		VK_FUNCTIONS(NAME)
#undef NAME
	};
	for (unsigned i = 0; i < VK_FN_MAX; i++) {
		struct fault *f = &faults[i];
		if (strcmp(names[i], function) != 0)
			continue;
		f->nth = 0;
		f->result = (VkResult)vk_result;
		f->for_ever = for_ever;
		f->calls = 0;
		f->nth = nth;
		return true;
	}
	return false;
}

VkResult vk_fault(enum vk_function function)
{
	struct fault *f = &faults[function];
	unsigned nth = f->nth;
	if (nth == 0)
		return VK_SUCCESS;
	unsigned call = ++f->calls;
	return call == nth || (f->for_ever && call > nth) ? f->result : VK_SUCCESS;
}

/* [leak] on purpose */
static int keep_one(struct dl_phdr_info *library, size_t size, void *data)
{
	(void)size;
	(void)data;
	if (library->dlpi_name[0] == '/')
		dlopen(library->dlpi_name, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
	return 0;
}

void vk_keep_loaded(void)
{
	dl_iterate_phdr(keep_one, NULL);
}
