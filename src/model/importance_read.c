/* Files of importance: GGUF (NAME.in_sum2 [mats, cols], NAME.counts [mats] or [1]), and the older form,
 *   i32 entries; each: i32 length, name, i32 calls, i32 numbers, f32 numbers (mean square times calls); then what is not read. */
#include "model.h"

#include <math.h>
#include <stdio.h>

enum { NAME_BYTES_MAX = 512, ENTRIES_MAX = 1 << 20 };
#define WEIGHT_MIN 1e-6 /* a block whose columns were all 0 in that text is still rounded to the nearest */

typedef struct Old { /* an entry of the older form */
    const uint8_t *name, *data;
    int32_t        n_name, n;
} Old;

struct Importance {
    WeightFile *file; /* GGUF, or NULL */
    Map         map;  /* the older form */
    Old        *old;
    int         n_old;
    char        path[1024];
};

/* ---- the older form ---- */
typedef struct OldCursor {
    const uint8_t *p, *end;
} OldCursor;

static bool take(OldCursor *c, size_t n, const uint8_t **out)
{
    if ((size_t)(c->end - c->p) < n) return false;
    *out = c->p;
    c->p += n;
    return true;
}

static bool take_i32(OldCursor *c, int32_t lo, int32_t hi, int32_t *out)
{
    const uint8_t *p;
    if (!take(c, sizeof *out, &p)) return false;
    memcpy(out, p, sizeof *out);
    return *out >= lo && *out <= hi;
}

static int read_old(Importance *im, aha_error *e)
{
    OldCursor c = {im->map.data, im->map.data + im->map.size};
    int32_t   n, calls;
    if (!take_i32(&c, 1, ENTRIES_MAX, &n) || (size_t)n > im->map.size / 16)
        return error_set(e, AHA_ERR_FORMAT, "%s: neither begins with \"GGUF\" nor with a number of entries that fits into it", im->path);
    im->old = mem_zalloc((size_t)n, sizeof *im->old);
    if (!im->old) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for %d entries", n);
    for (; im->n_old < n; im->n_old++) {
        Old *o = &im->old[im->n_old];
        bool ok = take_i32(&c, 1, NAME_BYTES_MAX, &o->n_name) && take(&c, (size_t)o->n_name, &o->name) && take_i32(&c, 0, INT32_MAX, &calls) &&
                  take_i32(&c, 1, INT32_MAX, &o->n) && take(&c, (size_t)o->n * sizeof(float), &o->data);
        if (!ok) return error_set(e, AHA_ERR_FORMAT, "%s: entry %d of %d is cut off, or its lengths are out of range", im->path, im->n_old + 1, n);
    }
    return 0;
}

int importance_open(Importance **out, const char *path, aha_error *e)
{
    Importance *im = mem_zalloc(1, sizeof *im);
    int         rc;
    *out = NULL;
    if (!im) return error_set(e, AHA_ERR_NOMEM, "cannot get memory for importance");
    snprintf(im->path, sizeof im->path, "%s", path);
    rc = file_map(&im->map, path, e);
    if (!rc && im->map.size >= 4 && !memcmp(im->map.data, "GGUF", 4)) {
        file_unmap(&im->map);
        im->map = (Map){0};
        rc = weights_open(&im->file, path, e);
    } else if (!rc) {
        rc = read_old(im, e);
    }
    if (rc) importance_close(im);
    else *out = im;
    return rc;
}

uint64_t importance_stamp(const Importance *im)
{
    int64_t old[2] = {(int64_t)im->map.size, im->map.written_ns};
    return im->file ? weights_stamp(im->file) : hash64(old, sizeof old, 0);
}

void importance_close(Importance *im)
{
    if (!im) return;
    weights_close(im->file);
    if (im->map.data) file_unmap(&im->map);
    mem_free(im->old);
    mem_free(im);
}

