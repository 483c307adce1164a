// What an instruction set provides for Softmax and LogSoftmax.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_SOFTMAX_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_SOFTMAX_KERNELS_H_

#include "batch_invariant/cpu/softmax.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

struct SoftmaxKernels {
  InstructionSet instruction_set;
  void (*softmax)(const float* x, float* y, int64_t length);  // one contiguous row
  void (*log_softmax)(const float* x, float* y, int64_t length);
};

std::span<const SoftmaxKernels* const> SoftmaxKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_SOFTMAX_KERNELS_H_
