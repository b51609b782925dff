/* The libraries that the program stands on, with their licences and the versions that are loaded. */
#include "cli.h"

#include <curl/curl.h>
#include <gnu/libc-version.h>
#include <gnutls/gnutls.h>
#include <histedit.h>
#include <jansson.h>
#include <microhttpd.h>
#include <openssl/crypto.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sqlite3.h>
#include <stdio.h>
#include <utf8proc.h>

#include "../serve/serve.h"

static const char *version_libc(void) { return gnu_get_libc_version(); }
static const char *version_jansson(void) { return jansson_version_str(); }
static const char *version_utf8proc(void) { return utf8proc_version(); }
static const char *version_pcre2(void)
{
    static char text[64];
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) >= (int)sizeof text) return "?";
    pcre2_config(PCRE2_CONFIG_VERSION, text);
    return text;
}
static const char *version_libedit(void) /* known only to its header */
{
    static char text[32];
    snprintf(text, sizeof text, "%d.%d", LIBEDIT_MAJOR, LIBEDIT_MINOR);
    return text;
}

static const char *version_curl(void) { return curl_version_info(CURLVERSION_NOW)->version; }
static const char *version_openssl(void) { return OpenSSL_version(OPENSSL_VERSION_STRING); }

static const char *version_gnutls(void) { return gnutls_check_version(NULL); }
static const char *version_microhttpd(void) { return MHD_get_version(); }

static const char *version_page(void) { return serve_page_files ? serve_page_versions : "not in this program"; }

static const Library LIBRARY[] = {
    {"glibc", "the C library", "LGPL-2.1-or-later", "https://www.gnu.org/software/libc/", version_libc},
    {"jansson", "JSON", "MIT", "https://github.com/akheron/jansson", version_jansson},
    {"PCRE2", "pre-tokeniser patterns", "BSD-3-Clause", "https://www.pcre.org", version_pcre2},
    {"utf8proc", "Unicode normalisation", "MIT, Unicode-DFS-2015", "https://juliastrings.github.io/utf8proc/", version_utf8proc},
    {"libedit", "line editing in aha chat", "BSD-3-Clause", "https://www.thrysoee.dk/editline/", version_libedit},
    {"libcurl", "downloads of aha pull", "curl (MIT-like)", "https://curl.se/libcurl/", version_curl},
    {"GnuTLS", "https of aha serve", "LGPL-2.1-or-later", "https://www.gnutls.org", version_gnutls},
    {"libmicrohttpd", "HTTP of aha serve", "LGPL-2.1-or-later", "https://www.gnu.org/software/libmicrohttpd/", version_microhttpd},
    {"SQLite", "keys and usage of aha serve", "public domain", "https://www.sqlite.org", sqlite3_libversion},
    {"OpenSSL", "checksums of aha pull, hashes of keys", "Apache-2.0", "https://www.openssl.org", version_openssl},
    {"chat page", "KaTeX, marked, DOMPurify, highlight.js", "MIT, Apache-2.0, BSD-3-Clause", "/page/licenses.txt of aha serve has their texts", version_page},
};

const Library *library_table(int *n)
{
    *n = (int)ARRAY_LEN(LIBRARY);
    return LIBRARY;
}
