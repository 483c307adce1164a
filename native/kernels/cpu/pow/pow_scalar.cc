#include "kernels/cpu/simd/scalar.h"
// The body comes after the instruction set that it is compiled for.
#include "kernels/cpu/pow/pow_body.h"
