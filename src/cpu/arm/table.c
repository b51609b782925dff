/* The kernels of 64-bit ARM by instruction set, oldest first. */
#include "../kern_table.h"

KERNELS_INIT(neon, KERN_ALL) /* which every processor of the family has */
KERNELS_INIT(dotprod, KERN_INTEGERS)
KERNELS_INIT(i8mm, KERN_DOT)
