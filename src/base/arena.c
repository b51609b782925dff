/* Arenas: one block, bump allocation, freed by going back to a mark.  Not thread-safe: one arena, one thread. */
#include "base.h"

#include <limits.h>

/* Under the address sanitizer everything outside live allocations is poisoned, so that a write past the end of one, or
 * a read after arena_reset, is reported like one on the heap. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { ARENA_ALIGN = 64 };

int arena_init(Arena *a, size_t cap, aha_error *e)
{
    *a = (Arena){0};
    size_t rounded;
    if (!size_add(cap, ARENA_ALIGN - 1, &rounded))
        return error_set(e, AHA_ERR_LIMIT, "arena of %zu bytes: does not fit in the address space", cap);
    rounded -= rounded % ARENA_ALIGN;
    if (rounded) {
        a->base = mem_pages(rounded);
        if (!a->base) return error_set(e, AHA_ERR_NOMEM, "no memory for an arena of %zu bytes", cap);
        ASAN_POISON_MEMORY_REGION(a->base, rounded);
    }
    a->cap = rounded;
    return 0;
}

void arena_init_dry(Arena *a)
{
    *a = (Arena){.cap = SIZE_MAX / 2, .dry = true};
}

void arena_free(Arena *a)
{
    if (!a->dry && a->base) {
        ASAN_UNPOISON_MEMORY_REGION(a->base, a->cap);
        mem_pages_free(a->base, a->cap);
    }
    *a = (Arena){0};
}

void *arena_alloc(Arena *a, size_t bytes)
{
    size_t room = a->cap - a->used;
    if (bytes > room) return NULL;
    size_t rounded = bytes ? (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN : ARENA_ALIGN;
    if (rounded > room) return NULL;
    size_t at = a->used;
    a->used += rounded;
    if (a->used > a->peak) a->peak = a->used;
    /* A dry pointer is only a number: never NULL, aligned, different for each allocation. */
    if (a->dry) return (void *)(uintptr_t)(ARENA_ALIGN + at);
    ASAN_UNPOISON_MEMORY_REGION(a->base + at, bytes);
    return a->base + at;
}

size_t arena_mark(const Arena *a)
{
    return a->used;
}

void arena_reset(Arena *a, size_t mark)
{
    if (mark >= a->used) return; /* a mark of the future frees nothing */
    if (!a->dry) ASAN_POISON_MEMORY_REGION(a->base + mark, a->used - mark);
    a->used = mark;
}
