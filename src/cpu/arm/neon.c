/* The kernels for NEON, which every 64-bit ARM has. */
#include "../vec_neon.h"

#include "../kern_table.h"
