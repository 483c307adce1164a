// What an instruction set provides for elementwise ops.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_KERNELS_H_

#include "batch_invariant/cpu/elementwise.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

struct ElementwiseKernels {
  InstructionSet instruction_set;
  // Runs of contiguous elements. An operand of a binary op is a run or one element.
  void (*unary)(UnaryOp op, float alpha, const float* x, const float* bias, float* y,
                int64_t length);
  void (*binary)(BinaryOp op, const float* a, bool a_is_run, const float* b, bool b_is_run,
                 float* y, int64_t length);
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t length);
  void (*widen_f16)(const uint16_t* x, float* y, int64_t length);
  void (*round_to_f16)(const float* x, uint16_t* y, int64_t length);
};

std::span<const ElementwiseKernels* const> ElementwiseKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ELEMENTWISE_KERNELS_H_
