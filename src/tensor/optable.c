/* The op table: every op with the kernels that it runs forward and backward. */
#include "tensor.h"

static const OpRow OPS[] = {
    {"add", {"add"}, {"add"}, NULL},
    {"gather", {"gather"}, {"add"}, NULL},
    {"scoped", {NULL}, {NULL}, NULL},
    {"allreduce", {NULL}, {NULL}, "the identity on one device: its gradient is the identity too"},
    {"constant", {NULL}, {NULL}, "its values come from outside: there is nothing to differentiate"},
    {"embed", {"embed"}, {"embed_back"}, NULL},
    {"linear", {"gemm", "act", "dot"}, {"gemm", "col_sum"}, NULL},
    {"linear_heads", {"gemm", "act", "dot"}, {"gemm"}, NULL},
    {"linear_heads_t", {"gemm"}, {"gemm"}, NULL},
    {"rmsnorm", {"rmsnorm"}, {"rmsnorm_back_x", "rmsnorm_back_gain"}, NULL},
    {"rope_angles", {NULL}, {NULL}, "a function of positions, which are integers"},
    {"rope", {"rope"}, {"rope"}, NULL},
    {"attn", {"attn", "kv_store", "round"}, {"attn_delta", "attn_back_q", "attn_back_kv"}, NULL},
    {"swiglu", {"swiglu"}, {"swiglu_back"}, NULL},
    {"route", {"route"}, {"route_back"}, NULL},
    {"moe_ffn", {"gather", "gemm", "act", "dot", "swiglu", "combine"}, {"combine_back", "gemm", "swiglu_back", "combine"}, NULL},
    {"logprob", {"gemm", "xent"}, {"gemm", "xent_back"}, NULL},
};

const OpRow *op_table(int *n)
{
    *n = (int)ARRAY_LEN(OPS);
    return OPS;
}

static const struct {
    const char *name;
    size_t      offset;
    bool        isa;
} KERNEL_ROWS[] = {
#define X(name, isa) {#name, offsetof(Kernels, name), isa},
    KERNEL_TABLE(X)
#undef X
};

const char *const *kernel_names(int *n)
{
    static const char *names[] = {
#define X(name, isa) #name,
        KERNEL_TABLE(X)
#undef X
    };
    *n = (int)ARRAY_LEN(names);
    return names;
}

KernelFn *kernel_named(const Kernels *k, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(KERNEL_ROWS); i++)
        if (strcmp(KERNEL_ROWS[i].name, name) == 0) {
            KernelFn *fn;
            memcpy(&fn, (const char *)k + KERNEL_ROWS[i].offset, sizeof fn);
            return fn;
        }
    return NULL;
}

bool kernel_wants_isa(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(KERNEL_ROWS); i++)
        if (strcmp(KERNEL_ROWS[i].name, name) == 0) return KERNEL_ROWS[i].isa;
    return false;
}
