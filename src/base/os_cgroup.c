/* The seam, control groups: what a container was really given.  Elsewhere than on Linux the files are absent and every
 * function answers "no limit". */
#include "os_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool os_read_small(const char *path, char *text, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    size_t n = 0;
    ssize_t r = 0;
    while (n + 1 < cap && (r = read(fd, text + n, cap - 1 - n)) > 0) n += (size_t)r;
    close(fd);
    text[n] = 0;
    return r >= 0 && n > 0;
}

/* Is `name` one of the comma-separated names in [s, s+n)? */
static bool list_has(const char *s, size_t n, const char *name)
{
    size_t k = strlen(name);
    for (size_t i = 0; i <= n;) {
        const char *comma = memchr(s + i, ',', n - i);
        size_t len = comma ? (size_t)(comma - s) - i : n - i;
        if (len == k && !memcmp(s + i, name, k)) return true;
        i += len + 1;
    }
    return false;
}

/* The path of this process's group: the line "0::/path" (v2; controller NULL) or "7:cpu,cpuacct:/path" (v1). */
static bool group_path(const char *proc, const char *controller, char *path, size_t cap)
{
    for (const char *line = proc; *line;) {
        size_t n = strcspn(line, "\n");
        const char *a = memchr(line, ':', n);
        const char *b = a ? memchr(a + 1, ':', n - (size_t)(a + 1 - line)) : NULL;
        if (b) {
            size_t names = (size_t)(b - a - 1), len = n - (size_t)(b + 1 - line);
            bool match = controller ? list_has(a + 1, names, controller) : names == 0;
            if (match && len < cap) {
                memcpy(path, b + 1, len);
                path[len] = 0;
                return true;
            }
        }
        line += n + (line[n] == '\n');
    }
    return false;
}

/* min over the group and all above it of limit(folder); the folders that a container does not see are absent. */
static uint64_t walk_up(const char *root, const char *mount, char *path, uint64_t (*limit)(const char *folder))
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        char folder[4096 + 256];
        int n = snprintf(folder, sizeof folder, "%s%s%s", root, mount, path);
        if (n > 0 && (size_t)n < sizeof folder) {
            uint64_t v = limit(folder);
            if (v < least) least = v;
        }
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = 0;
    }
}

static bool value_read(const char *folder, const char *file, char *text, size_t cap)
{
    char path[4096 + 512];
    int n = snprintf(path, sizeof path, "%s/%s", folder, file);
    return n > 0 && (size_t)n < sizeof path && os_read_small(path, text, cap);
}

/* Rounded up: with 1.5 processors two threads do 1.5 times the work of one. */
static uint64_t quota_cpus(double quota, double period)
{
    if (!(quota > 0) || !(period > 0) || quota / period > 1e6) return UINT64_MAX;
    uint64_t n = (uint64_t)(quota / period);
    return (double)n * period < quota ? n + 1 : n ? n : 1;
}

static uint64_t cpus_v2(const char *folder)
{
    char text[128], *end; /* "max 100000" or "150000 100000" */
    if (!value_read(folder, "cpu.max", text, sizeof text)) return UINT64_MAX;
    double quota = number_read(text, &end);
    return end == text ? UINT64_MAX : quota_cpus(quota, number_read(end, NULL));
}

static uint64_t cpus_v1(const char *folder)
{
    char quota[64], period[64]; /* a quota of -1 is none */
    if (!value_read(folder, "cpu.cfs_quota_us", quota, sizeof quota)) return UINT64_MAX;
    if (!value_read(folder, "cpu.cfs_period_us", period, sizeof period)) return UINT64_MAX;
    return quota_cpus(number_read(quota, NULL), number_read(period, NULL));
}

static uint64_t memory_file(const char *folder, const char *file)
{
    char text[64]; /* v2: "max" or bytes; v1: bytes, close to 2^63 when there is no limit */
    if (!value_read(folder, file, text, sizeof text)) return UINT64_MAX;
    if (text[0] < '0' || text[0] > '9') return UINT64_MAX;
    return strtoull(text, NULL, 10);
}

static uint64_t memory_v2(const char *folder)
{
    return memory_file(folder, "memory.max");
}

static uint64_t memory_v1(const char *folder)
{
    return memory_file(folder, "memory.limit_in_bytes");
}

int os_cgroup_cpus(const char *root, const char *proc)
{
    char path[4096];
    uint64_t n = UINT64_MAX, m;
    if (group_path(proc, NULL, path, sizeof path)) n = walk_up(root, "", path, cpus_v2);
    if (group_path(proc, "cpu", path, sizeof path) && (m = walk_up(root, "/cpu", path, cpus_v1)) < n) n = m;
    return n > 1 << 20 ? 0 : (int)n;
}

uint64_t os_cgroup_memory(const char *root, const char *proc)
{
    char path[4096];
    uint64_t n = UINT64_MAX, m;
    if (group_path(proc, NULL, path, sizeof path)) n = walk_up(root, "", path, memory_v2);
    if (group_path(proc, "memory", path, sizeof path) && (m = walk_up(root, "/memory", path, memory_v1)) < n) n = m;
    return n;
}
