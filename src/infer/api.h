/* infer: what the two files of the public API share. */
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
};

#endif
