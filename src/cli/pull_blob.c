/* One file's way: what is here already, what came, whether it is what the hub promised, into its place. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "pull.h"

enum { DIGEST_CHUNK = 256 << 10 };
#define LOOK_AGAIN_NS UINT64_C(300000000)

/* ---- checksums: SHA-256 of the content, or git's SHA-1 of "blob SIZE\0" and the content ---- */
static int digest_begin(EVP_MD_CTX **out, const HubFile *f, aha_error *e)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    char        head[40];
    int         n = snprintf(head, sizeof head, "blob %lld", (long long)f->size) + 1;
    bool        ok = c && EVP_DigestInit_ex(c, f->lfs ? EVP_sha256() : EVP_sha1(), NULL) && (f->lfs || EVP_DigestUpdate(c, head, (size_t)n));
    *out = c;
    if (ok) return 0;
    EVP_MD_CTX_free(c);
    *out = NULL;
    return error_set(e, AHA_ERR_UNSUPPORTED, "OpenSSL gives no %s", f->lfs ? "SHA-256" : "SHA-1");
}

static int digest_end(EVP_MD_CTX *c, char hex[2 * EVP_MAX_MD_SIZE + 1], aha_error *e)
{
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned      n = 0;
    if (!EVP_DigestFinal_ex(c, d, &n)) return error_set(e, AHA_ERR_INTERNAL, "OpenSSL gives no checksum");
    for (unsigned i = 0; i < n; i++) snprintf(hex + 2 * i, 3, "%02x", d[i]);
    return 0;
}

static int digest_range(EVP_MD_CTX *c, const File *f, int64_t from, int64_t to, aha_error *e)
{
    static unsigned char chunk[DIGEST_CHUNK];
    while (from < to) {
        size_t n = to - from < DIGEST_CHUNK ? (size_t)(to - from) : DIGEST_CHUNK;
        int    rc = file_pread(f, chunk, n, from, e);
        if (rc) return rc;
        if (!EVP_DigestUpdate(c, chunk, n)) return error_set(e, AHA_ERR_INTERNAL, "OpenSSL gives no checksum");
        from += (int64_t)n;
    }
    return 0;
}

int blob_file_matches(const HubFile *f, const char *path, aha_error *e)
{
    EVP_MD_CTX *c = NULL;
    char        hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    File        file;
    int         rc;
    if (!file_exists(path)) return 0;
    if ((rc = file_open(&file, path, e)) != 0) return rc;
    if (file.size == f->size) {
        rc = digest_begin(&c, f, e);
        if (rc == 0) rc = digest_range(c, &file, 0, f->size, e);
        if (rc == 0) rc = digest_end(c, hex, e);
        EVP_MD_CTX_free(c);
    }
    file_close(&file);
    if (rc) return rc;
    if (!strcmp(hex, f->oid)) return 1;
    return error_set(e, AHA_ERR_STATE, "'%.300s' is there and is not the hub's: remove it, or choose another folder", path);
}

/* ---- the blob ---- */
int blob_init(Blob *b, const HubFile *f, const char *final, const char *partial_path, const char *url, aha_error *e)
{
    memset(b, 0, sizeof *b);
    b->part.f.fd = -1;
    b->file = f;
    b->final = mem_strdup(final);
    b->partial_path = mem_strdup(partial_path);
    b->url = mem_strdup(url);
    return b->final && b->partial_path && b->url ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for a list of files");
}

void blob_undigest(Blob *b)
{
    EVP_MD_CTX_free(b->digest);
    b->digest = NULL;
    b->digested = 0;
}

static void blob_close(Blob *b)
{
    partial_close(&b->part);
    mem_free(b->piece);
    b->piece = NULL;
    blob_undigest(b);
}

void blob_free(Blob *b)
{
    blob_close(b);
    mem_free(b->final);
    mem_free(b->partial_path);
    mem_free(b->url);
    mem_free(b->direct);
}

