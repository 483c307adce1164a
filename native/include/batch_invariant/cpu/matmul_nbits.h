// MatMulNBits (com.microsoft, since 1), fp32 activations: y = a * w^T + bias with weights of 2, 4
// or 8 bits in blocks along K. Contracts gemm.nbits.f32 and gemm.nbits.s8 (contract.h).
//
//   w[n, k] = (q[n, k] - zero[n, group(k)]) * scale[n, group(k)],  group(k) = k / block or g_idx[k]
#ifndef BATCH_INVARIANT_CPU_MATMUL_NBITS_H_
#define BATCH_INVARIANT_CPU_MATMUL_NBITS_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

enum class ZeroPoints : uint8_t {
  kDefault,  // none given: 2^(bits - 1)
  kPacked,   // uint8 [n, ceil(blocks * bits / 8)], low bits first
  kFloat,    // fp32 [n, blocks]
};

// What the weights alone decide. The number of rows is no part of it.
struct MatMulNBitsPlan {
  int64_t k = 0;
  int64_t n = 0;
  int bits = 4;
  int64_t block_size = 32;
  ZeroPoints zero_points = ZeroPoints::kDefault;
  bool int8_activations = false;  // gemm.nbits.s8; otherwise gemm.nbits.f32
  bool has_group_index = false;   // g_idx: the weights are then held as fp32

  int64_t blocks() const { return (k + block_size - 1) / block_size; }
  const char* contract() const;  // an id of contract.h
};

// Checks the attributes of a node. Float zero points always take gemm.nbits.f32: q - zero has no
// exact integer then; so does a group index, since neighbours along k may have any scale.
// kInvalidArgument: an attribute outside the op's definition.
Status MakeMatMulNBitsPlan(int64_t k, int64_t n, int64_t bits, int64_t block_size,
                           int64_t accuracy_level, ZeroPoints zero_points, MatMulNBitsPlan* plan,
                           bool has_group_index = false);

// Bytes of PackMatMulNBits's result; the same for every instruction set. 64-byte alignment of the
// buffer is good for speed and does not change the result.
size_t PackedMatMulNBitsBytes(const MatMulNBitsPlan& plan);

// Copies weights, scales and zero points into one buffer, which is all that MatMulNBits needs
// later.
//   b            uint8 [n, blocks, block_size * bits / 8], low bits first
//   scales       fp32 [n, blocks]
//   zero_points  by plan.zero_points; null for kDefault
//   group_index  int32 [k] of 0 to blocks - 1; null unless plan.has_group_index
Status PackMatMulNBits(const Context& context, const MatMulNBitsPlan& plan, const uint8_t* b,
                       const float* scales, const void* zero_points, void* packed,
                       const int32_t* group_index = nullptr);

struct MatMulNBitsArgs {
  int64_t m = 0;
  const float* a = nullptr;  // [m, k]
  int64_t a_row_stride = 0;  // elements
  const void* packed_b = nullptr;
  const float* bias = nullptr;  // [n] or null
  float* y = nullptr;           // [m, n]; may not overlap an operand
  int64_t y_row_stride = 0;     // elements
};

// A result that is NaN is written as the quiet NaN 0x7fc00000. kInvalidArgument: a negative size or
// a missing operand. kOutOfMemory: scratch ran out. Scratch: at most 1 MiB for each thread and
// 5 MiB for all of them; for int8 activations m * k bytes.
Status MatMulNBits(const Context& context, const MatMulNBitsPlan& plan,
                   const MatMulNBitsArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_MATMUL_NBITS_H_
