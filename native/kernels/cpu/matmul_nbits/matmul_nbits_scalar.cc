#include "kernels/cpu/simd/scalar.h"
// The op, over the sixteen lanes of the header above:
#include "kernels/cpu/matmul_nbits/matmul_nbits_body.h"
