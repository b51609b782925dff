/* bench: what aha bench's files share. */
#ifndef AHA_CLI_BENCH_H
#define AHA_CLI_BENCH_H

#include "machine.h"
#include "model_open.h"

enum { BENCH_REPEAT_MAX = 1000 };
/* A repetition of which the host took more than this share is discarded and made again, at most so often. */
#define BENCH_STOLEN_MAX 0.03
enum { BENCH_TRIES = 4, BENCH_PEER_TRIES = 2 };

typedef struct BenchArgs {
    ModelArgs   model;
    OptionInts  prompt, n, batch, depth;
    int         repeat;
    bool        json;
    const char *peer, *peer_args;
} BenchArgs;

typedef struct Series { /* of one repetition each */
    double *v; /* [repeat] */
    int     n;
} Series;
double series_median(const Series *s); /* each: 0 of none */
double series_min(const Series *s);
double series_max(const Series *s);

/* One line of the result: prompts of `tokens`, or as many tokens generated, by `batch` sequences with `depth` positions before. */
typedef struct BenchRow {
    bool   generate;
    int    tokens, batch, depth;
    Series speed;      /* tokens a second, all sequences together */
    Series memory;     /* share of the memory's speed, as measured right before and after; generating only */
    Series arithmetic; /* the same of the fastest operations that the type of weights allows */
    Series peer;       /* tokens a second of the other program */
} BenchRow;

typedef struct BenchRun {
    const BenchArgs *a;
    ModelSet        *s;
    ModelReads       reads;
    Meter           *meter;
    BenchRow        *row;
    int              n_row;
    Series           memory, fma, dot8; /* the limits, [2 * rows * (repeat * tries)] at most */
    int              limits_max;
    const char      *dot8_name;
    Limits           last;
    uint64_t         last_ns;  /* when they were read; 0: never */
    int              discarded; /* repetitions that were made again */
    int              noisy;     /* that had to be taken in spite of it */
    double           stolen, load; /* of the time of what was taken; before it all.  Below 0: not known */
    char             peer_build[128]; /* what the peer says of itself */
} BenchRun;

bool bench_on_bytes(const BenchRun *b); /* most weights are of a type whose products can be of bytes */
/* What attention computes a token and position before it, in operations. */
double bench_attention_ops(const Config *c);

/* The peer's speeds of one repetition, in tokens a second, into row i's at[i] (0: not measured there). */
int bench_peer(const BenchRun *b, double *at, char *build, size_t build_cap, aha_error *e);

void bench_show(const BenchRun *b);      /* bench_show.c */
void bench_show_json(const BenchRun *b);

#endif
