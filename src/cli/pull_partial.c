/* A file that is filled in pieces.  Its content stands where it belongs; behind it, until it is whole, stands a table of how
 * far each piece has come.  A crash can at worst leave a table that promises more than the disk holds: the checksum finds it. */
#include <string.h>

#include "pull.h"

#define PARTIAL_MAGIC "ahapart1"
enum { PIECE_MIN = 4 << 20, PIECE_MAX = 64 << 20, PIECES_MAX = 1 << 16 };

typedef struct PartialHead {
    char    magic[8], key[72];
    int64_t size, piece;
} PartialHead;

static int64_t piece_for(int64_t size)
{
    int64_t piece = size / 64;
    piece = piece < PIECE_MIN ? PIECE_MIN : piece > PIECE_MAX ? PIECE_MAX : piece;
    while (size / piece >= PIECES_MAX) piece *= 2;
    return piece;
}

int64_t partial_piece_bytes(const Partial *p, int piece)
{
    int64_t left = p->size - piece * p->piece;
    return left < p->piece ? left : p->piece;
}

static int set_pieces(Partial *p, int64_t piece, aha_error *e)
{
    int n = (int)((p->size + piece - 1) / piece);
    mem_free(p->done);
    p->piece = piece;
    p->pieces = n;
    p->done = mem_zalloc((size_t)n + 1, sizeof *p->done);
    return p->done ? 0 : error_set(e, AHA_ERR_NOMEM, "no memory for a table of %d pieces", n);
}

static int64_t table_at(const Partial *p, int piece) { return p->size + (int64_t)sizeof(PartialHead) + piece * (int64_t)sizeof *p->done; }

/* false: nothing to go on from */
static bool read_table(Partial *p, const char *key)
{
    PartialHead h;
    if (p->size == 0 || p->f.size < table_at(p, 0) || file_pread(&p->f, &h, sizeof h, p->size, NULL)) return false;
    if (memcmp(h.magic, PARTIAL_MAGIC, sizeof h.magic) != 0 || memcmp(h.key, key, strlen(key) + 1) != 0 || h.size != p->size) return false;
    if (h.piece != piece_for(p->size) || set_pieces(p, h.piece, NULL) || p->f.size < table_at(p, p->pieces)) return false;
    if (file_pread(&p->f, p->done, (size_t)p->pieces * sizeof *p->done, table_at(p, 0), NULL)) return false;
    for (int i = 0; i < p->pieces; i++)
        if (p->done[i] < 0 || p->done[i] > partial_piece_bytes(p, i)) return false;
    return true;
}

int64_t partial_peek(Partial *p, const char *key)
{
    int64_t have = read_table(p, key) ? partial_have(p) : 0;
    mem_free(p->done);
    p->done = NULL;
    return have;
}

int partial_restart(Partial *p, const char *key, bool one_piece, aha_error *e)
{
    PartialHead h = {.magic = PARTIAL_MAGIC, .size = p->size, .piece = one_piece && p->size ? p->size : piece_for(p->size)};
    int         rc = set_pieces(p, h.piece, e);
    p->resumed = false;
    if (strlen(key) >= sizeof h.key) return error_set(e, AHA_ERR_INTERNAL, "a key of %zu bytes", strlen(key));
    memcpy(h.key, key, strlen(key));
    if (rc == 0) rc = file_truncate(&p->f, 0, e);
    if (rc == 0 && p->size) rc = file_pwrite(&p->f, &h, sizeof h, p->size, e);
    if (rc == 0 && p->size) rc = file_pwrite(&p->f, p->done, (size_t)p->pieces * sizeof *p->done, table_at(p, 0), e);
    return rc;
}

int partial_open(Partial *p, const char *path, int64_t size, const char *key, bool *mine, aha_error *e)
{
    int rc;
    memset(p, 0, sizeof *p);
    *mine = false;
    if ((rc = file_open_rw(&p->f, path, e)) != 0) return rc;
    p->size = size;
    rc = file_lock(&p->f, path, mine, e);
    if (rc == 0 && *mine) {
        if (read_table(p, key))
            p->resumed = partial_have(p) > 0;
        else
            rc = partial_restart(p, key, false, e);
    }
    if (rc || !*mine) partial_close(p);
    return rc;
}

void partial_close(Partial *p)
{
    file_close(&p->f);
    mem_free(p->done);
    p->done = NULL;
    p->pieces = 0;
}

int partial_write(Partial *p, int piece, const void *data, size_t n, aha_error *e)
{
    int rc;
    if (n > (uint64_t)(partial_piece_bytes(p, piece) - p->done[piece])) return error_set(e, AHA_ERR_INTERNAL, "more than a piece");
    rc = file_pwrite(&p->f, data, n, piece * p->piece + p->done[piece], e);
    if (rc == 0) p->done[piece] += (int64_t)n;
    return rc;
}

int partial_note(Partial *p, int piece, aha_error *e)
{
    return file_pwrite(&p->f, &p->done[piece], sizeof *p->done, table_at(p, piece), e);
}

int64_t partial_have(const Partial *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->pieces; i++) n += p->done[i];
    return n;
}

int64_t partial_front(const Partial *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->pieces; i++) {
        n += p->done[i];
        if (p->done[i] < partial_piece_bytes(p, i)) break;
    }
    return n;
}

int partial_seal(Partial *p, aha_error *e)
{
    int rc = file_truncate(&p->f, p->size, e);
    return rc ? rc : file_sync(&p->f, e);
}
