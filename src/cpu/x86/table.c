/* The kernels of x86-64 by instruction set, oldest first. */
#include "../kern_table.h"

KERNELS_INIT(avx2, KERN_ALL)
KERNELS_INIT(avxvnni, KERN_INTEGERS) /* they multiply faster, keys and values of Q8_0 too; everything else is AVX2's */
KERNELS_INIT(avx512, KERN_ALL)
KERNELS_INIT(avx512vnni, KERN_INTEGERS)
KERNELS_INIT(avx512vbmi, KERN_DOT) /* grids are looked up in registers */
