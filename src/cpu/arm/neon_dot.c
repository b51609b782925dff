/* Products with 8-bit activations for NEON. */
#include "../vec_neon.h"

#include "../kern_dot.h"
