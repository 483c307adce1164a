#include "kernels/cpu/simd/scalar.h"
// The op, over the sixteen lanes of the header above:
#include "kernels/cpu/matmul/matmul_body.h"
