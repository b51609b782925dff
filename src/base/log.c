/* The log: a line goes to the sink that the program set, or nowhere. */
#include "base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static LogFn           g_fn;
static void           *g_user;
static atomic_int      g_min = LOG_ERROR + 1; /* read without the lock: a line below it costs one load */

void log_set(LogFn fn, void *user, LogLevel min)
{
    pthread_mutex_lock(&g_lock);
    g_fn = fn;
    g_user = user;
    atomic_store_explicit(&g_min, fn ? (int)min : LOG_ERROR + 1, memory_order_relaxed);
    pthread_mutex_unlock(&g_lock);
}

void log_msg(LogLevel level, const char *fmt, ...)
{
    if ((int)level < atomic_load_explicit(&g_min, memory_order_relaxed)) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    /* Called outside the lock, so that a sink may log or replace itself. */
    pthread_mutex_lock(&g_lock);
    LogFn fn = g_fn;
    void *user = g_user;
    pthread_mutex_unlock(&g_lock);
    if (fn) fn(user, level, line);
}
