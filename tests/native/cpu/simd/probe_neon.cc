#include "kernels/cpu/simd/neon.h"
// The operations above, as functions a test can call:
#include "cpu/simd/probe_body.h"
