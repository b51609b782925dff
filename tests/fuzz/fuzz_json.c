/* JSON: what the parser accepts, it accepts with integers of any size, and the streaming reader too; an index is read whole or refused. */
#include "format/inner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    aha_error e = {0};
    Json     *j;
    Scan      s;
    Index     ix = {0};
    int       rc = json_parse(&j, (const char *)data, size, "fuzz", &e);
    if ((rc == 0) != (j != NULL) || (rc && !e.text[0])) __builtin_trap();
    json_free(j);
    Json  *wide;
    size_t at = 0;
    int    rc_wide = json_parse_wide(&wide, (const char *)data, size, "fuzz", &at, &e);
    if ((rc_wide == 0) != (wide != NULL) || (!rc && rc_wide) || at > size + 1) __builtin_trap();
    json_free(wide);

    scan_init(&s, "fuzz", data, size, &e);
    int skipped = scan_skip(&s);
    if (!skipped) skipped = scan_end(&s);
    if (!rc_wide && skipped) __builtin_trap();

    scan_init(&s, "fuzz", data, size, &e);
    if (!index_parse(&ix, &s)) {
        if (skipped || ix.names.count < 1 || ix.shards.count < 1) __builtin_trap();
        for (int i = 0; i < ix.names.count; i++) {
            const char *file = names_at(&ix.shards, ix.shard[i]);
            if (!file_name_is_plain(file, names_len(&ix.shards, ix.shard[i]))) __builtin_trap();
            if (names_find(&ix.names, names_at(&ix.names, i), names_len(&ix.names, i)) != i) __builtin_trap();
        }
    }
    index_free(&ix);
    return 0;
}
