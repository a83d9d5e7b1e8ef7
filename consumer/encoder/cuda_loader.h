/*
 * NVIDIA's driver, opened at run time by nv-codec-headers' loader. It is not unloaded: its own threads
 * may still be in it. Who includes this says in load_failed() what its messages become.
 */
#pragma once

#include <dlfcn.h>

/* data: what cuda_load_functions() was given */
static void load_failed(void *data, const char *what);

#define FFNV_LOAD_FUNC(path)              dlopen((path), RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE)
#define FFNV_SYM_FUNC(library, symbol)    dlsym((library), (symbol))
#define FFNV_FREE_FUNC(library)           dlclose(library)
#define FFNV_LOG_FUNC(data, format, what) load_failed(data, what)
#define FFNV_DEBUG_LOG_FUNC(data, format, what)
#include <ffnvcodec/dynlink_loader.h>
