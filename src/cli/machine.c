/* What this computer is: processor, memory, GPU, time that a host took. */
#include "machine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *proc_text(const char *path)
{
    char  *text;
    size_t n;
    return file_read_all(path, 4 << 20, &text, &n, NULL) ? NULL : text;
}

/* The text after "key", blanks and a colon, up to the line's end. */
static bool proc_field(const char *text, const char *key, char *dst, size_t cap)
{
    for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
        if (strncmp(p, key, strlen(key)) != 0) continue;
        p += strlen(key);
        p += strspn(p, " \t:");
        snprintf(dst, cap, "%.*s", (int)strcspn(p, "\n"), p);
        return true;
    }
    return false;
}

StolenTime stolen_time(void)
{
    StolenTime t = {0};
    char      *text = proc_text("/proc/stat");
    double     v[8]; /* user nice system idle iowait irq softirq steal */
    if (text && sscanf(text, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8) {
        for (int i = 0; i < 8; i++) t.all += v[i];
        t.stolen = v[7];
        t.known = true;
    }
    mem_free(text);
    return t;
}

double stolen_share(StolenTime from, StolenTime to)
{
    if (!from.known || !to.known || to.all < from.all) return -1;
    return to.all == from.all ? 0 : (to.stolen - from.stolen) / (to.all - from.all);
}

double machine_load(void)
{
    char  *text = proc_text("/proc/loadavg");
    double v = -1;
    if (text && sscanf(text, "%lf", &v) != 1) v = -1;
    mem_free(text);
    return v;
}

const char *cpu_model_name(char dst[96])
{
    char *text = proc_text("/proc/cpuinfo");
    if (!text || !proc_field(text, "model name", dst, 96)) snprintf(dst, 96, "not known");
    mem_free(text);
    return dst;
}

int cpu_count(void)
{
    char *text = proc_text("/proc/cpuinfo");
    int   n = 0;
    for (const char *p = text; p && (p = strstr(p, "processor\t")) != NULL; p++) n += p == text || p[-1] == '\n';
    mem_free(text);
    return n > 0 ? n : os_cpus_usable();
}

uint64_t memory_available(void)
{
    char     *text = proc_text("/proc/meminfo"), line[64];
    uint64_t  bytes = 0;
    if (text && proc_field(text, "MemAvailable", line, sizeof line)) bytes = strtoull(line, NULL, 10) * 1024;
    mem_free(text);
    return bytes;
}

/* ---- GPU: asked of the driver's library, if there is one ---- */
typedef int CuInit(unsigned);
typedef int CuCount(int *);
typedef int CuName(char *, int, int);
typedef int CuMemory(size_t *, int);

static void *symbol(void *lib, const char *name) { return dlsym(lib, name); }

int gpu_list(Buf *names)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int   n = 0;
    if (!lib) return 0;
    CuInit   *init = (CuInit *)(uintptr_t)symbol(lib, "cuInit");
    CuCount  *count = (CuCount *)(uintptr_t)symbol(lib, "cuDeviceGetCount");
    CuName   *name = (CuName *)(uintptr_t)symbol(lib, "cuDeviceGetName");
    CuMemory *memory = (CuMemory *)(uintptr_t)symbol(lib, "cuDeviceTotalMem_v2");
    if (!init || !count || !name || !memory || init(0) || count(&n)) n = 0;
    for (int i = 0; i < n; i++) {
        char   text[96] = "", size[32];
        size_t bytes = 0;
        if (name(text, (int)sizeof text - 1, i) || memory(&bytes, i)) continue;
        buf_fmt(names, "%s, %s\n", text, bytes_words(size, (double)bytes));
    }
    dlclose(lib);
    return n;
}
