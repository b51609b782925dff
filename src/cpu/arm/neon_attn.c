/* Attention for NEON. */
#include "../vec_neon.h"

#include "../kern_attn.h"
