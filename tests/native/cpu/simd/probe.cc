#include "cpu/simd/probe.h"

#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(SimdProbe, kSimdProbe, SimdProbeTable)

}  // namespace batch_invariant::cpu
