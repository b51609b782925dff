/* Attention's backward for NEON. */
#include "../vec_neon.h"

#include "../kern_attn_back.h"
