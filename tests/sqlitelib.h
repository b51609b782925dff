/* SQLite made to fail: a file system between it and the real one, and its memory, whose Nth call fails. */
#ifndef AHA_TESTS_SQLITELIB_H
#define AHA_TESTS_SQLITELIB_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { FAIL_READ = 1, FAIL_WRITE = 2 /* a full disk */, FAIL_SYNC = 4, FAIL_LOCK = 8, FAIL_OPEN = 16, FAIL_MEMORY = 32 };
static atomic_uint        g_fail_kinds;
static _Atomic(long)      g_fail_nth, g_fail_seen; /* nth 0: all of them */

static inline void sqlite_fail(unsigned kinds, long nth)
{
    atomic_store(&g_fail_kinds, 0);
    atomic_store(&g_fail_seen, 0);
    atomic_store(&g_fail_nth, nth);
    atomic_store(&g_fail_kinds, kinds);
}

static inline int failing(unsigned kind)
{
    if (!(atomic_load(&g_fail_kinds) & kind)) return 0;
    long at = atomic_fetch_add(&g_fail_seen, 1) + 1, nth = atomic_load(&g_fail_nth);
    return nth == 0 || at == nth;
}

typedef struct FailFile {
    sqlite3_file  base;
    sqlite3_file *real; /* behind this one */
} FailFile;
#define REAL(f) (((FailFile *)(f))->real)

static int fail_close(sqlite3_file *f) { return REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK; }
static int fail_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) { return failing(FAIL_READ) ? SQLITE_IOERR_READ : REAL(f)->pMethods->xRead(REAL(f), p, n, at); }
static int fail_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) { return failing(FAIL_WRITE) ? SQLITE_FULL : REAL(f)->pMethods->xWrite(REAL(f), p, n, at); }
static int fail_truncate(sqlite3_file *f, sqlite3_int64 n) { return failing(FAIL_WRITE) ? SQLITE_IOERR_TRUNCATE : REAL(f)->pMethods->xTruncate(REAL(f), n); }
static int fail_sync(sqlite3_file *f, int flags) { return failing(FAIL_SYNC) ? SQLITE_IOERR_FSYNC : REAL(f)->pMethods->xSync(REAL(f), flags); }
static int fail_size(sqlite3_file *f, sqlite3_int64 *n) { return failing(FAIL_READ) ? SQLITE_IOERR_FSTAT : REAL(f)->pMethods->xFileSize(REAL(f), n); }
static int fail_lock(sqlite3_file *f, int kind) { return failing(FAIL_LOCK) ? SQLITE_IOERR_LOCK : REAL(f)->pMethods->xLock(REAL(f), kind); }
static int fail_unlock(sqlite3_file *f, int kind) { return REAL(f)->pMethods->xUnlock(REAL(f), kind); }
static int fail_reserved(sqlite3_file *f, int *r) { return REAL(f)->pMethods->xCheckReservedLock(REAL(f), r); }
static int fail_control(sqlite3_file *f, int op, void *arg) { return REAL(f)->pMethods->xFileControl(REAL(f), op, arg); }
static int fail_sector(sqlite3_file *f) { return REAL(f)->pMethods->xSectorSize(REAL(f)); }
static int fail_device(sqlite3_file *f) { return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f)); }
static int fail_map(sqlite3_file *f, int page, int size, int extend, void volatile **p)
{
    return failing(FAIL_WRITE) ? SQLITE_IOERR_SHMSIZE : REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, p);
}
static int fail_shm_lock(sqlite3_file *f, int at, int n, int flags) { return REAL(f)->pMethods->xShmLock(REAL(f), at, n, flags); }
static void fail_barrier(sqlite3_file *f) { REAL(f)->pMethods->xShmBarrier(REAL(f)); }
static int fail_unmap(sqlite3_file *f, int remove) { return REAL(f)->pMethods->xShmUnmap(REAL(f), remove); }

static const sqlite3_io_methods FAIL_METHODS = {.iVersion = 2, .xClose = fail_close, .xRead = fail_read, .xWrite = fail_write,
    .xTruncate = fail_truncate, .xSync = fail_sync, .xFileSize = fail_size, .xLock = fail_lock, .xUnlock = fail_unlock,
    .xCheckReservedLock = fail_reserved, .xFileControl = fail_control, .xSectorSize = fail_sector, .xDeviceCharacteristics = fail_device,
    .xShmMap = fail_map, .xShmLock = fail_shm_lock, .xShmBarrier = fail_barrier, .xShmUnmap = fail_unmap};

static sqlite3_vfs g_fail_vfs, *g_real_vfs;

static int fail_vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    int rc;
    (void)v;
    ((FailFile *)f)->real = (sqlite3_file *)((FailFile *)f + 1);
    f->pMethods = NULL;
    if (failing(FAIL_OPEN)) return SQLITE_CANTOPEN;
    rc = g_real_vfs->xOpen(g_real_vfs, name, REAL(f), flags, out);
    if (rc == SQLITE_OK) f->pMethods = &FAIL_METHODS;
    return rc;
}

static sqlite3_mem_methods g_real_mem;
static void *fail_malloc(int n) { return failing(FAIL_MEMORY) ? NULL : g_real_mem.xMalloc(n); }
static void *fail_realloc(void *p, int n) { return failing(FAIL_MEMORY) ? NULL : g_real_mem.xRealloc(p, n); }

/* Once, before SQLite is used: from now on every database goes through here. */
static inline int sqlite_fail_install(void)
{
    sqlite3_mem_methods m;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &g_real_mem)) return -1;
    m = g_real_mem;
    m.xMalloc = fail_malloc;
    m.xRealloc = fail_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &m) || sqlite3_initialize()) return -1;
    g_real_vfs = sqlite3_vfs_find(NULL);
    g_fail_vfs = *g_real_vfs;
    g_fail_vfs.zName = "fails";
    g_fail_vfs.szOsFile = (int)sizeof(FailFile) + g_real_vfs->szOsFile;
    g_fail_vfs.xOpen = fail_vfs_open;
    return sqlite3_vfs_register(&g_fail_vfs, 1);
}

#endif
