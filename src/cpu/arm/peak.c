/* The loops of peak.h for NEON, which every processor of the family has, and for its dot and matrix products of bytes. */
#include "../peak.h"

#include <arm_neon.h>
#include <string.h>

#define START_F32(n) vdupq_n_f32(n)
#define STEP_F32(s) vfmaq_f32(b, s, a)
#define SUM_F32(s) vgetq_lane_f32(s, 0)
static void fma_neon(int rounds, float *out)
{
    const float32x4_t a = vdupq_n_f32(0.999f), b = vdupq_n_f32(0.5f);
    PEAK_CHAINS(float32x4_t, START_F32, STEP_F32, SUM_F32);
}

/* products of eight bytes, added up in pairs */
#define START_S32(n) vdupq_n_s32(n)
#define STEP_S32(s) vpadalq_s16(s, vmull_s8(a, vget_low_s8(vreinterpretq_s8_s32(s))))
#define SUM_S32(s) (uint32_t)vgetq_lane_s32(s, 0)
static void dot8_neon(int rounds, uint32_t *out)
{
    const int8x8_t a = vdup_n_s8(3);
    PEAK_CHAINS(int32x4_t, START_S32, STEP_S32, SUM_S32);
}

#define STEP_SDOT(s) vdotq_s32(s, x, y)
__attribute__((target("arch=armv8.2-a+dotprod"))) static void dot8_sdot(int rounds, uint32_t *out)
{
    const int8x16_t x = vdupq_n_s8(3), y = vdupq_n_s8(-5);
    PEAK_CHAINS(int32x4_t, START_S32, STEP_SDOT, SUM_S32);
}

#define STEP_USMMLA(s) vusmmlaq_s32(s, u, y)
__attribute__((target("arch=armv8.2-a+i8mm"))) static void dot8_usmmla(int rounds, uint32_t *out)
{
    const uint8x16_t u = vdupq_n_u8(3);
    const int8x16_t  y = vdupq_n_s8(-5);
    PEAK_CHAINS(int32x4_t, START_S32, STEP_USMMLA, SUM_S32);
}

void peak_arm(Peak *p, const char *isa)
{
    p->fma_ops = 2 * 4 * PEAK_N_CHAINS;
    p->dot8_ops = 2 * 8 * PEAK_N_CHAINS;
    p->dot8_name = "smull";
    p->fma = fma_neon;
    p->dot8 = dot8_neon;
    if (strcmp(isa, "dotprod") == 0) {
        p->dot8_ops = 2 * 16 * PEAK_N_CHAINS;
        p->dot8_name = "sdot";
        p->dot8 = dot8_sdot;
    }
    if (strcmp(isa, "i8mm") == 0) {
        p->dot8_ops = 2 * 32 * PEAK_N_CHAINS;
        p->dot8_name = "usmmla";
        p->dot8 = dot8_usmmla;
    }
}
