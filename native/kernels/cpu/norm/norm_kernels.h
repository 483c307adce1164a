// What an instruction set provides for the norms.
#ifndef BATCH_INVARIANT_KERNELS_CPU_NORM_NORM_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_NORM_NORM_KERNELS_H_

#include "batch_invariant/cpu/norm.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

struct NormKernels {
  InstructionSet instruction_set;
  void (*rms)(const NormArgs& args, int64_t begin, int64_t end);  // rows
  void (*layer)(const NormArgs& args, int64_t begin, int64_t end);
};

std::span<const NormKernels* const> NormKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_NORM_NORM_KERNELS_H_
