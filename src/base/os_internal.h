/* What the files of the seam (os*.c) share among themselves. */
#ifndef AHA_OS_INTERNAL_H
#define AHA_OS_INTERNAL_H

#include "base.h"

enum { HUGE_PAGE = 2 << 20 };
bool os_fault(unsigned kind); /* counts one seam call; true: it must fail now */

/* Limits of the control group that `proc` (the text of /proc/self/cgroup) names, under `root` (/sys/fs/cgroup), v1 or
 * v2, this group or any group above it.  Absent or unlimited: cpus 0, bytes UINT64_MAX. */
int      os_cgroup_cpus(const char *root, const char *proc);
uint64_t os_cgroup_memory(const char *root, const char *proc);
/* A small file of /proc or /sys into text; false: it is not there.  Not counted as a seam call. */
bool     os_read_small(const char *path, char *text, size_t cap);

#endif
