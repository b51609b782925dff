/* Runs a fuzz target over files, or over the files in folders: what libFuzzer's own main does, for any compiler. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    aha_error e = {0};
    char     *text;
    size_t    n;
    int       rc = file_read_all(path, 64 << 20, &text, &n, &e);
    if (rc) {
        fprintf(stderr, "%s\n", e.text);
        return rc;
    }
    /* an exact copy, so that a sanitizer sees a read behind the end */
    uint8_t *exact = mem_alloc(n ? n : 1);
    if (!exact) rc = AHA_ERR_NOMEM;
    else memcpy(exact, text, n);
    mem_free(text);
    if (!rc) LLVMFuzzerTestOneInput(exact, n);
    mem_free(exact);
    return rc;
}

static int replay_dir(const char *path, int *files)
{
    aha_error e = {0};
    char    **names;
    int       n, rc = dir_list(path, &names, &n, &e);
    if (rc) fprintf(stderr, "%s\n", e.text);
    for (int i = 0; i < n && !rc; i++) {
        char one[4096];
        rc = path_join(one, sizeof one, path, names[i], &e);
        if (!rc) rc = replay_file(one);
        ++*files;
    }
    mem_free(names);
    return rc;
}

int main(int argc, char **argv)
{
    int files = 0, rc = 0;
    for (int i = 1; i < argc && !rc; i++) {
        if (dir_exists(argv[i])) rc = replay_dir(argv[i], &files);
        else rc = replay_file(argv[i]), files++;
    }
    printf("%d inputs\n", files);
    return rc || !files;
}
