/* Where keys and usage are kept, and dates as people write them: for aha keys, usage and serve. */
#ifndef AHA_CLI_DATABASE_H
#define AHA_CLI_DATABASE_H

#include "options.h"
#include "../serve/keys.h"

enum { DATABASE_PATH_CAP = 4096 };
#define OPT_DATABASE(p) OPT_STRING(0, "db", (p), "FILE", "the database of keys and usage (default: AHA_DB, or $XDG_STATE_HOME/aha/aha.db, or ~/.local/state/aha/aha.db)")

/* `given` (of --db; NULL: not said), or AHA_DB, or the file in the user's folder for state. */
int database_path(const char *given, char *dst, size_t cap, aha_error *e);
/* "2026-12-31", which lasts from its first second to the next day's, or "2026-12-31T18:00:00Z", which is a moment; UTC.
 * Seconds since 1970. */
int date_parse(const char *s, int64_t *from, int64_t *until, aha_error *e);
/* The day of that second, or the moment. */
const char *date_words(char dst[24], int64_t s, bool day);
/* What ends at that moment: the last day, if it is a day's end. */
const char *until_words(char dst[24], int64_t s);

#endif