/* ---- weights ---- */
typedef struct Found {
    const uint8_t *sum2, *count; /* count NULL: sums are means already */
    int64_t        n, n_count;
} Found;

static int find_gguf(const Importance *im, const char *name, Found *f, aha_error *e)
{
    char              key[NAME_BYTES_MAX];
    const TensorInfo *t[2];
    int64_t           n[2] = {1, 1};
    static const char *const SUFFIX[] = {".in_sum2", ".counts"};
    for (int k = 0; k < 2; k++) {
        snprintf(key, sizeof key, "%s%s", name, SUFFIX[k]);
        t[k] = weights_find(im->file, key);
        if (t[k] && t[k]->dtype != DT_F32)
            return error_set(e, AHA_ERR_FORMAT, "%s: %s is of type %s, expected F32", im->path, key, dtype_info(t[k]->dtype)->name);
        for (int d = 0; t[k] && d < t[k]->n_dims; d++) n[k] *= t[k]->dim[d]; /* at most the file's bytes: checked where it was opened */
    }
    if (!t[0] && !t[1]) return 0;
    if (!t[0] || !t[1]) return error_set(e, AHA_ERR_FORMAT, "%s: %s has %s without %s", im->path, name, SUFFIX[!t[0]], SUFFIX[t[0] != NULL]);
    *f = (Found){t[0]->data, t[1]->data, n[0], n[1]};
    return 0;
}

static void find_old(const Importance *im, const char *name, Found *f)
{
    for (int i = 0; i < im->n_old; i++)
        if ((size_t)im->old[i].n_name == strlen(name) && !memcmp(im->old[i].name, name, strlen(name)))
            *f = (Found){im->old[i].data, NULL, im->old[i].n, 0};
}

static float f32_at(const uint8_t *p, int64_t i)
{
    float v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

/* One matrix's weights from its sums: their scale says nothing, so the mean is made 1.  false: a number that is none */
static bool weigh(const uint8_t *sum2, int cols, float *weight)
{
    double sum = 0;
    for (int k = 0; k < cols; k++) {
        double v = (double)f32_at(sum2, k);
        if (!(v >= 0 && isfinite(v))) return false;
        sum += v;
    }
    for (int k = 0; k < cols; k++) {
        double v = sum > 0 ? (double)f32_at(sum2, k) / sum * cols : 1;
        weight[k] = (float)(v > WEIGHT_MIN ? v : WEIGHT_MIN);
    }
    return true;
}

int importance_get(const Importance *im, const char *name, int mats, int cols, float *weight, bool *found, aha_error *e)
{
    Found f = {0};
    int   rc = im->file ? find_gguf(im, name, &f, e) : 0;
    if (!im->file) find_old(im, name, &f);
    *found = f.sum2 != NULL;
    for (int64_t i = 0; i < (int64_t)mats * cols; i++) weight[i] = 1;
    if (rc || !f.sum2) return rc;
    if (f.n != (int64_t)mats * cols || (f.count && f.n_count != mats && f.n_count != 1))
        return error_set(e, AHA_ERR_FORMAT, "%s: %s has %lld sums and %lld counts, expected %lld (%d x %d) and %d or 1: it is of another model", im->path,
                         name, (long long)f.n, (long long)f.n_count, (long long)mats * cols, mats, cols, mats);
    for (int i = 0; i < mats; i++) {
        float count = f.count ? f32_at(f.count, f.n_count == 1 ? 0 : i) : 1;
        if (!(count >= 0 && isfinite(count))) return error_set(e, AHA_ERR_FORMAT, "%s: %s: count %d is %g", im->path, name, i, (double)count);
        if (count > 0 && !weigh(f.sum2 + 4 * (int64_t)i * cols, cols, weight + (int64_t)i * cols))
            return error_set(e, AHA_ERR_FORMAT, "%s: %s: matrix %d has a sum of squares that is negative or no number", im->path, name, i);
    }
    return 0;
}
