/* The seam to the operating system, first part: memory, clocks, the machine, fault injection.
 * Files are in os_file.c, folders in os_dir.c, control groups in os_cgroup.c. */
#include "os_internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

/* ---- fault injection ---- */
static atomic_uint            g_fault_kinds;
static _Atomic(uint64_t)      g_fault_nth, g_fault_seen;
static _Thread_local bool     t_guard;
static _Thread_local uint64_t t_guard_count;

void os_fault_arm(unsigned kinds, uint64_t nth)
{
    atomic_store(&g_fault_kinds, 0);
    atomic_store(&g_fault_seen, 0);
    atomic_store(&g_fault_nth, nth);
    atomic_store(&g_fault_kinds, kinds);
}

uint64_t os_fault_seen(void)
{
    return atomic_load(&g_fault_seen);
}

bool os_fault(unsigned kind)
{
    if (!(atomic_load_explicit(&g_fault_kinds, memory_order_relaxed) & kind)) return false;
    return atomic_fetch_add(&g_fault_seen, 1) + 1 == atomic_load(&g_fault_nth);
}

uint64_t os_alloc_guard(bool on)
{
    if (on && !t_guard) t_guard_count = 0;
    t_guard = on;
    return t_guard_count;
}

static bool alloc_refused(size_t bytes)
{
    if (t_guard) t_guard_count++;
    /* No object may be larger than PTRDIFF_MAX; C libraries refuse it too, the sanitizers' abort. */
    if (!os_fault(OS_FAULT_ALLOC) && bytes <= PTRDIFF_MAX) return false;
    errno = ENOMEM;
    return true;
}

/* ---- memory ---- */
void *mem_alloc(size_t bytes)
{
    return alloc_refused(bytes) ? NULL : malloc(bytes ? bytes : 1);
}

void *mem_zalloc(size_t count, size_t bytes)
{
    size_t total = SIZE_MAX; /* what an overflow leaves is refused */
    (void)size_mul(count, bytes, &total);
    if (alloc_refused(total)) return NULL;
    return calloc(total ? total : 1, 1);
}

void *mem_realloc(void *p, size_t bytes)
{
    return alloc_refused(bytes) ? NULL : realloc(p, bytes ? bytes : 1);
}

char *mem_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = mem_alloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

void mem_free(void *p)
{
    free(p);
}


static size_t pages_round(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n;
    if (!size_add(bytes ? bytes : 1, page - 1, &n)) return 0;
    return n - n % page;
}

void *mem_pages(size_t bytes)
{
    size_t n = pages_round(bytes), all = n;
    if (alloc_refused(bytes) || n == 0) return NULL;
    bool huge = n >= 2 * HUGE_PAGE;
    if (huge && !size_add(n, HUGE_PAGE, &all)) return NULL;
    uint8_t *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!huge) return p;
    /* Cut to a multiple of the huge page: kernels before 6.7 place a mapping anywhere, and an unaligned one gets small
     * pages at both ends. */
    size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (head) munmap(p, head);
    if (all - head > n) munmap(p + head + n, all - head - n);
#ifdef MADV_HUGEPAGE
    (void)madvise(p + head, n, MADV_HUGEPAGE);
#endif
    return p + head;
}

void mem_pages_free(void *p, size_t bytes)
{
    if (p) munmap(p, pages_round(bytes));
}

/* ---- clocks and chance ---- */
uint64_t time_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double clock_s(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t)) return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double time_unix(void)
{
    return clock_s(CLOCK_REALTIME);
}

double time_cpu_s(void)
{
    return clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t os_random_u64(void)
{
    uint64_t r;
    if (!getentropy(&r, sizeof r)) return r;
    /* A seed for sampling, not a key: without the system's source, time and process differ enough. */
    uint64_t mix[2] = {time_now_ns(), (uint64_t)getpid()};
    return hash64(mix, sizeof mix, (uint64_t)(time_unix() * 1e6));
}

int os_random_secret(void *p, size_t n, aha_error *e)
{
    for (size_t done = 0; done < n;) { /* 256 bytes a call at most */
        size_t k = n - done < 256 ? n - done : 256;
        if (os_fault(OS_FAULT_READ))
            errno = EIO;
        else if (!getentropy((char *)p + done, k)) {
            done += k;
            continue;
        }
        return error_set(e, AHA_ERR_IO, "the system gives no random bytes: %s", strerror(errno));
    }
    return 0;
}

/* ---- the machine ---- */
static int cpus_online(void)
{
#ifdef __linux__
    for (int bits = 1024; bits <= 1 << 16; bits *= 4) { /* the kernel refuses a set smaller than its own */
        cpu_set_t *set = CPU_ALLOC((size_t)bits);
        if (!set) break;
        size_t bytes = CPU_ALLOC_SIZE((size_t)bits);
        CPU_ZERO_S(bytes, set);
        int n = sched_getaffinity(0, bytes, set) ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (n > 0) return n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < 1 << 16 ? (int)n : 1;
}

int os_cpus_usable(void)
{
    int n = cpus_online();
    char proc[4096];
    if (os_read_small("/proc/self/cgroup", proc, sizeof proc)) {
        int quota = os_cgroup_cpus("/sys/fs/cgroup", proc);
        if (quota > 0 && quota < n) n = quota;
    }
    return n;
}

uint64_t os_memory_total(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t n = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    char proc[4096];
    if (os_read_small("/proc/self/cgroup", proc, sizeof proc)) {
        uint64_t limit = os_cgroup_memory("/sys/fs/cgroup", proc);
        if (limit < n) n = limit;
    }
    return n;
}

uint64_t os_memory_available(void)
{
    uint64_t total = os_memory_total(), n = total / 2; /* elsewhere nobody says */
    char     text[512];
    if (os_read_small("/proc/meminfo", text, sizeof text)) {
        const char *at = strstr(text, "MemAvailable:");
        if (at) n = strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024;
    }
    return n < total ? n : total;
}

uint64_t os_memory_rss(void)
{
    char text[256];
    if (os_read_small("/proc/self/statm", text, sizeof text)) {
        char *end;
        (void)strtoull(text, &end, 10); /* virtual size; the second number is the resident one */
        return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    struct rusage u; /* elsewhere the peak must do */
    if (getrusage(RUSAGE_SELF, &u)) return 0;
#ifdef __APPLE__
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}
