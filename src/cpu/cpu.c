/* Chooses the kernel table once, by what the processor says it can do. */
#include "cpu.h"

#include <string.h>

typedef struct IsaRow {
    const char *name;
    void (*init)(Kernels *k);
    bool (*usable)(void);
} IsaRow;

static bool always(void) { return true; }

#if defined(__x86_64__) && !defined(AHA_REAL_DOUBLE)
static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void)
{
    __builtin_cpu_init();
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

/* oldest first: each row overwrites entries of those before it */
static const IsaRow ISA[] = {
    {"ref", kernels_init_ref, always},
#if defined(__x86_64__) && !defined(AHA_REAL_DOUBLE)
    {"avx2", kernels_init_avx2, has_avx2},
    {"avx512", kernels_init_avx512, has_avx512},
#endif
};
enum { N_ISA = sizeof(ISA) / sizeof(ISA[0]) };

int cpu_kernels_all(const Kernels **out, int max)
{
    static Kernels table[N_ISA];
    int            n = 0;
    Kernels        k;
    memset(&k, 0, sizeof k);
    for (int i = 0; i < N_ISA && ISA[i].usable(); i++) {
        ISA[i].init(&k);
        k.isa = ISA[i].name;
        table[i] = k; /* the same bytes whoever writes first */
        if (n < max) out[n] = &table[i];
        n++;
    }
    return n < max ? n : max;
}

const Kernels *cpu_kernels(const char *mask, aha_error *e)
{
    const Kernels *all[N_ISA];
    const char    *names[N_ISA], *near;
    int            n = cpu_kernels_all(all, N_ISA);
    if (n < 1 || !mask || !*mask) return n < 1 ? NULL : all[n - 1];
    for (int i = 0; i < N_ISA; i++) {
        names[i] = ISA[i].name;
        if (strcmp(mask, ISA[i].name) != 0) continue;
        if (i < n) return all[i];
        error_set(e, AHA_ERR_UNSUPPORTED, "this processor has no %s; the best it has is %s", mask, all[n - 1]->isa);
        return NULL;
    }
    near = name_nearest(mask, names, N_ISA);
    error_set(e, AHA_ERR_ARG, "unknown instruction set \"%s\": expected ref, avx2 or avx512%s%s%s", mask,
              near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}
