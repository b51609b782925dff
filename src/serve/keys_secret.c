/* The key itself: how it is made, what it looks like, its hash, and what its name and limits may be. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "keys_inner.h"

static const char HEAD[] = "aha-";
static const char LETTERS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
enum { HEAD_LEN = 4, LETTER_COUNT = 62, PER_MINUTE_MAX = 1000000, CONCURRENT_MAX = 1000000 };
#define TOKENS_MAX INT64_C(1000000000000000)

static bool is_letter(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

/* Bytes of 248 and more are drawn again: 248 is 4 x 62, so every letter is equally likely.  62^43 > 2^256. */
int key_make(char key[KEY_TEXT_CAP], aha_error *e)
{
    uint8_t r[64];
    size_t  n = HEAD_LEN;
    int     rc = 0;
    memcpy(key, HEAD, HEAD_LEN);
    while (n < KEY_LEN && !(rc = os_random_secret(r, sizeof r, e)))
        for (size_t i = 0; i < sizeof r && n < KEY_LEN; i++)
            if (r[i] < 4 * LETTER_COUNT) key[n++] = LETTERS[r[i] % LETTER_COUNT];
    key[n] = 0;
    key_wipe(r, sizeof r);
    return rc;
}

bool key_prefix_valid(const char *s, size_t n)
{
    if (n < HEAD_LEN || memcmp(s, HEAD, HEAD_LEN) != 0) return false;
    for (size_t i = HEAD_LEN; i < n; i++)
        if (!is_letter(s[i])) return false;
    return true;
}

bool key_shaped(const char *s, size_t n) { return n == KEY_LEN && key_prefix_valid(s, n); }

int key_hash(const char *s, size_t n, uint8_t hash[KEY_HASH_LEN], aha_error *e)
{
    unsigned len = 0;
    if (EVP_Digest(s, n, hash, &len, EVP_sha256(), NULL) && len == KEY_HASH_LEN) return 0;
    return error_set(e, AHA_ERR_NOMEM, "OpenSSL computes no SHA-256: memory may be exhausted");
}

bool key_hash_same(const uint8_t *a, const uint8_t *b) { return !CRYPTO_memcmp(a, b, KEY_HASH_LEN); }

void key_wipe(void *p, size_t n) { OPENSSL_cleanse(p, n); }

bool key_name_valid(const char *s, size_t n)
{
    if (n == 0 || n > KEY_NAME_MAX || !is_letter(s[0]) || (n >= HEAD_LEN && !memcmp(s, HEAD, HEAD_LEN))) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_letter(s[i]) && (!s[i] || !strchr("-_.@", s[i]))) return false;
    return true;
}

bool key_limits_valid(const KeyLimits *l)
{
    return l->per_minute >= 0 && l->per_minute <= PER_MINUTE_MAX && l->concurrent >= 0 && l->concurrent <= CONCURRENT_MAX &&
           l->tokens_per_day >= 0 && l->tokens_per_day <= TOKENS_MAX;
}
