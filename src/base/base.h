/* base: what every other room stands on.  Errors, checked sizes, the operating system behind one seam,
 * arenas, threads, random numbers, log, knobs.  Knows no mathematics.
 *
 * The seam: nothing outside src/base/os*.c calls malloc, open, read, mmap, clock... directly, so that a test can
 * make the Nth call fail and a port touches these few files.  `make lint` enforces it. */
#ifndef AHA_BASE_H
#define AHA_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aha.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* ---- errors (error.c) ----
 * A function that can fail returns 0 or a negative AHA_ERR_* code and takes an aha_error* (may be NULL) for the words.
 * Words say what was read, from where, what was got and what was expected: one line, no trailing newline. */
int error_set(aha_error *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4); /* returns code */
/* Puts "prefix: " before the text that e already holds (e.g. the file's name); returns e's code, or code when e is NULL. */
int error_prefix(aha_error *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Printable, length-bounded copy of untrusted bytes for a message: control and non-ASCII bytes as \xNN.  Returns dst. */
const char *error_quote(char *dst, size_t cap, const char *s, size_t n);

/* ---- checked sizes (inline) ---- false when the result does not fit; *out is then untouched */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* ---- memory (os.c): the seam ---- NULL when there is none (or a fault was injected); mem_free(NULL) is fine */
void *mem_alloc(size_t bytes);              /* uninitialised, aligned for anything */
void *mem_zalloc(size_t count, size_t bytes); /* zeroed count*bytes, overflow checked */
void *mem_realloc(void *p, size_t bytes);
char *mem_strdup(const char *s);
void  mem_free(void *p);
void *mem_pages(size_t bytes);              /* zeroed, 64-byte aligned at least, huge pages asked for when large */
void  mem_pages_free(void *p, size_t bytes);

/* ---- files (os_file.c, os_dir.c, os_store.c): the seam ---- */
typedef struct File {
    int     fd;
    int64_t size; /* bytes, at open */
} File;
typedef struct Map { /* a read-only mapping of a whole file */
    const uint8_t *data;
    size_t         size;
    int64_t        written_ns; /* when the file was last written, since 1970 */
} Map;

/* Opens a regular file for reading; never blocks: a FIFO, device, folder or socket is AHA_ERR_FORMAT naming what it is. */
int  file_open(File *f, const char *path, aha_error *e);
int  file_create(File *f, const char *path, aha_error *e);  /* write-only, mode 0644, truncates; a device is fine */
int  file_append(File *f, const char *path, aha_error *e);  /* write-only, creates, appends */
int  file_pread(const File *f, void *buf, size_t n, int64_t off, aha_error *e); /* all n bytes or an error */
int  file_write(const File *f, const void *buf, size_t n, aha_error *e);        /* all n bytes or an error */
int  file_truncate(const File *f, int64_t size, aha_error *e);
int  file_sync(const File *f, aha_error *e);
void file_close(File *f);                                   /* idempotent; fd becomes -1 */
int  file_map(Map *m, const char *path, aha_error *e);      /* same refusals as file_open; an empty file maps to size 0 */
void file_unmap(Map *m);
/* How a part of a mapping will be used: a hint, harmless for memory that is none.  SPARSELY: here and there, so that what lies
 * around is not read too (a system may read megabytes ahead); SOON: all of it, in the background; WHOLE: as it began; DONE: not any
 * more, its pages need not stay (of memory that is no mapping of a file the contents would be lost). */
typedef enum MapUse { MAP_USE_WHOLE, MAP_USE_SPARSELY, MAP_USE_SOON, MAP_USE_DONE } MapUse;
void map_expect(const void *data, size_t n, MapUse use);
/* Whole file into a fresh NUL-terminated buffer (*n without the NUL); over max_bytes is AHA_ERR_LIMIT.  mem_free it. */
int  file_read_all(const char *path, size_t max_bytes, char **out, size_t *n, aha_error *e);
/* Readers see the old or the new content, never a mixture: tmp beside it, write, fsync, rename, fsync the folder.
 * Keeps the mode of an existing file.  An error after the rename (fsync of the folder) leaves the new content. */
int  file_write_atomic(const char *path, const void *data, size_t n, aha_error *e);
int  file_rename(const char *from, const char *to, aha_error *e); /* and fsync of the target's folder */
int  file_remove(const char *path, aha_error *e);                 /* absent is not an error */
bool file_exists(const char *path);
/* Whether there is something that is neither a file nor a folder; if so e (may be NULL) says what. */
bool path_is_special(const char *path, aha_error *e);
bool dir_exists(const char *path);
int  dir_make(const char *path, aha_error *e);                    /* with parents; existing is not an error */
int  dir_sync(const char *path, aha_error *e);
/* A folder, its files, and its folders of files, no deeper; links are removed, not followed; absent is not an error. */
int  dir_remove_all(const char *path, aha_error *e);
/* Names in a folder, sorted, without . and ..; *names is one block to mem_free. */
int  dir_list(const char *path, char ***names, int *n, aha_error *e);
/* ---- files that grow at random places, and whom they belong to (os_store.c) ---- */
/* Reads and writes, creates; the last part of the path is never followed as a link.  size: at open */
int  file_open_rw(File *f, const char *path, aha_error *e);
int  file_pwrite(const File *f, const void *buf, size_t n, int64_t off, aha_error *e); /* all n bytes or an error */
/* An empty file that only its owner may read (0600), with the folders above it, for others to open; what is there stays. */
int  file_make_private(const char *path, aha_error *e);
/* A lock that ends with the File or the process.  *got false: another has it, or `path` is meanwhile another file. */
int  file_lock(const File *f, const char *path, bool *got, aha_error *e);
/* A symbolic link at path, in place of what was there; a file system without links gets a second name (hard link). */
int  link_make(const char *target, const char *path, aha_error *e);
int  disk_free(const char *path, uint64_t *bytes, aha_error *e); /* what an ordinary user may still write there */
/* A name that may be joined to a folder: not empty, no '/', no NUL within n bytes, not "." or "..", at most 255 bytes. */
bool file_name_is_plain(const char *s, size_t n);

uint64_t time_now_ns(void);     /* monotonic */
double   time_unix(void);       /* seconds since 1970 */
double   time_cpu_s(void);      /* processor seconds of this process */
uint64_t os_random_u64(void);   /* from the system, for seeds nobody chose */
int      os_random_secret(void *p, size_t n, aha_error *e); /* from the system or not at all, for what nobody may guess */
int      os_cpus_usable(void);  /* affinity mask and cgroup quota, at least 1 */
uint64_t os_memory_total(void); /* bytes of RAM, or of the cgroup's limit if smaller */
uint64_t os_memory_available(void); /* bytes of it that could be had now, what files left in memory included */
uint64_t os_memory_rss(void);   /* bytes resident now */

/* ---- what a server needs (os_event.c) ---- */
/* An event: a descriptor that a poll finds readable from event_signal (any thread, any number of times) to event_clear. */
int  event_open(int *fd, aha_error *e);
void event_signal(int fd);
void event_clear(int fd);
void descriptor_close(int fd);            /* of an event, a poll, a socket; -1 is fine */
int  os_descriptors_raise(int wanted);    /* tries to allow so many open files; how many are allowed, at most `wanted` */
/* From now on, a mapped file that was cut short reads as zeros behind its end, instead of ending the process, and os_shrunk
 * says that it happened: what was computed from it is worth nothing.  For a process that serves. */
void os_shrink_guard(void);
bool os_shrunk(void);

/* Fault injection for tests: the nth (1 = next) seam call of the given kinds fails, once.  os_fault_seen counts them. */
enum {
    OS_FAULT_ALLOC = 1, /* also the start of a thread */
    OS_FAULT_OPEN = 2,
    OS_FAULT_READ = 4,
    OS_FAULT_WRITE = 8, /* half is written: a full disk */
    OS_FAULT_SYNC = 16,
    OS_FAULT_MAP = 32,
    OS_FAULT_RENAME = 64
};
void     os_fault_arm(unsigned kinds, uint64_t nth); /* kinds 0 disarms; nth 0 only counts; resets the count */
uint64_t os_fault_seen(void);
/* While on, an allocation through the seam on this thread is an internal error that is counted: the guard of "no
 * allocation inside forward".  Returns the number counted since it was switched on. */
uint64_t os_alloc_guard(bool on);

/* ---- strings and growing buffers (buf.c) ---- */
typedef struct Buf { /* always NUL-terminated once non-empty; data may be NULL while n == 0 */
    char  *data;
    size_t n, cap;
    bool   failed; /* sticky: an allocation failed, appends do nothing */
} Buf;
void buf_add(Buf *b, const void *p, size_t n);
void buf_str(Buf *b, const char *s);
void buf_fmt(Buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vfmt(Buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
void buf_json(Buf *b, const char *s, size_t n); /* as a JSON string with quotes; invalid UTF-8 becomes U+FFFD */
void buf_reset(Buf *b);                         /* n = 0, not failed; keeps the memory */
void buf_free(Buf *b);
/* dst = "a/b"; AHA_ERR_LIMIT when it does not fit */
int  path_join(char *dst, size_t cap, const char *a, const char *b, aha_error *e);

/* strtod whose decimal point is a point, whatever locale the host program has set (number.c) */
double number_read(const char *s, char **end);

/* ---- UTF-8 (utf8.c) ---- */
/* Length 1-4 of the valid sequence at s (n bytes left) and its code point (cp may be NULL); 0: invalid; -1: valid so far
 * but cut at the end (so too when n is 0) */
int  utf8_next(const uint8_t *s, size_t n, uint32_t *cp);
bool utf8_valid(const char *s, size_t n);
int  utf8_put(char dst[4], uint32_t cp); /* bytes written; U+FFFD for what is no character */

/* ---- arena (arena.c): bump allocation, 64-byte aligned; freed by going back to a mark ---- */
typedef struct Arena {
    uint8_t *base;
    size_t   cap, used, peak; /* bytes; peak is the high-water mark since arena_init */
    bool     dry;             /* counts only: pointers returned must not be dereferenced */
} Arena;
int    arena_init(Arena *a, size_t cap, aha_error *e);
void   arena_init_dry(Arena *a);
void   arena_free(Arena *a);
void  *arena_alloc(Arena *a, size_t bytes); /* NULL when full; never grows */
size_t arena_mark(const Arena *a);
void   arena_reset(Arena *a, size_t mark);

/* ---- threads (pool.c): one persistent pool, fork-join ----
 * Tasks 0..n-1 are taken in ascending order by whoever is free; what a task computes must depend on its number alone,
 * never on the worker.  The caller is worker 0 and works too.  A bounded spin, then sleep.  Any thread may call
 * pool_run: one run at a time, others wait; from inside a task of the same pool it runs serially, as that worker. */
typedef struct Pool Pool;
typedef void (*PoolFn)(void *arg, int task, int worker);
Pool *pool_new(int threads, aha_error *e); /* threads 0: AHA_THREADS, or else os_cpus_usable(); at most 1024 */
void  pool_free(Pool *p);
int   pool_threads(const Pool *p);
void  pool_run(Pool *p, int n_tasks, PoolFn fn, void *arg); /* returns when all are done; p NULL runs them here */

/* ---- a thread of one's own (os_thread.c) ---- takes no signals */
typedef struct Thread Thread;
int  thread_start(Thread **out, void (*fn)(void *), void *arg, aha_error *e);
void thread_join(Thread *t); /* waits for its end and frees it; NULL is fine */
/* One thread sleeps, any other wakes it; a call of waker_wake before the sleep counts. */
typedef struct Waker Waker;
Waker *waker_new(aha_error *e);
void   waker_free(Waker *w);
void   waker_wake(Waker *w);
bool   waker_wait(Waker *w, int ms); /* false: not woken for so long */

/* ---- other programs (os_process.c) ---- */
/* Runs argv[0] (a path; NULL ends the list) with an empty standard input and waits for its end: *out gets what it printed, *status
 * its exit status (128 + signal when one ended it).  quiet: its standard error goes nowhere. */
int process_output(const char *const *argv, bool quiet, size_t max_bytes, Buf *out, int *status, aha_error *e);

/* ---- random numbers (rng.c): Philox4x32-10, counter based (Salmon et al., SC'11) ----
 * The same (seed, stream, counter) gives the same numbers on every machine and in any order. */
void     philox4x32(uint64_t key, uint64_t stream, uint64_t counter, uint32_t out[4]);
float    rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter); /* [0,1), 24 bits */
typedef struct Rng { /* a convenient sequential reader of one (seed, stream) */
    uint64_t seed, stream, counter;
} Rng;
uint32_t rng_u32(Rng *r);
uint32_t rng_below(Rng *r, uint32_t n); /* 0..n-1 without bias, n >= 1 */
float    rng_float(Rng *r);             /* [0,1); = rng_uniform at its counter */
float    rng_normal(Rng *r);            /* mean 0, variance 1; Box-Muller in double, one number a call */
uint64_t hash64(const void *p, size_t n, uint64_t seed); /* XXH64: stable across machines; not for secrets */

/* ---- log (log.c) ---- the library never prints: the sink decides.  Default sink: none.  The sink is called from
 * any thread, also from two at once. */
typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } LogLevel;
typedef void (*LogFn)(void *user, LogLevel level, const char *line);
void log_set(LogFn fn, void *user, LogLevel min);
void log_msg(LogLevel level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- knobs (knobs.c) ---- every environment variable that aha reads stands in one table: type, default, help */
typedef struct Knob {
    const char *name, *type, *def, *help;
} Knob;
const Knob *knob_table(int *n);
const char *knob_get(const char *name); /* its value, or its default when unset or empty; NULL: not registered */
int64_t     knob_int(const char *name); /* a malformed value is the default: knob_check has named it */
/* AHA_ERR_ARG when the environment holds an AHA_* variable that no knob is named like (says the nearest name), or an
 * int knob that is no whole number >= 0. */
int         knob_check(aha_error *e);
/* The nearest of n names to s by edit distance, or NULL when none is near (for "did you mean"). */
const char *name_nearest(const char *s, const char *const *names, int n);

#endif
