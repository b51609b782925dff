/* aha.h - the public contract of libaha: DeepSeek-R1 and its distilled models, run and trained in C.
 *
 * Conventions
 *   - Functions return 0 (AHA_OK) or a negative AHA_ERR_* code; words for a person go into an aha_error.
 *   - Handles are opaque.  Whoever creates one frees it.  Freeing NULL is fine.
 *   - Option structs start with `size`: set it with the *_INIT macro, so that a program compiled against an older
 *     header keeps working with a newer library.
 *   - Text is UTF-8 with an explicit length where it can hold NUL.  Sizes in bytes end in _bytes, times in _s or _us.
 *   - The library never prints, never exits, never asserts on input.
 *   - Thread safety is stated per object.
 */
#ifndef AHA_H
#define AHA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define AHA_API __attribute__((visibility("default")))
#else
#define AHA_API
#endif

#define AHA_VERSION "0.1.0"

/* ---- errors ---- */
enum {
    AHA_OK = 0,
    AHA_ERR_NOMEM = -1,       /* memory, or a configured memory bound, is exhausted */
    AHA_ERR_IO = -2,          /* the system refused a file operation */
    AHA_ERR_FORMAT = -3,      /* a file or message is malformed */
    AHA_ERR_UNSUPPORTED = -4, /* well-formed, but of a kind this build does not handle */
    AHA_ERR_ARG = -5,         /* the caller passed something out of range */
    AHA_ERR_LIMIT = -6,       /* larger than a stated limit */
    AHA_ERR_STATE = -7,       /* not now: the object is in another state */
    AHA_ERR_CANCELLED = -8,   /* stopped at the caller's wish */
    AHA_ERR_INTERNAL = -9     /* a promise of the library to itself was broken: please report it */
};
typedef struct aha_error {
    int  code;
    char text[512]; /* one line, NUL-terminated */
} aha_error;

/* A short English name of a code, never NULL. */
AHA_API const char *aha_error_name(int code);
AHA_API const char *aha_version(void);

#ifdef __cplusplus
}
#endif
#endif
