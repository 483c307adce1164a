// What an instruction set provides for reductions.
#ifndef BATCH_INVARIANT_KERNELS_CPU_REDUCE_REDUCE_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_REDUCE_REDUCE_KERNELS_H_

#include "batch_invariant/cpu/reduce.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

struct ReduceKernels {
  InstructionSet instruction_set;
  void (*rows)(const ReduceArgs& args, int64_t begin, int64_t end);
};

std::span<const ReduceKernels* const> ReduceKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_REDUCE_REDUCE_KERNELS_H_