int blob_look(const Blob *b, aha_error *e)
{
    File f;
    bool whole;
    if (!b->named_by_hash) return blob_file_matches(b->file, b->final, e);
    if (file_open(&f, b->final, NULL)) return 0;
    whole = f.size == b->file->size;
    file_close(&f);
    return whole;
}

static int new_pieces(Blob *b, aha_error *e)
{
    mem_free(b->piece);
    b->piece = mem_zalloc((size_t)b->part.pieces + 1, sizeof *b->piece);
    return b->piece ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for a table of %d pieces", b->part.pieces);
}

int blob_open(Blob *b, aha_error *e)
{
    bool mine;
    int  rc = blob_look(b, e);
    if (rc == 0) rc = partial_open(&b->part, b->partial_path, b->file->size, b->file->oid, &mine, e);
    else if (rc > 0) return b->state = BLOB_DONE, 0;
    if (rc) return error_prefix(e, rc, "%.200s", b->file->path);
    if (!mine) {
        b->state = BLOB_ELSEWHERE;
        b->look_again_ns = time_now_ns() + LOOK_AGAIN_NS;
        return 0;
    }
    b->state = BLOB_OPEN;
    rc = blob_look(b, e); /* once more under the lock: another may have ended meanwhile */
    if (rc > 0) {
        rc = file_remove(b->partial_path, e);
        b->state = BLOB_DONE;
        blob_close(b);
        return rc;
    }
    return rc ? rc : new_pieces(b, e);
}

int blob_restart(Blob *b, aha_error *e)
{
    int rc = partial_restart(&b->part, b->file->oid, b->no_ranges, e);
    blob_undigest(b);
    return rc ? rc : new_pieces(b, e);
}

int64_t blob_have(const Blob *b)
{
    return b->state == BLOB_DONE ? b->file->size : b->state == BLOB_OPEN ? partial_have(&b->part) : 0;
}

bool blob_complete(const Blob *b)
{
    return b->state == BLOB_OPEN && b->active == 0 && partial_front(&b->part) == b->file->size;
}

int blob_digest(Blob *b, int64_t budget, aha_error *e)
{
    int64_t front = partial_front(&b->part), to = front - b->digested > budget ? b->digested + budget : front;
    int     rc = 0;
    if (b->no_ranges && front < b->file->size) return 0; /* may be taken back as a whole */
    if (!b->digest) {
        EVP_MD_CTX *c;
        rc = digest_begin(&c, b->file, e);
        b->digest = c;
    }
    if (rc == 0) rc = digest_range(b->digest, &b->part.f, b->digested, to, e);
    if (rc) return error_prefix(e, rc, "'%.300s'", b->partial_path);
    b->digested = to;
    return to < front;
}

static int mismatch(Blob *b, const char *hex, aha_error *e)
{
    /* What an earlier run left may be at fault: that is worth one more try. */
    if (b->part.resumed && b->mismatches++ == 0) return blob_restart(b, e);
    blob_close(b);
    file_remove(b->partial_path, NULL);
    b->state = BLOB_WAITS;
    return error_set(e, AHA_ERR_FORMAT, "%.200s: its %s is %s, the hub promises %s; what came is not kept: it was damaged on the way, or the server's copy is", b->file->path,
                     b->file->lfs ? "SHA-256" : "SHA-1", hex, b->file->oid);
}

int blob_finish(Blob *b, aha_error *e)
{
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    int  rc = digest_end(b->digest, hex, e);
    if (rc) return rc;
    if (strcmp(hex, b->file->oid) != 0) return mismatch(b, hex, e);
    rc = partial_seal(&b->part, e);
    if (rc == 0) rc = file_rename(b->partial_path, b->final, e);
    if (rc) return error_prefix(e, rc, "'%.300s'", b->partial_path);
    blob_close(b);
    b->state = BLOB_DONE;
    return 0;
}
