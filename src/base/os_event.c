/* The seam to the operating system: events that a poll can wait for, and what a process that serves needs: many descriptors, and
 * a guard against files that shrink under their mapping. */
#include "os_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- events ---- */
int event_open(int *fd, aha_error *e)
{
    *fd = os_fault(OS_FAULT_OPEN) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *fd >= 0 ? 0 : error_set(e, AHA_ERR_IO, "no event descriptor: %s", strerror(errno));
}

void event_signal(int fd)
{
    const uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

void event_clear(int fd)
{
    uint64_t n;
    while (read(fd, &n, sizeof n) < 0 && errno == EINTR) {}
}

void descriptor_close(int fd)
{
    if (fd >= 0) close(fd);
}

/* ---- descriptors ---- */
int os_descriptors_raise(int wanted)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l)) return 256;
    if (l.rlim_cur < (rlim_t)wanted) {
        l.rlim_cur = l.rlim_max == RLIM_INFINITY || l.rlim_max > (rlim_t)wanted ? (rlim_t)wanted : l.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &l) && getrlimit(RLIMIT_NOFILE, &l)) return 256;
    }
    return l.rlim_cur > (rlim_t)wanted ? wanted : (int)l.rlim_cur;
}

/* ---- files that shrink under their mapping ---- */
static atomic_bool g_shrunk;
static size_t      g_page;

/* The page that is gone becomes one of zeros, for good.  mmap is a bare system call on Linux, so it may stand here. */
static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr & ~(uintptr_t)(g_page - 1);
    atomic_store(&g_shrunk, true);
    if (info->si_code == BUS_ADRERR && at &&
        mmap((void *)at, g_page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) return;
    signal(sig, SIG_DFL); /* not a mapping's end: the access is repeated, and ends the process as it would have */
}

void os_shrink_guard(void)
{
    struct sigaction a;
    g_page = (size_t)sysconf(_SC_PAGESIZE);
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on_bus_error;
    a.sa_flags = SA_SIGINFO;
    sigemptyset(&a.sa_mask);
    sigaction(SIGBUS, &a, NULL);
}

bool os_shrunk(void) { return atomic_load(&g_shrunk); }
