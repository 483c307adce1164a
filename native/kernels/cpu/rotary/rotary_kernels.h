// What an instruction set provides for rotary embeddings.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ROTARY_ROTARY_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_ROTARY_ROTARY_KERNELS_H_

#include "batch_invariant/cpu/rotary.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

struct RotaryKernels {
  InstructionSet instruction_set;
  // One head of head_size elements; the caches are those of its position, rotary_dim / 2 each.
  void (*rotate_head)(const float* x, const float* cosine, const float* sine, int64_t head_size,
                      int64_t rotary_dim, bool interleaved, float* y);
};

std::span<const RotaryKernels* const> RotaryKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_ROTARY_ROTARY_KERNELS_H_
