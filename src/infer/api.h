/* infer: what the files of the public API share. */
#ifndef AHA_INFER_API_H
#define AHA_INFER_API_H

#include "inner.h"

struct aha_engine {
    Model         *model;
    Pool          *pool;
    Engine        *engine;
    Words          words;
    const Kernels *kernels;
    const char    *kv_type;
    int64_t        parameters, active;
    uint64_t       fingerprint; /* of the model, once `stamped` */
    bool           stamped;
};

/* The caller's struct of `size` bytes over the defaults in dst [n]: fields that it does not know keep theirs. */
int api_options(void *dst, size_t n, const void *src, size_t size, const char *what, aha_error *e);
/* AHA_ERR_STATE: there is none */
int api_tokenizer(const aha_engine *g, const Tokenizer **t, aha_error *e);

#endif
