#include "kernels/cpu/simd/avx512.h"
// The operations above, as functions a test can call:
#include "cpu/simd/probe_body.h"
