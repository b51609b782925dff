/* Products with float weights for NEON. */
#include "../vec_neon.h"

#include "../kern_gemm.h"
