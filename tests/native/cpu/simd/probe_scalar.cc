#include "kernels/cpu/simd/scalar.h"
// The operations above, as functions a test can call:
#include "cpu/simd/probe_body.h"
