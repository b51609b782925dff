/* Chooses the kernel table once, by what the processor says it can do. */
#include "cpu.h"
#include "../tensor/quant.h"

#include <string.h>

static bool always(void) { return true; }

/* X(name, is it usable here?), oldest first.  A row overwrites entries of those before it. */
#if defined(AHA_REAL_DOUBLE)
#define ISA_ROWS(X) X(ref, always)
#elif defined(__x86_64__)
#include <cpuid.h>
#define ISA_ROWS(X)                                                                                                   \
    X(ref, always) X(avx2, has_avx2) X(avxvnni, has_avxvnni) X(avx512, has_avx512) X(avx512vnni, has_avx512vnni)      \
    X(avx512vbmi, has_avx512vbmi)

/* no name of it is known to gcc and clang alike; whether the system keeps the registers, "avx2" has answered */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
/* leaf 7, sub-leaf 1, has no names in GCC 12 */
static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
static bool has_avx512vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
static bool has_avx512vbmi(void) { return has_avx512vnni() && __builtin_cpu_supports("avx512vbmi"); }
#elif defined(__aarch64__)
#include <sys/auxv.h>
/* every processor of the family has NEON */
#define ISA_ROWS(X) X(ref, always) X(neon, always) X(dotprod, has_dotprod) X(i8mm, has_i8mm)

static bool has_dotprod(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
static bool has_i8mm(void) { return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM); }
#else
#define ISA_ROWS(X) X(ref, always)
#endif

typedef struct IsaRow {
    const char *name;
    void (*init)(Kernels *k);
    bool (*usable)(void);
} IsaRow;

static const IsaRow ISA[] = {
#define X(name, usable) {#name, kernels_init_##name, usable},
    ISA_ROWS(X)
#undef X
};
enum { N_ISA = sizeof(ISA) / sizeof(ISA[0]) };

const char *const CPU_NAMES[] = {
#define X(name, usable) #name,
    ISA_ROWS(X)
#undef X
        NULL,
};

int cpu_kernels_all(const Kernels **out, int max)
{
    static Kernels table[N_ISA];
    int            n = 0;
    Kernels        k;
    memset(&k, 0, sizeof k);
    quant_rows_fill();
    for (int i = 0; i < N_ISA; i++) {
        if (!ISA[i].usable()) continue;
        ISA[i].init(&k);
        k.isa = ISA[i].name;
        table[i] = k; /* the same bytes whoever writes first */
        if (n < max) out[n] = &table[i];
        n++;
    }
    return n < max ? n : max;
}

static void unknown(const char *name, aha_error *e)
{
    const char *near = name_nearest(name, CPU_NAMES, N_ISA);
    Buf         list = {0};
    for (int i = 0; i < N_ISA; i++) buf_fmt(&list, "%s%s", i == 0 ? "" : i + 1 < N_ISA ? ", " : " or ", CPU_NAMES[i]);
    error_set(e, AHA_ERR_ARG, "unknown instruction set \"%s\": expected %s%s%s%s", name, list.failed ? "another" : list.data,
              near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    buf_free(&list);
}

const Kernels *cpu_kernels(const char *mask, aha_error *e)
{
    const Kernels *all[N_ISA];
    int            n = cpu_kernels_all(all, N_ISA);
    if (!mask || !*mask) return all[n - 1];
    for (int i = 0; i < n; i++)
        if (strcmp(mask, all[i]->isa) == 0) return all[i];
    for (int i = 0; i < N_ISA; i++)
        if (strcmp(mask, ISA[i].name) == 0) {
            error_set(e, AHA_ERR_UNSUPPORTED, "this processor has no %s; the best it has is %s", mask, all[n - 1]->isa);
            return NULL;
        }
    unknown(mask, e);
    return NULL;
}
