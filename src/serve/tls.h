/* tls: the server's certificate, by GnuTLS, which libmicrohttpd speaks TLS with.  One at a time in a process: the library's
 * callback for certificates has no argument of its own. */
#ifndef AHA_SERVE_TLS_H
#define AHA_SERVE_TLS_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "../base/base.h"

/* 1.2 at least; without RSA key exchange every session has keys of its own */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA"

typedef struct Tls Tls;
/* PEM files: the certificate followed by those that lead to an authority's, and its private key, without a password.
 * AHA_ERR_IO, AHA_ERR_FORMAT: which file, and what is wrong with it; that the two do not belong together. */
int  tls_open(Tls **out, const char *cert, const char *key, aha_error *e);
void tls_free(Tls *t); /* NULL is fine; no connection may be left */
/* Reads the files again.  *changed: they differ and are in use for new connections from now on.  After an error those before
 * stay in use. */
int  tls_reload(Tls *t, bool *changed, aha_error *e);
bool tls_names(const Tls *t, const char *host); /* whether the certificate is for that name */
int64_t tls_expires(const Tls *t);              /* seconds since 1970 */
/* libmicrohttpd's MHD_OPTION_HTTPS_CERT_CALLBACK */
int  tls_callback(gnutls_session_t session, const gnutls_datum_t *authority, int n_authority, const gnutls_pk_algorithm_t *pk, int n_pk,
                  gnutls_pcert_st **cert, unsigned *n_cert, gnutls_privkey_t *key);
/* Bytes straight into a session; how many were taken, or negative. */
ssize_t tls_send(void *session, const void *data, size_t n);

#endif
