/* The processor time of another process. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Threads of this name only make pixels: the broker's workers, and their like. */
#define CPU_COPY_THREAD "sluice-copy"

struct cpu_time {
	uint64_t all_ns;  /* user and system, all threads */
	uint64_t copy_ns; /* of it, threads called CPU_COPY_THREAD */
};

/* 0, or negative errno: -ESRCH when the process is gone. */
int cpu_read(pid_t pid, struct cpu_time *cpu_out);

/* What was spent between two readings. */
struct cpu_time cpu_between(const struct cpu_time *from, const struct cpu_time *to);
