/* Row kernels for NEON. */
#include "../vec_neon.h"

#include "../kern_rows.h"
