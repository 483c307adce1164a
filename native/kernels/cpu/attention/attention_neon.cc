#include "kernels/cpu/simd/neon.h"
// The body comes after the instruction set that it is compiled for.
#include "kernels/cpu/attention/attention_body.h"
