/* Random numbers and hashes that are the same on every machine. */
#include "base.h"

#include <math.h>
#include <string.h>

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 4.3. */
void philox4x32(uint64_t key, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static float unit_float(uint32_t x)
{
    return (float)(x >> 8) * 0x1p-24f;
}

float rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t x[4];
    philox4x32(seed, stream, counter, x);
    return unit_float(x[0]);
}

/* One block a number, the other three words unused: so the nth number of a reader is the number at counter n, and a
 * saved (seed, stream, counter) resumes exactly. */
uint32_t rng_u32(Rng *r)
{
    uint32_t x[4];
    philox4x32(r->seed, r->stream, r->counter++, x);
    return x[0];
}

float rng_float(Rng *r)
{
    return unit_float(rng_u32(r));
}

/* Lemire, "Fast random integer generation in an interval", 2019: multiply, and reject the few that would bias. */
uint32_t rng_below(Rng *r, uint32_t n)
{
    if (n == 0) return 0;
    uint64_t m = (uint64_t)rng_u32(r) * n;
    if ((uint32_t)m < n) {
        uint32_t threshold = (0u - n) % n;
        while ((uint32_t)m < threshold) m = (uint64_t)rng_u32(r) * n;
    }
    return (uint32_t)(m >> 32);
}

/* log and cos of the C library differ in the last bit between systems; these use + - * / sqrt only, which IEEE 754
 * rounds in one way.  Errors are below 1e-15, far under the float that is returned. */
static double log_unit(double x) /* 0 < x <= 1 */
{
    int e;
    double m = frexp(x, &e); /* exact; m in [0.5, 1) */
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), z = s * s, sum = 0; /* log m = 2 atanh s, |s| < 0.172 */
    for (int k = 23; k >= 1; k -= 2) sum = sum * z + 1.0 / k;
    return 2 * s * sum + e * 0.69314718055994531;
}

static double cos_turns(double u) /* cos(2 pi u), 0 <= u < 1 */
{
    int q = (int)(4 * u + 0.5);
    double x = (u - 0.25 * q) * 6.28318530717958648, z = x * x, c = 0, s = 0; /* |x| <= pi/4 */
    for (int k = 16; k >= 0; k -= 2) {
        c = 1 - c * z / ((k + 1) * (k + 2));
        s = 1 - s * z / ((k + 2) * (k + 3));
    }
    s *= x;
    switch (q & 3) {
    case 0: return c;
    case 1: return -s;
    case 2: return -c;
    default: return s;
    }
}

float rng_normal(Rng *r)
{
    uint32_t x[4];
    philox4x32(r->seed, r->stream, r->counter++, x);
    double u = ((double)(((uint64_t)x[0] << 32 | x[1]) >> 11) + 1) * 0x1p-53; /* (0, 1]: the logarithm is finite */
    double v = (double)(((uint64_t)x[2] << 32 | x[3]) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log_unit(u)) * cos_turns(v));
}

/* ---- XXH64 (Collet, "xxHash fast digest algorithm", revision 0.1.1) ---- */
static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static uint64_t load_le(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t hash_round(uint64_t acc, uint64_t lane)
{
    return rotl(acc + lane * P2, 31) * P1;
}

uint64_t hash64(const void *data, size_t n, uint64_t seed)
{
    const uint8_t *p = data;
    size_t left = n;
    uint64_t h = seed + P5;
    if (n >= 32) {
        uint64_t v[4] = {seed + P1 + P2, seed + P2, seed, seed - P1};
        for (; left >= 32; left -= 32, p += 32)
            for (int i = 0; i < 4; i++) v[i] = hash_round(v[i], load_le(p + 8 * i, 8));
        h = rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18);
        for (int i = 0; i < 4; i++) h = (h ^ hash_round(0, v[i])) * P1 + P4;
    }
    h += n;
    for (; left >= 8; left -= 8, p += 8) h = rotl(h ^ hash_round(0, load_le(p, 8)), 27) * P1 + P4;
    if (left >= 4) {
        h = rotl(h ^ load_le(p, 4) * P1, 23) * P2 + P3;
        left -= 4;
        p += 4;
    }
    for (; left; left--, p++) h = rotl(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
