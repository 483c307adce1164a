#include "kernels/cpu/simd/neon.h"
// The op, over the sixteen lanes of the header above:
#include "kernels/cpu/matmul_nbits/matmul_nbits_body.h"
