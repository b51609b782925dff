/* The server's certificate: read, checked, read again. */
#include "tls.h"

#include <gnutls/x509.h>
#include <string.h>

enum { CHAIN_MAX = 16, FILE_BYTES_MAX = 1 << 20 };

/* What was read at one time.  Handshakes that began with it may still use it when another is read, so it stays until the end:
 * some kilobytes for every renewal. */
typedef struct Pair {
    gnutls_pcert_st  cert[CHAIN_MAX];
    unsigned         n;
    gnutls_privkey_t key;
    gnutls_x509_crt_t first; /* for its names and its end */
    uint64_t         print;  /* of the files */
    struct Pair     *older;
} Pair;

struct Tls {
    char *cert, *key; /* paths */
    Pair *now;
};

static Tls *g_tls; /* set while a server runs, used by its I/O thread alone */

static int wrong(aha_error *e, const char *path, int code, const char *what)
{
    int rc = code == GNUTLS_E_MEMORY_ERROR ? AHA_ERR_NOMEM : AHA_ERR_FORMAT;
    return error_set(e, rc, "'%.300s' is not %s: %s", path, what, gnutls_strerror(code));
}

static void pair_free(Pair *p)
{
    for (unsigned i = 0; i < p->n; i++) gnutls_pcert_deinit(&p->cert[i]);
    if (p->key) gnutls_privkey_deinit(p->key);
    if (p->first) gnutls_x509_crt_deinit(p->first);
    mem_free(p);
}

static int key_id(gnutls_pubkey_t k, uint8_t id[64], size_t *n)
{
    *n = 64;
    return gnutls_pubkey_get_key_id(k, GNUTLS_KEYID_USE_SHA256, id, n);
}

/* The private key is that of the first certificate. */
static int check_together(const Tls *t, const Pair *p, aha_error *e)
{
    gnutls_pubkey_t of_key = NULL;
    uint8_t         a[64], b[64];
    size_t          n_a = 0, n_b = 0;
    int             rc = gnutls_pubkey_init(&of_key);
    if (rc == 0) rc = gnutls_pubkey_import_privkey(of_key, p->key, 0, 0);
    if (rc == 0) rc = key_id(of_key, a, &n_a);
    if (rc == 0) rc = key_id(p->cert[0].pubkey, b, &n_b);
    if (of_key) gnutls_pubkey_deinit(of_key);
    if (rc) return wrong(e, t->key, rc, "a private key that can be used");
    if (n_a == n_b && !memcmp(a, b, n_a)) return 0;
    return error_set(e, AHA_ERR_FORMAT, "the key '%.200s' does not belong to the certificate '%.200s'", t->key, t->cert);
}

static int pair_read(const Tls *t, Pair *p, const gnutls_datum_t *cert, const gnutls_datum_t *key, aha_error *e)
{
    unsigned n = CHAIN_MAX;
    int      rc = gnutls_pcert_list_import_x509_raw(p->cert, &n, cert, GNUTLS_X509_FMT_PEM, 0);
    if (rc) return wrong(e, t->cert, rc, "a certificate in PEM form");
    p->n = n;
    if (n == 0) return error_set(e, AHA_ERR_FORMAT, "'%.300s' holds no certificate", t->cert);
    rc = gnutls_pcert_export_x509(&p->cert[0], &p->first);
    if (rc) return wrong(e, t->cert, rc, "a certificate in PEM form");
    rc = gnutls_privkey_init(&p->key);
    if (rc == 0) rc = gnutls_privkey_import_x509_raw(p->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc) return wrong(e, t->key, rc, "a private key in PEM form, without a password");
    return check_together(t, p, e);
}

int tls_reload(Tls *t, bool *changed, aha_error *e)
{
    char    *cert = NULL, *key = NULL;
    size_t   n_cert = 0, n_key = 0;
    uint64_t print;
    Pair    *p = NULL;
    int      rc = file_read_all(t->cert, FILE_BYTES_MAX, &cert, &n_cert, e);
    *changed = false;
    if (rc == 0) rc = file_read_all(t->key, FILE_BYTES_MAX, &key, &n_key, e);
    print = rc == 0 ? hash64(key, n_key, hash64(cert, n_cert, 1)) : 0;
    if (rc == 0 && (!t->now || t->now->print != print)) {
        if (!(p = mem_zalloc(1, sizeof *p))) rc = error_set(e, AHA_ERR_NOMEM, "no memory for a certificate");
        if (rc == 0) rc = pair_read(t, p, &(gnutls_datum_t){(unsigned char *)cert, (unsigned)n_cert}, &(gnutls_datum_t){(unsigned char *)key, (unsigned)n_key}, e);
        if (rc == 0) {
            p->print = print;
            p->older = t->now;
            t->now = p;
            *changed = true;
        } else if (p) {
            pair_free(p);
        }
    }
    if (key) gnutls_memset(key, 0, n_key);
    mem_free(key);
    mem_free(cert);
    return rc;
}

int tls_open(Tls **out, const char *cert, const char *key, aha_error *e)
{
    Tls *t = mem_zalloc(1, sizeof *t);
    bool changed;
    int  rc = 0;
    *out = NULL;
    if (t) t->cert = mem_strdup(cert), t->key = mem_strdup(key);
    if (!t || !t->cert || !t->key) rc = error_set(e, AHA_ERR_NOMEM, "no memory for a certificate");
    if (rc == 0) rc = tls_reload(t, &changed, e);
    if (rc) {
        tls_free(t);
        return rc;
    }
    *out = g_tls = t;
    return 0;
}

void tls_free(Tls *t)
{
    if (!t) return;
    if (g_tls == t) g_tls = NULL;
    for (Pair *p = t->now, *older; p; p = older) {
        older = p->older;
        pair_free(p);
    }
    mem_free(t->cert);
    mem_free(t->key);
    mem_free(t);
}

bool tls_names(const Tls *t, const char *host) { return gnutls_x509_crt_check_hostname(t->now->first, host) != 0; }

int64_t tls_expires(const Tls *t) { return (int64_t)gnutls_x509_crt_get_expiration_time(t->now->first); }

int tls_callback(gnutls_session_t session, const gnutls_datum_t *authority, int n_authority, const gnutls_pk_algorithm_t *pk, int n_pk,
                 gnutls_pcert_st **cert, unsigned *n_cert, gnutls_privkey_t *key)
{
    (void)session, (void)authority, (void)n_authority, (void)pk, (void)n_pk;
    if (!g_tls) return -1;
    *cert = g_tls->now->cert;
    *n_cert = g_tls->now->n;
    *key = g_tls->now->key;
    return 0;
}

ssize_t tls_send(void *session, const void *data, size_t n) { return gnutls_record_send(session, data, n); }
