/* Where keys and usage are kept, and dates as people write them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "database.h"

int database_path(const char *given, char *dst, size_t cap, aha_error *e)
{
    const char *set = knob_get("AHA_DB"), *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (given && !*given) return error_set(e, AHA_ERR_ARG, "--db needs a file's name");
    if (!given && *set) given = set;
    if (given) {
        if (strlen(given) >= cap) return error_set(e, AHA_ERR_LIMIT, "the database's name is longer than %zu bytes", cap - 1);
        memcpy(dst, given, strlen(given) + 1);
        return 0;
    }
    if (state && state[0] == '/') return path_join(dst, cap, state, "aha/aha.db", e); /* a relative one is to be ignored, its standard says */
    if (!home || home[0] != '/') return error_set(e, AHA_ERR_ARG, "HOME names no folder, so there is no place for the database; --db FILE or AHA_DB names one");
    return path_join(dst, cap, home, ".local/state/aha/aha.db", e);
}

enum { DAY_S = 86400 };

/* Digits where the form has a 0, elsewhere what it has. */
static bool formed(const char *s, const char *form)
{
    for (; *form; s++, form++)
        if (*form == '0' ? *s < '0' || *s > '9' : *s != *form) return false;
    return *s == 0;
}

int date_parse(const char *s, int64_t *from, int64_t *until, aha_error *e)
{
    char      q[64];
    struct tm t = {0}, back;
    bool      day = formed(s, "0000-00-00"), second = formed(s, "0000-00-00T00:00:00Z");
    if (day || second) {
        t.tm_year = atoi(s) - 1900;
        t.tm_mon = atoi(s + 5) - 1;
        t.tm_mday = atoi(s + 8);
        if (second) {
            t.tm_hour = atoi(s + 11);
            t.tm_min = atoi(s + 14);
            t.tm_sec = atoi(s + 17);
        }
        struct tm as_said = t;
        time_t    v = timegm(&t);
        /* the 30th of February is turned into another day: then it was none */
        if (t.tm_year >= 70 && gmtime_r(&v, &back) && back.tm_mon == as_said.tm_mon && back.tm_mday == as_said.tm_mday &&
            back.tm_hour == as_said.tm_hour && back.tm_min == as_said.tm_min && back.tm_sec == as_said.tm_sec) {
            *from = v;
            *until = day ? v + DAY_S : v;
            return 0;
        }
    }
    return error_set(e, AHA_ERR_ARG, "'%s' is no date; expected one such as 2026-12-31 or 2026-12-31T18:00:00Z, in UTC, from 1970 on", error_quote(q, sizeof q, s, strlen(s)));
}

const char *date_words(char dst[24], int64_t s, bool day)
{
    struct tm t;
    time_t    v = (time_t)s;
    if (s < INT64_C(253402300800) && gmtime_r(&v, &t)) /* the year 10000 */
        strftime(dst, 24, day ? "%Y-%m-%d" : "%Y-%m-%dT%H:%M:%SZ", &t);
    else
        snprintf(dst, 24, "-");
    return dst;
}

const char *until_words(char dst[24], int64_t s) { return date_words(dst, s % DAY_S ? s : s - DAY_S, s % DAY_S == 0); }
