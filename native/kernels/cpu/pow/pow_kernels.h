// What an instruction set provides for Pow.
#ifndef BATCH_INVARIANT_KERNELS_CPU_POW_POW_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_POW_POW_KERNELS_H_

#include "batch_invariant/cpu/pow.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

struct PowKernels {
  InstructionSet instruction_set;
  // y = base^exponent for sixteens from the front, up to the first in which an element is zero,
  // subnormal, infinite or NaN, or negative although the exponent is no whole number. Returns how
  // many elements it did. The exponent is finite and not 2.
  int64_t (*to_one_power)(const float* base, double exponent, bool is_whole, bool is_odd, float* y,
                          int64_t length);
};

std::span<const PowKernels* const> PowKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_POW_POW_KERNELS_H_
