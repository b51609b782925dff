/* A file of importance, of either form: what opens gives weights that are numbers, above zero in each matrix on the whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char g_path[] = "/tmp/aha-fuzz-importance-XXXXXX";

static void remove_file(void)
{
    file_remove(g_path, NULL);
}

static void put(const uint8_t *data, size_t n)
{
    File f;
    if (file_remove(g_path, NULL) || file_create(&f, g_path, NULL) || file_write(&f, data, n, NULL)) abort();
    file_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *name;
        int         mats, cols;
    } ASK[] = {{"blk.0.attn_q.weight", 1, 4}, {"blk.0.ffn_gate_exps.weight", 2, 3}, {"x", 1, 1}, {"x", 3, 5}};
    static bool made;
    aha_error   e = {0};
    Importance *im;
    if (!made) {
        int fd = mkstemp(g_path);
        if (fd < 0 || atexit(remove_file)) abort();
        made = true;
    }
    put(data, size);
    int rc = importance_open(&im, g_path, &e);
    if (rc && (rc != e.code || !e.text[0])) abort();
    if (rc) return 0;
    for (size_t i = 0; i < ARRAY_LEN(ASK); i++) {
        float weight[16];
        bool  found = false;
        int   n = ASK[i].mats * ASK[i].cols;
        for (int k = 0; k < 16; k++) weight[k] = -1;
        rc = importance_get(im, ASK[i].name, ASK[i].mats, ASK[i].cols, weight, &found, &e);
        if (rc && (rc != e.code || !e.text[0])) abort();
        for (int k = 0; !rc && k < n; k++)
            if (!(weight[k] >= 0 && isfinite(weight[k])) || (!found && weight[k] != 1)) abort();
        for (int k = n; k < 16; k++)
            if (weight[k] != -1) abort();
    }
    importance_close(im);
    return 0;
}
