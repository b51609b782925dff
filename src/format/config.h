/* config.json: what reading, rope and writing share with each other and with nobody else. */
#ifndef AHA_FORMAT_CONFIG_H
#define AHA_FORMAT_CONFIG_H

#include "inner.h"

typedef enum Family { FAM_LLAMA, FAM_QWEN2, FAM_QWEN3, FAM_DEEPSEEK_V3, FAM_DEEPSEEK_V2, FAM_COUNT } Family;

typedef struct Reader {
    const Json *root;
    const char *what; /* the file's name */
    aha_error  *e;
    Config     *c;
    Family      family;
    bool        mla;
} Reader;

/* Sets "what: key: got X, expected WANT"; v may be NULL for an absent field; returns code. */
int config_refuse(const Reader *r, int code, const char *what, const char *key, const Json *v, const char *want);
/* The frequencies' scaling, from rope_scaling (published) or rope_parameters (newer), into c->rope. */
int config_rope(Reader *r);
/* 0.1 m ln s + 1 for s > 1, else 1: YaRN's temperature (Peng et al. 2023, eq. 22), with DeepSeek's m */
double yarn_mscale(double s, double m);
/* What cos_sin_factor is when the file says nothing about it */
double yarn_factor_default(const Rope *rope, bool mla);

/* "key": value, with a comma before it where one belongs (config_write.c) */
void config_put_int(Buf *b, const char *key, int64_t v);
void config_put_num(Buf *b, const char *key, double v);
void config_put_bool(Buf *b, const char *key, bool v);
void config_put_raw(Buf *b, const char *key, const char *v);

#endif
